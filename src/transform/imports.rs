//! `State`: the state of an instance, and the functions that a handler may call and that work on
//! it: `log`, `config` and `embeddings`.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::bindings::pgstream::host::{config, embeddings, log, types};
use super::call::Call;
use super::columns::Columns;
use super::guest::{Guest, GuestState, Rights};
use super::voice::{Level, Voice};
use super::words::presentable;
use super::{Output, wasi};
use crate::config::model::Ids;
use crate::embedder::Embedder;
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Naming, Relation};

/// Texts in one `embed`: the host holds all their vectors at once.
const TEXTS: usize = 4096;

/// The largest number of times that a call may ask for embeddings: a few times, and a few times for
/// each event of its batch. Waiting costs the guest no time, so nothing else would end a loop of
/// such calls, which costs its owner's money.
const EMBEDS: u64 = 64;
const EMBEDS_PER_EVENT: u64 = 8;

/// As many texts in each of them on average; the chunks of a long document are some hundreds.
const TEXTS_PER_CALL: u64 = 16 * TEXTS as u64;
const TEXTS_PER_EVENT: u64 = 512;

/// The beginning of a key of `config` that asks for the beginning of a table's ids. The key goes on
/// with the table, which must be in the batch: `pgstream:id/public.documents`, with `~1` for a dot
/// in the schema's name, and `~0` for a tilde.
const ID_PREFIX: &str = "pgstream:id/";

/// Bytes of a name that a guest made up and that is repeated in an error.
const NAME_BYTES: usize = 100;

/// The things that all instances of a handler share.
pub(super) struct Shared {
    pub(super) config: BTreeMap<String, String>,
    pub(super) embedders: IndexMap<String, Arc<dyn Embedder>>,
    pub(super) columns: Columns,
    /// The way in which ids are made.
    pub(super) ids: Ids,
    /// The acts that the sandbox lets it do.
    pub(super) rights: Arc<Rights>,
}

/// The state of one instance.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) guest: GuestState<Output>,
    /// Events of the call's batch.
    events: usize,
    /// Tables of the batch whose ids begin with something.
    named: Vec<Arc<Relation>>,
    /// The number of requests and texts that the call may still send to embedders.
    quota: EmbedQuota,
    /// The error of the `embed` that failed last. The guest was told of it in few words, and may
    /// well return just those.
    embed_failure: Option<Error>,
}

/// The number of requests and texts that a call may still send to embedders.
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

    /// Returns the rest after one more call with so many texts; None if there is not enough.
    fn less(self, texts: usize) -> Option<Self> {
        Some(Self { calls: self.calls.checked_sub(1)?, texts: self.texts.checked_sub(texts as u64)? })
    }
}

/// The call asked for more embeddings than a batch of its size needs. Carried through the guest's
/// frames as the cause of the trap.
#[derive(Debug, thiserror::Error)]
#[error("a call with {events} events may ask {} times, for {} texts", EmbedQuota::of(*.events).calls, EmbedQuota::of(*.events).texts)]
pub(super) struct EmbedExcess {
    events: usize,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>, voice: Voice, memory: usize) -> Self {
        Self {
            guest: GuestState::new(Arc::clone(&shared.rights), voice.clone(), wasi::context(&voice), memory),
            shared,
            events: 0,
            named: Vec::new(),
            quota: EmbedQuota::default(),
            embed_failure: None,
        }
    }

    /// Starts the clock of a call with `batch`.
    pub(super) fn begin(&mut self, call: Call<Output>, batch: &Batch) {
        let events = batch.events().len();
        (self.events, self.quota) = (events, EmbedQuota::of(events));
        let named = |relation: &&Arc<Relation>| matches!(relation.naming, Naming::Named(_));
        self.named.clear();
        if self.shared.ids == Ids::Auto {
            self.named.extend(batch.relations().iter().filter(named).cloned());
        }
        self.embed_failure = None;
        self.guest.begin(call);
    }

    /// The error of the last `embed` in full, if it is what the guest's `text` repeats.
    pub(super) fn take_embed_failure(&mut self, text: &str) -> Option<Error> {
        self.embed_failure.take_if(|error| text.contains(&error.to_string()))
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

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.guest.voice.say(level, &message);
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
            return Err(wasmtime::Error::new(EmbedExcess { events: self.events }));
        };
        self.quota = quota;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let Some(embedded) = self.guest.wait_outside(model.embed(&texts))? else {
            let error = Error::new(Fault::Handler, "`embed` cannot be called while the component starts");
            return Ok(Err(self.refuse(error)));
        };
        match embedded {
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
        let (name, asked) = (&self.rights.name, presentable(asked, NAME_BYTES));
        let known: Vec<String> = self.embedders.keys().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        Error::new(Fault::Handler, format!("handler `{name}` has no embedder `{asked}`, {known}"))
            .help(format!("add `{asked}` to `transforms.{name}.embedders`, or let the handler use one that is there"))
    }
}

impl Guest for State {
    type Answer = Output;

    fn guest(&mut self) -> &mut GuestState<Output> {
        &mut self.guest
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.guest.wasi()
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.guest.wasi_http()
    }
}
