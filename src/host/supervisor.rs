//! `Supervisor`: the pipelines of a process. Starts, stops, replaces and lists them, each in a task of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::handle::PipelineHandle;
use super::keeper::Keeper;
use super::state::Phase;
use super::{Host, PipelineSpec};
use crate::error::{Error, Fault, Result};
use crate::pipeline::{Stage, Status};

/// How long a swap waits for the batches that are with the handlers before.
const SWAP_LIMIT: Duration = Duration::from_secs(30);

/// The pipelines that are started again when they end with a fault that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// All of them.
    Always,
    /// All, as long as there are several. One that has the process to itself ends with it: whoever runs the process sees to it.
    OneOfSeveral,
}

/// Somebody who is told how pipelines get on.
pub trait Observer: Send + Sync + 'static {
    /// A pipeline is open and about to run. What is answered is dropped when it has ended.
    fn opened(&self, status: Arc<Status>) -> Box<dyn Send>;

    /// A pipeline cannot start, or has stopped; the one of this name, if that is known.
    fn failed(&self, pipeline: Option<&str>, error: &Error);
}

/// The pipelines of a process. Clones are the same.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    host: Host,
    restart: Restart,
    observer: Arc<dyn Observer>,
    /// Cancelled when the process is to end.
    stop: CancellationToken,
    tasks: TaskTracker,
    pipelines: Mutex<IndexMap<String, Entry>>,
}

/// A pipeline in the list.
struct Entry {
    handle: PipelineHandle,
    /// Stops what runs of it now.
    stop: CancellationToken,
}

impl Supervisor {
    /// Supervises pipelines of `host`, until `stop` is cancelled.
    pub fn new(host: Host, restart: Restart, stop: CancellationToken, observer: Arc<dyn Observer>) -> Self {
        let (tasks, pipelines) = (TaskTracker::new(), Mutex::default());
        tasks.close();
        Self(Arc::new(Inner { host, restart, observer, stop, tasks, pipelines }))
    }

    /// Starts a pipeline. Returns at once; its handle tells how that goes.
    ///
    /// # Errors
    /// `Config` if a pipeline of this name runs already.
    pub fn start(&self, spec: PipelineSpec) -> Result<PipelineHandle> {
        let name = spec.settings.name.clone();
        let mut pipelines = locked(&self.0.pipelines);
        if pipelines.get(&name).is_some_and(|entry| !entry.handle.state().state.is_over()) {
            return Err(Error::new(Fault::Config, format!("a pipeline `{name}` runs already")));
        }
        let stop = self.0.stop.child_token();
        let handle = match pipelines.get_mut(&name) {
            Some(entry) => {
                entry.stop = stop.clone();
                entry.handle.replaced(spec);
                entry.handle.clone()
            }
            None => {
                let handle = PipelineHandle::new(spec);
                pipelines.insert(name, Entry { handle: handle.clone(), stop: stop.clone() });
                handle
            }
        };
        drop(pipelines);
        self.keep(handle.clone(), stop);
        Ok(handle)
    }

    /// Stops the pipeline of the spec's name in order, and starts it with the new settings; its handle stays good, and its
    /// counters go on. Returns when it has been started. If it cannot be opened with the new settings, it goes back to those
    /// before, and tells the observer why.
    ///
    /// # Errors
    /// None but those of [`start`](Self::start).
    pub async fn replace(&self, spec: PipelineSpec) -> Result<PipelineHandle> {
        let Some(handle) = self.get(&spec.settings.name) else { return self.start(spec) };
        let turn = handle.0.turn.lock().await;
        let replaced = self.replace_now(&handle, spec).await;
        drop(turn);
        replaced.map(|()| handle)
    }

    /// As `replace`, for whoever has the pipeline's turn.
    async fn replace_now(&self, handle: &PipelineHandle, spec: PipelineSpec) -> Result<()> {
        // Between the one and the other nothing runs, and yet it is not the end.
        let _not_over = self.0.tasks.token();
        if let Some(entry) = locked(&self.0.pipelines).get(handle.name()) {
            entry.stop.cancel();
        }
        handle.ended().await;
        if !self.0.stop.is_cancelled() {
            self.start(spec)?;
        }
        Ok(())
    }

    /// Gives a pipeline that runs other handlers, while its stream and its sinks go on. Where that cannot be, or the handlers
    /// before do not come to an end, the pipeline is replaced. Answers whether the stream went on.
    ///
    /// # Errors
    /// Those of loading the handlers; then nothing has changed.
    pub(super) async fn swap(&self, handle: &PipelineHandle, spec: PipelineSpec) -> Result<bool> {
        let _turn = handle.0.turn.lock().await;
        let swapper = locked(&handle.0.swapper).clone();
        if let Some(swapper) = swapper {
            match self.load(handle, &spec).await {
                Ok(stages) => {
                    handle.swapped(spec.clone());
                    if matches!(tokio::time::timeout(SWAP_LIMIT, swapper.swap(stages)).await, Ok(Ok(()))) {
                        return Ok(true);
                    }
                }
                Err(error) if is_final(&error, &spec) => return Err(error),
                Err(error) => {
                    let (pipeline, cause) = (handle.name(), error.chain());
                    tracing::info!(pipeline, cause, "the new handlers do not fit beside the old");
                }
            }
        }
        self.replace_now(handle, spec).await.map(|()| false)
    }

    /// Loads the handlers of other settings of a pipeline, beside those that run.
    async fn load(&self, handle: &PipelineHandle, spec: &PipelineSpec) -> Result<Vec<Stage>> {
        let embedders = locked(&handle.0.embedders).clone().of(&spec.settings)?;
        self.0.host.open_stages(&spec.settings, &spec.owner, &embedders, &handle.meter()).await
    }

    /// Refuses settings that cannot run, as far as that can be told beside the pipeline that runs.
    pub(super) async fn try_out(
        &self,
        handle: &PipelineHandle,
        spec: &PipelineSpec,
    ) -> std::result::Result<(), Vec<Error>> {
        let errors = super::review(&spec.settings);
        if !errors.is_empty() {
            return Err(errors);
        }
        match self.load(handle, spec).await {
            Err(error) if is_final(&error, spec) => Err(vec![error]),
            _ => Ok(()),
        }
    }

    /// Stops a pipeline in order, waits for its end, which is bounded in time, and takes it off the list. None if there is none.
    pub async fn stop(&self, name: &str) -> Option<PipelineHandle> {
        let handle = {
            let pipelines = locked(&self.0.pipelines);
            let entry = pipelines.get(name)?;
            entry.stop.cancel();
            entry.handle.clone()
        };
        handle.ended().await;
        locked(&self.0.pipelines).shift_remove(name);
        Some(handle)
    }

    /// The pipelines, in the order in which they were started.
    pub fn list(&self) -> Vec<PipelineHandle> {
        locked(&self.0.pipelines).values().map(|entry| entry.handle.clone()).collect()
    }

    /// The pipeline of this name.
    pub fn get(&self, name: &str) -> Option<PipelineHandle> {
        locked(&self.0.pipelines).get(name).map(|entry| entry.handle.clone())
    }

    /// Returns when nothing runs any more.
    pub async fn ended(&self) {
        self.0.tasks.wait().await;
    }

    /// The fault of each pipeline that has ended with one.
    pub fn down(&self) -> Vec<Fault> {
        self.list().iter().filter_map(PipelineHandle::ended_with).collect()
    }

    pub(super) fn restarts(&self) -> bool {
        match self.0.restart {
            Restart::Always => true,
            Restart::OneOfSeveral => locked(&self.0.pipelines).len() > 1,
        }
    }

    pub(super) fn host(&self) -> &Host {
        &self.0.host
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        &*self.0.observer
    }

    /// Runs a pipeline in a task of its own. Its handle says at the very end that it is over, whatever happens.
    fn keep(&self, handle: PipelineHandle, stop: CancellationToken) {
        // The span must exist at every log filter, or lines lose their pipeline's name.
        let span = tracing::error_span!("run", pipeline = %handle.name());
        let keeper = Keeper { supervisor: self.clone(), handle: handle.clone(), stop };
        let supervisor = self.clone();
        self.0.tasks.spawn(async move {
            let ended = tokio::spawn(keeper.keep().instrument(span)).await;
            let fault = ended.unwrap_or_else(|panic| {
                let error = Error::new(Fault::Bug, "a pipeline failed").because(panic);
                supervisor.observer().failed(Some(handle.name()), &error);
                handle.met(&error);
                Some(Fault::Bug)
            });
            *locked(&handle.0.swapper) = None;
            *locked(&handle.0.ended_with) = fault;
            handle.enter(if fault.is_some() { Phase::Failed } else { Phase::Stopped });
        });
    }
}

/// Whether a handler that cannot be loaded beside the one that runs cannot be loaded at all. Those of a tenant share memory: what
/// does not fit twice may fit once.
fn is_final(error: &Error, spec: &PipelineSpec) -> bool {
    match error.fault() {
        Fault::Config => true,
        Fault::Handler => spec.owner.name().is_none(),
        _ => false,
    }
}

/// A panic elsewhere leaves whole values.
pub(super) fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
