//! The progress of running pipelines: a live line each on a terminal, log lines elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use super::complain_of;
use crate::error::Error;
use crate::host::Observer;
use crate::pipeline::Status;
use crate::printable::printable;
use crate::telemetry::Bars;

/// The time after which a live line is drawn anew.
const REDRAW: Duration = Duration::from_millis(250);
/// The time after which a pipeline that moves says so in the log again.
const LOG: Duration = Duration::from_secs(10);

/// Shows the progress of the pipelines that are open, until it is dropped.
pub(super) struct Progress {
    bars: Bars,
    shown: Arc<Mutex<Vec<Shown>>>,
    task: JoinHandle<()>,
}

/// A pipeline whose progress is shown.
struct Shown {
    bar: Option<ProgressBar>,
    meter: Meter,
}

impl Progress {
    pub(super) fn show(bars: Bars) -> Arc<Self> {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let task = match &bars {
            Bars::Terminal(_) => tokio::spawn(draw(Arc::clone(&shown))),
            Bars::None => tokio::spawn(log(Arc::clone(&shown))),
        };
        Arc::new(Self { bars, shown, task })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer for Progress {
    fn opened(&self, status: Arc<Status>) -> Box<dyn Send> {
        let bar = match &self.bars {
            Bars::Terminal(bars) => Some(bars.add(line())),
            Bars::None => None,
        };
        locked(&self.shown).push(Shown { bar, meter: Meter::new(Arc::clone(&status)) });
        Box::new(Line { shown: Arc::clone(&self.shown), status })
    }

    fn failed(&self, pipeline: Option<&str>, error: &Error) {
        complain_of(pipeline, error);
    }
}

/// The line of a pipeline; it goes when this is dropped.
struct Line {
    shown: Arc<Mutex<Vec<Shown>>>,
    status: Arc<Status>,
}

impl Drop for Line {
    fn drop(&mut self) {
        locked(&self.shown).retain(|shown| {
            let other = !Arc::ptr_eq(&shown.meter.status, &self.status);
            shown.bar.iter().filter(|_| !other).for_each(ProgressBar::finish_and_clear);
            other
        });
    }
}

fn locked(shown: &Mutex<Vec<Shown>>) -> MutexGuard<'_, Vec<Shown>> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

async fn draw(shown: Arc<Mutex<Vec<Shown>>>) {
    let mut ticks = tokio::time::interval(REDRAW);
    loop {
        ticks.tick().await;
        for Shown { bar, meter } in locked(&shown).iter_mut() {
            let read = meter.read();
            for bar in bar.iter() {
                bar.set_message(read.clone());
                bar.tick();
            }
        }
    }
}

async fn log(shown: Arc<Mutex<Vec<Shown>>>) {
    let mut ticks = tokio::time::interval(LOG);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        for Shown { meter, .. } in locked(&shown).iter_mut() {
            let Some(rate) = meter.moved() else { continue };
            let (status, lag) = (&meter.status, meter.status.lag());
            let troubles: Vec<String> = status.sinks.iter().filter_map(|sink| sink.trouble()).collect();
            let _of = tracing::error_span!("run", pipeline = %status.name).entered();
            tracing::info!(
                events = status.events(),
                events_per_second = rate,
                rejected = status.rejected(),
                confirmed = %status.confirmed(),
                lag_bytes = lag.bytes,
                lag_seconds = status.lag_seconds(),
                waits_for = status.stuck_since().map(|_| status.waits_for()),
                trouble = troubles.first().map(String::as_str),
                "progress"
            );
        }
    }
}

/// A pipeline's counters with the rate at which they move.
struct Meter {
    status: Arc<Status>,
    last: (Instant, u64),
    rate: f64,
}

impl Meter {
    /// Weight of the newest reading: smooth enough to read, quick enough to follow.
    const NEWEST: f64 = 0.3;

    fn new(status: Arc<Status>) -> Self {
        Self { last: (Instant::now(), status.events()), rate: 0.0, status }
    }

    /// Events per second since the last reading.
    fn measure(&mut self) -> f64 {
        let now = (Instant::now(), self.status.events());
        let seconds = (now.0 - self.last.0).as_secs_f64();
        let rate = if seconds > 0.0 { (now.1 - self.last.1) as f64 / seconds } else { self.rate };
        self.last = now;
        rate
    }

    /// The rate since the last reading; none if nothing has moved, nothing waits for long, and no sink is in trouble.
    fn moved(&mut self) -> Option<u64> {
        let rate = self.measure();
        let troubled = self.status.sinks.iter().any(|sink| sink.trouble().is_some());
        (rate > 0.0 || troubled || self.status.stuck_since().is_some()).then_some(rate.round() as u64)
    }

    /// The live line: name, events, rate, lag, then each sink.
    fn read(&mut self) -> String {
        self.rate = self.measure() * Self::NEWEST + self.rate * (1.0 - Self::NEWEST);
        let (status, lag) = (&self.status, self.status.lag());
        let mut line = format!(
            "{}  {} events  {}/s  lag {} {:.1} s",
            status.name,
            HumanCount(status.events()),
            HumanCount(self.rate.round() as u64),
            HumanBytes(lag.bytes),
            status.lag_seconds()
        );
        if status.rejected() > 0 {
            line += &format!("  rejected {}", HumanCount(status.rejected()));
        }
        for sink in &status.sinks {
            line += &match sink.trouble() {
                Some(why) => format!("  │ {} waits: {why}", sink.name),
                None => format!("  │ {} {}", sink.name, HumanCount(sink.commands())),
            };
        }
        if status.stuck_since().is_some() {
            line += &format!("  │ waits for {}", status.waits_for());
        }
        printable(&line)
    }
}
