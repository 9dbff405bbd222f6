//! The host: opens the parts that a pipeline file names, and runs pipelines side by side.

mod supervisor;

mod handle;

mod keeper;

mod state;

mod spec;

mod steer;

mod graph;

mod plan;

mod letter_box;

mod letter_counts;

mod reload;

mod embedders;

mod check;

mod feedback;

mod fit;

mod grants;

mod objections;

mod tenants;

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use tokio::sync::Semaphore;

use crate::components::PipelineSettings;
use crate::embedder::{self, Embedder};
use crate::error::{Error, Fault, Result};
use crate::meter::{PipelineMeter, TenantMeter};
use crate::pipeline::{Meetings, Outlet, Pipeline, Stage, Tolerance, Unembedded};
use crate::sink::SinkKind;
use crate::transform::{Compiler, Engine, Resources, Tenant};

use self::embedders::OpenEmbedders;
use self::grants::Scope;

pub use graph::{GraphSink, PipelineGraph};
pub use handle::PipelineHandle;
pub use letter_box::{AskedReplay, Letter, LetterBox, LetterFilter, Letters, Settled, StoredLetter};
pub use plan::{CarriedOut, Intention, PlannedStep, ReloadPlan, ReloadProblem};
pub use reload::{Outcome, Reloaded};
pub use spec::PipelineSpec;
pub use state::{LastError, Pause, Phase, PipelineState};
pub use supervisor::{Observer, Restart, Supervisor};
pub use tenants::{Admitted, FileReading, Refusal, Tenants};

/// The parts that pipelines of one process share: the engine that runs the handlers, and the places
/// for compiling. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    engine: Engine,
    /// One for each pipeline whose components may be compiled at a time: that takes memory, and all
    /// of a core.
    compiling: Arc<Semaphore>,
}

/// Embedders that are open, by their names.
pub type Embedders = IndexMap<String, Arc<dyn Embedder>>;

/// Whose a pipeline is, and what the host lends it.
#[derive(Clone)]
pub struct Owner {
    /// None for the host's own user, each of whose handlers is on its own.
    tenant: Option<Tenant>,
    /// Name, grants and folder of the tenant; none if the owner may do everything.
    scope: Option<Arc<Scope>>,
    /// One pipeline of a tenant is compiled at a time, so that it cannot take the places of others.
    compiling: Arc<Semaphore>,
    /// Embedders that the host lends it.
    pub embedders: Embedders,
}

impl Owner {
    /// The owner of pipelines where there is no host file: one tenant, without a name, that may do
    /// everything.
    pub fn of_everything() -> Self {
        let compiling = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { tenant: None, scope: None, compiling, embedders: Embedders::new() }
    }

    /// The tenant's name.
    pub fn name(&self) -> Option<&str> {
        self.scope.as_ref().map(|scope| scope.name.as_str())
    }

    /// All that its handlers have used; none without a host file.
    pub fn meter(&self) -> Option<&TenantMeter> {
        self.tenant.as_ref().map(|tenant| &**tenant.meter())
    }

    /// Linear memory that its handlers hold now, and that they may have together; in bytes.
    pub fn memory(&self) -> Option<(usize, usize)> {
        self.tenant.as_ref().map(Tenant::memory)
    }

    /// Its part of the CPU time, in proportion to those of others.
    pub fn weight(&self) -> Option<u32> {
        self.scope.as_ref().map(|scope| scope.granted.weight)
    }

    /// Lines per second that the log takes about its pipelines; none for no bound.
    pub fn log_lines(&self) -> Option<u32> {
        self.scope.as_ref().map(|scope| scope.granted.log_lines)
    }

    /// Tells if both stand for the same tenant with the same grants.
    fn is(&self, other: &Self) -> bool {
        match (&self.scope, &other.scope) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Host {
    /// Starts the engine, with a compiler in this process. Compiled handlers are kept in the user's
    /// cache folder, so that a second start is quick.
    ///
    /// # Errors
    /// `Environment` if the engine does not start or the folder cannot be used.
    pub fn new() -> Result<Self> {
        Self::with(&Resources { cache_dir: cache_folder().as_deref(), ..Resources::default() })
    }

    /// As `new`, for the program `pgstream-host` itself: components are compiled in processes of
    /// their own.
    ///
    /// # Errors
    /// Those of `new`.
    pub fn of_this_program() -> Result<Self> {
        let compiler = Compiler::this_program();
        Self::with(&Resources { cache_dir: cache_folder().as_deref(), compiler, ..Resources::default() })
    }

    /// As `new`, with as much of the machine as `resources` says.
    pub fn with(resources: &Resources<'_>) -> Result<Self> {
        // Two at least, or whoever has a component that takes long to compile would hold up all others.
        let at_once = Arc::new(Semaphore::new(resources.cores.max(2)));
        Ok(Self { engine: Engine::with(resources)?, compiling: at_once })
    }

    /// The engine that runs the handlers.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Opens everything that `settings` names: embedders, handlers, sinks, then the source, which
    /// sets up publication and slot. In this order, so that a mistake is found before anything is
    /// made on the server.
    pub async fn open(&self, settings: &PipelineSettings, owner: &Owner) -> Result<Pipeline> {
        self.open_with(settings, owner, &mut OpenEmbedders::default(), meter_of(settings)).await
    }

    /// As `open`, with the embedders that the pipeline had before. They remember what was paid for.
    async fn open_with(
        &self,
        settings: &PipelineSettings,
        owner: &Owner,
        embedders: &mut OpenEmbedders,
        meter: Arc<PipelineMeter>,
    ) -> Result<Pipeline> {
        let opened = async {
            feedback::refuse(settings)?;
            fit::refuse(settings)?;
            let own = embedders.of(settings)?;
            let stages = self.open_stages(settings, owner, &own, &meter).await?;
            let mut outlets = Vec::new();
            for (name, sink) in &settings.sinks {
                outlets.push(open_outlet(settings, name, &**sink).await?);
            }
            let fed = outlets.iter().filter_map(|outlet| {
                let feeding = outlet.commands_of.iter().filter_map(|&index| stages.get(index));
                check::fed(&outlet.name, outlet.sink.marks(), feeding)
            });
            let (source, meter_of_source) = (&*settings.source, Arc::clone(&meter.source));
            let source = source.open(&settings.name, fed.collect(), meter_of_source).await?;
            Ok(Pipeline::new(&settings.name, source, stages, outlets).metered(meter))
        };
        opened.await.map_err(|error| at_start(error).within(format!("pipeline `{}` cannot start", settings.name)))
    }

    /// Compiles and starts the handlers, on a thread of their own: that takes seconds, and nobody
    /// else may wait for it.
    async fn open_stages(
        &self,
        settings: &PipelineSettings,
        owner: &Owner,
        own: &Embedders,
        meter: &Arc<PipelineMeter>,
    ) -> Result<Vec<Stage>> {
        let own_turn = Arc::clone(&owner.compiling).acquire_owned().await;
        let turn = Arc::clone(&self.compiling).acquire_owned().await;
        let (engine, settings, owner, own) = (self.engine.clone(), settings.clone(), owner.clone(), own.clone());
        let (span, meter) = (tracing::Span::current(), Arc::clone(meter));
        let opened = tokio::task::spawn_blocking(move || {
            let _turns = (own_turn, turn);
            span.in_scope(|| open_stages(&engine, &settings, &owner, own, &meter))
        });
        opened.await.unwrap_or_else(|panic| Err(Error::new(Fault::Bug, "a handler cannot be opened").because(panic)))
    }
}

fn open_stages(
    engine: &Engine,
    settings: &PipelineSettings,
    owner: &Owner,
    mut embedders: Embedders,
    meter: &PipelineMeter,
) -> Result<Vec<Stage>> {
    // Again at each start: the tenant may have moved what the paths lead to.
    if let Some(scope) = &owner.scope {
        scope.look_over(&mut settings.clone()).into_result()?;
    }
    embedders.extend(owner.embedders.clone());
    let stages = settings.transforms.iter().zip(&meter.transforms).map(|((name, handler), meter)| {
        let lent: Embedders = handler
            .embedders()
            .iter()
            .filter_map(|name| Some((name.clone(), Arc::clone(embedders.get(name)?))))
            .collect();
        let tenant = owner.tenant.clone().unwrap_or_else(|| Tenant::lone(engine));
        let transform = handler.open(engine, &tenant, name, lent.clone(), Arc::clone(meter))?;
        let output = rejected_output(name);
        let keeps_rejected = settings.sinks.values().any(|sink| sink.inputs().contains(&output));
        Ok(Stage {
            name: name.clone(),
            transform,
            workers: handler.workers(),
            embedders: lent,
            keeps_rejected,
            tolerance: Tolerance::new(handler.rejections()),
            meetings: Meetings::new(handler.ids()),
            unembedded: Unembedded::default(),
            admissions: Vec::new(),
        })
    });
    stages.collect()
}

/// All that counts for a pipeline with these settings.
fn meter_of(settings: &PipelineSettings) -> Arc<PipelineMeter> {
    let (transforms, sinks) = (settings.transforms.keys(), settings.sinks.keys());
    PipelineMeter::new(transforms.map(String::as_str), sinks.map(String::as_str))
}

/// Finds the mistakes in the settings that can be told without any server. Returns every failure.
pub fn review(settings: &PipelineSettings) -> Vec<Error> {
    let mut errors = Vec::new();
    errors.extend(feedback::refuse(settings).err());
    errors.extend(fit::refuse(settings).err());
    errors.extend(open_embedders(settings).err());
    let read = settings.source.claim(&settings.name);
    errors.extend(read.err().map(|error| error.at(format!("source `{}`", settings.source_name))));
    for (name, sink) in &settings.sinks {
        let read = sink.parse();
        errors.extend(read.err().map(|error| error.at(format!("sink `{name}`"))));
    }
    errors
}

/// Makes a failure that would be waited out one that is said at once. Before anything has ever
/// worked, what cannot be reached is more often mistyped than down for a moment. Once a pipeline
/// runs, the same failure is waited out.
fn at_start(error: Error) -> Error {
    match error.fault() {
        Fault::Transient => error.blame(Fault::Environment),
        _ => error,
    }
}

/// Opens the embedder that a sink's vectors named `vector` are made with, to embed a query the same
/// way. It may be one of those that are `lent` to the pipeline.
pub fn embedder_of(
    settings: &PipelineSettings,
    lent: &Embedders,
    sink: &str,
    vector: &str,
) -> Result<Arc<dyn Embedder>> {
    let Some(inputs) = settings.sinks.get(sink).map(|sink| sink.inputs()) else {
        let known: Vec<&str> = settings.sinks.keys().map(String::as_str).collect();
        return Err(Error::new(Fault::Config, format!("pipeline `{}` has no sink `{sink}`", settings.name))
            .help(format!("its sinks are: {}", known.join(", "))));
    };
    let feeding = settings.transforms.iter().filter(|(name, _)| inputs.contains(name));
    let names: Vec<&String> = feeding.flat_map(|(_, transform)| transform.embedders()).collect();
    let chosen = names.iter().find(|name| ***name == vector).or(names.first());
    if let Some(lent) = chosen.and_then(|name| lent.get(*name)) {
        return Ok(Arc::clone(lent));
    }
    let Some((name, embedder)) = chosen.and_then(|name| settings.embedders.get_key_value(*name)) else {
        return Err(Error::new(
            Fault::Config,
            format!("no embedder feeds sink `{sink}`, so a question cannot be embedded"),
        )
        .help("add `embedders: [name]` to the transform that feeds it"));
    };
    embedder::open(name, &**embedder)
}

fn open_embedders(settings: &PipelineSettings) -> Result<Embedders> {
    let opened =
        settings.embedders.iter().map(|(name, embedder)| Ok((name.clone(), embedder::open(name, &**embedder)?)));
    opened.collect()
}

async fn open_outlet(settings: &PipelineSettings, name: &str, sink: &dyn SinkKind) -> Result<Outlet> {
    let opened = sink.open(&settings.name, name).await.map_err(|error| error.at(format!("sink `{name}`")))?;
    let stages = |wanted: &dyn Fn(&str) -> String| {
        let indices = settings.transforms.keys().enumerate();
        indices.filter(|(_, stage)| sink.inputs().contains(&wanted(stage))).map(|(index, _)| index).collect()
    };
    Ok(Outlet {
        name: name.to_owned(),
        sink: opened,
        batch: sink.batch(),
        commands_of: stages(&str::to_owned),
        rejected_of: stages(&rejected_output),
    })
}

/// The name under which a sink takes what a transform rejects.
fn rejected_output(transform: &str) -> String {
    format!("{transform}.rejected")
}

/// Returns the folder for the user's compiled handlers; none without a cache folder or a home.
pub fn cache_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("pgstream-host"))
}
