//! Trials of handlers without a database: events in, the commands that are expected out, each
//! difference told.
//!
//! A test file names a component and cases; `file` reads it, `events` makes batches of it,
//! `answers` is what a handler answered in the words of the file, `compare` decides and `report`
//! tells.

mod answers;
mod bless;
mod compare;
mod diff;
mod events;
mod expect;
mod file;
mod find;
mod report;
mod run;
mod tree;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Diagnostics;
use crate::error::Error;
use crate::event::json::Json;

pub use find::{EXAMPLE, files};
pub use run::run;

/// Choice of the tests to run, and of the way to run them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The component to test, whatever the files say.
    pub component: Option<PathBuf>,
    /// Only cases whose name holds this text.
    pub filter: Option<String>,
    /// Writes what came into the files, as what is expected from now on.
    pub bless: bool,
}

/// The results of all files.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order in which they were given.
    pub files: Vec<FileReport>,
}

/// The result of a file.
#[derive(Debug)]
pub struct FileReport {
    /// As it was named.
    pub file: PathBuf,
    /// Its cases, or why none could be run.
    pub cases: Result<Vec<CaseReport>, Refusal>,
}

/// The reason for which no case of a file could be run.
#[derive(Debug)]
pub enum Refusal {
    /// The file has mistakes.
    Mistakes(Diagnostics),
    /// The component cannot be run, or the file not be written.
    Failed(Error),
}

/// The result of a case.
#[derive(Debug)]
pub struct CaseReport {
    /// Its name in the file.
    pub name: String,
    /// The line on which it begins.
    pub line: usize,
    /// The number of events that the handler was given.
    pub events: usize,
    /// Time that the handler took.
    pub took: Duration,
    /// True if the answers are those that were expected, or became so by being written into the
    /// file.
    pub passed: bool,
    /// True if the answers were written into the file.
    pub blessed: bool,
    /// Answers that were expected: objects with what is to be done as their only key.
    pub expected: Vec<Json>,
    /// Answers that came.
    pub came: Vec<Json>,
}

impl Report {
    /// Counts the cases that passed, and those that did not.
    pub fn counts(&self) -> (usize, usize) {
        let cases = || self.files.iter().filter_map(|file| file.cases.as_ref().ok()).flatten();
        (cases().filter(|case| case.passed).count(), cases().filter(|case| !case.passed).count())
    }

    /// Returns 0 if all is as expected, 1 if a handler answered otherwise, 2 if a file has
    /// mistakes, and the code of the error if a file could not be run at all.
    pub fn exit_code(&self) -> u8 {
        let refused = self.files.iter().filter_map(|file| file.cases.as_ref().err()).map(|refusal| match refusal {
            Refusal::Mistakes(_) => 2,
            Refusal::Failed(error) => error.fault().exit_code(),
        });
        refused.max().unwrap_or(u8::from(self.counts().1 > 0))
    }
}
