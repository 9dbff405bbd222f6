//! `Writer`: one hand at a sink. It writes as often as it takes, and counts what became durable.

use std::sync::Arc;

use tokio::time::Instant;

use super::dead_letter::Takers;
use super::progress::Ticket;
use super::{BACKOFF, SinkStatus, Status};
use crate::command::Action;
use crate::error::{Error, Result};
use crate::meter::SinkMeter;
use crate::retry::{Retry, Wait};
use crate::sabotage::Breakage;
use crate::sink::{Delivery, Held, Sink};

/// A sink holds a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durable {
    pub(super) ticket: Ticket,
}

/// The things that all sinks of a pipeline share.
pub(super) struct Shared {
    pub(super) takers: Takers,
    pub(super) status: Arc<Status>,
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

impl<'a> Writer<'a> {
    pub(super) fn new(sink: Box<dyn Sink>, name: &'a str, status: &'a SinkStatus) -> Self {
        Self { sink, name, status }
    }

    /// Returns what the sink holds already for the source known as `origin`.
    pub(super) async fn resume(&mut self, origin: &str) -> Result<Option<Held>> {
        let _under_way = self.status.writing.begin();
        let mut retry = Retry::new(BACKOFF);
        loop {
            match self.sink.resume(origin).await {
                Err(error) => self.wait_out(&mut retry, error).await?,
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
        let mut retry = Retry::new(BACKOFF);
        loop {
            let began = Instant::now();
            meter.in_flight.more(1);
            let written = self.sink.write(delivery).await;
            meter.in_flight.less(1);
            meter.duration.observe(began.elapsed(), 1);
            let Err(error) = written else {
                count(meter, delivery);
                return Ok(());
            };
            self.wait_out(&mut retry, error).await?;
            meter.retries.add(1);
            if Breakage::RetrySkipped.is_on() {
                return Ok(());
            }
        }
    }

    async fn wait_out(&mut self, retry: &mut Retry, error: Error) -> Result<()> {
        let (sink, status) = (self.name, self.status);
        let tell = |error: &Error, wait: Wait| {
            let (error, wait_seconds) = (error.chain(), wait.seconds());
            tracing::warn!(sink, error, wait_seconds, "trying again; nothing is confirmed meanwhile");
            status.failing(error);
        };
        retry.wait_out(error, tell).await
    }

    pub(super) async fn close(self) -> Result<()> {
        self.sink.close().await
    }
}
