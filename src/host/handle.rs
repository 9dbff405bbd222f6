//! `PipelineHandle`: what others hold of a pipeline that a [`Supervisor`](super::Supervisor) runs:
//! its state, counters and settings.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::PipelineSpec;
use super::embedders::OpenEmbedders;
use super::state::{Pause, Phase, PipelineState};
use super::supervisor::locked;
use crate::components::PipelineSettings;
use crate::embedder::Embedder;
use crate::error::{Error, Fault};
use crate::meter::{LetterMeter, PipelineMeter};
use crate::pipeline::{Status, Swapper};

/// A pipeline that a [`Supervisor`](super::Supervisor) runs or has run. Clones are the same; it
/// stays good for as long as somebody has it.
#[derive(Clone)]
pub struct PipelineHandle(pub(super) Arc<Shared>);

pub(super) struct Shared {
    name: String,
    tenant: Option<String>,
    specs: Mutex<Specs>,
    state: watch::Sender<PipelineState>,
    /// Counters of the run that was opened last.
    status: Mutex<Option<Arc<Status>>>,
    /// The fault with which it ended. None while it runs, and if it ended in order.
    pub(super) ended_with: Mutex<Option<Fault>>,
    /// They remember what was paid for.
    pub(super) embedders: Mutex<OpenEmbedders>,
    /// The way to the handlers of what runs now.
    pub(super) swapper: Mutex<Option<Swapper>>,
    /// Somebody's wish that it comes to rest, until it has.
    pub(super) pause: Mutex<Option<Pause>>,
    /// Counts from the first start on.
    meter: Mutex<Arc<PipelineMeter>>,
    /// Counts of its dead letters.
    letters: LetterMeter,
    /// Held by whoever changes what runs: one at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// The settings that a pipeline runs with.
struct Specs {
    current: PipelineSpec,
    /// A pipeline was opened with them.
    proven: bool,
    /// The last that were proven before, to go back to as long as `current` is not.
    former: Option<PipelineSpec>,
}

impl PipelineHandle {
    pub(super) fn new(spec: PipelineSpec) -> Self {
        Self(Arc::new(Shared {
            name: spec.settings.name.clone(),
            tenant: spec.owner.name().map(str::to_owned),
            meter: Mutex::new(super::meter_of(&spec.settings)),
            specs: Mutex::new(Specs { current: spec, proven: false, former: None }),
            state: watch::Sender::new(PipelineState::first()),
            status: Mutex::default(),
            ended_with: Mutex::default(),
            embedders: Mutex::default(),
            swapper: Mutex::default(),
            pause: Mutex::default(),
            letters: LetterMeter::default(),
            turn: tokio::sync::Mutex::default(),
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

    /// The settings that it runs with.
    pub fn spec(&self) -> PipelineSpec {
        locked(&self.0.specs).current.clone()
    }

    /// The state as it is now.
    pub fn state(&self) -> PipelineState {
        self.0.state.borrow().clone()
    }

    /// Tells whether somebody has stopped it for a while.
    pub fn is_paused(&self) -> bool {
        self.0.state.borrow().state == Phase::Paused
    }

    /// The state as it changes.
    pub fn watch(&self) -> watch::Receiver<PipelineState> {
        self.0.state.subscribe()
    }

    /// The counters of the run that was opened last; none before the first is open. A later run has
    /// other ones, which count on: ask again each time.
    pub fn status(&self) -> Option<Arc<Status>> {
        locked(&self.0.status).clone()
    }

    /// The counts of it, from its first start on.
    pub fn meter(&self) -> Arc<PipelineMeter> {
        Arc::clone(&locked(&self.0.meter))
    }

    /// The counts of its dead letters.
    pub fn letters(&self) -> &LetterMeter {
        &self.0.letters
    }

    /// Its own embedders, as far as they are open.
    pub fn own_embedders(&self) -> Vec<Arc<dyn Embedder>> {
        locked(&self.0.embedders).all()
    }

    /// The meter of a run with these settings; parts that it had before count on.
    pub(super) fn meter_for(&self, settings: &PipelineSettings) -> Arc<PipelineMeter> {
        let mut meter = locked(&self.0.meter);
        let (transforms, sinks) = (settings.transforms.keys(), settings.sinks.keys());
        *meter = meter.with(transforms.map(String::as_str), sinks.map(String::as_str));
        Arc::clone(&meter)
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
        self.meter().failed(error.fault());
        self.0.state.send_modify(|state| state.last_error = Some(error.into()));
    }

    /// It was opened with its current settings.
    pub(super) fn opened(&self, status: Arc<Status>, swapper: Swapper) {
        *locked(&self.0.status) = Some(status);
        *locked(&self.0.swapper) = Some(swapper);
        let mut specs = locked(&self.0.specs);
        (specs.proven, specs.former) = (true, None);
    }

    /// It is to start with other settings.
    pub(super) fn replaced(&self, spec: PipelineSpec) {
        self.adopted(spec);
        self.begins();
    }

    /// It has other settings, for when it starts next.
    pub(super) fn adopted(&self, spec: PipelineSpec) {
        let mut specs = locked(&self.0.specs);
        let before = std::mem::replace(&mut specs.current, spec);
        if std::mem::take(&mut specs.proven) {
            specs.former = Some(before);
        }
        drop(specs);
        self.change(|state| {
            state.generation += 1;
            true
        });
    }

    /// Somebody wishes that it comes to rest.
    pub(super) fn wishes(&self, pause: Pause) {
        *locked(&self.0.pause) = Some(pause);
    }

    /// It is to start with the settings that it has.
    pub(super) fn begins(&self) {
        *locked(&self.0.ended_with) = None;
        *locked(&self.0.pause) = None;
        self.enter(Phase::Starting);
    }

    /// It has ended, with a fault or in order, or has come to rest as somebody wished: also if what
    /// it was busy with failed in passing.
    pub(super) fn comes_to_its_end(&self, fault: Option<Fault>) {
        let passes = fault.is_none_or(Fault::may_pass);
        match locked(&self.0.pause).take().filter(|_| passes) {
            Some(pause) => self.change(|state| {
                state.pause(pause);
                true
            }),
            None => {
                *locked(&self.0.ended_with) = fault;
                self.enter(if fault.is_some() { Phase::Failed } else { Phase::Stopped });
            }
        }
    }

    /// It goes on with other settings.
    pub(super) fn swapped(&self, spec: PipelineSpec) {
        locked(&self.0.specs).current = spec;
        self.change(|state| {
            state.generation += 1;
            true
        });
    }

    /// The rest of one that is paused ends with the host, or with its file.
    pub(super) fn rests_no_longer(&self) {
        self.change(|state| state.state == Phase::Paused && state.enter(Phase::Stopped));
    }

    /// Tells if there are settings to go back to.
    pub(super) fn has_former(&self) -> bool {
        locked(&self.0.specs).former.is_some()
    }

    /// Goes back to the settings before.
    pub(super) fn go_back(&self) {
        let mut specs = locked(&self.0.specs);
        if let Some(former) = specs.former.take() {
            (specs.current, specs.proven) = (former, true);
        }
    }

    /// The embedders of these settings, which outlive this run.
    pub(super) fn embedders(&self) -> OpenEmbedders {
        locked(&self.0.embedders).clone()
    }

    pub(super) fn keep_embedders(&self, embedders: OpenEmbedders) {
        *locked(&self.0.embedders) = embedders;
    }
}

impl fmt::Debug for PipelineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineHandle").field("name", &self.0.name).field("state", &self.state()).finish()
    }
}
