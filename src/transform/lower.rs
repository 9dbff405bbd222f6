//! A batch as the guest gets it: relations as lists, events straight from the batch's cells.

mod events;

use wasmtime::component::{ComponentType, Lower};

use self::events::Events;
use super::bindings::pgstream::host::types as wit;
use super::columns::Columns;
use crate::event::Batch;

/// The WIT's `batch`.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Lowered<'a> {
    relations: &'a [wit::Relation<'a>],
    events: Events<'a>,
}

/// Calls `call` with the batch in the guest's terms, and only with `columns` of it. A few
/// allocations, however many events and columns there are.
pub(super) fn lowered<R>(batch: &Batch, columns: &Columns, call: impl FnOnce(Lowered<'_>) -> R) -> R {
    let kept: Vec<Vec<u32>> = batch.relations().iter().map(|relation| columns.of(relation)).collect();
    let columns: Vec<Vec<wit::Column<'_>>> = batch
        .relations()
        .iter()
        .zip(&kept)
        .map(|(relation, kept)| {
            kept.iter().filter_map(|&index| relation.columns.get(index as usize)).map(column).collect()
        })
        .collect();
    let relations: Vec<wit::Relation<'_>> = batch
        .relations()
        .iter()
        .zip(&columns)
        .map(|(relation, columns)| wit::Relation { schema: &relation.schema, table: &relation.table, columns })
        .collect();
    call(Lowered { relations: &relations, events: Events { batch, kept: &kept } })
}

fn column(column: &crate::event::Column) -> wit::Column<'_> {
    wit::Column { name: &column.name, type_name: &column.type_name, key: column.key }
}
