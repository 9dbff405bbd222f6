//! `Place`: the place in the stream at which something happened, in words, for errors about a batch
//! or one of its events.

use std::fmt::Write;

use crate::event::Batch;

/// Tables that are named before the rest is only counted.
const TABLES: usize = 4;

/// Makes the words; holds nothing.
pub(super) struct Place;

impl Place {
    /// "batch of 40 events from 0/16B3748#0 to 0/16B3748#39, table `public.documents`".
    pub(super) fn batch(batch: &Batch) -> String {
        let (Some(first), Some(last)) = (batch.events().first(), batch.events().last()) else {
            return "batch without events".to_owned();
        };
        let count = batch.events().len();
        let mut place = if count == 1 {
            format!("batch of 1 event at {}", first.position)
        } else {
            format!("batch of {count} events from {} to {}", first.position, last.position)
        };
        let relations = batch.relations();
        for (index, relation) in relations.iter().take(TABLES).enumerate() {
            place.push_str(if index > 0 {
                ", "
            } else if relations.len() == 1 {
                ", table "
            } else {
                ", tables "
            });
            let _ = write!(place, "`{relation}`");
        }
        if relations.len() > TABLES {
            let _ = write!(place, " and {} more", relations.len() - TABLES);
        }
        place
    }

    /// "event 17 of 40 at 0/16B3748#16, table `public.documents`"; for an index that there is not,
    /// the batch.
    pub(super) fn event(batch: &Batch, index: usize) -> String {
        let Some(event) = batch.events().get(index) else { return Self::batch(batch) };
        let (count, position, relation) = (batch.events().len(), event.position, batch.relation(event));
        format!("event {index} of {count} at {position}, table `{relation}`")
    }
}
