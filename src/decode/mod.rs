//! `Decoder`: messages of Postgres' `pgoutput` plugin into events of a batch. Pure: no I/O, no
//! clock.

mod array;
mod binary;
mod builtin;
mod catalog;
mod codec;
mod described;
mod error;
mod json;
mod message;
mod numeric;
mod ordinal;
mod reading;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod wire;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::{BatchBuilder, Cell, Operation, Relation};
use crate::lsn::Position;
use crate::sabotage::Breakage;
use array::Scratch;
use described::remember;
use ordinal::{Events, OUTSIDE, Rows, Span, Transaction};
use table::{Table, malformed};
use wire::{Flaw, Reader};

pub use catalog::{Catalog, Shape};
pub use error::DecodeError;
pub use message::{Begin, Commit, LogicalMessage};
pub use reading::{Joins, ReadColumn, Reading, texts};

/// Decodes one connection's stream. The server describes each relation once per connection, so a
/// new connection needs a new decoder.
#[derive(Debug)]
pub struct Decoder {
    catalog: Catalog,
    tables: FxHashMap<u32, Table>,
    /// The tables whose changes are wanted; None: all.
    wanted: Option<FxHashSet<u32>>,
    /// Those that the server described and nobody wants.
    unwanted: FxHashSet<u32>,
    transaction: Option<Transaction>,
    resume_after: Option<Position>,
    /// The catalogue can be read again.
    renewable: bool,
    scratch: Scratch,
    /// Bytes of the messages that described what is remembered.
    described: usize,
}

/// The outcome of decoding a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A transaction started.
    Begin(Begin),
    /// The transaction is complete; the batch may be confirmed up to its end.
    Commit(Commit),
    /// A row changed or tables were emptied.
    Rows {
        /// The number of events that were added: one for each row or emptied table, two if a key
        /// changed. None for what had been seen before, or for emptied tables that nobody wants.
        events: u32,
        /// An UPDATE changed the key and left a TOASTed column alone that the server did not send
        /// with the old row either. The last event is the insert of the new key, and the value of
        /// that column is unchanged in it: it can only be read from the table. `REPLICA IDENTITY
        /// FULL` avoids it.
        incomplete: bool,
    },
    /// The server described a table, which it repeats without need.
    Relation {
        /// As it is from here on. The same table is the same `Arc`.
        now: Arc<Relation>,
        /// As it was described before, if that was different.
        before: Option<Arc<Relation>>,
    },
    /// Somebody's message.
    Message(LogicalMessage),
    /// A message that is of no use here.
    Nothing,
}

impl Decoder {
    /// A decoder for a new connection to the database that `catalog` describes.
    pub fn new(catalog: Catalog) -> Self {
        let (tables, scratch) = (FxHashMap::default(), Scratch::default());
        let (wanted, unwanted) = (None, FxHashSet::default());
        let (transaction, resume_after, renewable, described) = (None, None, false, 0);
        Self { catalog, tables, wanted, unwanted, transaction, resume_after, renewable, scratch, described }
    }

    /// Makes it an error if the catalogue lacks something, because the schema has changed since it
    /// was read. Otherwise names are taken for what they say, and a table whose key is not found
    /// has all its columns for a key.
    pub fn with_renewable_catalog(mut self) -> Self {
        self.renewable = true;
        self
    }

    /// Changes of other tables than those with these OIDs are skipped: a publication may hold more
    /// than is wanted.
    pub fn with_tables(mut self, oids: impl IntoIterator<Item = u32>) -> Self {
        self.wanted = Some(oids.into_iter().collect());
        self
    }

    /// Events up to and including `position` were seen before, on another connection: they are
    /// checked, but not added again.
    pub fn resume_after(mut self, position: Position) -> Self {
        self.resume_after = Some(position);
        self
    }

    /// Decodes one message, the content of an `XLogData`, and appends its events to `out`.
    ///
    /// Cells point into `payload`, which the batch keeps. An UPDATE that changes the key becomes a
    /// delete of the old key and an insert of the new row, each with an ordinal of its own.
    ///
    /// # Errors
    /// All errors are definite, and nothing of the message stays in `out`. The decoder must not be
    /// used after one.
    pub fn decode(&mut self, payload: Bytes, out: &mut BatchBuilder) -> Result<Decoded, DecodeError> {
        let Some(&tag) = payload.first() else {
            return Err(malformed("empty", Flaw::Bad("it has no tag")));
        };
        match tag {
            b'I' | b'U' | b'D' | b'T' => self.rows(tag, payload, out),
            b'B' => self.begin(&payload),
            b'C' => self.commit(&payload, out),
            b'R' => self.described(&payload),
            b'Y' => {
                let (oid, name) = whole("Type", &payload, message::type_name)?;
                if !self.catalog.knows(oid) {
                    if self.renewable {
                        return Err(DecodeError::UnknownType { oid, name: name.to_owned() });
                    }
                    remember(&mut self.described, payload.len())?;
                }
                self.catalog.learn(oid, name);
                Ok(Decoded::Nothing)
            }
            b'O' => whole("Origin", &payload, message::origin).map(|()| Decoded::Nothing),
            b'M' => self.logical_message(&payload),
            tag => Err(DecodeError::UnknownTag(tag)),
        }
    }

    fn begin(&mut self, payload: &Bytes) -> Result<Decoded, DecodeError> {
        let begin = whole("Begin", payload, message::begin)?;
        if self.transaction.is_some() {
            return Err(DecodeError::OutOfPlace { message: "Begin", place: "inside a transaction" });
        }
        self.transaction = Some(Transaction::new(begin));
        Ok(Decoded::Begin(begin))
    }

    fn commit(&mut self, payload: &Bytes, out: &mut BatchBuilder) -> Result<Decoded, DecodeError> {
        let commit = whole("Commit", payload, message::commit)?;
        match self.transaction.take() {
            Some(transaction) if transaction.begin.final_lsn == commit.commit_lsn => {
                out.end_at(commit.end_lsn);
                Ok(Decoded::Commit(commit))
            }
            Some(_) => Err(DecodeError::OutOfPlace { message: "Commit", place: "of another transaction" }),
            None => Err(DecodeError::OutOfPlace { message: "Commit", place: OUTSIDE }),
        }
    }

    fn described(&mut self, payload: &Bytes) -> Result<Decoded, DecodeError> {
        if let Some(wanted) = &self.wanted {
            let oid = Reader::after_tag(payload).u32().map_err(|flaw| malformed("Relation", flaw))?;
            if !wanted.contains(&oid) {
                if self.unwanted.insert(oid) {
                    remember(&mut self.described, payload.len())?;
                }
                return Ok(Decoded::Nothing);
            }
        }
        let relation = whole("Relation", payload, |reader| message::relation(reader, &self.catalog))?;
        if self.renewable && self.lacks_key(&relation) {
            let columns = relation.columns.iter().map(|column| column.name.clone()).collect();
            return Err(DecodeError::UnknownKey { relation: relation.to_string(), columns });
        }
        let known = self.tables.get(&relation.id).map(|table| Arc::clone(&table.relation));
        let (now, before) = match known {
            Some(known) if *known == relation => (known, None),
            known => {
                remember(&mut self.described, payload.len())?;
                (Arc::new(relation), known)
            }
        };
        self.tables.insert(now.id, Table::new(Arc::clone(&now), &self.catalog));
        Ok(Decoded::Relation { now, before })
    }

    fn logical_message(&mut self, payload: &Bytes) -> Result<Decoded, DecodeError> {
        let message = whole("Message", payload, |reader| message::logical_message(reader, payload))?;
        if message.transactional && self.transaction.is_none() {
            return Err(DecodeError::OutOfPlace { message: "Message", place: OUTSIDE });
        }
        Ok(Decoded::Message(message))
    }

    /// A message about rows. It takes as many ordinals as [`Span`] says, whatever becomes of it.
    fn rows(&mut self, tag: u8, payload: Bytes, out: &mut BatchBuilder) -> Result<Decoded, DecodeError> {
        let span = Span::of(tag, &payload, self.transaction.as_ref());
        let is_unwanted = |oid: u32| self.unwanted.contains(&oid);
        if !self.unwanted.is_empty() && tag != b'T' && Reader::after_tag(&payload).u32().is_ok_and(is_unwanted) {
            return span.pass(self.transaction.as_mut()).map(|()| Decoded::Nothing);
        }
        let mark = out.mark();
        let rows = match tag {
            b'I' => self.insert(payload, out),
            b'U' => self.update(payload, out),
            b'D' => self.delete(payload, out),
            _ => self.truncate(&payload, out),
        };
        if !matches!(rows, Ok(Rows { events: 1.., .. })) {
            out.rollback(mark);
        }
        let Rows { events, incomplete } = rows?;
        span.pass(self.transaction.as_mut())?;
        Ok(Decoded::Rows { events, incomplete })
    }

    fn insert(&mut self, payload: Bytes, out: &mut BatchBuilder) -> Result<Rows, DecodeError> {
        let mut change = self.change("Insert", &payload)?;
        change.expect(b"N")?;
        let row = change.row(out)?;
        change.end()?;
        let Change { table, mut events, .. } = change;
        out.push_frame(payload);
        events.push(Operation::Insert, table, row, None, out)?;
        Ok(events.added(false))
    }

    fn update(&mut self, payload: Bytes, out: &mut BatchBuilder) -> Result<Rows, DecodeError> {
        let mut change = self.change("Update", &payload)?;
        let old = match change.expect(b"NKO")? {
            b'N' => None,
            tag => {
                let old = change.row(out)?;
                change.expect(b"N")?;
                Some((old, tag == b'O'))
            }
        };
        let new = change.row(out)?;
        change.end()?;
        let Change { table, mut events, .. } = change;
        out.push_frame(payload);
        let Some((old, full)) = old else {
            events.push(Operation::Update, table, new, None, out)?;
            return Ok(events.added(false));
        };
        table.fill_unchanged(&old, &new, full, out);
        if table.same_key(&old, &new, out) {
            // An equal key is sent when it is TOASTed; it tells nothing that the new row does not.
            events.push(Operation::Update, table, new, full.then_some(old), out)?;
            return Ok(events.added(false));
        }
        let incomplete = out.cells_mut(new.clone()).contains(&Cell::Unchanged);
        if !Breakage::KeyChangeWithoutDelete.is_on() {
            events.push(Operation::Delete, table, old, None, out)?;
        }
        events.push(Operation::Insert, table, new, None, out)?;
        Ok(events.added(incomplete))
    }

    fn delete(&mut self, payload: Bytes, out: &mut BatchBuilder) -> Result<Rows, DecodeError> {
        let mut change = self.change("Delete", &payload)?;
        change.expect(b"KO")?;
        let row = change.row(out)?;
        change.end()?;
        let Change { table, mut events, .. } = change;
        out.push_frame(payload);
        events.push(Operation::Delete, table, row, None, out)?;
        Ok(events.added(false))
    }

    fn truncate(&mut self, payload: &Bytes, out: &mut BatchBuilder) -> Result<Rows, DecodeError> {
        let relations = whole("Truncate", payload, message::truncate)?;
        let mut events = Events::of("Truncate", &mut self.transaction, self.resume_after)?;
        for oid in relations {
            if self.unwanted.contains(&oid) || Breakage::TruncateIgnored.is_on() {
                events.leave_out()?;
                continue;
            }
            let unknown = DecodeError::UnknownRelation { message: "Truncate", oid };
            let table = self.tables.get(&oid).ok_or(unknown)?;
            let nothing = out.row_start();
            events.push(Operation::Truncate, table, nothing..nothing, None, out)?;
        }
        Ok(events.added(false))
    }

    /// The beginning that all changes of a row share.
    fn change<'p>(&mut self, message: &'static str, payload: &'p [u8]) -> Result<Change<'_, 'p>, DecodeError> {
        let mut reader = Reader::after_tag(payload);
        let events = Events::of(message, &mut self.transaction, self.resume_after)?;
        let oid = reader.u32().map_err(|flaw| malformed(message, flaw))?;
        let Some(table) = self.tables.get(&oid) else {
            return Err(DecodeError::UnknownRelation { message, oid });
        };
        Ok(Change { message, reader, table, scratch: &mut self.scratch, events })
    }
}

/// Reads all of a message that is not a row.
fn whole<'a, T>(
    message: &'static str,
    payload: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Flaw>,
) -> Result<T, DecodeError> {
    let mut reader = Reader::after_tag(payload);
    let value = read(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|flaw| malformed(message, flaw))
}

/// A message about a row while it is being read.
struct Change<'d, 'p> {
    message: &'static str,
    reader: Reader<'p>,
    table: &'d Table,
    scratch: &'d mut Scratch,
    events: Events<'d>,
}

impl Change<'_, '_> {
    /// The next byte, which says what kind of row follows.
    fn expect(&mut self, tags: &[u8]) -> Result<u8, DecodeError> {
        let tag = self.reader.u8().map_err(|flaw| malformed(self.message, flaw))?;
        let unknown = || malformed(self.message, Flaw::Bad("a row of an unknown kind"));
        tags.contains(&tag).then_some(tag).ok_or_else(unknown)
    }

    fn row(&mut self, out: &mut BatchBuilder) -> Result<Range<u32>, DecodeError> {
        self.table.row(self.message, &mut self.reader, out, self.scratch)
    }

    fn end(&self) -> Result<(), DecodeError> {
        self.reader.end().map_err(|flaw| malformed(self.message, flaw))
    }
}
