//! `Outage`: the time without a stream: what is said of it, and the waits between tries.

use std::time::Duration;

use tokio::time::Instant;

use super::{BACKOFF, slot};
use crate::backoff::Backoff;
use crate::error::Error;
use crate::retry::Retry;
use crate::source::SourceState;

/// As long as another host has the slot: one that fails is to be followed within seconds.
const WAITING: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// A slot is held for some moments by the connection that was lost before: not worth a word.
const QUIET: Duration = Duration::from_secs(2);
/// The time after which it is said again that another host has the slot.
const REMIND: Duration = Duration::from_secs(60);

/// The failures since something was last returned.
pub(super) struct Outage {
    /// Tries that failed.
    retry: Retry,
    /// Looks at a slot that another host has.
    waiting: Retry,
    /// The last time at which it was said that another host reads the slot.
    reminded: Option<Instant>,
}

impl Default for Outage {
    fn default() -> Self {
        Self { retry: Retry::new(BACKOFF), waiting: Retry::new(WAITING), reminded: None }
    }
}

impl Outage {
    /// Logs a passing failure. Answers what the source does from now on, and how long.
    pub(super) fn failed(&mut self, error: &Error, slot: &str) -> (SourceState, Duration) {
        let cause = error.chain();
        if !slot::is_in_use(error) {
            let wait = self.retry.failed(error);
            tracing::warn!(cause, wait_seconds = wait.seconds(), "no stream from Postgres, trying again");
            return (SourceState::Retrying(cause), wait.time);
        }
        let wait = self.waiting.failed(error);
        let told = self.reminded.is_some_and(|told| told.elapsed() < REMIND);
        if wait.since.elapsed() >= QUIET && !told {
            self.reminded = Some(Instant::now());
            tracing::warn!(slot, cause, "waits for the slot, and takes over as soon as it is free");
        }
        (SourceState::Waiting, wait.time)
    }
}
