//! `deliver`: the task that owns a sink, gathers what is waiting into one write, and reports what is durable.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::dead_letter::{Parcel, Takers};
use super::fork;
use super::handle::Handled;
use super::narrow::{Asked, Narrow};
use super::progress::Ticket;
use super::tolerance::Window;
use super::{BACKOFF, Outlet, SinkStatus, Stage, Status};
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

/// What all sinks of a pipeline share.
pub(super) struct Shared {
    pub(super) stages: Arc<[Stage]>,
    pub(super) takers: Takers,
    pub(super) status: Arc<Status>,
}

/// What waits for a sink.
pub(super) struct Inbox {
    /// Told the source's origin once it streams: until then another host may be writing to the sink.
    pub(super) begun: oneshot::Receiver<Arc<str>>,
    /// In stream order. Never full: the loop lets in no more batches than it can hold.
    pub(super) handled: mpsc::Receiver<Arc<Handled>>,
    /// Events that other sinks refused, and wait for to be kept.
    pub(super) letters: mpsc::Receiver<Parcel>,
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
    let Outlet { name, sink, batch, commands_of, rejected_of } = outlet;
    let place = |error: Error| error.at(format!("sink `{name}`"));
    let unknown = SinkStatus::default();
    let status = shared.status.sinks.get(index).unwrap_or(&unknown);
    let mut writer = Writer { sink, name: &name, status };
    let Ok(origin) = (&mut inbox.begun).await else { return writer.sink.close().await.map_err(place) };
    let resumed = writer.resume(&origin).await.map_err(place)?;
    let held = resumed.map(|held| held.position);
    let mut windows: Vec<Window> = shared.stages.iter().map(|_| Window::default()).collect();
    let mut deliveries = 0_u64;
    loop {
        let mut gathered = match inbox.next(&batch).await {
            Next::Letter(Parcel { letter, kept }) => {
                let through = Held { position: letter.position, ..Held::default() };
                let alone = Delivery { through, rejected: vec![&letter], ..Delivery::default() };
                writer.write(&alone).await.map_err(place)?;
                status.wrote(1);
                // Whoever waited is gone only when the pipeline is ending.
                let _ = kept.send(());
                continue;
            }
            Next::Batches(gathered) => gathered,
        };
        if Breakage::ReorderedResults.is_on() {
            gathered.reverse();
        }
        let Some(last) = gathered.last() else { break };
        gathered.iter().try_for_each(|handled| fork::refuse(resumed, &handled.commits)).map_err(place)?;
        let (mut asked, mut rejected) = (Vec::new(), Vec::new());
        for handled in &gathered {
            for (stage, made) in handled.made.iter().enumerate() {
                if commands_of.contains(&stage) {
                    let new = made.commands.iter().filter(|command| Some(command.position) > held);
                    asked.extend(new.map(|command| Asked { command, stage, handled }));
                    windows.get_mut(stage).into_iter().for_each(|window| shared.count(stage, window, handled));
                }
                if rejected_of.contains(&stage) {
                    rejected.extend(made.rejected.iter().filter(|letter| Some(letter.position) > held));
                }
            }
        }
        if commands_of.len() > 1 {
            // In commit order, whichever handler a command is from.
            asked.sort_by_key(|asked| asked.command.position);
        }
        let through = last.through;
        let (commands, letters) = (asked.len(), rejected.len());
        deliveries += 1;
        let dropped = Breakage::DroppedBatch.is_on() && deliveries.is_multiple_of(3);
        if Some(through.position) > held && !dropped {
            let whole = Delivery { commands: asked.iter().map(|asked| asked.command).collect(), rejected, through };
            match writer.write(&whole).await {
                Err(error) if error.misdeed().is_some() && letters == 0 && !asked.is_empty() => {
                    let mut narrow = Narrow { writer: &mut writer, windows: &mut windows, shared: &shared };
                    narrow.run(&asked, through, error).await
                }
                written => written,
            }
            .map_err(place)?;
        }
        status.wrote(commands + letters);
        for handled in gathered {
            // The loop is gone only when the pipeline is ending; what is not reported comes again.
            let _ = durable.send(Durable { ticket: handled.ticket }).await;
        }
    }
    writer.sink.close().await.map_err(place)
}

impl Shared {
    /// Counts what a handler rejected before a sink comes to refuse what it made of others. More than is tolerated ends the
    /// pipeline elsewhere.
    fn count(&self, stage: usize, window: &mut Window, handled: &Handled) {
        let (Some(stage), Some(made)) = (self.stages.get(stage), handled.made.get(stage)) else { return };
        for event in handled.counted(made) {
            let _ = stage.tolerance.allows(window, event);
        }
    }
}

/// A sink, and what its failures are reported to.
pub(super) struct Writer<'a> {
    sink: Box<dyn Sink>,
    pub(super) name: &'a str,
    status: &'a SinkStatus,
}

impl Writer<'_> {
    async fn resume(&mut self, origin: &str) -> Result<Option<Held>> {
        let mut backoff = BACKOFF;
        loop {
            match self.sink.resume(origin).await {
                Err(error) if error.fault() == Fault::Transient => self.wait(&error, &mut backoff).await,
                resumed => return resumed,
            }
        }
    }

    /// Writes as often as it takes. An error is not a transient one.
    pub(super) async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        let mut backoff = BACKOFF;
        loop {
            match self.sink.write(delivery).await {
                Err(error) if error.fault() == Fault::Transient => {
                    self.wait(&error, &mut backoff).await;
                    if Breakage::RetrySkipped.is_on() {
                        return Ok(());
                    }
                }
                written => return written,
            }
        }
    }

    async fn wait(&mut self, error: &Error, backoff: &mut Backoff) {
        let wait = backoff.next_wait();
        tracing::warn!(sink = %self.name, error = %error.chain(), ?wait, "trying again; nothing is confirmed meanwhile");
        self.status.failing(error.chain());
        tokio::time::sleep(wait).await;
    }
}

/// What a sink does next.
enum Next {
    Letter(Parcel),
    /// None at the end.
    Batches(Vec<Arc<Handled>>),
}

impl Inbox {
    /// Waits for a letter or a batch. With a batch, takes what else is there up to the limits, and waits for more no longer
    /// than the linger.
    async fn next(&mut self, limits: &SinkBatch) -> Next {
        let first = tokio::select! {
            biased;
            // 1. A letter holds up another sink.
            Some(parcel) = self.letters.recv() => return Next::Letter(parcel),
            // 2. The stream.
            first = self.handled.recv() => first,
        };
        let Some(first) = first else { return Next::Batches(Vec::new()) };
        let deadline = Instant::now() + limits.linger.0;
        let (mut points, mut bytes) = (weight(&first), first.bytes);
        let mut gathered = vec![first];
        while points < limits.max_points && bytes < limits.max_bytes.0 as usize {
            let next = match self.handled.try_recv() {
                Ok(handled) => Some(handled),
                Err(_) => tokio::time::timeout_at(deadline, self.handled.recv()).await.ok().flatten(),
            };
            let Some(handled) = next else { break };
            points += weight(&handled);
            bytes += handled.bytes;
            gathered.push(handled);
        }
        Next::Batches(gathered)
    }
}

/// How many points a batch writes; each command counts as one at least.
fn weight(handled: &Handled) -> usize {
    let of = |command: &Command| command.points().len().max(1);
    handled.made.iter().map(|made| made.commands.iter().map(of).sum::<usize>()).sum()
}
