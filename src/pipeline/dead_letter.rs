//! `dead_letter`: a refused event as JSON, whole enough to be looked into and replayed.

use super::bisect::Refused;
use crate::event::{Batch, Event, json};
use crate::sink::DeadLetter;

/// Keeps `event` with the reason why it ended among the rejected of `transform`.
pub(super) fn dead_letter(transform: &str, batch: &Batch, event: &Event, refused: Refused) -> DeadLetter {
    let (Refused { code, reason, .. }, event_text) = (refused, json::write(batch, event));
    DeadLetter { position: event.position, transform: transform.to_owned(), code, reason, event: event_text }
}
