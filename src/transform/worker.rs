//! The threads that run a handler's instances: one instance each, kept from call to call, replaced
//! after a trap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::OwnedSemaphorePermit;

use super::Output;
use super::call::Call;
use super::engine::THREAD_STACK;
use super::instance::{Instance, Maker};
use super::voice::Voice;
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::meter::StartReason;

/// The time that a worker without work waits before it accounts for log lines that were dropped.
const SETTLE: Duration = Duration::from_secs(1);

/// A batch, and who waits for what becomes of it.
pub(super) struct Job {
    pub(super) batch: Arc<Batch>,
    pub(super) call: Call<Output>,
    /// True if the instance must be a new one.
    pub(super) fresh: bool,
    /// The time when it was asked for.
    pub(super) asked: Instant,
    /// One for each worker: held until the worker is free again, so that the queue is never longer
    /// than there are workers.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Starts `workers` threads, each with an instance. Returns when all instances stand or the first
/// has failed. The threads end when the sender is dropped.
pub(super) fn start(maker: Maker, workers: usize) -> Result<Sender<Job>> {
    let (jobs, queue) = crossbeam_channel::bounded(workers);
    let (ready, started) = crossbeam_channel::bounded(workers);
    let quota = Arc::clone(&maker.shared.rights.tenant.quota);
    let maker = Arc::new(maker);
    // A log that was set up for the caller's thread alone is meant for its handlers too.
    let log = tracing::dispatcher::get_default(Clone::clone);
    let span = tracing::Span::current();
    for number in 0..workers {
        let name = Arc::clone(&maker.shared.rights.name);
        let voice = Voice::new(Arc::clone(&maker.shared.rights.meter), Arc::clone(&quota));
        let (maker, queue, ready) = (Arc::clone(&maker), queue.clone(), ready.clone());
        let (log, span) = (log.clone(), span.clone());
        std::thread::Builder::new()
            .name(format!("handler-{name}-{number}"))
            .stack_size(THREAD_STACK)
            .spawn(move || {
                tracing::dispatcher::with_default(&log, || {
                    let _within = span.enter();
                    let (report, first) = match maker.make(&voice) {
                        Ok(instance) => (Ok(()), Ok(instance)),
                        Err(error) => (Err(error), Err(StartReason::First)),
                    };
                    if report.is_ok() {
                        maker.shared.rights.meter.starts(StartReason::First);
                    }
                    let _ = ready.send(report); // a `start` that failed already no longer listens
                    drop(ready);
                    work(&maker, &voice, &queue, first);
                });
            })
            .map_err(|error| {
                Error::new(Fault::Environment, format!("no thread for handler `{name}`")).because(error)
            })?;
    }
    drop(ready);
    started.iter().collect::<Result<()>>()?;
    Ok(jobs)
}

/// `instance` is the one that is there, or why another one is to be made.
fn work(maker: &Maker, voice: &Voice, queue: &Receiver<Job>, mut instance: std::result::Result<Instance, StartReason>) {
    let meter = &maker.shared.rights.meter;
    loop {
        let next = if voice.owes() { queue.recv_timeout(SETTLE) } else { queue.recv().map_err(RecvTimeoutError::from) };
        let Job { batch, call, fresh, asked, permit } = match next {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                voice.settle();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return voice.settle(),
        };
        meter.queue_wait.add(asked.elapsed());
        if call.reply.is_closed() {
            continue;
        }
        let ready = match std::mem::replace(&mut instance, Err(StartReason::Afresh)) {
            Ok(ready) if !fresh => Ok(ready),
            old => {
                let reason = old.err().unwrap_or(StartReason::Afresh); // its place in the pool is free for the new one
                let made = maker.make(voice);
                made.inspect(|_| meter.starts(reason)).map_err(|error| (error, reason))
            }
        };
        match ready {
            Ok(ready) => instance = maker.call(ready, &batch, call),
            Err((error, reason)) => {
                instance = Err(reason);
                let _ = call.reply.send(Err(error));
            }
        }
        drop(permit);
    }
}
