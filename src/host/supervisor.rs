//! `Supervisor`: the pipelines of a process. Starts, stops and lists them, each in a task of its own.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::keeper::Keeper;
use super::state::{Phase, PipelineState};
use super::{Embedders, Host, Owner};
use crate::config::model;
use crate::error::{Error, Fault, Result};
use crate::pipeline::Status;

/// A pipeline that is to run, and whose it is.
#[derive(Clone)]
pub struct PipelineSpec {
    /// What its file says.
    pub settings: Arc<model::Pipeline>,
    /// Whose it is, if it is a tenant's.
    pub owner: Option<Owner>,
}

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

/// A pipeline that a [`Supervisor`] runs or has run. Clones are the same; it stays good for as long as somebody has it.
#[derive(Clone)]
pub struct PipelineHandle(Arc<Shared>);

struct Shared {
    name: String,
    tenant: Option<String>,
    state: watch::Sender<PipelineState>,
    /// Counters of the run that was opened last.
    status: Mutex<Option<Arc<Status>>>,
    /// What it ended with, if it has ended.
    ended_with: Mutex<Option<Fault>>,
    /// They remember what was paid for.
    embedders: Mutex<Option<Embedders>>,
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
        let handle = PipelineHandle::new(&spec);
        let stop = self.0.stop.child_token();
        pipelines.insert(name, Entry { handle: handle.clone(), stop: stop.clone() });
        drop(pipelines);
        self.keep(handle.clone(), spec, stop);
        Ok(handle)
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
    fn keep(&self, handle: PipelineHandle, spec: PipelineSpec, stop: CancellationToken) {
        // The span must exist at every log filter, or lines lose their pipeline's name.
        let span = tracing::error_span!("run", pipeline = %spec.settings.name);
        let keeper = Keeper { supervisor: self.clone(), handle: handle.clone(), spec, stop };
        let supervisor = self.clone();
        self.0.tasks.spawn(async move {
            let ended = tokio::spawn(keeper.keep().instrument(span)).await;
            let fault = ended.unwrap_or_else(|panic| {
                let error = Error::new(Fault::Bug, "a pipeline failed").because(panic);
                supervisor.observer().failed(Some(handle.name()), &error);
                handle.met(&error);
                Some(Fault::Bug)
            });
            *locked(&handle.0.ended_with) = fault;
            handle.enter(if fault.is_some() { Phase::Failed } else { Phase::Stopped });
        });
    }
}

impl PipelineHandle {
    fn new(spec: &PipelineSpec) -> Self {
        Self(Arc::new(Shared {
            name: spec.settings.name.clone(),
            tenant: spec.owner.as_ref().map(|owner| owner.name().to_owned()),
            state: watch::Sender::new(PipelineState::first()),
            status: Mutex::default(),
            ended_with: Mutex::default(),
            embedders: Mutex::default(),
        }))
    }

    /// The pipeline's full name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The tenant whose it is.
    pub fn tenant(&self) -> Option<&str> {
        self.0.tenant.as_deref()
    }

    /// The state as it is now.
    pub fn state(&self) -> PipelineState {
        self.0.state.borrow().clone()
    }

    /// The state as it changes.
    pub fn watch(&self) -> watch::Receiver<PipelineState> {
        self.0.state.subscribe()
    }

    /// The counters of the run that was opened last; none before the first is open. A later run has other ones, which count
    /// on: ask again each time.
    pub fn status(&self) -> Option<Arc<Status>> {
        locked(&self.0.status).clone()
    }

    /// The fault that it has ended with, if it has ended with one.
    pub fn ended_with(&self) -> Option<Fault> {
        *locked(&self.0.ended_with)
    }

    /// Returns when nothing of it runs any more.
    pub async fn ended(&self) {
        // The sender is in the handle: this cannot fail.
        let _ = self.watch().wait_for(|state| state.state.is_over()).await;
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.0.state.send_if_modified(|state| state.enter(phase));
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut PipelineState) -> bool) {
        self.0.state.send_if_modified(change);
    }

    /// Notes an error.
    pub(super) fn met(&self, error: &Error) {
        self.0.state.send_modify(|state| state.last_error = Some(error.into()));
    }

    pub(super) fn opened(&self, status: Arc<Status>) {
        *locked(&self.0.status) = Some(status);
    }

    /// The embedders of the last run, which come back with [`keep_embedders`](Self::keep_embedders).
    pub(super) fn take_embedders(&self) -> Option<Embedders> {
        locked(&self.0.embedders).take()
    }

    pub(super) fn keep_embedders(&self, embedders: Option<Embedders>) {
        *locked(&self.0.embedders) = embedders;
    }
}

impl fmt::Debug for PipelineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineHandle").field("name", &self.0.name).field("state", &self.state()).finish()
    }
}

/// A panic elsewhere leaves whole values.
fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
