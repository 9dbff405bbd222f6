//! `deliver`: the task that owns a sink, gathers what is waiting into one write, and reports what is durable.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::fork;
use super::handle::Handled;
use super::progress::Ticket;
use super::{BACKOFF, Outlet, SinkStatus, Status};
use crate::backoff::Backoff;
use crate::command::Command;
use crate::config::model::SinkBatch;
use crate::error::{Error, Fault, Result};
use crate::sabotage::Breakage;
use crate::sink::{Delivery, Held, Sink};

/// A sink holds a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durable {
    pub(super) ticket: Ticket,
}

/// What waits for a sink, in stream order. Never full: the loop lets in no more batches than it can hold.
pub(super) struct Inbox {
    /// Told the source's origin once it streams: until then another host may be writing to the sink.
    pub(super) begun: oneshot::Receiver<Arc<str>>,
    pub(super) handled: mpsc::Receiver<Arc<Handled>>,
}

/// Writes batch after batch until the inbox is closed. Transient failures are repeated for as long as they last.
pub(super) async fn deliver(
    outlet: Outlet,
    mut inbox: Inbox,
    durable: mpsc::Sender<Durable>,
    index: usize,
    status: Arc<Status>,
) -> Result<()> {
    let Outlet { name, mut sink, batch, commands_of, rejected_of } = outlet;
    let place = |error: Error| error.at(format!("sink `{name}`"));
    let unknown = SinkStatus::default();
    let status = status.sinks.get(index).unwrap_or(&unknown);
    let Ok(origin) = (&mut inbox.begun).await else { return sink.close().await.map_err(place) };
    let resumed = resume(&mut *sink, &origin, &name, status).await.map_err(place)?;
    let held = resumed.map(|held| held.position);
    let mut deliveries = 0_u64;
    loop {
        let mut gathered = inbox.gather(&batch).await;
        if Breakage::ReorderedResults.is_on() {
            gathered.reverse();
        }
        let Some(last) = gathered.last() else { break };
        gathered.iter().try_for_each(|handled| fork::refuse(resumed, &handled.commits)).map_err(place)?;
        let mut delivery = Delivery { through: last.through, ..Delivery::default() };
        for made in gathered.iter().flat_map(|handled| handled.made.iter().enumerate()) {
            let (stage, made) = made;
            if commands_of.contains(&stage) {
                delivery.commands.extend(made.commands.iter().filter(|command| Some(command.position) > held));
            }
            if rejected_of.contains(&stage) {
                delivery.rejected.extend(made.rejected.iter().filter(|letter| Some(letter.position) > held));
            }
        }
        deliveries += 1;
        let dropped = Breakage::DroppedBatch.is_on() && deliveries % 3 == 0;
        if Some(delivery.through.position) > held && !dropped {
            write(&mut *sink, &delivery, &name, status).await.map_err(place)?;
        }
        status.wrote(delivery.commands.len() + delivery.rejected.len());
        for handled in gathered {
            // The loop is gone only when the pipeline is ending; what is not reported comes again.
            let _ = durable.send(Durable { ticket: handled.ticket }).await;
        }
    }
    sink.close().await.map_err(place)
}

async fn resume(sink: &mut dyn Sink, origin: &str, name: &str, status: &SinkStatus) -> Result<Option<Held>> {
    let mut backoff = BACKOFF;
    loop {
        match sink.resume(origin).await {
            Err(error) if error.fault() == Fault::Transient => wait(&error, &mut backoff, name, status).await,
            resumed => return resumed,
        }
    }
}

async fn write(sink: &mut dyn Sink, delivery: &Delivery<'_>, name: &str, status: &SinkStatus) -> Result<()> {
    let mut backoff = BACKOFF;
    loop {
        match sink.write(delivery).await {
            Err(error) if error.fault() == Fault::Transient => {
                wait(&error, &mut backoff, name, status).await;
                if Breakage::RetrySkipped.is_on() {
                    return Ok(());
                }
            }
            written => return written,
        }
    }
}

async fn wait(error: &Error, backoff: &mut Backoff, name: &str, status: &SinkStatus) {
    let wait = backoff.next_wait();
    tracing::warn!(sink = %name, error = %error.chain(), ?wait, "trying again; nothing is confirmed meanwhile");
    status.failing(error.chain());
    tokio::time::sleep(wait).await;
}

impl Inbox {
    /// Waits for a batch, then takes what else is there up to the limits, and waits for more no longer than the
    /// linger. Empty once the inbox is closed.
    async fn gather(&mut self, limits: &SinkBatch) -> Vec<Arc<Handled>> {
        let mut gathered = Vec::new();
        let (mut commands, mut bytes) = (0, 0);
        let mut deadline = None;
        while commands < limits.max_points && bytes < limits.max_bytes.0 as usize {
            let next = match deadline {
                None => self.handled.recv().await,
                Some(deadline) => match self.handled.try_recv() {
                    Ok(handled) => Some(handled),
                    Err(_) => tokio::time::timeout_at(deadline, self.handled.recv()).await.ok().flatten(),
                },
            };
            let Some(handled) = next else { break };
            deadline.get_or_insert_with(|| Instant::now() + limits.linger.0);
            commands += handled.made.iter().map(|made| made.commands.iter().map(weight).sum::<usize>()).sum::<usize>();
            bytes += handled.bytes;
            gathered.push(handled);
        }
        gathered
    }
}

/// How many points a command writes, at least one.
fn weight(command: &Command) -> usize {
    command.points().len().max(1)
}
