//! `dead_letter`: a refused event as JSON, whole enough to be looked into and replayed.

use crate::event::{Batch, Event, json};
use crate::sink::DeadLetter;

/// Keeps `event` with the reason why `transform` refused it.
pub(super) fn dead_letter(transform: &str, batch: &Batch, event: &Event, reason: String) -> DeadLetter {
    DeadLetter { position: event.position, transform: transform.to_owned(), reason, event: json::write(batch, event) }
}
