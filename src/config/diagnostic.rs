//! `Diagnostics`: all problems of a pipeline file, each with its place, the line itself and what to
//! write instead.

use std::fmt;

use serde::Serialize;

use super::excerpt::{Excerpt, excerpt, shown, token_length};
use super::yaml::{self, Id, Spot};
use crate::error::{Error, Fault};
use crate::printable::printable;

/// All that is wrong with a pipeline file, in the order of its lines; at least one problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    file: String,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The problem itself: lower case, without a full stop, names in backticks. Never holds a
    /// secret.
    pub message: String,
    /// Advice on what to write instead.
    pub help: Option<String>,
    /// The place of the problem; None if the file could not be read at all.
    #[serde(flatten)]
    pub place: Option<Place>,
}

/// The place in the file where a problem stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from one.
    pub line: usize,
    /// Column in characters, from one.
    pub column: usize,
    /// The number of characters of the line that are meant.
    pub length: usize,
    #[serde(skip)]
    excerpt: Excerpt,
}

impl Diagnostics {
    /// The file as the user named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems as the command line prints them, each with its line of the file.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let blocks: Vec<_> = self.problems.iter().map(|problem| problem.render(&self.file, &paint)).collect();
        blocks.join("\n")
    }
}

impl Problem {
    fn render(&self, file: &str, paint: &Paint) -> String {
        let mut out = format!("{}: {}\n", paint.error("error"), paint.strong(&self.message));
        let Some(place) = &self.place else {
            out.push_str(&format!("  {} {file}\n", paint.frame("-->")));
            if let Some(help) = &self.help {
                out.push_str(&format!("  {} {}\n", paint.help("help:"), help.replace('\n', "\n        ")));
            }
            return out;
        };
        let number = place.line.to_string();
        let gap = " ".repeat(number.len());
        let bar = paint.frame("|");
        let pointer = format!("{}{}", " ".repeat(place.excerpt.start), paint.error(&"^".repeat(place.excerpt.length)));
        out.push_str(&format!("{gap} {} {file}:{}:{}\n", paint.frame("-->"), place.line, place.column));
        out.push_str(&format!(" {gap} {bar}\n"));
        out.push_str(&format!(" {} {bar} {}\n", paint.frame(&number), place.excerpt.text.trim_end()));
        match &self.help {
            Some(help) if help.chars().count() <= SHORT_HELP && !help.contains('\n') => {
                out.push_str(&format!(" {gap} {bar} {pointer} {} {help}\n", paint.help("help:")));
            }
            Some(help) => {
                let indented = help.replace('\n', &format!("\n{gap}          "));
                out.push_str(&format!(
                    " {gap} {bar} {pointer}\n {gap} {} {} {indented}\n",
                    paint.frame("="),
                    paint.help("help:")
                ));
            }
            None => out.push_str(&format!(" {gap} {bar} {pointer}\n")),
        }
        out
    }
}

/// Longer help stands on its own line, so that the pointer stays within a terminal's width.
const SHORT_HELP: usize = 60;

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    /// The first problem as an error; `render` shows them all.
    fn from(diagnostics: Diagnostics) -> Self {
        let Diagnostics { file, problems } = diagnostics;
        let rest = problems.len().saturating_sub(1);
        let Some(first) = problems.into_iter().next() else {
            return Error::new(Fault::Config, "invalid configuration");
        };
        let place = first.place.map_or(file.clone(), |place| format!("{file}:{}:{}", place.line, place.column));
        let error = Error::new(Fault::Config, first.message).at(place);
        let error = first.help.into_iter().fold(error, Error::help);
        match rest {
            0 => error,
            1 => error.at("and one more problem"),
            _ => error.at(format!("and {rest} more problems")),
        }
    }
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn error(&self, text: &str) -> String {
        self.wrap("1;31", text)
    }
    fn strong(&self, text: &str) -> String {
        self.wrap("1", text)
    }
    fn frame(&self, text: &str) -> String {
        self.wrap("34", text)
    }
    fn help(&self, text: &str) -> String {
        self.wrap("36", text)
    }
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Problems that are told of one file. To find the place of each, the file is parsed once more.
const MAX_PROBLEMS: usize = 50;

/// Gathers problems while a file is read.
pub(super) struct Findings<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Findings<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Tells if there are so many problems that no more are reported: whoever looks for them may
    /// stop.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// A problem with the key or value numbered `id`.
    pub(super) fn at(&mut self, id: Id, message: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            return;
        }
        self.push(yaml::locate(self.text, id), None, message.into(), help.into());
    }

    /// A problem with `part` of the value numbered `id`.
    pub(super) fn within(&mut self, id: Id, part: &str, message: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            return;
        }
        let spot = yaml::locate(self.text, id);
        let found = spot.and_then(|spot| {
            let skipped: String = self.line(spot.line).chars().take(spot.column - 1).collect();
            let at = self.line(spot.line)[skipped.len()..].find(part)?;
            let before = self.line(spot.line)[..skipped.len() + at].chars().count();
            Some(Spot { line: spot.line, column: before + 1 })
        });
        let length = found.map(|_| part.chars().count());
        self.push(found.or(spot), length, message.into(), help.into());
    }

    /// A problem at a place that the parser told.
    pub(super) fn at_spot(&mut self, spot: Option<Spot>, message: impl Into<String>, help: impl Into<String>) {
        self.push(spot, None, message.into(), help.into());
    }

    /// The line of the key or value numbered `id`, from one, to be told in a problem.
    pub(super) fn line_of(&self, id: Id) -> usize {
        let spot = if self.is_full() { None } else { yaml::locate(self.text, id) };
        spot.map_or(1, |spot| spot.line)
    }

    pub(super) fn line(&self, number: usize) -> &'t str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default()
    }

    pub(super) fn finish(mut self) -> Diagnostics {
        let full = self.is_full();
        self.problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
        self.problems.dedup();
        if full {
            let message = format!("the search for problems ended with the {MAX_PROBLEMS}th");
            let help = Some("mend these first, there may be more".to_owned());
            self.problems.push(Problem { message, help, place: None });
        }
        Diagnostics { file: printable(self.file), problems: self.problems }
    }

    fn push(&mut self, spot: Option<Spot>, length: Option<usize>, message: String, help: String) {
        let place = spot.map(|Spot { line, column }| {
            let text = self.line(line);
            let length = length.unwrap_or_else(|| token_length(text, column - 1));
            Place { line, column, length, excerpt: excerpt(self.text, line, column - 1, length) }
        });
        let help = Some(shown_lines(&help)).filter(|help| !help.is_empty());
        self.problems.push(Problem { message: shown(&message), help, place });
    }
}

fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}
