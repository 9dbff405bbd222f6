//! A batch as the guest gets it: slices into a few flat lists, values borrowed from the batch's own cells.

use super::bindings::pgstream::host::types as wit;
use super::columns::Columns;
use crate::event::{Batch, Event, Operation, Row, Value};

/// Calls `call` with the batch in the guest's terms, and only with `columns` of it. A few allocations, however many events and
/// columns there are.
pub(super) fn lowered<R>(batch: &Batch, columns: &Columns, call: impl FnOnce(wit::Batch<'_>) -> R) -> R {
    let kept: Vec<Vec<u32>> = batch.relations().iter().map(|relation| columns.of(relation)).collect();
    let kept_of = |event: &Event| kept.get(event.relation as usize).map_or(&[][..], Vec::as_slice);
    // A truncate has no row.
    let len = |event: &Event, row: &Row<'_>| if row.is_empty() { 0 } else { kept_of(event).len() };

    let columns: Vec<wit::Column<'_>> = batch
        .relations()
        .iter()
        .zip(&kept)
        .flat_map(|(relation, kept)| kept.iter().filter_map(|&index| relation.columns.get(index as usize)))
        .map(column)
        .collect();
    let mut rest = columns.as_slice();
    let relations: Vec<wit::Relation<'_>> = batch
        .relations()
        .iter()
        .zip(&kept)
        .map(|(relation, kept)| {
            let columns = next(&mut rest, kept.len());
            wit::Relation { schema: &relation.schema, table: &relation.table, columns }
        })
        .collect();

    let rows = || {
        let rows =
            |event| [Some(batch.row(event)), batch.old_row(event)].into_iter().flatten().map(move |row| (event, row));
        batch.events().iter().flat_map(rows)
    };
    let mut values = Vec::with_capacity(rows().map(|(event, row)| len(event, &row)).sum());
    for (event, row) in rows().filter(|(_, row)| !row.is_empty()) {
        values.extend(kept_of(event).iter().map(|&index| row.get(index as usize).map_or(wit::Value::Null, value)));
    }

    let mut rest = values.as_slice();
    let events: Vec<wit::Event<'_>> = batch
        .events()
        .iter()
        .map(|event| wit::Event {
            operation: operation(event.operation),
            relation: event.relation,
            row: next(&mut rest, len(event, &batch.row(event))),
            old_row: batch.old_row(event).map(|row| next(&mut rest, len(event, &row))),
            lsn: event.position.lsn.0,
            ordinal: event.position.ordinal,
            commit_time: event.commit_time,
            xid: event.xid,
            snapshot: event.snapshot,
        })
        .collect();

    call(wit::Batch { relations: &relations, events: &events })
}

/// The next `len` of `rest`.
fn next<'a, T>(rest: &mut &'a [T], len: usize) -> &'a [T] {
    let (taken, left) = rest.split_at(len);
    *rest = left;
    taken
}

fn column(column: &crate::event::Column) -> wit::Column<'_> {
    wit::Column { name: &column.name, type_name: &column.type_name, key: column.key }
}

fn operation(operation: Operation) -> wit::Operation {
    match operation {
        Operation::Insert => wit::Operation::Insert,
        Operation::Update => wit::Operation::Update,
        Operation::Delete => wit::Operation::Delete,
        Operation::Truncate => wit::Operation::Truncate,
    }
}

fn value(value: Value<'_>) -> wit::Value<'_> {
    match value {
        Value::Null => wit::Value::Null,
        Value::Unchanged => wit::Value::Unchanged,
        Value::Bool(value) => wit::Value::Boolean(value),
        Value::Int(value) => wit::Value::Int(value),
        Value::Float(value) => wit::Value::Float(value),
        Value::Numeric(text) => wit::Value::Numeric(text),
        Value::Text(text) => wit::Value::Text(text),
        Value::Bytes(bytes) => wit::Value::Bytes(bytes),
        Value::Timestamp(micros) => wit::Value::Timestamp(micros),
        Value::Date(days) => wit::Value::Date(days),
        Value::Time(micros) => wit::Value::Time(micros),
        Value::Uuid(text) => wit::Value::Uuid(text),
        Value::Json(text) => wit::Value::Json(text),
        Value::Vector(numbers) => wit::Value::Vector(numbers),
        Value::Other(text) => wit::Value::Other(text),
    }
}
