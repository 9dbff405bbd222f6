//! `deliver`: the task that owns a sink, gathers what is waiting into one write, and reports what is durable.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dead_letter::Takers;
use super::fork;
use super::inbox::{Inbox, Next};
use super::outflow::{Outflow, Route};
use super::progress::Ticket;
use super::{BACKOFF, Outlet, SinkStatus, Status};
use crate::backoff::{Backoff, seconds};
use crate::command::Action;
use crate::error::{Error, Fault, Result};
use crate::meter::SinkMeter;
use crate::sabotage::Breakage;
use crate::sink::{Delivery, Held, Sink};

/// A sink holds a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durable {
    pub(super) ticket: Ticket,
}

/// What all sinks of a pipeline share.
pub(super) struct Shared {
    pub(super) takers: Takers,
    pub(super) status: Arc<Status>,
}

/// Writes batch after batch until the inbox is closed. Transient failures are repeated for as long as they last; events whose
/// commands the sink refuses go to whoever keeps the rejected events of their handler.
pub(super) async fn deliver(
    outlet: Outlet,
    mut inbox: Inbox,
    durable: mpsc::Sender<Durable>,
    index: usize,
    shared: Arc<Shared>,
) -> Result<()> {
    let Outlet { name, sink, commands_of, rejected_of, .. } = outlet;
    let place = |error: Error| error.at(format!("sink `{name}`"));
    let unknown = SinkStatus::new(Arc::new(SinkMeter::new(&name)));
    let status = shared.status.sinks.get(index).unwrap_or(&unknown);
    let mut writer = Writer { sink, name: &name, status };
    let Some(begun) = inbox.begun().await else { return writer.close().await.map_err(place) };
    let held = writer.resume(&begun.origin).await.map_err(place)?;
    fork::refuse_older(held, begun.held_before).map_err(place)?;
    let route = Route { commands_of: &commands_of, rejected_of: &rejected_of, held };
    let mut outflow = Outflow::new(writer, &route, &shared, durable);
    loop {
        tokio::select! {
            biased;
            // 1. What is written frees memory, and a hand.
            Some(written) = outflow.next() => outflow.settle(written).await.map_err(place)?,
            // 2. What waits, while there is a hand for it.
            next = inbox.next(), if !outflow.idle.is_empty() => match next {
                Next::Letter(parcel) => outflow.keep(parcel).await.map_err(place)?,
                Next::Batches(gathered) => outflow.start(gathered).await.map_err(place)?,
                Next::End => break,
            },
        }
    }
    outflow.finish().await.map_err(place)
}

/// Counts what a write has made durable.
fn count(meter: &SinkMeter, delivery: &Delivery<'_>) {
    let (mut points, mut bytes) = ([0u64; 3], 0);
    let [written, deleted, patched] = &mut points;
    for command in &delivery.commands {
        bytes += command.bytes();
        match &command.action {
            Action::Upsert(_) => *written += 1,
            Action::Replace { points, .. } => *written += points.len() as u64,
            Action::Delete { .. } | Action::DeleteGroup { .. } | Action::Clear => *deleted += 1,
            Action::Patch { .. } | Action::PatchGroup { .. } => *patched += 1,
        }
    }
    for letter in &delivery.rejected {
        bytes += letter.event.len() + letter.reason.len();
    }
    meter.points.iter().zip(points).for_each(|(counter, more)| counter.add(more));
    meter.bytes.add(bytes as u64);
    meter.commands.add((delivery.commands.len() + delivery.rejected.len()) as u64);
    meter.writes.add(1);
}

/// A sink, and what its failures are reported to.
pub(super) struct Writer<'a> {
    sink: Box<dyn Sink>,
    pub(super) name: &'a str,
    pub(super) status: &'a SinkStatus,
}

impl Writer<'_> {
    async fn resume(&mut self, origin: &str) -> Result<Option<Held>> {
        let _under_way = self.status.writing.begin();
        let mut backoff = BACKOFF;
        loop {
            match self.sink.resume(origin).await {
                Err(error) if error.fault() == Fault::Transient => self.wait(&error, &mut backoff).await,
                resumed => return resumed,
            }
        }
    }

    /// One more for the same sink, if several writes may be under way there.
    pub(super) fn another(&self) -> Option<Self> {
        Some(Self { sink: self.sink.another()?, ..*self })
    }

    /// Writes as often as it takes. An error is not a transient one.
    pub(super) async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        let _under_way = self.status.writing.begin();
        let meter = &self.status.meter;
        let mut backoff = BACKOFF;
        loop {
            let began = Instant::now();
            meter.in_flight.more(1);
            let written = self.sink.write(delivery).await;
            meter.in_flight.less(1);
            meter.duration.observe(began.elapsed(), 1);
            match written {
                Err(error) if error.fault() == Fault::Transient => {
                    self.wait(&error, &mut backoff).await;
                    meter.retries.add(1);
                    if Breakage::RetrySkipped.is_on() {
                        return Ok(());
                    }
                }
                Ok(()) => {
                    count(meter, delivery);
                    return Ok(());
                }
                refused => return refused,
            }
        }
    }

    async fn wait(&mut self, error: &Error, backoff: &mut Backoff) {
        let wait = backoff.next_wait();
        tracing::warn!(sink = %self.name, error = %error.chain(), wait_seconds = seconds(wait), "trying again; nothing is confirmed meanwhile");
        self.status.failing(error.chain());
        tokio::time::sleep(wait).await;
    }

    pub(super) async fn close(self) -> Result<()> {
        self.sink.close().await
    }
}
