//! What the host does for a handler: `config`, `embed` and the log.

use std::rc::Rc;

use crate::{Error, Result};

/// How loud a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Of use when a handler is being debugged closely.
    Trace,
    /// Of use when a handler is being debugged.
    Debug,
    /// Something happened.
    Info,
    /// A person should look at it some time.
    Warn,
    /// Something went wrong.
    Error,
}

/// Vectors of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vectors {
    /// Length of a vector.
    pub dimension: usize,
    /// One vector after the other.
    pub data: Vec<f32>,
}

impl Vectors {
    /// The vectors, in the order of the texts.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.dimension.max(1))
    }
}

/// A value of the transform's `config` in the pipeline file. It does not change while the handler is loaded, so asking
/// again costs next to nothing.
pub fn config(key: &str) -> Option<Rc<str>> {
    imp::config(key)
}

/// A value that the host gives anew with each batch.
pub(crate) fn asked(key: &str) -> Option<String> {
    imp::asked(key)
}

/// Has the host embed texts. `embedder` is a name from the transform's `embedders`.
///
/// Answering with [`text`](crate::text) is cheaper where it is enough: the host embeds a whole batch at once, skips what it
/// has embedded before, and the vector never comes here. A failure concerns the batch: passed on with `?` it has the host
/// retry or stop, whichever helps.
pub fn embed(embedder: &str, texts: &[String]) -> Result<Vectors> {
    imp::embed(embedder, texts).map_err(Error::batch)
}

/// Logs a line; see also the macros from [`trace!`](crate::trace) to [`error!`](crate::error). The host limits how many.
pub fn log(level: Level, message: &str) {
    imp::log(level, message);
}

#[cfg(target_family = "wasm")]
mod imp {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{Level, Vectors};
    use crate::Failure;
    use crate::bindings::pgstream::host::{config, embeddings, log};

    thread_local! {
        static KNOWN: RefCell<Vec<(String, Option<Rc<str>>)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn config(key: &str) -> Option<Rc<str>> {
        KNOWN.with_borrow_mut(|known| {
            if let Some((_, value)) = known.iter().find(|(name, _)| name == key) {
                return value.clone();
            }
            let value: Option<Rc<str>> = config::get(key).map(Into::into);
            known.push((key.to_owned(), value.clone()));
            value
        })
    }

    pub(super) fn asked(key: &str) -> Option<String> {
        config::get(key)
    }

    pub(super) fn embed(embedder: &str, texts: &[String]) -> Result<Vectors, Failure> {
        let vectors = embeddings::embed(embedder, texts)?;
        Ok(Vectors { dimension: vectors.dimension as usize, data: vectors.data })
    }

    pub(super) fn log(level: Level, message: &str) {
        let level = match level {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::log(level, message);
    }
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::host as imp;
