//! A `Transform`: batches of events through a WebAssembly component, commands out.

mod artifact;
mod bindings;
mod cache;
mod call;
mod columns;
pub mod compiler;
mod cpu;
mod effort;
mod engine;
mod guest;
mod http;
mod imports;
pub mod inspect;
mod instance;
mod kind;
mod lift;
mod limits;
mod load;
mod lower;
mod place;
mod settings;
mod tenant;
mod voice;
mod wait;
mod wasi;
mod words;
mod worker;

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use indexmap::IndexMap;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::command::Command;
use crate::embedder::Embedder;
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::meter::TransformMeter;

pub use compiler::Compiler;
pub use engine::{Engine, Resources};
pub use http::is_of_the_connection;
pub use kind::{TransformKind, kind};
pub use settings::WasmTransform;
pub use tenant::{Allowance, Tenant};

/// SHA-256 of the component that `settings` name, in hexadecimal, as [`Transform::hash`] answers
/// it.
///
/// # Errors
/// `Config` if it cannot be read.
pub fn hash_of(settings: &WasmTransform) -> Result<String> {
    let file = &settings.component;
    let bytes = load::read(file, settings.folder.as_deref()).map_err(|refusal| refusal.of("handler", file))?;
    Ok(load::hash(&bytes))
}

/// SHA-256 of the bytes of the component that `settings` name, to see whether it has changed. None
/// if it cannot be read.
pub fn digest_of(settings: &WasmTransform) -> Option<[u8; 32]> {
    load::read(&settings.component, settings.folder.as_deref()).ok().map(|bytes| load::digest(&bytes))
}

/// The outcome of a batch in a handler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// In the order of the events they answer. Checked: indices, finite numbers, JSON objects, ids.
    pub commands: Vec<Command>,
    /// Events that the handler refused, in their order.
    pub rejections: Vec<Rejection>,
}

/// An event that a handler refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// Index into the batch's events; checked.
    pub event: usize,
    /// The reason, in the handler's words; without control characters, of bounded length.
    pub reason: String,
}

/// A loaded handler on its threads. They end when it is dropped.
pub struct Transform {
    name: Arc<str>,
    hash: String,
    jobs: Sender<worker::Job>,
    workers: Arc<Semaphore>,
    max_output: usize,
    voice: voice::Voice,
    meter: Arc<TransformMeter>,
}

impl Transform {
    /// Reads, checks, compiles and starts the component of transform `name`. Blocks, for seconds if
    /// a large component is not in the engine's cache yet.
    ///
    /// Fails with `Config` if the file is not a handler of our world or wants more than it is
    /// granted, and with `Handler` if it fails while it starts. `embedders` are those of
    /// `settings.embedders`, by name. The handler shares the limits of `tenant` with the tenant's
    /// other handlers.
    pub fn load(
        tenant: &Tenant,
        engine: &Engine,
        name: &str,
        settings: &WasmTransform,
        embedders: IndexMap<String, Arc<dyn Embedder>>,
    ) -> Result<Self> {
        let meter = Arc::new(TransformMeter::new(name));
        Self::load_metered(tenant, engine, name, settings, embedders, meter)
    }

    /// As `load`, counting with `meter`.
    pub fn load_metered(
        tenant: &Tenant,
        engine: &Engine,
        name: &str,
        settings: &WasmTransform,
        embedders: IndexMap<String, Arc<dyn Embedder>>,
        meter: Arc<TransformMeter>,
    ) -> Result<Self> {
        let bytes = |size: crate::config::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        let limits = instance::Bounds { memory: bytes(settings.limits.memory), output: bytes(settings.limits.output) };
        let name: Arc<str> = name.into();
        let (hosts, bounds) = (&settings.allow.http, &settings.limits.http);
        let grants = Arc::new(http::Grants::open(&name, hosts, bounds, &tenant.requests)?);
        let (component, hash) = load::load(engine, &name, settings, limits.memory, &grants)?;
        let shared = Arc::new(imports::Shared {
            config: settings.config.clone(),
            embedders,
            ids: settings.ids,
            columns: columns::Columns::new(&name, settings.columns.as_deref()),
            rights: Arc::new(guest::Rights {
                name: Arc::clone(&name),
                deadline: settings.limits.deadline.0,
                tenant: tenant.clone(),
                grants,
                meter: Arc::clone(&meter),
            }),
        });
        meter.memory_limit.set(limits.memory as u64);
        meter.loaded(&hash);
        let workers = settings.workers.max(1);
        let voice = voice::Voice::new(Arc::clone(&meter), Arc::clone(&tenant.quota));
        let jobs = worker::start(instance::Maker { component, shared, limits }, workers)?;
        Ok(Self {
            name,
            hash,
            jobs,
            workers: Arc::new(Semaphore::new(workers)),
            max_output: limits.output,
            voice,
            meter,
        })
    }

    /// The transform's name in the pipeline file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the component, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The counts of it.
    pub fn meter(&self) -> &Arc<TransformMeter> {
        &self.meter
    }

    /// Bytes that a call may answer.
    pub fn max_output(&self) -> usize {
        self.max_output
    }

    /// Tells if a line that repeats words of the handler may be logged now. If so, it counts as one
    /// of the lines that the handler may log.
    pub fn may_be_quoted(&self) -> bool {
        self.voice.may_be_quoted()
    }

    /// Returns what the handler makes of `batch`. Must be called on a tokio runtime.
    ///
    /// Calls are independent of each other: up to `workers` run at once, the others wait in the
    /// order in which they came, and they may end in another order than they began. A dropped
    /// future ends its call within a tick.
    ///
    /// Fails with `Handler` if the handler trapped, went beyond a limit, broke the contract or says
    /// `stop`, and with `Transient` if it says `retry`. An embedder's error that the handler passes
    /// on keeps its own fault.
    pub async fn apply(&self, batch: Arc<Batch>) -> Result<Output> {
        self.call(batch, false).await
    }

    /// As [`apply`](Self::apply), in a new instance: what is wrong is then the batch's doing, not
    /// that of earlier ones.
    pub async fn apply_afresh(&self, batch: Arc<Batch>) -> Result<Output> {
        self.call(batch, true).await
    }

    async fn call(&self, batch: Arc<Batch>, fresh: bool) -> Result<Output> {
        let asked = Instant::now();
        let gone = || Error::new(Fault::Bug, format!("the threads of handler `{}` are gone", self.name));
        let permit = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        let call = call::Call { runtime: Handle::current(), reply };
        self.jobs.try_send(worker::Job { batch, call, fresh, asked, permit }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
