//! `Lines`: commands and rejected events as JSON lines, in a file or on standard output.
//!
//! Delivery is at least once: after a crash the file may repeat the lines of deliveries that were
//! not confirmed.

mod file;
mod json;
mod settings;

use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;

use self::file::{LineFile, Whereabouts};
use super::{Delivery, Held, Sink, StoreMarks, blocking};
use crate::error::{Error, Fault, Result};
use crate::printable::printable_json;

pub use self::settings::{FileSettings, StdoutSettings, Vectors};

/// A sink that writes each command and each rejected event as one line.
#[derive(Debug)]
pub struct Lines {
    pipeline: String,
    to: Target,
    vectors: Vectors,
}

#[derive(Debug)]
enum Target {
    File(Arc<LineFile>),
    Stdout,
}

impl Lines {
    /// Appends to the file that `settings` name, which is made if missing. What a crash left of a
    /// last line of ours is cut off.
    pub async fn file(pipeline: &str, settings: &FileSettings) -> Result<Self> {
        let at = Whereabouts::of(settings);
        let file = blocking::run(move || LineFile::open(at)).await?;
        Ok(Self { pipeline: pipeline.to_owned(), to: Target::File(Arc::new(file)), vectors: Vectors::Whole })
    }

    /// Checks that `file` would succeed, also while another process has the file open. Alters
    /// nothing.
    pub async fn check(settings: &FileSettings) -> Result<()> {
        let at = Whereabouts::of(settings);
        blocking::run(move || LineFile::check(&at)).await
    }

    /// Prints to standard output.
    pub fn stdout(pipeline: &str, vectors: Vectors) -> Self {
        Self { pipeline: pipeline.to_owned(), to: Target::Stdout, vectors }
    }
}

#[async_trait]
impl Sink for Lines {
    async fn resume(&mut self, _origin: &str) -> Result<Option<Held>> {
        Ok(None)
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        let mut text = Vec::new();
        delivery.commands.iter().for_each(|command| json::command(&mut text, command, self.vectors));
        delivery.rejected.iter().for_each(|letter| json::rejected(&mut text, &self.pipeline, letter));
        if text.is_empty() {
            return Ok(());
        }
        match &self.to {
            Target::File(file) => {
                let file = Arc::clone(file);
                blocking::run(move || file.append(&text)).await
            }
            Target::Stdout => blocking::run(move || print(&mut io::stdout().lock(), &text)).await,
        }
    }

    fn marks(&self) -> StoreMarks {
        match &self.to {
            Target::File(_) => StoreMarks::Place,
            Target::Stdout => StoreMarks::None,
        }
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn print(out: &mut impl Write, text: &[u8]) -> Result<()> {
    // It may be a terminal, and handlers write what they like into their points.
    let text = String::from_utf8_lossy(text);
    out.write_all(printable_json(&text).as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        let what = if error.kind() == io::ErrorKind::BrokenPipe {
            "standard output was closed by its reader"
        } else {
            "standard output cannot be written"
        };
        Error::new(Fault::Environment, what)
            .because(error)
            .help("keep the program that reads the pipe running, or use a sink of type `file`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_writes_does_not_act_on_a_terminal() {
        let mut out = Vec::new();
        print(&mut out, "{\"a\":\"\u{9b}2J\"}\n".as_bytes()).unwrap();
        assert_eq!(out, b"{\"a\":\"\\u009b2J\"}\n");
    }

    #[test]
    fn a_closed_pipe_is_an_error_that_says_so() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = print(&mut writer, b"{}\n").unwrap_err();
        assert_eq!(error.fault(), Fault::Environment);
        assert_eq!(error.to_string(), "standard output was closed by its reader");
    }
}
