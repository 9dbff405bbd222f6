//! `Page`: how the demo looks. Plain lines, a little bold where a terminal shows it, nothing wider
//! than a page.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Columns of text; a terminal of the usual width shows it without breaking lines.
const WIDTH: usize = 96;
const INDENT: &str = "  ";

/// Writes the demo's story. A reader that goes away does not end the demo, which still has to clean
/// up.
pub(super) struct Page {
    out: Box<dyn Write + Send>,
    colour: bool,
    live: bool,
}

#[derive(Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Green,
}

impl Page {
    pub(super) fn stdout() -> Self {
        let live = std::io::stdout().is_terminal();
        let colour = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out: Box::new(std::io::stdout()), colour, live }
    }

    pub(super) fn title(&mut self, name: &str, rest: &str) {
        let name = self.styled(Style::Bold, name);
        self.line(&format!("{name}  {rest}"));
        self.gap();
    }

    pub(super) fn gap(&mut self) {
        self.line("");
    }

    /// A name and what stands for it here.
    pub(super) fn fact(&mut self, name: &str, what: &str) {
        let name = self.styled(Style::Dim, &format!("{name:<10}"));
        self.line(&format!("{INDENT}{name}  {what}"));
    }

    /// Prints what happened, and the time that it took.
    pub(super) fn done(&mut self, what: &str, took: Duration) {
        let took = self.styled(Style::Green, &span(took));
        self.line(&format!("{INDENT}{what} {took}"));
    }

    /// A step that is under way; replaced by what comes next. Only a terminal shows it.
    pub(super) fn progress(&mut self, what: &str) {
        if self.live {
            let _ = write!(self.out, "\r\x1b[2K{INDENT}{what}").and_then(|()| self.out.flush());
        }
    }

    pub(super) fn question(&mut self, text: &str) {
        let text = self.styled(Style::Bold, &format!("“{text}”"));
        self.line(&format!("{INDENT}{text}"));
    }

    /// A document that was found: how near, its title, the words that were found.
    pub(super) fn hit(&mut self, score: f32, title: &str, words: &str) {
        let words = self.styled(Style::Dim, &cut(words, WIDTH - 10));
        self.line(&format!("{INDENT}{INDENT}{score:.2}  {}", cut(title, WIDTH - 10)));
        self.line(&format!("{INDENT}{INDENT}      {words}"));
    }

    /// A statement as one would type it.
    pub(super) fn sql(&mut self, statement: &str) {
        let statement = self.styled(Style::Bold, &cut(statement, WIDTH - 2));
        self.line(&format!("{INDENT}{statement}"));
    }

    /// Something to copy; never cut.
    pub(super) fn command(&mut self, command: &str) {
        self.line(&format!("{INDENT}{INDENT}{command}"));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.line(text);
    }

    fn line(&mut self, text: &str) {
        let start = if self.live { "\r\x1b[2K" } else { "" };
        let _ = writeln!(self.out, "{start}{text}").and_then(|()| self.out.flush());
    }

    fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Green => 32,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One line of at most `width` characters, cut between words. Stored text must not drive the
/// terminal.
fn cut(text: &str, width: usize) -> String {
    let words: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<_> = words.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= width {
        return line;
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    let kept = kept.rsplit_once(' ').map_or(kept.as_str(), |(kept, _)| kept);
    format!("{}…", kept.trim_end_matches([',', ':', ';', '.']))
}

/// As people say it: `8 ms`, `1.4 s`.
fn span(time: Duration) -> String {
    match time.as_millis() {
        0 => "less than 1 ms".to_owned(),
        millis @ 1..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(colour: bool, write: impl FnOnce(&mut Page)) -> String {
        let paper = Paper::default();
        write(&mut Page { out: Box::new(paper.clone()), colour, live: false });
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_hit_shows_score_title_and_words() {
        let text = written(false, |page| {
            page.question("how do I dry a tent");
            page.hit(0.514, "Looking after your tent", "Never put\na tent away wet");
            page.progress("not shown without a terminal");
            page.done("searchable after", Duration::from_millis(12));
        });
        assert_eq!(
            text,
            "  “how do I dry a tent”\n    0.51  Looking after your tent\n          Never put a tent away wet\n  \
             searchable after 12 ms\n"
        );
    }

    #[test]
    fn colour_is_only_where_it_was_asked_for() {
        assert_eq!(written(true, |page| page.sql("DELETE")), "  \x1b[1mDELETE\x1b[0m\n");
        assert_eq!(written(false, |page| page.sql("DELETE")), "  DELETE\n");
    }

    #[test]
    fn long_and_hostile_texts_stay_on_their_line() {
        assert_eq!(cut("one two, three", 12), "one two…");
        assert_eq!(cut("one\u{1b}[2J\ttwo", 40), "one [2J two");
        assert_eq!(cut(&"é".repeat(50), 10).chars().count(), 10);
    }
}
