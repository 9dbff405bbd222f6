//! `State`: where a source is with its stream, and what goes on beside it.

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::PostgresSource;
use super::copy::Copies;
use super::dial::Opened;
use super::stream::Stream;
use super::watch::Watch;
use crate::error::Result;
use crate::meter::Connected;

/// The state of a source between two batches.
pub(super) enum State {
    Live(Box<Live>),
    /// Not before then.
    Waiting(Instant),
    /// A task, so that a cancelled `next` does not begin anew.
    Dialling(JoinSet<Result<Opened>>),
    /// The slot is another one: everything is set up again.
    BeginningAnew(JoinSet<Result<PostgresSource>>),
}

/// A stream, and what goes on only as long as it does.
pub(super) struct Live {
    pub(super) stream: Stream,
    pub(super) copies: Copies,
    pub(super) watch: Watch,
    /// The number of our turn at the slot.
    pub(super) turn: i64,
    pub(super) _connected: Connected,
}
