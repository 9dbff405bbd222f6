//! `Error`: why an event, or a whole batch, cannot be handled.

use std::fmt;

use crate::bindings::pgstream::host::types::Failure;

/// The result of handling one event.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an event, or the whole batch, cannot be handled. Any error of the standard kind becomes a rejection with `?`.
#[derive(Debug, Clone, PartialEq)]
pub struct Error(Kind);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Reject(String),
    Batch(Failure),
}

impl Error {
    /// This event cannot be handled. It goes to the transform's `.rejected` output with the reason; the others go on.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self(Kind::Reject(reason.into()))
    }

    /// It will pass: the host calls again with the same batch, later.
    pub fn retry(why: impl Into<String>) -> Self {
        Self(Kind::Batch(Failure::Retry(why.into())))
    }

    /// A person must act, say because the configuration is wrong: the pipeline stops, nothing of the batch is confirmed.
    pub fn stop(why: impl Into<String>) -> Self {
        Self(Kind::Batch(Failure::Stop(why.into())))
    }

    pub(crate) fn batch(failure: Failure) -> Self {
        Self(Kind::Batch(failure))
    }

    pub(crate) fn into_kind(self) -> Kind {
        self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Reject(text) | Kind::Batch(Failure::Retry(text) | Failure::Stop(text)) => f.write_str(text),
        }
    }
}

// `Error` itself is no `std::error::Error`: else this would overlap with `From<T> for T`.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self::reject(reason)
    }
}
