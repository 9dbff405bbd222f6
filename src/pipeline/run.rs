//! The loop: batches from the source, through the handlers, to the sinks; and confirmations back.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::dead_letter::Takers;
use super::deliver::deliver;
use super::handle::{Handled, handle};
use super::inbox::{Begun, Inbox};
use super::progress::{Progress, Since};
use super::room::Room;
use super::swap::Swap;
use super::writer::{Durable, Shared};
use super::{Pipeline, Stage, Status, stall};
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Event};
use crate::meter::SourceMeter;
use crate::source::Source;

/// Memory that batches on their way may hold. Beyond it the source is not read: back-pressure
/// reaches the server.
const MAX_BYTES_IN_FLIGHT: usize = 48 << 20;
/// Batches with the handlers and embedders at once, beyond the handlers' own threads: enough to
/// keep the threads busy while other batches wait for an embedding provider.
const WAITING_FOR_EMBEDDERS: usize = 4;
/// Batches on their way at once; bounds what small batches cost beside their bytes.
const MAX_BATCHES_IN_FLIGHT: usize = 256;

pub(super) async fn run(pipeline: Pipeline, stop: CancellationToken) -> Result<()> {
    let Pipeline { source, stages, outlets, status, name: _, drain_limit, swapper: _, swaps } = pipeline;
    let stages: Arc<[Stage]> = stages.into();
    let mut takers = Takers::of(stages.len());
    let letters: Vec<_> = outlets.iter().map(|outlet| takers.add(&outlet.rejected_of)).collect();
    let shared = Arc::new(Shared { takers, status: Arc::clone(&status) });
    let (durable_tx, durable) = mpsc::channel(MAX_BATCHES_IN_FLIGHT);
    let (mut inboxes, mut begin, mut deliveries) = (Vec::new(), Vec::new(), JoinSet::new());
    let routes = outlets.iter().map(|outlet| outlet.commands_of.clone()).collect();
    for (index, (outlet, letters)) in outlets.into_iter().zip(letters).enumerate() {
        let (inbox, handled) = mpsc::channel(MAX_BATCHES_IN_FLIGHT);
        inboxes.push(inbox);
        let (told, begun) = oneshot::channel();
        begin.push(told);
        let inbox = Inbox::new(begun, handled, letters, outlet.batch.clone());
        let delivery = deliver(outlet, inbox, durable_tx.clone(), index, Arc::clone(&shared));
        deliveries.spawn(delivery.in_current_span());
    }
    tracing::info!("running");
    let watching = stall::watch(Arc::clone(&status)).in_current_span();
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    status.meter().flow.in_flight_limit.set(MAX_BYTES_IN_FLIGHT as u64);
    let mut flow = Flow {
        source,
        ended: false,
        max_handling: max_handling(&stages),
        stages,
        inboxes,
        routes,
        begin,
        deliveries,
        durable,
        handling: FuturesOrdered::new(),
        swaps,
        swapped: None,
        progress: Progress::default(),
        room: Arc::default(),
        events: 0,
        status,
        drain_limit,
    };
    let _counted = Counted(Arc::clone(&flow.status));
    if let Err(error) = flow.flow(&stop).await {
        flow.let_go().await;
        return Err(error);
    }
    let drained = flow.drain().await;
    drained.and(flow.close().await)
}

/// Clears the counts of what is under way when nothing can be any more.
struct Counted(Arc<Status>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.meter().ended();
    }
}

/// Everything that is in motion.
struct Flow {
    source: Box<dyn Source>,
    /// It has nothing more.
    ended: bool,
    stages: Arc<[Stage]>,
    inboxes: Vec<mpsc::Sender<Arc<Handled>>>,
    /// Indices of the stages whose commands each of them takes.
    routes: Vec<Vec<usize>>,
    /// Tells the sinks that the source streams. Empty once it is told.
    begin: Vec<oneshot::Sender<Begun>>,
    deliveries: JoinSet<Result<()>>,
    durable: mpsc::Receiver<Durable>,
    /// Results come out in the order in which the batches went in, whichever is finished first.
    /// They end with the pipeline: one that waits for an embedding provider must not outlive it.
    handling: FuturesOrdered<AbortOnDropHandle<Result<Handled>>>,
    max_handling: usize,
    /// Other handlers for the batches to come.
    swaps: mpsc::Receiver<Swap>,
    /// Batches that are still with the handlers before, and who waits for their end.
    swapped: Option<(usize, oneshot::Sender<()>)>,
    progress: Progress,
    room: Arc<Room>,
    /// Received so far.
    events: u64,
    status: Arc<Status>,
    /// Of the time in which what was received may become durable, and then of that in which sinks
    /// may close.
    drain_limit: Duration,
}

/// The reason for which the loop woke up.
enum Wake {
    Durable(Durable),
    Handled(Handled),
    Received(Batch),
    Ended,
    Stop,
    Swap(Swap),
}

impl Flow {
    /// Runs until told to stop, or until the source has nothing more and all that it had is
    /// durable.
    async fn flow(&mut self, stop: &CancellationToken) -> Result<()> {
        while !(self.ended && self.progress.is_idle()) {
            let wake = self.wake(Some(stop)).await?;
            match wake {
                Wake::Durable(durable) => self.confirm(durable),
                Wake::Handled(handled) => self.hand_out(handled)?,
                Wake::Received(batch) => self.receive(batch),
                Wake::Swap(swap) => self.swap(swap),
                Wake::Ended => self.ended = true,
                Wake::Stop => return Ok(()),
            }
        }
        Ok(())
    }

    /// Lets everything that was received become durable, for a bounded time. An error is as final
    /// as in `flow`.
    async fn drain(&mut self) -> Result<()> {
        let drained = tokio::time::timeout(self.drain_limit, async {
            while !self.progress.is_idle() {
                match self.wake(None).await? {
                    Wake::Durable(durable) => self.confirm(durable),
                    Wake::Handled(handled) => self.hand_out(handled)?,
                    Wake::Received(_) | Wake::Swap(_) | Wake::Ended | Wake::Stop => {}
                }
            }
            Ok::<(), Error>(())
        });
        drained.await.unwrap_or_else(|_| {
            let batches = self.progress.batches();
            tracing::warn!(batches, "stopped before everything was durable; what is not comes again at the next start");
            Ok(())
        })
    }

    /// The next thing to do. With `stop`, new batches are taken in; without, only what is on its
    /// way goes on.
    async fn wake(&mut self, stop: Option<&CancellationToken>) -> Result<Wake> {
        let has_room = self.has_room();
        let taking_in = stop.is_some() && !self.ended && has_room;
        self.note(stop.is_some() && !self.ended && !has_room);
        let wake = tokio::select! {
            biased;
            // 1. A sink that gave up ends the pipeline before anything else happens.
            Some(ended) = self.deliveries.join_next() => Err(why(ended)),
            // 2. Progress first: confirming frees the memory that the next arms need.
            Some(durable) = self.durable.recv() => Ok(Wake::Durable(durable)),
            // 3. A stop comes before new work.
            () = stopped(stop) => Ok(Wake::Stop),
            // 4. Results, in order, before new batches: they are what keeps the sinks busy.
            Some(handled) = self.handling.next() => finished(handled).map(Wake::Handled),
            // 5. Other handlers, before the next batch: never while only what is on its way goes on.
            Some(swap) = self.swaps.recv(), if stop.is_some() => Ok(Wake::Swap(swap)),
            // 6. New batches, while there is room.
            batch = self.source.next(), if taking_in => batch.map(|batch| batch.map_or(Wake::Ended, Wake::Received)),
        };
        self.status.meter().flow.turn.start();
        wake
    }

    /// Counts what is under way, and whether the source waits for it.
    fn note(&self, blocked: bool) {
        let meter = &self.status.meter().flow;
        meter.turn.stop();
        meter.in_flight_bytes.set(self.progress.bytes() as u64);
        meter.in_flight_batches.set(self.progress.batches() as u64);
        match blocked {
            true => meter.blocked.start(),
            false => meter.blocked.stop(),
        }
    }

    fn has_room(&self) -> bool {
        self.handling.len() < self.max_handling
            && self.progress.batches() < MAX_BATCHES_IN_FLIGHT
            && self.progress.bytes() < MAX_BYTES_IN_FLIGHT
    }

    fn receive(&mut self, batch: Batch) {
        for begin in self.begin.drain(..) {
            // A sink that has failed is found by the next turn of the loop.
            let held_before = self.source.held_before();
            let _ = begin.send(Begun { origin: self.source.origin().into(), held_before });
        }
        self.status.received(batch.events().len(), self.source.lag());
        if batch.begins_anew() {
            self.progress.begin_anew();
            self.status.confirmed_up_to(self.progress.confirmable(), self.source.lag());
        }
        if batch.is_marker() {
            self.progress.enter(batch.ends_at(), 0, 0);
            return self.tell_source();
        }
        let ticket = self.progress.enter(batch.ends_at(), self.inboxes.len(), batch.bytes());
        let streamed = count(&self.status.meter().source, batch.events());
        if let Some(first) = batch.events().first() {
            let since = Since { committed: first.commit_time, received: Instant::now(), streamed };
            self.progress.waits(ticket, since);
            self.status.waits_since(self.progress.oldest());
        }
        let first = self.events;
        self.events += batch.events().len() as u64;
        let (stages, status) = (Arc::clone(&self.stages), Arc::clone(&self.status));
        let handling = handle(stages, status, Arc::new(batch), ticket, first, self.room.enter());
        let handling = tokio::spawn(handling.in_current_span());
        self.handling.push_back(AbortOnDropHandle::new(handling));
    }

    /// Gives the batches to come to other handlers. Batches that are with the former handlers stay
    /// there: they hold on to them, and to what is tolerated of them.
    fn swap(&mut self, swap: Swap) {
        let Swap { stages, done } = swap;
        let before = self.stages.iter().map(|stage| stage.admissions.clone());
        let stages = stages.into_iter().zip(before).map(|(stage, admissions)| Stage { admissions, ..stage });
        self.stages = stages.collect();
        self.max_handling = max_handling(&self.stages);
        self.swapped = Some((self.handling.len(), done));
        self.pass_swap(0);
    }

    /// So many batches more have come through the handlers.
    fn pass_swap(&mut self, batches: usize) {
        if let Some((left, done)) = self.swapped.take() {
            match left.saturating_sub(batches) {
                // Nobody need wait for it any more.
                0 => drop(done.send(())),
                left => self.swapped = Some((left, done)),
            }
        }
    }

    fn hand_out(&mut self, mut handled: Handled) -> Result<()> {
        if !self.source.is_in_order_of_time() {
            handled.commits.clear(); // their times tell nothing of the history
        }
        self.pass_swap(1);
        handled.tolerated()?;
        handled.count();
        self.status.refused(handled.rejected());
        self.progress.grow(handled.ticket, handled.bytes);
        for (sink, stages) in self.status.sinks.iter().zip(&self.routes) {
            sink.meter.waiting.more(handled.commands_of(stages));
        }
        let handled = Arc::new(handled);
        for inbox in &self.inboxes {
            // A closed inbox means that its sink has failed: the next turn of the loop finds out why.
            if let Err(TrySendError::Full(_)) = inbox.try_send(Arc::clone(&handled)) {
                return Err(Error::new(Fault::Bug, "more batches are on their way than were let in"));
            }
        }
        Ok(())
    }

    fn confirm(&mut self, durable: Durable) {
        self.progress.durable(durable.ticket);
        let meter = self.status.meter();
        for Since { committed, streamed, .. } in self.progress.delivered() {
            meter.flow.delivery.observe(meter.source.age(committed), streamed);
        }
        self.status.waits_since(self.progress.oldest());
        self.tell_source();
    }

    fn tell_source(&self) {
        let lsn = self.progress.confirmable();
        if lsn > self.status.confirmed() {
            self.source.confirm(lsn);
            self.status.confirmed_up_to(lsn, self.source.lag());
        }
    }

    /// After an error, which is what is told of: ends the sinks as they are, then the stream, so
    /// that the server learns at once what was confirmed last and that nobody reads the slot, and
    /// where it was left is written down.
    async fn let_go(mut self) {
        self.handling.clear();
        self.deliveries.shutdown().await;
        if let Err(error) = self.source.close().await {
            tracing::debug!(cause = error.chain(), "the source of a pipeline that failed could not be closed in order");
        }
    }

    /// Ends the sinks, then the stream: its last status update carries the last confirmation.
    async fn close(mut self) -> Result<()> {
        self.inboxes.clear();
        self.begin.clear();
        if !self.progress.is_idle() {
            // They had their time in `drain`; a sink that is stuck would only use it up once more.
            self.deliveries.shutdown().await;
        }
        let mut result = Ok(());
        let sinks_closed = tokio::time::timeout(self.drain_limit, async {
            while let Some(ended) = self.deliveries.join_next().await {
                if !matches!(ended, Ok(Ok(()))) {
                    result = Err(why(ended));
                }
            }
        });
        if sinks_closed.await.is_err() {
            self.deliveries.abort_all();
        }
        result.and(self.source.close().await)
    }
}

fn max_handling(stages: &[Stage]) -> usize {
    stages.iter().map(|stage| stage.workers).sum::<usize>() + WAITING_FOR_EMBEDDERS
}

/// Counts events by operation. Answers how many came as they were committed, and were not copied
/// from a table.
fn count(source: &SourceMeter, events: &[Event]) -> u64 {
    let (mut operations, mut copied) = ([0u64; 4], 0);
    for event in events {
        if let Some(count) = operations.get_mut(event.operation as usize) {
            *count += 1;
        }
        copied += u64::from(event.snapshot);
    }
    for (counter, count) in source.events.iter().zip(operations).filter(|(_, count)| *count > 0) {
        counter.add(count);
    }
    if copied > 0 {
        source.copied_rows.add(copied);
    }
    (events.len() as u64).saturating_sub(copied)
}

async fn stopped(stop: Option<&CancellationToken>) {
    match stop {
        Some(stop) => stop.cancelled().await,
        None => std::future::pending().await,
    }
}

fn finished(handled: Result<Result<Handled>, tokio::task::JoinError>) -> Result<Handled> {
    handled.unwrap_or_else(|panic| Err(bug("a batch could not be handled", panic)))
}

/// Sinks end on their own only when they fail.
fn why(ended: Result<Result<()>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => Error::new(Fault::Bug, "a sink ended although its pipeline runs"),
        Err(panic) => bug("a sink failed", panic),
    }
}

fn bug(what: &str, panic: tokio::task::JoinError) -> Error {
    Error::new(Fault::Bug, what).because(panic).help("this is a mistake in pgstream-host: please report it")
}
