//! `Status`: what a running pipeline tells the outside about itself. Counters only, never a row's value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::lsn::Lsn;
use crate::source::Lag;

/// How a pipeline is doing; read at any time, from any thread.
#[derive(Debug)]
pub struct Status {
    /// The pipeline's name.
    pub name: String,
    /// One per sink, in the order of the pipeline file.
    pub sinks: Vec<SinkStatus>,
    events: AtomicU64,
    rejected: AtomicU64,
    confirmed: AtomicU64,
    lag: Mutex<Lag>,
}

/// How a sink is doing.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    commands: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Status {
    pub(crate) fn new(name: &str, sinks: impl IntoIterator<Item = String>) -> Self {
        Self {
            name: name.to_owned(),
            sinks: sinks.into_iter().map(|name| SinkStatus { name, ..SinkStatus::default() }).collect(),
            events: AtomicU64::default(),
            rejected: AtomicU64::default(),
            confirmed: AtomicU64::default(),
            lag: Mutex::default(),
        }
    }

    /// Events received since the start.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Events that a handler refused since the start.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Up to where the log is confirmed; invalid before the first time, and again when the stream begins anew.
    pub fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Ordering::Relaxed))
    }

    /// How far behind the server the pipeline was when last looked at.
    pub fn lag(&self) -> Lag {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn received(&self, events: usize, lag: Lag) {
        self.events.fetch_add(events as u64, Ordering::Relaxed);
        self.lagging(lag);
    }

    pub(crate) fn refused(&self, events: usize) {
        self.rejected.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn confirmed_up_to(&self, lsn: Lsn, lag: Lag) {
        self.confirmed.store(lsn.0, Ordering::Relaxed);
        self.lagging(lag);
    }

    fn lagging(&self, lag: Lag) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }
}

impl SinkStatus {
    /// Commands made durable since the start.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Why the sink is not getting on at the moment; none if it is.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn wrote(&self, commands: usize) {
        self.commands.fetch_add(commands as u64, Ordering::Relaxed);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn failing(&self, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}
