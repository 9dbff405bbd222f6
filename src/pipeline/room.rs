//! `Room`: how many bytes of vectors the batches of a pipeline may hold that are made of texts.
//!
//! Vectors can be thousands of times as large as the text that they are made of. So room is taken
//! before a text is embedded, and kept until all sinks have let go of the batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The most bytes of vectors that batches may hold together. The oldest of them takes what it needs
/// nonetheless, as the others wait for it.
const MAX_BYTES: usize = 128 << 20;

/// The room of one pipeline.
#[derive(Debug, Default)]
pub(super) struct Room {
    taken: Mutex<Taken>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    entered: u64,
    /// Bytes that each batch on its way has taken, by the batch's number.
    batches: BTreeMap<u64, usize>,
    bytes: usize,
}

impl Room {
    /// The place of a batch. To be called in stream order.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut taken = self.taken();
        let number = taken.entered;
        taken.entered += 1;
        taken.batches.insert(number, 0);
        Place { room: Arc::clone(self), number, asked: AtomicUsize::new(0) }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of the room that a batch has; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    asked: AtomicUsize,
}

impl Place {
    /// Counts what one handler's texts will take; answers what those of all handlers do so far.
    /// They run at the same time.
    pub(super) fn ask(&self, bytes: usize) -> usize {
        self.asked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
    }

    /// Takes so much more, as soon as it is there or no batch is older.
    pub(super) async fn take(&self, bytes: usize) {
        loop {
            let mut left = std::pin::pin!(self.room.left.notified());
            left.as_mut().enable();
            if self.try_take(bytes) {
                return;
            }
            left.await;
        }
    }

    fn try_take(&self, bytes: usize) -> bool {
        let mut taken = self.room.taken();
        let oldest = taken.batches.keys().next() == Some(&self.number);
        let granted = bytes == 0 || oldest || taken.bytes.saturating_add(bytes) <= MAX_BYTES;
        if granted {
            taken.bytes += bytes;
            *taken.batches.entry(self.number).or_default() += bytes;
        }
        granted
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        let bytes = taken.batches.remove(&self.number).unwrap_or_default();
        taken.bytes -= bytes;
        drop(taken);
        self.room.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn what_several_handlers_ask_for_a_batch_adds_up_before_any_has_taken_it() {
        let room = Arc::new(Room::default());
        let (place, other) = (room.enter(), room.enter());
        assert_eq!([place.ask(3), place.ask(4), other.ask(5)], [3, 7, 5]);
    }

    #[test]
    fn what_does_not_fit_waits_for_older_batches_and_the_oldest_for_nobody() {
        let room = Arc::new(Room::default());
        let [first, second, third] = [room.enter(), room.enter(), room.enter()];
        assert!(second.take(MAX_BYTES).now_or_never().is_some());
        let mut waiting = Box::pin(third.take(1));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(first.take(2 * MAX_BYTES).now_or_never().is_some(), "the second waits for it");
        drop(first);
        assert!((&mut waiting).now_or_never().is_none());
        drop(second);
        assert!((&mut waiting).now_or_never().is_some());
        drop(waiting);
        drop(third);
        let taken = room.taken();
        assert_eq!((taken.bytes, taken.batches.len()), (0, 0));
    }
}
