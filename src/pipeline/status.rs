//! `Status`: what a running pipeline tells the outside about itself. Counters only, never a row's
//! value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::activity::Activity;
use super::progress::Since;
use crate::lsn::Lsn;
use crate::meter::{PipelineMeter, SinkMeter};
use crate::source::Lag;

/// The time that a batch may take without a word.
pub(super) const QUIET: Duration = Duration::from_secs(5);

/// The progress of a pipeline: its counters, its lag, and the work under way. Read at any time,
/// from any thread.
#[derive(Debug)]
pub struct Status {
    /// The pipeline's name.
    pub name: String,
    /// One per sink, in the order of the pipeline file.
    pub sinks: Vec<SinkStatus>,
    /// One per transform, in the same order.
    pub(super) stages: Vec<StageStatus>,
    meter: Arc<PipelineMeter>,
    events: AtomicU64,
    rejected: AtomicU64,
    confirmed: AtomicU64,
    lag: AtomicU64,
    oldest: Mutex<Option<Since>>,
}

/// The progress of a sink: its counters, its trouble, and the write under way.
#[derive(Debug)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    pub(super) meter: Arc<SinkMeter>,
    commands: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    pub(super) writing: Activity,
}

/// The reason why a sink is not getting on, and since when.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The last failure, on one line.
    pub why: String,
    /// The time when the first one was, since the last success.
    pub since: SystemTime,
}

/// The work that a transform has under way.
#[derive(Debug, Default)]
pub(super) struct StageStatus {
    name: String,
    pub(super) handling: Activity,
    pub(super) embedding: Activity,
}

impl Status {
    /// Of a pipeline whose parts are counted by `meter`.
    pub(crate) fn new<'a>(name: &str, stages: impl IntoIterator<Item = &'a str>, meter: Arc<PipelineMeter>) -> Self {
        let stage = |name: &str| StageStatus { name: name.to_owned(), ..StageStatus::default() };
        Self {
            name: name.to_owned(),
            sinks: meter.sinks.iter().map(|meter| SinkStatus::new(Arc::clone(meter))).collect(),
            stages: stages.into_iter().map(stage).collect(),
            meter,
            events: AtomicU64::default(),
            rejected: AtomicU64::default(),
            confirmed: AtomicU64::default(),
            lag: AtomicU64::default(),
            oldest: Mutex::default(),
        }
    }

    /// The same, with the counters of an earlier run, so that they do not fall when a pipeline is
    /// started again.
    pub(crate) fn counting_on(self, before: &Status) -> Self {
        self.events.store(before.events(), Ordering::Relaxed);
        self.rejected.store(before.rejected(), Ordering::Relaxed);
        for sink in &self.sinks {
            let earlier = before.sinks.iter().find(|earlier| earlier.name == sink.name);
            sink.commands.store(earlier.map_or(0, SinkStatus::commands), Ordering::Relaxed);
        }
        self
    }

    /// The counts of the pipeline, from its first start on.
    pub fn meter(&self) -> &Arc<PipelineMeter> {
        &self.meter
    }

    /// Events received since the process began to run the pipeline.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Events that a handler refused, since the same moment.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Up to where the log is confirmed; invalid before the first time, and again when the stream
    /// begins anew.
    pub fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Ordering::Relaxed))
    }

    /// Returns the distance of the pipeline behind the server, as it was when last looked at.
    pub fn lag(&self) -> Lag {
        Lag { bytes: self.lag.load(Ordering::Relaxed) }
    }

    /// The age of the oldest commit that was received and is not durable in all sinks; zero if all
    /// are. Grows for as long as nothing becomes durable.
    pub fn age(&self) -> Duration {
        let Some(Since { committed, received, .. }) = *locked(&self.oldest) else { return Duration::ZERO };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let age = Duration::from_micros(now.saturating_sub(committed).max(0) as u64);
        // The server's clock may be ahead of ours.
        age.max(received.elapsed())
    }

    /// [`age`](Self::age) in seconds, as logs have it: to the millisecond.
    pub fn lag_seconds(&self) -> f64 {
        crate::backoff::seconds(self.age())
    }

    /// Since when the oldest batch waits here to become durable, if that is longer than any should.
    pub fn stuck_since(&self) -> Option<Instant> {
        let since = (*locked(&self.oldest))?.received;
        (since.elapsed() >= QUIET).then_some(since)
    }

    /// Names the work under way, the oldest first, in words. "its turn" if there is none.
    pub fn waits_for(&self) -> String {
        let mut all: Vec<(Instant, String)> = Vec::new();
        for sink in &self.sinks {
            let trouble = sink.trouble().map(|why| format!(" (last trouble: {why})")).unwrap_or_default();
            let what = |since| (since, format!("a write into sink `{}` for {} s{trouble}", sink.name, seconds(since)));
            all.extend(sink.writing.since().map(what));
        }
        for StageStatus { name, handling, embedding } in &self.stages {
            all.extend(handling.since().map(|since| (since, format!("handler `{name}` for {} s", seconds(since)))));
            let what = |since| (since, format!("the vectors of handler `{name}`'s texts for {} s", seconds(since)));
            all.extend(embedding.since().map(what));
        }
        all.sort();
        let words: Vec<String> = all.into_iter().map(|(_, what)| what).collect();
        if words.is_empty() { "its turn".to_owned() } else { words.join(", ") }
    }

    pub(crate) fn received(&self, events: usize, lag: Lag) {
        self.events.fetch_add(events as u64, Ordering::Relaxed);
        self.lag.store(lag.bytes, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, events: usize) {
        self.rejected.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn confirmed_up_to(&self, lsn: Lsn, lag: Lag) {
        self.confirmed.store(lsn.0, Ordering::Relaxed);
        self.lag.store(lag.bytes, Ordering::Relaxed);
    }

    /// Since when the oldest batch waits.
    pub(crate) fn waits_since(&self, oldest: Option<Since>) {
        *locked(&self.oldest) = oldest;
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(since: Instant) -> u64 {
    since.elapsed().as_secs()
}

impl SinkStatus {
    pub(super) fn new(meter: Arc<SinkMeter>) -> Self {
        let (commands, trouble, writing) = (AtomicU64::default(), Mutex::default(), Activity::default());
        Self { name: meter.name.clone(), meter, commands, trouble, writing }
    }

    /// Commands made durable since the process began to run the pipeline with a sink of this name.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Returns the reason for which the sink is not getting on at the moment; none if it is.
    pub fn trouble(&self) -> Option<String> {
        locked(&self.trouble).as_ref().map(|trouble| trouble.why.clone())
    }

    /// As `trouble`, with since when.
    pub fn trouble_since(&self) -> Option<Trouble> {
        locked(&self.trouble).clone()
    }

    pub(crate) fn wrote(&self, commands: usize) {
        self.commands.fetch_add(commands as u64, Ordering::Relaxed);
        *locked(&self.trouble) = None;
    }

    pub(crate) fn failing(&self, why: String) {
        let mut trouble = locked(&self.trouble);
        let since = trouble.as_ref().map_or_else(SystemTime::now, |trouble| trouble.since);
        *trouble = Some(Trouble { why, since });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_on_from_the_one_before_but_confirms_anew() {
        let first = Status::new("docs", ["embed"], PipelineMeter::new(["embed"], ["search", "gone"]));
        first.received(7, Lag::default());
        first.refused(2);
        first.sinks[0].wrote(5);
        first.confirmed_up_to(Lsn(9), Lag::default());
        let next = PipelineMeter::new(["embed"], ["added", "search"]);
        let next = Status::new("docs", ["embed"], next).counting_on(&first);
        assert_eq!((next.events(), next.rejected(), next.confirmed()), (7, 2, Lsn::INVALID));
        assert_eq!([next.sinks[0].commands(), next.sinks[1].commands()], [0, 5]);
    }

    #[test]
    fn the_lag_is_the_age_of_what_is_not_durable_and_grows() {
        let status = Status::new("docs", ["embed"], PipelineMeter::new(["embed"], ["search"]));
        assert_eq!((status.age(), status.stuck_since()), (Duration::ZERO, None));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        // By the server's clock it was committed in a minute.
        let waits = |received| status.waits_since(Some(Since { committed: now + 60_000_000, received, streamed: 1 }));
        waits(Instant::now());
        let young = status.age();
        assert_eq!(status.stuck_since(), None);
        let received = ago(22);
        waits(received);
        assert!(young < Duration::from_secs(22) && status.lag_seconds() >= 22.0, "it grows as time goes by");
        assert_eq!(status.stuck_since(), Some(received));
        status.waits_since(Some(Since { committed: now - 3_600_000_000, received, streamed: 1 }));
        assert!(status.lag_seconds() >= 3600.0, "it waited in the server's log before");
        let write = status.sinks[0].writing.begin();
        let handling = status.stages[0].handling.begin();
        let both = status.waits_for();
        assert!(both.contains("a write into sink `search` for ") && both.contains("handler `embed` for "), "{both}");
        drop((write, handling));
        assert_eq!(status.waits_for(), "its turn");
        status.waits_since(None);
        assert_eq!((status.age(), status.stuck_since()), (Duration::ZERO, None));
    }
}
