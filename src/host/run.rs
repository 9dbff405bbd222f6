//! Pipelines side by side: each is opened, runs, and is started again in a task of its own, whatever becomes of the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Embedders, Host, Owner};
use crate::backoff::{Backoff, seconds};
use crate::config::model;
use crate::error::{Error, Fault, Result};
use crate::pipeline::Status;

/// The longest wait before a pipeline is started again. One that ran for longer than this starts over with short waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_WAIT);

/// A pipeline that is to run, and whose it is.
pub struct Wanted {
    /// What its file says.
    pub settings: model::Pipeline,
    /// Whose it is, if it is a tenant's.
    pub owner: Option<Owner>,
}

/// What follows when a pipeline ends with a fault that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It has ended. For one that has the process to itself: whoever runs the process sees to it.
    Never,
    /// It is started again, after a wait.
    WhatMayPass,
}

/// Who is told how pipelines get on.
pub trait Watch: Send + Sync + 'static {
    /// What is kept for as long as a pipeline is open.
    type Line: Send;

    /// A pipeline is open and about to run.
    fn opened(&self, status: Arc<Status>) -> Self::Line;

    /// A pipeline cannot start, or has stopped; the one of this name, if that is known.
    fn failed(&self, pipeline: Option<&str>, error: &Error);
}

/// Opens and runs pipelines until `stop` is cancelled or all have ended. Answers the fault of each that is down at the end.
pub async fn run<W: Watch>(
    host: &Host,
    pipelines: Vec<Wanted>,
    restart: Restart,
    stop: &CancellationToken,
    watch: &Arc<W>,
) -> Vec<Fault> {
    let mut running = JoinSet::new();
    for wanted in pipelines {
        // Of the highest level, so that every line that is let through says whose it is.
        let span = tracing::error_span!("run", pipeline = %wanted.settings.name);
        let kept = Kept { host: host.clone(), wanted, restart, stop: stop.clone(), watch: Arc::clone(watch) };
        running.spawn(kept.keep().instrument(span));
    }
    let mut down = Vec::new();
    while let Some(ended) = running.join_next().await {
        down.extend(ended.unwrap_or_else(|panic| {
            watch.failed(None, &Error::new(Fault::Bug, "a pipeline failed").because(panic));
            Some(Fault::Bug)
        }));
    }
    down
}

/// A pipeline and what it takes to start it.
struct Kept<W> {
    host: Host,
    wanted: Wanted,
    restart: Restart,
    stop: CancellationToken,
    watch: Arc<W>,
}

impl<W: Watch> Kept<W> {
    /// Runs the pipeline, again and again if what ended it may pass. Answers its fault if it is down at the end.
    async fn keep(self) -> Option<Fault> {
        let (mut backoff, mut embedders) = (BACKOFF, None);
        loop {
            let began = Instant::now();
            let error = self.once(&mut embedders).await.err()?;
            self.watch.failed(Some(&self.wanted.settings.name), &error);
            let passes = matches!(error.fault(), Fault::Transient | Fault::Environment);
            if !passes || self.restart == Restart::Never || self.stop.is_cancelled() {
                return Some(error.fault());
            }
            if began.elapsed() > LONGEST_WAIT {
                backoff = BACKOFF;
            }
            let wait = backoff.next_wait();
            tracing::warn!(wait_seconds = seconds(wait), "the pipeline is started again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Some(error.fault()),
            }
        }
    }

    /// Opens the pipeline, with the embedders that it had before, and runs it to its end.
    async fn once(&self, embedders: &mut Option<Embedders>) -> Result<()> {
        let Wanted { settings, owner } = &self.wanted;
        let pipeline = tokio::select! {
            opened = self.host.open_with(settings, owner.as_ref(), embedders) => opened?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let _line = self.watch.opened(pipeline.status());
        pipeline.run(self.stop.clone()).await
    }
}
