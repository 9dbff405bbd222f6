//! `truncated`: says what a TRUNCATE of one of several tables may do to the others' points.

use crate::event::{Batch, Operation};

/// A handler answers with `clear`, which knows no tables.
pub(super) fn tell(batch: &Batch) {
    for event in batch.events().iter().filter(|event| event.operation == Operation::Truncate && !event.snapshot) {
        tracing::warn!(
            table = %batch.relation(event),
            "a table was truncated: if the handler answers with `clear`, that empties the sink's collection for all tables of \
             the source; bring the others back with `pgstream-host backfill … --table …`"
        );
    }
}
