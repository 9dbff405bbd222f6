//! The one door to the terminal: what the program says there leaves through here, and no text of a
//! stranger acts on it.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::error::{Error, Fault, Result};
use crate::printable::{acts, printable, printable_json};

/// Text for standard output, gathered line by line.
#[derive(Debug, Default)]
pub struct Screen {
    text: String,
    colours: bool,
}

/// The look of a part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As everything else.
    Plain,
    /// Brighter.
    Bold,
    /// Less bright.
    Faint,
    /// For what went, or failed.
    Red,
    /// For what came, or is well.
    Green,
    /// For what changed.
    Yellow,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Look::Plain => "",
            Look::Bold => "1",
            Look::Faint => "2",
            Look::Red => "31",
            Look::Green => "32",
            Look::Yellow => "33",
        }
    }
}

impl Screen {
    /// An empty one, in colours where standard output shows them.
    pub fn new() -> Self {
        Self::with_colours(colours_on(&io::stdout()))
    }

    /// An empty one, in colours or not.
    pub fn with_colours(colours: bool) -> Self {
        Self { text: String::new(), colours }
    }

    /// Adds one line, whatever the text holds.
    pub fn line(&mut self, text: impl Display) {
        self.parts([(Look::Plain, text)]);
    }

    /// Adds one line of several parts, whatever their texts hold.
    pub fn parts<T: Display>(&mut self, parts: impl IntoIterator<Item = (Look, T)>) {
        for (look, text) in parts {
            let text = printable(&text.to_string());
            match look {
                Look::Plain => self.text.push_str(&text),
                _ if !self.colours => self.text.push_str(&text),
                look => self.text.push_str(&format!("\x1b[{}m{text}\x1b[0m", look.code())),
            }
        }
        self.text.push('\n');
    }

    /// Adds JSON, or lines of it.
    pub fn json(&mut self, json: impl Display) {
        self.text.push_str(&printable_json(json.to_string().trim_end_matches('\n')));
        self.text.push('\n');
    }

    /// Adds a text of several lines and colours that was made from printable pieces. Whatever else
    /// acts is shown instead.
    pub fn rendered(&mut self, text: &str) {
        self.text.push_str(&tame(text));
    }

    /// Tells if it shows colours.
    pub fn has_colours(&self) -> bool {
        self.colours
    }

    /// The text as it will be written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes it to standard output. False if its reader has gone away (`| head`), which is not an
    /// error.
    ///
    /// # Errors
    /// `Environment` if standard output cannot be written.
    pub fn print(self) -> Result<bool> {
        let mut out = io::stdout().lock();
        match out.write_all(self.text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Error::new(Fault::Environment, "standard output cannot be written").because(error)),
        }
    }
}

/// Writes to standard error a text of several lines and colours that was made from printable
/// pieces. Who cannot hear it is not told.
pub fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(tame(text).as_bytes());
}

/// Tells if standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Tells if standard error shows colours.
pub fn complains_in_colours() -> bool {
    colours_on(&io::stderr())
}

fn colours_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The text with a stand-in for each character that would act, but for line breaks and colours.
fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = colour(rest);
        out.push_str(colour);
        if colour.is_empty() {
            match c {
                '\n' => out.push('\n'),
                c if acts(c) => out.push('\u{FFFD}'),
                c => out.push(c),
            }
        }
        rest = rest.get(colour.len().max(c.len_utf8())..).unwrap_or_default();
    }
    out
}

/// The sequence that sets a colour, if the text begins with one.
fn colour(text: &str) -> &str {
    let Some(codes) = text.strip_prefix("\x1b[") else { return "" };
    let length = codes.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    match codes.as_bytes().get(length) {
        Some(b'm') => text.get(..length + 3).unwrap_or_default(),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\u{1b}[31mb\nerror: forged\u{202e}\u{9b}1m";

    #[test]
    fn a_line_is_one_line_and_nothing_in_it_acts() {
        let mut screen = Screen::with_colours(true);
        screen.line(HOSTILE);
        screen.parts([(Look::Green, HOSTILE)]);
        let shown = "a\u{FFFD}[2J\u{FFFD}[31mb error: forged\u{FFFD}\u{FFFD}1m";
        assert_eq!(screen.text(), format!("{shown}\n\x1b[32m{shown}\x1b[0m\n"));
    }

    #[test]
    fn without_colours_there_is_no_sequence_at_all() {
        let mut screen = Screen::with_colours(false);
        screen.parts([(Look::Bold, "a"), (Look::Plain, "b")]);
        assert_eq!(screen.text(), "ab\n");
    }

    #[test]
    fn json_stays_json() {
        let mut screen = Screen::with_colours(false);
        screen.json(serde_json::json!({ "text": HOSTILE }));
        let read: serde_json::Value = serde_json::from_str(screen.text()).unwrap();
        assert_eq!(read["text"], HOSTILE);
        assert!(!screen.text().trim_end().chars().any(acts), "{:?}", screen.text());
    }

    #[test]
    fn of_a_rendered_text_lines_and_colours_stay() {
        assert_eq!(tame("\x1b[1;31mno\x1b[0m\n\x1b[2Jü\u{9b}"), "\x1b[1;31mno\x1b[0m\n\u{FFFD}[2Jü\u{FFFD}");
        for text in ["\x1b", "\x1b[", "\x1b[3", "ü\x1b[m"] {
            tame(text);
        }
    }
}
