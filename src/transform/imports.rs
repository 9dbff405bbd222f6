//! What a handler may call: `log`, `config` and `embeddings`, and the state of an instance that they work on.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::{Either, FutureExt, select};
use indexmap::IndexMap;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::{StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::bindings::pgstream::host::{config, embeddings, log, types};
use super::columns::Columns;
use super::cpu::{Spent, Turn, thread_time};
use super::http::{Grants, Session};
use super::limits::Meter;
use super::tenant::Tenant;
use super::voice::{Level, Voice};
use super::words::presentable;
use super::{Output, wasi};
use crate::config::model::Ids;
use crate::embedder::Embedder;
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Naming, Relation};
use crate::meter::TransformMeter;

/// Texts in one `embed`: the host holds all their vectors at once.
const TEXTS: usize = 4096;

/// How often a call may ask for embeddings: a few times, and a few times for each event of its batch. Waiting costs the guest
/// no time, so nothing else would end a loop of such calls, which costs its owner's money.
const EMBEDS: u64 = 64;
const EMBEDS_PER_EVENT: u64 = 8;

/// As many texts in each of them on average; the chunks of a long document are some hundreds.
const TEXTS_PER_CALL: u64 = 16 * TEXTS as u64;
const TEXTS_PER_EVENT: u64 = 512;

/// Things of the host (streams, clocks, random sources) that an instance may hold at once. Each costs host memory that no
/// limit of the guest's own memory counts; a runtime holds some dozen.
pub(super) const HANDLES: usize = 4096;

/// What a key of `config` begins with that asks for what ids of a table of the batch begin with: `pgstream:id/public.documents`,
/// with `~1` for a dot in the schema's name, and `~0` for a tilde.
const ID_PREFIX: &str = "pgstream:id/";

/// Bytes of a name that a guest made up and that is repeated in an error.
const NAME_BYTES: usize = 100;

/// What all instances of a handler share.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) embedders: IndexMap<String, Arc<dyn Embedder>>,
    pub(super) deadline: Duration,
    pub(super) columns: Columns,
    /// How ids are made.
    pub(super) ids: Ids,
    pub(super) tenant: Tenant,
    pub(super) grants: Arc<Grants>,
    pub(super) meter: Arc<TransformMeter>,
}

/// The call that an instance is busy with.
pub(super) struct Call {
    /// Where the caller's runtime does the waiting.
    pub(super) runtime: Handle,
    /// Where the answer goes; closed when nobody waits for it any more.
    pub(super) reply: oneshot::Sender<Result<Output>>,
}

/// The state of one instance.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) voice: Voice,
    pub(super) meter: Meter,
    /// The slot that the guest computes in.
    pub(super) turn: Turn,
    pub(super) call: Option<Call>,
    /// The thread's CPU time at which the call began.
    began: Duration,
    /// Events of the call's batch.
    events: usize,
    /// Tables of the batch whose ids begin with something.
    named: Vec<Arc<Relation>>,
    /// What the call may still ask of embedders.
    quota: EmbedQuota,
    /// What the guest was told in few words when an `embed` failed; it may well return just that.
    embed_failure: Option<Error>,
    /// How long the call has waited for answers and alarms.
    waited: Duration,
    pub(super) http: Session,
    wasi: WasiCtx,
    table: ResourceTable,
}

/// How many requests and texts a call may still send to embedders.
#[derive(Clone, Copy, Debug, Default)]
struct EmbedQuota {
    calls: u64,
    texts: u64,
}

impl EmbedQuota {
    fn of(events: usize) -> Self {
        let events = events as u64;
        Self { calls: EMBEDS + EMBEDS_PER_EVENT * events, texts: TEXTS_PER_CALL + TEXTS_PER_EVENT * events }
    }

    /// What is left after one more call with so many texts; none if there is not enough.
    fn less(self, texts: usize) -> Option<Self> {
        Some(Self { calls: self.calls.checked_sub(1)?, texts: self.texts.checked_sub(texts as u64)? })
    }
}

/// Why the host ended a call. Carried through the guest's frames as the cause of the trap.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("the call ran {ran:?}")]
    Deadline { ran: Duration },
    #[error("a call with {events} events may ask {} times, for {} texts", EmbedQuota::of(*.events).calls, EmbedQuota::of(*.events).texts)]
    Embeddings { events: usize },
    #[error("the call waited {limit:?}")]
    Patience { limit: Duration },
    #[error("nobody waits for the answer any more")]
    Abandoned,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>, voice: Voice, memory: usize) -> Self {
        Self {
            turn: Turn::new(Arc::clone(&shared.tenant.share)),
            meter: Meter::new(memory, Arc::clone(&shared.tenant.memory), Arc::clone(&shared.meter)),
            http: Session::new(Arc::clone(&shared.grants), voice.clone()),
            shared,
            waited: Duration::ZERO,
            call: None,
            began: thread_time(),
            events: 0,
            named: Vec::new(),
            quota: EmbedQuota::default(),
            embed_failure: None,
            wasi: wasi::context(&voice),
            table: handles(),
            voice,
        }
    }

    /// Starts the clock of a call with `batch`.
    pub(super) fn begin(&mut self, call: Call, batch: &Batch) {
        let events = batch.events().len();
        (self.events, self.quota) = (events, EmbedQuota::of(events));
        let named = |relation: &&Arc<Relation>| matches!(relation.naming, Naming::Named(_));
        self.named.clear();
        if self.shared.ids == Ids::Auto {
            self.named.extend(batch.relations().iter().filter(named).cloned());
        }
        self.call = Some(call);
        self.began = thread_time();
        self.embed_failure = None;
        self.waited = Duration::ZERO;
        self.http.begin();
        self.meter.take_refused();
        self.voice.take_last_words();
    }

    /// Whether the guest may go on. Time is the thread's own: neither waiting for an embedder nor other guests count.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if self.call.as_ref().is_some_and(|call| call.reply.is_closed()) {
            return Err(Stop::Abandoned);
        }
        let ran = thread_time().saturating_sub(self.began);
        if ran > self.shared.deadline { Err(Stop::Deadline { ran }) } else { Ok(()) }
    }

    /// Waits until the guest may compute. Nothing of the wait counts as the guest's time.
    pub(super) fn take_turn(&mut self) -> Result<(), Stop> {
        self.turn.take(self.call.as_mut())
    }

    /// Leaves its turn to others, and counts what it has used.
    pub(super) fn give_up_turn(&mut self) {
        self.turn.give_up();
        let Spent { ran, waited } = self.turn.take_spent();
        let (handler, tenant) = (&self.shared.meter, &self.shared.tenant.meter);
        handler.cpu.add(ran);
        tenant.cpu.add(ran);
        if !waited.is_zero() {
            handler.cpu_wait.add(waited);
            tenant.cpu_wait.add(waited);
        }
    }

    /// What every tick does to a guest that computes.
    pub(super) fn tick(&mut self) -> Result<(), Stop> {
        self.check()?;
        self.turn.tick(self.call.as_mut())
    }

    /// The error of the last `embed` in full, if it is what the guest's `text` repeats.
    pub(super) fn take_embed_failure(&mut self, text: &str) -> Option<Error> {
        self.embed_failure.take_if(|error| text.contains(&error.to_string()))
    }

    /// Waits for the embedder on the caller's runtime, until the caller goes away.
    fn wait(&mut self, embedder: &dyn Embedder, texts: &[&str]) -> wasmtime::Result<Result<crate::embedder::Vectors>> {
        let Some(Call { runtime, reply }) = &mut self.call else {
            return Ok(Err(Error::new(Fault::Handler, "`embed` cannot be called while the component starts")));
        };
        self.turn.give_up();
        let vectors = runtime.block_on(async {
            match select(embedder.embed(texts), pin!(reply.closed())).await {
                Either::Left((vectors, _)) => Ok(vectors),
                Either::Right(_) => Err(Stop::Abandoned),
            }
        });
        let vectors = vectors.map_err(wasmtime::Error::new)?;
        self.take_turn().map_err(wasmtime::Error::new)?;
        Ok(vectors)
    }

    /// Lets the guest wait, on the caller's runtime: until the caller goes away, or the call has waited for too long in all.
    pub(super) fn wait_for<T>(&mut self, waiting: impl AsyncFnOnce(&mut ResourceTable) -> T) -> wasmtime::Result<T> {
        let Some(Call { runtime, reply }) = &mut self.call else {
            let done = waiting(&mut self.table).now_or_never();
            return done.ok_or_else(|| wasmtime::Error::msg("a component cannot wait while it starts"));
        };
        let limit = self.shared.grants.patience();
        let (began, left) = (Instant::now(), limit.saturating_sub(self.waited));
        let done = runtime.block_on(async {
            let mut waiting = pin!(waiting(&mut self.table));
            // Most of what is asked for is there, and then nobody else needs to have a turn.
            if let Poll::Ready(done) = futures::poll!(&mut waiting) {
                return Ok(done);
            }
            self.turn.give_up();
            tokio::select! {
                biased;
                () = reply.closed() => Err(Stop::Abandoned),
                done = waiting => Ok(done),
                () = tokio::time::sleep(left) => Err(Stop::Patience { limit }),
            }
        });
        self.waited += began.elapsed();
        let done = done.map_err(wasmtime::Error::new)?;
        self.take_turn().map_err(wasmtime::Error::new)?;
        Ok(done)
    }

    /// The same for what a stream does.
    pub(super) fn stream<T>(
        &mut self,
        waiting: impl AsyncFnOnce(&mut ResourceTable) -> StreamResult<T>,
    ) -> StreamResult<T> {
        self.wait_for(waiting).map_err(StreamError::Trap)?
    }

    /// Whether waits take time: in a call of a handler that may wait for answers. For others they are over at once.
    pub(super) fn may_wait(&self) -> bool {
        self.call.is_some() && self.shared.grants.any()
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    fn refuse(&mut self, error: Error) -> types::Failure {
        let text = error.to_string();
        let failure = match error.fault() {
            Fault::Transient => types::Failure::Retry(text),
            _ => types::Failure::Stop(text),
        };
        self.embed_failure = Some(error);
        failure
    }
}

fn handles() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES);
    table
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.voice.say(level, &message);
        Ok(())
    }
}

impl config::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        let naming = key.strip_prefix(ID_PREFIX).and_then(|table| {
            let (schema, table) = table.split_once('.')?;
            let schema = schema.replace("~1", ".").replace("~0", "~");
            let named = self.named.iter().find(|relation| relation.schema == schema && relation.table == table)?;
            Some(&named.naming)
        });
        if let Some(Naming::Named(prefix)) = naming {
            return Ok(Some(prefix.to_string()));
        }
        Ok(self.shared.config.get(&key).cloned())
    }
}

impl embeddings::Host for State {
    fn embed(
        &mut self,
        embedder: String,
        texts: Vec<String>,
    ) -> wasmtime::Result<Result<embeddings::Vectors, types::Failure>> {
        let shared = Arc::clone(&self.shared);
        let Some(model) = shared.embedders.get(&embedder) else {
            return Ok(Err(self.refuse(shared.no_such_embedder(&embedder))));
        };
        if texts.len() > TEXTS {
            let error = Error::new(Fault::Handler, format!("at most {TEXTS} texts can be embedded at once"))
                .help("split them, or answer with `embedding.text`, which the host batches by itself");
            return Ok(Err(self.refuse(error)));
        }
        let Some(quota) = self.quota.less(texts.len()) else {
            return Err(wasmtime::Error::new(Stop::Embeddings { events: self.events }));
        };
        self.quota = quota;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        match self.wait(model.as_ref(), &texts)? {
            Err(error) => Ok(Err(self.refuse(error))),
            Ok(vectors) if vectors.dimension > 0 && vectors.rows().len() != texts.len() => {
                let error =
                    Error::new(Fault::Bug, format!("embedder `{embedder}` gave another number of vectors than texts"));
                Ok(Err(self.refuse(error)))
            }
            Ok(vectors) => Ok(Ok(embeddings::Vectors { dimension: vectors.dimension as u32, data: vectors.data })),
        }
    }
}

impl types::Host for State {}

impl Shared {
    fn no_such_embedder(&self, asked: &str) -> Error {
        let (name, asked) = (&self.name, presentable(asked, NAME_BYTES));
        let known: Vec<String> = self.embedders.keys().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        Error::new(Fault::Handler, format!("handler `{name}` has no embedder `{asked}`, {known}"))
            .help(format!("add `{asked}` to `transforms.{name}.embedders`, or let the handler use one that is there"))
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(&mut self.table)
    }
}
