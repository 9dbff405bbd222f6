//! `Objections`: what of a pipeline goes beyond its grants, each with the place in its file.

use crate::config::Objection;
use crate::error::{Error, Result};

/// The settings of a pipeline that go beyond its grants.
#[derive(Default)]
pub(super) struct Objections {
    /// The place that is being looked at, as keys from the top of the file.
    at: Vec<String>,
    found: Vec<Objection>,
}

impl Objections {
    /// Judges what stands below `keys`.
    pub(super) fn within(&mut self, keys: &[&str], judge: impl FnOnce(&mut Self)) {
        let before = self.at.len();
        self.at.extend(keys.iter().map(|key| (*key).to_owned()));
        judge(self);
        self.at.truncate(before);
    }

    /// Keeps why what stands at `keys` is refused.
    pub(super) fn refuse(&mut self, keys: &[&str], error: Error) {
        let at = self.at.iter().cloned().chain(keys.iter().map(|key| (*key).to_owned())).collect();
        self.found.push(Objection { at, error });
    }

    /// As [`refuse`](Self::refuse), if it is.
    pub(super) fn note<T>(&mut self, keys: &[&str], judged: Result<T>) -> Option<T> {
        judged.map_err(|error| self.refuse(keys, error)).ok()
    }

    /// Tells if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them.
    pub(super) fn into_list(self) -> Vec<Objection> {
        self.found
    }

    /// The first, if there is any.
    pub(super) fn into_result(self) -> Result<()> {
        match self.found.into_iter().next() {
            Some(Objection { at, error }) => Err(error.at(format!("`{}`", at.join(".")))),
            None => Ok(()),
        }
    }
}
