//! The parts of a meter: counters, gauges, sums of time and histograms, all of atomics.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds so many.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// It is so much now.
    pub fn set(&self, now: u64) {
        self.0.store(now, Relaxed);
    }

    /// It is so much more.
    pub fn more(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// It is so much less, and never below zero.
    pub fn less(&self, less: u64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |now| Some(now.saturating_sub(less)));
    }

    /// It is so much at least.
    pub fn raise(&self, least: u64) {
        self.0.fetch_max(least, Relaxed);
    }

    /// The amount now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that may be unknown, as before the first look.
#[derive(Debug)]
pub struct Reading(AtomicI64);

impl Reading {
    const UNKNOWN: i64 = i64::MIN;

    /// Sets what was read; none if that failed.
    pub fn set(&self, read: Option<i64>) {
        self.0.store(read.unwrap_or(Self::UNKNOWN), Relaxed);
    }

    /// The last reading, if it is known.
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Relaxed)).filter(|read| *read != Self::UNKNOWN)
    }

    /// The same for what is never negative.
    pub fn positive(&self) -> Option<u64> {
        self.get().map(|read| read.max(0) as u64)
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self(AtomicI64::new(Self::UNKNOWN))
    }
}

/// Time that something took, summed up.
#[derive(Debug, Default)]
pub struct TimeSum(AtomicU64);

impl TimeSum {
    /// Adds so much time.
    pub fn add(&self, more: Duration) {
        self.0.fetch_add(nanoseconds(more), Relaxed);
    }

    /// In seconds.
    pub fn seconds(&self) -> f64 {
        self.0.load(Relaxed) as f64 / 1e9
    }
}

/// Time in which something goes on, what is going on now included. One at a time.
#[derive(Debug)]
pub struct Stopwatch {
    epoch: Instant,
    sum: TimeSum,
    /// Nanoseconds after the epoch, and one more; zero while it stands.
    since: AtomicU64,
}

impl Stopwatch {
    /// It begins, unless it goes on already.
    pub fn start(&self) {
        if self.since.load(Relaxed) == 0 {
            self.since.store(nanoseconds(self.epoch.elapsed()) + 1, Relaxed);
        }
    }

    /// It is over, if it went on.
    pub fn stop(&self) {
        if self.since.load(Relaxed) != 0 {
            self.sum.add(self.running());
            self.since.store(0, Relaxed);
        }
    }

    /// In seconds.
    pub fn seconds(&self) -> f64 {
        self.sum.seconds() + self.running().as_secs_f64()
    }

    /// For how long it goes on already; none if it stands.
    pub fn goes_on(&self) -> Option<Duration> {
        (self.since.load(Relaxed) != 0).then(|| self.running())
    }

    fn running(&self) -> Duration {
        match self.since.load(Relaxed) {
            0 => Duration::ZERO,
            since => self.epoch.elapsed().saturating_sub(Duration::from_nanos(since - 1)),
        }
    }
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { epoch: Instant::now(), sum: TimeSum::default(), since: AtomicU64::new(0) }
    }
}

/// Counts of how long something took.
#[derive(Debug)]
pub struct Histogram {
    /// In seconds, rising.
    bounds: &'static [f64],
    /// One more than there are bounds: what was longer than the last.
    buckets: Box<[AtomicU64]>,
    sum: TimeSum,
}

impl Histogram {
    /// Bounds for the age of something when it arrives.
    pub const FRESHNESS: &'static [f64] =
        &[0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
    /// Bounds for the time of a call, a request or a write.
    pub const CALLS: &'static [f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0];

    /// An empty one.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: TimeSum::default() }
    }

    /// Notes that `times` things took so long each.
    pub fn observe(&self, took: Duration, times: u64) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(times, Relaxed);
        }
        self.sum.0.fetch_add(nanoseconds(took).saturating_mul(times), Relaxed);
    }

    /// All that was noted so far.
    pub fn read(&self) -> HistogramReading {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        HistogramReading { bounds: self.bounds, counts, sum: self.sum.seconds() }
    }
}

/// A histogram as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramReading {
    /// In seconds, rising.
    pub bounds: &'static [f64],
    /// In each bucket by itself; one more than there are bounds.
    pub counts: Vec<u64>,
    /// In seconds.
    pub sum: f64,
}

impl HistogramReading {
    /// The same with what another one counted; both have the same bounds.
    pub fn and(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// The number of all that were noted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_by_upper_bounds() {
        let histogram = Histogram::new(Histogram::CALLS);
        histogram.observe(Duration::from_millis(1), 1);
        histogram.observe(Duration::from_millis(2), 3);
        histogram.observe(Duration::from_secs(31), 1);
        let mut read = histogram.read();
        assert_eq!(read.counts, [1, 3, 0, 0, 0, 0, 0, 0, 1]);
        assert!((read.sum - 31.007).abs() < 1e-9, "{}", read.sum);
        read.and(&histogram.read());
        assert_eq!((read.count(), read.counts[1]), (10, 6));
    }

    #[test]
    fn a_gauge_does_not_fall_below_zero_and_a_reading_may_be_unknown() {
        let gauge = Gauge::default();
        gauge.more(2);
        gauge.less(3);
        assert_eq!(gauge.get(), 0);
        gauge.raise(5);
        gauge.raise(4);
        assert_eq!(gauge.get(), 5);
        let reading = Reading::default();
        assert_eq!(reading.get(), None);
        reading.set(Some(-3));
        assert_eq!((reading.get(), reading.positive()), (Some(-3), Some(0)));
        reading.set(None);
        assert_eq!(reading.positive(), None);
    }

    #[test]
    fn a_stopwatch_counts_what_still_goes_on() {
        let watch = Stopwatch::default();
        assert_eq!(watch.seconds(), 0.0);
        watch.start();
        while watch.seconds() == 0.0 {}
        watch.start();
        watch.stop();
        let stopped = watch.seconds();
        watch.stop();
        assert!(stopped > 0.0 && watch.seconds() == stopped);
    }
}
