//! `Supervisor`: the pipelines of a process. Starts, stops, replaces and lists them, each in a task
//! of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indexmap::IndexMap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::handle::PipelineHandle;
use super::keeper::Keeper;
use super::{Host, PipelineSpec};
use crate::error::{Error, Fault, Result};
use crate::meter::ReloadMeter;
use crate::pipeline::{Stage, Status};

/// The longest time that a swap waits for the batches that are with the former handlers.
const SWAP_LIMIT: Duration = Duration::from_secs(30);

/// The pipelines that are started again when they end with a fault that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// All of them.
    Always,
    /// All, as long as there are several. One that has the process to itself ends with it: whoever
    /// runs the process sees to it.
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
    reloads: ReloadMeter,
    /// Told when somebody wants to know how many dead letters there are.
    letters_wanted: Notify,
}

/// A pipeline in the list.
struct Entry {
    handle: PipelineHandle,
    run: RunTokens,
}

/// All that ends a run of a pipeline, and the rest after it.
#[derive(Clone)]
struct RunTokens {
    /// Stops what runs.
    stop: CancellationToken,
    /// Ends the rest of one that is paused.
    rest: CancellationToken,
}

impl Supervisor {
    /// Supervises pipelines of `host`, until `stop` is cancelled.
    pub fn new(host: Host, restart: Restart, stop: CancellationToken, observer: Arc<dyn Observer>) -> Self {
        let (tasks, pipelines, reloads) = (TaskTracker::new(), Mutex::default(), ReloadMeter::default());
        let letters_wanted = Notify::new();
        tasks.close();
        Self(Arc::new(Inner { host, restart, observer, stop, tasks, pipelines, reloads, letters_wanted }))
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
        let run = self.next_run();
        let handle = match pipelines.get_mut(&name) {
            Some(entry) => {
                std::mem::replace(&mut entry.run, run.clone()).rest.cancel();
                entry.handle.replaced(spec);
                entry.handle.clone()
            }
            None => {
                let handle = PipelineHandle::new(spec);
                pipelines.insert(name, Entry { handle: handle.clone(), run: run.clone() });
                handle
            }
        };
        drop(pipelines);
        self.keep(handle.clone(), run);
        Ok(handle)
    }

    /// Starts a pipeline of which nothing runs with the settings that it has.
    pub(super) fn begin_again(&self, handle: &PipelineHandle) {
        let mut pipelines = locked(&self.0.pipelines);
        let Some(entry) = pipelines.get_mut(handle.name()) else { return };
        if self.0.stop.is_cancelled() || !handle.state().state.is_over() {
            return;
        }
        let run = self.next_run();
        std::mem::replace(&mut entry.run, run.clone()).rest.cancel();
        handle.begins();
        drop(pipelines);
        self.keep(handle.clone(), run);
    }

    fn next_run(&self) -> RunTokens {
        RunTokens { stop: self.0.stop.child_token(), rest: self.0.stop.child_token() }
    }

    /// Ends what runs of a pipeline in order, and waits for that.
    pub(super) async fn end_run(&self, handle: &PipelineHandle) {
        if let Some(entry) = locked(&self.0.pipelines).get(handle.name()) {
            entry.run.stop.cancel();
        }
        handle.ended().await;
    }

    /// Keeps the process from ending for as long as somebody has it.
    pub(super) fn not_over(&self) -> impl Drop {
        self.0.tasks.token()
    }

    /// Tells whether the process is to end.
    pub(super) fn ends(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Stops the pipeline of the spec's name in order, and starts it with the new settings; its
    /// handle stays good, and its counters go on. Returns when it has been started; one that is
    /// paused stays so. If it cannot be opened with the new settings, it goes back to those before,
    /// and tells the observer why.
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
        let _not_over = self.not_over();
        if handle.is_paused() {
            handle.adopted(spec);
            return Ok(());
        }
        self.end_run(handle).await;
        if !self.ends() {
            self.start(spec)?;
        }
        Ok(())
    }

    /// Gives a pipeline that runs other handlers, while its stream and its sinks go on. Where that
    /// cannot be, or the handlers before do not come to an end, the pipeline is replaced. Answers
    /// whether the stream went on.
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

    /// Stops a pipeline in order, waits for its end, which is bounded in time, and takes it off the
    /// list. None if there is none.
    pub async fn stop(&self, name: &str) -> Option<PipelineHandle> {
        let handle = {
            let pipelines = locked(&self.0.pipelines);
            let entry = pipelines.get(name)?;
            entry.run.stop.cancel();
            entry.run.rest.cancel();
            entry.handle.clone()
        };
        handle.ended().await;
        handle.rests_no_longer();
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

    /// Somebody wants to know how many dead letters there are;
    /// [`count_letters`](Self::count_letters) finds out.
    pub fn want_letter_counts(&self) {
        self.0.letters_wanted.notify_one();
    }

    pub(super) fn letter_counts_wanted(&self) -> &Notify {
        &self.0.letters_wanted
    }

    pub(super) fn stopping(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// The counts of reloads.
    pub fn reloads(&self) -> &ReloadMeter {
        &self.0.reloads
    }

    /// Returns when nothing runs any more, and nothing is paused.
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

    /// Runs a pipeline in a task of its own. Its handle says at the very end that it is over,
    /// whatever happens.
    fn keep(&self, handle: PipelineHandle, RunTokens { stop, rest }: RunTokens) {
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
            handle.comes_to_its_end(fault);
            // It may go on, so that the process does not end although nothing runs.
            if handle.is_paused() {
                rest.cancelled().await;
            }
            if supervisor.ends() {
                handle.rests_no_longer();
            }
        });
    }
}

/// Tells if handlers that fail to load with this error, beside those that run, cannot be loaded at
/// all. Handlers of a tenant share memory: what does not fit twice may fit once.
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
