//! Rows as they are asked of a source beside its stream: copies of tables, single rows, samples.

use crate::error::Error;
use crate::event::Batch;

/// The copies to ask for.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// Tables as `schema.table`; all of the source if there are none.
    pub tables: Vec<String>,
    /// An SQL condition on the rows.
    pub filter: Option<String>,
    /// At most so many rows a second.
    pub rows_per_second: Option<u32>,
}

/// The progress of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Number of the copy.
    pub id: i64,
    /// `schema.table`.
    pub table: String,
    /// Rows that are durable in all sinks.
    pub rows: u64,
    /// Their bytes, as the source writes their values.
    pub bytes: u64,
    /// About how many rows there are to copy, by the table's statistics or its size. Unknown if a
    /// condition chooses among them.
    pub expected: Option<u64>,
    /// It is complete.
    pub done: bool,
    /// The reason why it cannot be made.
    pub error: Option<String>,
}

/// A row that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedRow<'a> {
    /// `schema.table`.
    pub table: &'a str,
    /// Its key's columns with their values, as [`crate::event::json::key`] writes them.
    pub key: &'a str,
}

/// The outcome of a request for rows. Rows are named by their index in what was asked for.
#[derive(Debug, Default)]
pub struct AskedRows {
    /// Numbers of copies, and the rows that each brings.
    pub copies: Vec<(i64, Vec<usize>)>,
    /// Rows that cannot be asked for, and why.
    pub refused: Vec<(usize, Error)>,
    /// True if somebody runs the pipeline.
    pub served: bool,
}

/// A row to try handlers with.
#[derive(Debug)]
pub struct SampleRow {
    /// The table, as `schema.table`.
    pub table: String,
    /// The row, as the only event.
    pub batch: Batch,
    /// The table has no row that could be read, so the values are made up.
    pub made_up: bool,
}
