//! Facts beside rows: the head of an event, and a line that could not be read as an event.

use crate::lsn::Position;

/// The kind of change to a row, or to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new row.
    Insert,
    /// A row changed and kept its key; a changed key arrives as a delete and an insert.
    Update,
    /// A row is gone; what the replica identity gives of it stands in `row`.
    Delete,
    /// The table was emptied; there is no row.
    Truncate,
}

/// The facts of an event beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct EventHead {
    /// The kind of change.
    pub operation: Operation,
    /// Place of the event in the stream.
    pub position: Position,
    /// Time of the transaction's commit, in µs since 1970-01-01 UTC.
    pub commit_time: i64,
    /// The transaction's id.
    pub xid: u32,
    /// Read by a copy of the table rather than streamed.
    pub snapshot: bool,
    /// Read by a copy that was asked for because an earlier event of the row was set aside.
    pub replayed: bool,
}

/// A line of a source that could not be read as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Place of the line in the stream.
    pub position: Position,
    /// The file and the number of the line, and what is wrong with it. Never a value of it.
    pub reason: String,
    /// The line itself, or how it begins.
    pub text: String,
}
