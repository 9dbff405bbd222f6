//! `Inbox`: what waits for a sink, and how much of it one write takes.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::dead_letter::Parcel;
use super::handle::Handled;
use crate::command::Command;
use crate::config::model::SinkBatch;
use crate::lsn::Lsn;

/// The batches and letters that wait for a sink.
pub(super) struct Inbox {
    begun: oneshot::Receiver<Begun>,
    handled: mpsc::Receiver<Arc<Handled>>,
    letters: mpsc::Receiver<Parcel>,
    limits: SinkBatch,
    gathered: Gathered,
}

/// The facts that a sink is told once the source streams.
pub(super) struct Begun {
    /// The origin that its positions belong to.
    pub(super) origin: Arc<str>,
    /// See [`Source::held_before`](crate::source::Source::held_before).
    pub(super) held_before: Lsn,
}

/// The next work of a sink.
pub(super) enum Next {
    Letter(Parcel),
    Batches(Vec<Arc<Handled>>),
    End,
}

/// Batches that will be written together.
#[derive(Default)]
struct Gathered {
    batches: Vec<Arc<Handled>>,
    points: usize,
    bytes: usize,
    /// Time at which waiting for more ends; some from the first batch on.
    until: Option<Instant>,
}

impl Inbox {
    /// `begun` is told once the source streams. `handled` comes in stream order, and is never full:
    /// the loop lets in no more batches than it can hold. `letters` are events that other sinks
    /// refused, and wait for to be kept.
    pub(super) fn new(
        begun: oneshot::Receiver<Begun>,
        handled: mpsc::Receiver<Arc<Handled>>,
        letters: mpsc::Receiver<Parcel>,
        limits: SinkBatch,
    ) -> Self {
        Self { begun, handled, letters, limits, gathered: Gathered::default() }
    }

    /// Waits until the source streams, and returns what the sink is told then. Before that, another
    /// host may be writing to the sink. None if the source never streams.
    pub(super) async fn begun(&mut self) -> Option<Begun> {
        (&mut self.begun).await.ok()
    }

    /// Waits for a letter or a batch. With a batch, takes what else is there up to the limits, and
    /// waits for more no longer than the linger. Given up half-way, it loses nothing.
    pub(super) async fn next(&mut self) -> Next {
        if self.gathered.batches.is_empty() {
            let first = tokio::select! {
                biased;
                // 1. A letter holds up another sink.
                Some(parcel) = self.letters.recv() => return Next::Letter(parcel),
                // 2. The stream.
                first = self.handled.recv() => first,
            };
            let Some(first) = first else { return Next::End };
            self.gathered.add(first);
        }
        let until = *self.gathered.until.get_or_insert_with(|| Instant::now() + self.limits.linger.0);
        while self.gathered.points < self.limits.max_points && self.gathered.bytes < self.limits.max_bytes.0 as usize {
            let next = match self.handled.try_recv() {
                Ok(handled) => Some(handled),
                Err(_) => tokio::time::timeout_at(until, self.handled.recv()).await.ok().flatten(),
            };
            let Some(handled) = next else { break };
            self.gathered.add(handled);
        }
        Next::Batches(std::mem::take(&mut self.gathered).batches)
    }
}

impl Gathered {
    fn add(&mut self, handled: Arc<Handled>) {
        self.points += weight(&handled);
        self.bytes += handled.bytes;
        self.batches.push(handled);
    }
}

/// Counts the points that a batch writes; each command counts as one at least.
fn weight(handled: &Handled) -> usize {
    let of = |command: &Command| command.points().len().max(1);
    handled.made.iter().map(|made| made.commands.iter().map(of).sum::<usize>()).sum()
}
