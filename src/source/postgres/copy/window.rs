//! `Windows`: joins what a query read to the stream, so that no row is outdated by it. Knows no
//! server.
//!
//! A chunk of a table is read between two watermarks, messages that the reader writes into the log
//! (DBLog, Andreakis and Papapanagiotou 2020, algorithm 1). When the second one comes by, the chunk
//! joins the stream, without the rows that the stream changed in between: those are newer. Before
//! the first one the stream holds what the query saw, with one exception: a commit stands in the
//! log before other sessions see it, which with a synchronous standby may take long. So a chunk
//! whose snapshot does not see a transaction that the stream had already brought is read again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::super::snapshot::Snapshot;
use super::mark::{Mark, PREFIX};
use crate::decode::{DecodeError, Decoder, Joins, LogicalMessage, Reading};
use crate::event::{BatchBuilder, Operation, Relation, Row, Value};
use crate::lsn::Lsn;
use crate::sabotage::Breakage;

/// Transactions that are remembered; more than are ever between their commit and its being seen.
const REMEMBERED: usize = 4096;
/// Bytes of keys that one window remembers; a table that changes faster is read again, later.
const TOUCHED_BYTES: usize = 32 << 20;

/// The rows that a query read.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) reading: Arc<Reading>,
    /// Bodies of DataRow messages.
    pub(super) rows: Vec<Bytes>,
    /// The same of rows that were asked for and are not there: nothing but their keys. They join as
    /// deletes.
    pub(super) gone: Vec<Bytes>,
    /// Earlier events of the rows were set aside.
    pub(super) replayed: bool,
    /// The transactions that the query saw.
    pub(super) snapshot: Snapshot,
    /// Told where the transaction ends with which the rows travel, once they are all in a batch.
    /// Dropped: read again.
    pub(super) joined: oneshot::Sender<Lsn>,
}

/// The state that readers and one stream share. Chunks that are put down here are lost with the
/// stream: its watermarks have gone by.
#[derive(Debug, Default)]
pub(in super::super) struct Handover {
    chunks: Mutex<HashMap<u64, Option<Chunk>>>,
    /// The tables to be cleared, under the number of the message that says when.
    clearing: Mutex<Option<(u64, Clear)>>,
    streamed: Arc<Streamed>,
    /// Somebody asked for a copy.
    pub(super) asked: Notify,
}

/// The transactions that were streamed. Outlives streams: a commit may stay unseen longer.
#[derive(Debug, Default)]
pub(in super::super) struct Streamed {
    /// Ids of the last ones, the newest last.
    ids: Mutex<VecDeque<u32>>,
    /// Before our first stream transactions with ids before this one may have been streamed that
    /// nobody saw yet.
    before_us: Mutex<Option<u32>>,
}

impl Streamed {
    /// Notes that whoever had the slot before us may have streamed transactions with ids before
    /// this one.
    pub(in super::super) fn begin_after(&self, unseen_before: Option<u32>) {
        *self.before_us.lock().unwrap_or_else(PoisonError::into_inner) = unseen_before;
    }

    fn push(&self, xid: u32) {
        let mut ids = self.ids();
        if ids.len() == REMEMBERED {
            ids.pop_front();
        }
        ids.push_back(xid);
    }

    fn ids(&self) -> MutexGuard<'_, VecDeque<u32>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells if a query with this snapshot saw all that had been streamed before our first stream.
    fn before_us_is_seen_by(&self, snapshot: &Snapshot) -> bool {
        let before_us = *self.before_us.lock().unwrap_or_else(PoisonError::into_inner);
        before_us.is_none_or(|id| snapshot.sees_all_before(id))
    }
}

/// Tables whose rows are to go from the sinks, before they are copied again.
#[derive(Debug)]
pub(super) struct Clear {
    pub(super) readings: Vec<Arc<Reading>>,
    /// As for a [`Chunk`].
    pub(super) joined: oneshot::Sender<Lsn>,
}

impl Handover {
    pub(in super::super) fn new(streamed: Arc<Streamed>) -> Self {
        Self { streamed, ..Self::default() }
    }

    /// Says what the message of this number clears, before it is written.
    pub(super) fn put_clear(&self, number: u64, clear: Clear) {
        *self.clearing() = Some((number, clear));
    }

    fn take_clear(&self, number: u64) -> Option<Clear> {
        self.clearing().take_if(|(expected, _)| *expected == number).map(|(_, clear)| clear)
    }

    fn clearing(&self) -> MutexGuard<'_, Option<(u64, Clear)>> {
        self.clearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a chunk of this number will come, before its first watermark is written.
    pub(super) fn announce(&self, number: u64) {
        self.lock().insert(number, None);
    }

    /// Puts the chunk down for the stream, before its second watermark is written.
    pub(super) fn put(&self, number: u64, chunk: Chunk) {
        // What was forgotten meanwhile is dropped.
        if let Some(place) = self.lock().get_mut(&number) {
            *place = Some(chunk);
        }
    }

    /// The chunk does not come after all.
    pub(super) fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn expects(&self, number: u64) -> bool {
        self.lock().contains_key(&number)
    }

    fn take(&self, number: u64) -> Option<Chunk> {
        self.lock().remove(&number).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Option<Chunk>>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chunks of one streaming session.
#[derive(Debug)]
pub(in super::super) struct Windows {
    handover: Arc<Handover>,
    open: Vec<Window>,
    joining: Option<Joining>,
    clearing: Option<Clear>,
    /// Chunks whose rows are all in the batch, and where their transactions end.
    joined: Vec<(Option<Lsn>, oneshot::Sender<Lsn>)>,
    /// A row of the batch takes the place of its copy, and lacks a value that only the copy has.
    gaps: bool,
}

/// The changes that the stream makes to a table while a chunk of it is being read.
#[derive(Debug)]
struct Window {
    chunk: u64,
    table: u32,
    /// Transactions that had been streamed when it opened.
    before: Vec<u32>,
    touched: HashSet<Box<[u8]>>,
    touched_bytes: usize,
    /// The key's columns as the stream names them, once it did.
    key: Option<Vec<String>>,
    /// The chunk cannot be used.
    spoilt: bool,
}

/// A chunk that is joining the stream.
#[derive(Debug)]
struct Joining {
    reading: Arc<Reading>,
    rows: std::vec::IntoIter<Bytes>,
    gone: std::vec::IntoIter<Bytes>,
    replayed: bool,
    touched: HashSet<Box<[u8]>>,
    joined: oneshot::Sender<Lsn>,
}

impl Windows {
    pub(in super::super) fn new(handover: Arc<Handover>) -> Self {
        Self { handover, open: Vec::new(), joining: None, clearing: None, joined: Vec::new(), gaps: false }
    }

    /// A transaction begins.
    pub(in super::super) fn begin(&mut self, xid: u32) {
        self.handover.streamed.push(xid);
    }

    /// A message came by.
    pub(in super::super) fn message(&mut self, message: &LogicalMessage) {
        if message.prefix != PREFIX || !message.transactional {
            return;
        }
        self.open.retain(|window| self.handover.expects(window.chunk));
        match Mark::parse(&message.content) {
            Some(Mark::Low { chunk, table }) if self.handover.expects(chunk) => self.open.push(Window {
                chunk,
                table,
                before: self.handover.streamed.ids().iter().copied().collect(),
                touched: HashSet::new(),
                touched_bytes: 0,
                key: None,
                spoilt: false,
            }),
            Some(Mark::High { chunk }) => self.close(chunk),
            Some(Mark::Clear { number }) => self.clearing = self.handover.take_clear(number),
            Some(Mark::Asked) => self.handover.asked.notify_one(),
            Some(Mark::Low { .. } | Mark::SetUp) | None => {}
        }
    }

    fn close(&mut self, number: u64) {
        let Some(at) = self.open.iter().position(|window| window.chunk == number) else { return };
        let window = self.open.swap_remove(at);
        let Some(chunk) = self.handover.take(number) else { return };
        let limbo = window.before.iter().any(|xid| !chunk.snapshot.sees(*xid))
            || !self.handover.streamed.before_us_is_seen_by(&chunk.snapshot);
        let same_key =
            window.key.is_none_or(|key| key.iter().map(String::as_str).eq(key_names(chunk.reading.relation())));
        if window.spoilt || (limbo && !Breakage::SnapshotBelieved.is_on()) || !same_key {
            return; // the reader learns it from the sender that is dropped here
        }
        let Chunk { reading, rows, gone, replayed, joined, .. } = chunk;
        let (rows, gone, touched) = (rows.into_iter(), gone.into_iter(), window.touched);
        self.joining = Some(Joining { reading, rows, gone, replayed, touched, joined });
    }

    /// The last `count` events of the batch are new.
    pub(in super::super) fn changed(&mut self, batch: &BatchBuilder, count: usize) {
        if self.open.is_empty() {
            return;
        }
        for (event, relation, row) in batch.last(count) {
            for window in self.open.iter_mut().filter(|window| window.table == relation.id) {
                window.touch(event.operation, relation, row);
                self.gaps |= row.iter().any(|value| value == Value::Unchanged) && !Breakage::GapLeft.is_on();
            }
        }
    }

    /// Tells if the batch that leaves must be completed from the table, and forgets it for the next
    /// one. A large text that an UPDATE left alone is not in the log, and the sinks may not have it
    /// yet.
    pub(in super::super) fn take_gaps(&mut self) -> bool {
        std::mem::take(&mut self.gaps)
    }

    /// Tells if the batch under construction must be completed, or may have to be.
    pub(in super::super) fn want_it_whole(&self) -> bool {
        self.gaps || !self.open.is_empty()
    }

    /// True if rows of a chunk, or the clearing of tables, wait to join.
    pub(in super::super) fn is_joining(&self) -> bool {
        self.joining.is_some() || self.clearing.is_some()
    }

    /// Appends the next row that waits, if it is not outdated; before all rows, what clears their
    /// tables.
    pub(in super::super) fn join(&mut self, decoder: &mut Decoder, out: &mut BatchBuilder) -> Result<(), DecodeError> {
        if let Some(Clear { readings, joined }) = self.clearing.take() {
            for reading in &readings {
                decoder.empty(reading, out)?;
            }
            self.joined.push((None, joined));
            return Ok(());
        }
        let Some(joining) = &mut self.joining else { return Ok(()) };
        let Joining { reading, rows, gone, replayed, touched, .. } = joining;
        let row = rows.next().map(|row| (Operation::Insert, row));
        let Some((operation, row)) = row.or_else(|| gone.next().map(|row| (Operation::Delete, row))) else {
            if let Some(Joining { joined, .. }) = self.joining.take() {
                self.joined.push((None, joined));
            }
            return Ok(());
        };
        let ignored = Breakage::OverlapIgnored.is_on();
        let is_current =
            |row: Row<'_>| ignored || touched.is_empty() || !touched.contains(&*key(reading.relation(), row));
        decoder.read(reading, row, Joins { operation, replayed: *replayed }, out, is_current).map(drop)
    }

    /// The transaction ends there.
    pub(in super::super) fn commit(&mut self, end: Lsn) {
        for (at, _) in &mut self.joined {
            at.get_or_insert(end);
        }
    }

    /// A batch that ends there leaves the session.
    pub(in super::super) fn returned(&mut self, through: Option<Lsn>) {
        let Some(through) = through else { return };
        for (end, joined) in self.joined.extract_if(.., |(end, _)| end.is_some_and(|end| end <= through)) {
            // A reader that has gone away needs no answer.
            let _ = joined.send(end.unwrap_or(through));
        }
    }
}

impl Window {
    fn touch(&mut self, operation: Operation, relation: &Relation, row: Row<'_>) {
        if operation == Operation::Truncate {
            self.spoilt = true; // rows read before it are gone
            return;
        }
        match &self.key {
            None => self.key = Some(key_names(relation).map(str::to_owned).collect()),
            Some(known) if known.iter().map(String::as_str).eq(key_names(relation)) => {}
            Some(_) => self.spoilt = true, // the identity changed in between
        }
        if self.spoilt {
            return;
        }
        let key = key(relation, row);
        self.touched_bytes += key.len() + size_of::<Box<[u8]>>();
        if self.touched_bytes > TOUCHED_BYTES {
            self.spoilt = true;
            self.touched = HashSet::new();
            return;
        }
        self.touched.insert(key);
    }
}

fn key_names(relation: &Relation) -> impl Iterator<Item = &str> {
    relation.columns.iter().filter(|column| column.key).map(|column| column.name.as_str())
}

/// The key's values, each with its kind and length, so that different keys differ.
fn key(relation: &Relation, row: Row<'_>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(16);
    for (column, value) in relation.columns.iter().zip(row.iter()) {
        if column.key {
            append(&mut bytes, value);
        }
    }
    bytes.into_boxed_slice()
}

fn append(out: &mut Vec<u8>, value: Value<'_>) {
    let mut fixed = |kind: u8, bytes: [u8; 8]| {
        out.push(kind);
        out.extend(bytes);
    };
    let (kind, bytes) = match value {
        Value::Null => return out.push(0),
        Value::Unchanged => return out.push(1),
        Value::Bool(value) => return out.extend([2, u8::from(value)]),
        Value::Int(value) => return fixed(3, value.to_be_bytes()),
        // -0 is 0, and NaN is itself, as in Postgres' indexes.
        Value::Float(0.0) => return fixed(4, 0f64.to_be_bytes()),
        Value::Float(value) if value.is_nan() => return fixed(4, f64::NAN.to_be_bytes()),
        Value::Float(value) => return fixed(4, value.to_be_bytes()),
        Value::Timestamp(value) | Value::Time(value) => return fixed(5, value.to_be_bytes()),
        Value::Date(value) => return fixed(6, i64::from(value).to_be_bytes()),
        Value::Numeric(text) => (7, text.as_bytes()),
        Value::Text(text) => (8, text.as_bytes()),
        Value::Bytes(bytes) => (9, bytes),
        Value::Uuid(text) => (10, text.as_bytes()),
        Value::Json(text) => (11, text.as_bytes()),
        Value::Other(text) => (12, text.as_bytes()),
        Value::Vector(values) => {
            out.push(13);
            out.extend((values.len() as u64).to_be_bytes());
            return out.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        }
    };
    fixed(kind, (bytes.len() as u64).to_be_bytes());
    out.extend(bytes);
}
