//! `Reading`: a table as a query reads it. Its rows join the stream as events of the transaction
//! that is being decoded.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::table::{Table, malformed};
use super::wire::Reader;
use super::{Catalog, DecodeError, Decoder, Events};
use crate::event::{Batch, BatchBuilder, Column, Operation, Relation, ReplicaIdentity, Row};

/// The columns of a query, with the way to read each of them.
#[derive(Debug)]
pub struct Reading {
    table: Table,
}

/// A column of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadColumn {
    /// Its name.
    pub name: String,
    /// `pg_attribute.atttypid`.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
    /// True if the column belongs to what identifies the row.
    pub key: bool,
}

/// As what a row of a query joins the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joins {
    /// The operation on the row, as far as handlers are concerned.
    pub operation: Operation,
    /// See [`Event::replayed`](crate::event::Event::replayed).
    pub replayed: bool,
}

impl Reading {
    /// The table with this OID, whose types `catalog` knows, read column by column in the given
    /// order.
    pub fn new(
        id: u32,
        schema: &str,
        table: &str,
        replica_identity: ReplicaIdentity,
        columns: &[ReadColumn],
        catalog: &Catalog,
    ) -> Self {
        let column = |column: &ReadColumn| Column {
            name: column.name.clone(),
            type_name: catalog.type_name(column.type_oid),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            key: column.key,
        };
        let columns = columns.iter().map(column).collect();
        let (schema, table) = (schema.to_owned(), table.to_owned());
        let relation = Relation { id, schema, table, replica_identity, columns, naming: catalog.naming(id) };
        Self { table: Table::new(Arc::new(relation), catalog) }
    }

    /// All columns of a relation of the stream.
    pub fn of(relation: &Arc<Relation>, catalog: &Catalog) -> Self {
        Self { table: Table::new(Arc::clone(relation), catalog) }
    }

    /// Puts the values of `data_row`, after its first `skip`, where the row of an event has none.
    /// They are copied into the batch.
    ///
    /// # Errors
    /// As for [`Decoder::decode`]; the columns before the one in question are filled.
    pub fn fill(&self, data_row: &[u8], skip: usize, batch: &mut Batch, event: usize) -> Result<(), DecodeError> {
        self.table.fill("DataRow", data_row, skip, batch, event)
    }

    /// The table and its columns.
    pub fn relation(&self) -> &Arc<Relation> {
        &self.table.relation
    }
}

/// The values of a `DataRow` in text format: of these columns, in this order. None if one is null
/// or missing.
pub fn texts(data_row: &[u8], columns: &[usize]) -> Option<Vec<String>> {
    let mut reader = Reader::new(data_row);
    let count = reader.i16().ok()?;
    let fields: Vec<_> = (0..count).map_while(|_| reader.nullable().ok()).collect();
    let text = |index: &usize| Some(std::str::from_utf8(fields.get(*index)?.as_ref()?.bytes).ok()?.to_owned());
    columns.iter().map(text).collect()
}

impl Decoder {
    /// Appends a row as an event of the transaction that is being decoded, if `keep` says so.
    /// `data_row` is the body of a `DataRow` in text format (Postgres manual, 54.7). Answers
    /// whether it was appended.
    ///
    /// # Errors
    /// As for [`decode`](Self::decode); nothing of the row stays in `out`.
    pub fn read(
        &mut self,
        reading: &Reading,
        data_row: Bytes,
        joins: Joins,
        out: &mut BatchBuilder,
        keep: impl FnOnce(Row<'_>) -> bool,
    ) -> Result<bool, DecodeError> {
        let mark = out.mark();
        let appended = self.append(reading, data_row, joins, out, keep);
        if !matches!(appended, Ok(true)) {
            out.rollback(mark);
        }
        appended
    }

    /// Appends that the table was emptied, as part of the transaction that is being decoded.
    ///
    /// # Errors
    /// As for [`decode`](Self::decode).
    pub fn empty(&mut self, Reading { table }: &Reading, out: &mut BatchBuilder) -> Result<(), DecodeError> {
        let mut events = Events::of("Truncate", &mut self.transaction, self.resume_after)?;
        events.snapshot = true;
        let nothing = out.row_start();
        events.push(Operation::Truncate, table, nothing..nothing, None, out)
    }

    fn append(
        &mut self,
        Reading { table }: &Reading,
        data_row: Bytes,
        joins: Joins,
        out: &mut BatchBuilder,
        keep: impl FnOnce(Row<'_>) -> bool,
    ) -> Result<bool, DecodeError> {
        const MESSAGE: &str = "DataRow";
        let mut events = Events::of(MESSAGE, &mut self.transaction, self.resume_after)?;
        events.snapshot = true;
        events.replayed = joins.replayed;
        let mut reader = Reader::new(&data_row);
        let row: Range<u32> = table.data_row(MESSAGE, &mut reader, out, &mut self.scratch)?;
        reader.end().map_err(|flaw| malformed(MESSAGE, flaw))?;
        out.push_frame(data_row);
        if !keep(out.row(row.clone())) {
            return Ok(false);
        }
        events.push(joins.operation, table, row, None, out)?;
        Ok(events.added > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_a_row() {
        let row = b"\0\x04\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0\0\0\0\x02bc";
        assert_eq!(texts(row, &[3, 0, 2]), Some(vec!["bc".into(), "a".into(), "".into()]));
        assert_eq!(texts(row, &[1]), None, "null");
        assert_eq!(texts(row, &[4]), None, "missing");
        assert_eq!(texts(&row[..9], &[0]), Some(vec!["a".into()]));
        assert_eq!(texts(b"\0\x01\0\0\0\x09a", &[0]), None, "cut off");
        assert_eq!(texts(b"", &[0]), None);
    }
}
