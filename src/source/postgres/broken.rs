//! `Broken`: why a streaming session ended, as the server's words or its silence have it.

use std::io;

use tokio::task::JoinError;

use crate::decode::DecodeError;
use crate::error::{Error, Fault, Result};
use crate::meter::ReconnectReason;
use crate::postgres::{ServerError, sqlstate};

/// Remarks of the server that are shown: whoever may write into the log can cause them.
const REMARKS: u32 = 20;

/// The way in which a server that says no more is told of.
pub(super) const GOOD_BYE: &str = "the server ended the stream";

/// The reason why a session ended.
pub(super) enum Broken {
    /// A type of the tables cannot be read in binary: the session must be opened in text format.
    NeedsText,
    /// The publication was dropped: what is committed from now on is not sent.
    Unpublished,
    /// The schema has changed since the catalogue was read: the session must be opened with what it
    /// is now.
    Outdated(DecodeError),
    Failed(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Broken::Failed(error)
    }
}

/// For how many seconds the server was silent.
#[derive(Debug, thiserror::Error)]
#[error("the server was silent for {0} s")]
pub(super) struct Silence(pub(super) u64);

impl Broken {
    /// In a word.
    pub(super) fn reason(&self) -> ReconnectReason {
        let Broken::Failed(error) = self else { return ReconnectReason::Outdated };
        let mut cause = std::error::Error::source(error);
        while let Some(link) = cause {
            if link.is::<Silence>() {
                return ReconnectReason::Silent;
            }
            if link.is::<io::Error>() {
                return ReconnectReason::Closed;
            }
            cause = link.source();
        }
        match sqlstate(error) {
            // The administrator ends sessions, the server shuts down or starts.
            Some("57P01" | "57P02" | "57P03") => ReconnectReason::ServerShutdown,
            None if std::error::Error::source(error).is_none() && error.headline() == GOOD_BYE => {
                ReconnectReason::ServerShutdown
            }
            _ => ReconnectReason::Error,
        }
    }
}

pub(super) fn heed(notice: ServerError, number: u32) -> Result<(), Broken> {
    // Postgres 18 goes on without the publication, and so without its changes. It may say so in any language.
    if notice.code == "55000" {
        return Err(Broken::Unpublished);
    }
    match number {
        ..=REMARKS => {
            // Its words are shown as those of an error are: cut, and without what could drive a terminal.
            let said = Error::new(Fault::Environment, notice.to_string()).chain();
            tracing::info!(notice = said, "the server says");
        }
        _ if number == REMARKS + 1 => tracing::info!("the server says more, which is not shown"),
        _ => {}
    }
    Ok(())
}

pub(super) fn ended(error: ServerError) -> Broken {
    // Before Postgres 18 a missing publication ends the stream.
    if error.code == "42704" {
        return Broken::Unpublished;
    }
    Broken::Failed(Error::from(error).within(GOOD_BYE))
}

/// The result of a task that connects.
pub(super) fn ended_task<T>(task: Option<Result<Result<T>, JoinError>>) -> Result<T> {
    match task {
        Some(Ok(result)) => result,
        _ => Err(Error::new(Fault::Bug, "the task that connects to Postgres ended without a result")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_speak_any_language() {
        let error = |code, message| ServerError::new(code, message, None);
        assert!(matches!(ended(error("42704", "Publikation »p« existiert nicht")), Broken::Unpublished));
        assert!(matches!(ended(error("57P01", "Verbindung wird abgebrochen")), Broken::Failed(_)));
        let skipped = heed(error("55000", "Laden der Publikation »p« übersprungen"), 1);
        assert!(matches!(skipped, Err(Broken::Unpublished)));
        assert!(heed(error("01000", "eine Warnung"), 1).is_ok());
    }
}
