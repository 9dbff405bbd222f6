//! A `Pipeline`: one source, its transforms and its sinks, joined by a loop that keeps order and
//! confirms what is durable.

mod run;

mod rehearse;

mod handle;

mod isolate;

mod rejection;

mod bisect;

mod embed;

mod room;

mod tolerance;

mod unembedded;

mod deliver;

mod writer;

mod inbox;

mod outflow;

mod overlap;

mod narrow;

mod fork;

mod meetings;

mod progress;

mod dead_letter;

mod status;

mod swap;

mod activity;

mod stall;

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::model::SinkBatch;
use crate::embedder::Embedder;
use crate::error::Result;
use crate::meter::PipelineMeter;
use crate::sink::{Admission, Sink};
use crate::source::{Source, SourceState};
use crate::transform::Transform;
use swap::Swap;

pub use meetings::Meetings;
pub use rehearse::rehearse;
pub use status::{SinkStatus, Status, Trouble};
pub use swap::Swapper;
pub use tolerance::Tolerance;
pub use unembedded::Unembedded;

/// Waits between tries of what failed in passing: a blip goes unnoticed, and recovery from a long
/// outage is prompt.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));

/// The longest time that a stop waits for received batches to become durable, and then for sinks to
/// close. What is not durable by then comes again at the next start.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Open parts, ready to run.
pub struct Pipeline {
    name: String,
    source: Box<dyn Source>,
    stages: Vec<Stage>,
    outlets: Vec<Outlet>,
    status: Arc<Status>,
    drain_limit: Duration,
    swapper: Swapper,
    swaps: mpsc::Receiver<Swap>,
}

/// A transform with the embedders that complete its commands.
pub struct Stage {
    /// The transform's name in the pipeline file.
    pub name: String,
    /// The handler.
    pub transform: Transform,
    /// The largest number of batches with the handler at once.
    pub workers: usize,
    /// The embedders for the handler's texts, by their names.
    pub embedders: IndexMap<String, Arc<dyn Embedder>>,
    /// True if some sink takes `<name>.rejected`. If none does, the pipeline stops at the first
    /// rejection, event that breaks the handler, line that is no event, text that an embedder
    /// refuses, or command that a sink refuses: an event that nobody keeps would be lost.
    pub keeps_rejected: bool,
    /// The limit for such events, and the count of them.
    pub tolerance: Tolerance,
    /// The notices that rows of two tables are given the same ids.
    pub meetings: Meetings,
    /// The notice that points came without vectors.
    pub unembedded: Unembedded,
    /// Checks by which the sinks that it feeds admit its points; filled by [`Pipeline::new`].
    pub admissions: Vec<Admission>,
}

/// A sink and what flows into it.
pub struct Outlet {
    /// The sink's name in the pipeline file.
    pub name: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
    /// The limits at which a write closes.
    pub batch: SinkBatch,
    /// Indices of the stages whose commands it takes.
    pub commands_of: Vec<usize>,
    /// Indices of the stages whose rejected events it takes.
    pub rejected_of: Vec<usize>,
}

impl Pipeline {
    /// Joins open parts.
    pub fn new(name: &str, source: Box<dyn Source>, mut stages: Vec<Stage>, outlets: Vec<Outlet>) -> Self {
        for outlet in &outlets {
            for &index in &outlet.commands_of {
                let stage = stages.get_mut(index).zip(outlet.sink.admission());
                stage.into_iter().for_each(|(stage, admission)| stage.admissions.push(admission));
            }
        }
        let sinks = outlets.iter().map(|outlet| outlet.name.as_str());
        let meter = PipelineMeter::new(stages.iter().map(|stage| stage.name.as_str()), sinks);
        let status = Arc::new(counters(name, &stages, meter));
        let (name, (swapper, swaps)) = (name.to_owned(), Swapper::new());
        Self { name, source, stages, outlets, status, drain_limit: DRAIN_LIMIT, swapper, swaps }
    }

    /// Has a stop wait this long for what was received to become durable, and for sinks to close;
    /// 30 s if nobody says so.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    /// Has it count with `meter`, which is made for its transforms and sinks, in their order.
    pub fn metered(self, meter: Arc<PipelineMeter>) -> Self {
        Self { status: Arc::new(counters(&self.name, &self.stages, meter)), ..self }
    }

    /// Counts on from an earlier run of the pipeline.
    pub fn counting_on(mut self, before: &Status) -> Self {
        let meter = Arc::clone(self.status.meter());
        self.status = Arc::new(counters(&self.name, &self.stages, meter).counting_on(before));
        self
    }

    /// Hands other handlers to the pipeline while it runs.
    pub fn swapper(&self) -> Swapper {
        self.swapper.clone()
    }

    /// The state of the source, as it changes.
    pub fn source_state(&self) -> watch::Receiver<SourceState> {
        self.source.state()
    }

    /// Counters that go on living while the pipeline runs.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Runs until `stop` is cancelled, then finishes what was received, confirms it and closes
    /// everything.
    ///
    /// An error is final: what was not confirmed comes again at the next start.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let name = self.name.clone();
        run::run(self, stop).await.map_err(|error| error.within(format!("pipeline `{name}` stopped")))
    }
}

fn counters(name: &str, stages: &[Stage], meter: Arc<PipelineMeter>) -> Status {
    Status::new(name, stages.iter().map(|stage| stage.name.as_str()), meter)
}
