//! `Keeper`: the task of one pipeline. Opens it, runs it, and starts it again if what ended it may
//! pass.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::embedders::OpenEmbedders;
use super::handle::PipelineHandle;
use super::state::Phase;
use super::supervisor::Supervisor;
use crate::backoff::Backoff;
use crate::error::{Fault, Result};
use crate::pipeline::Pipeline;
use crate::retry::Retry;

/// The longest wait before a pipeline is started again. One that ran for longer than this starts
/// over with short waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Tries of new settings after the first, as long as the failure may pass. After them, the settings
/// from before come back.
const TRIES: u32 = 3;

const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_WAIT);

/// A pipeline and what it takes to run it.
pub(super) struct Keeper {
    pub(super) supervisor: Supervisor,
    pub(super) handle: PipelineHandle,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    /// Runs the pipeline, again and again if what ended it may pass. Answers its fault if it is
    /// down at the end.
    pub(super) async fn keep(self) -> Option<Fault> {
        let (mut retry, mut tries) = (Retry::new(BACKOFF), 0);
        loop {
            let began = Instant::now();
            let error = self.once().await.err()?;
            self.handle.met(&error);
            self.supervisor.observer().failed(Some(self.handle.name()), &error);
            let passes = error.fault().may_pass();
            if self.handle.has_former() && !self.stop.is_cancelled() {
                tries += 1;
                if !passes || tries > TRIES {
                    self.handle.go_back();
                    tracing::warn!("the new settings cannot run; the pipeline goes on with those before");
                    continue;
                }
            } else if !passes || !self.supervisor.restarts() || self.stop.is_cancelled() {
                return Some(error.fault());
            }
            if began.elapsed() > LONGEST_WAIT {
                retry.succeeded();
            }
            let wait = retry.failed(&error);
            self.handle.enter(Phase::Retrying);
            tracing::warn!(wait_seconds = wait.seconds(), "the pipeline is started again");
            if !wait.over_unless(&self.stop).await {
                return Some(error.fault());
            }
            self.handle.change(|state| {
                state.restarts += 1;
                true
            });
        }
    }

    /// Opens the pipeline, with the embedders that it had before, and runs it to its end.
    async fn once(&self) -> Result<()> {
        let mut embedders = self.handle.embedders();
        let opened = tokio::select! {
            opened = self.open(&mut embedders) => Some(opened),
            () = self.stop.cancelled() => None,
        };
        self.handle.keep_embedders(embedders);
        let Some(opened) = opened else { return Ok(()) };
        let mut pipeline = opened?;
        if let Some(before) = self.handle.status() {
            pipeline = pipeline.counting_on(&before);
        }
        self.handle.opened(pipeline.status(), pipeline.swapper());
        let _line = self.supervisor.observer().opened(pipeline.status());
        self.run(pipeline).await
    }

    async fn open(&self, embedders: &mut OpenEmbedders) -> Result<Pipeline> {
        let spec = self.handle.spec();
        let meter = self.handle.meter_for(&spec.settings);
        self.supervisor.host().open_with(&spec.settings, &spec.owner, embedders, meter).await
    }

    /// Runs the pipeline, and says meanwhile how it gets on.
    async fn run(&self, pipeline: Pipeline) -> Result<()> {
        let mut source = pipeline.source_state();
        self.handle.change(|state| state.follow(&source.borrow_and_update()));
        let mut running = pin!(pipeline.run(self.stop.clone()));
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                ended = &mut running => return ended,
                () = self.stop.cancelled(), if !draining => {
                    draining = true;
                    self.handle.enter(Phase::Draining);
                }
                Ok(()) = source.changed(), if !draining => {
                    self.handle.change(|state| state.follow(&source.borrow_and_update()));
                }
            }
        }
    }
}
