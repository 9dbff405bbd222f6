//! `wasi:http` for handlers that were granted hosts: the request is checked here, and the host
//! sends it.
//!
//! A request must name a granted scheme, host and port, letter for letter; what is sent is then
//! built from the grant, never from the guest's text. Names are looked up by us and only addresses
//! that were checked are dialled (`dial`). Credentials are added after the guest let go of the
//! request (`gate`), and each call has its budget (`exchange`).

mod added;
mod address;
mod desk;
mod dial;
mod exchange;
mod gate;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use reqwest::{Client, Url};
use tokio::sync::Semaphore;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::voice::Voice;
use crate::config::model::{HttpHost, HttpLimits, Origin};
use crate::error::{Error, Fault, Result};
use added::Added;
use exchange::Budget;
use gate::Gate;

pub use added::is_of_the_connection;

/// The interfaces that a handler with grants may import.
pub(super) const INTERFACES: [&str; 2] = ["types", "outgoing-handler"];

/// Bytes of a header map in memory: more than any server takes.
const FIELD_BYTES: usize = 32 << 10;

/// The hosts that a handler may reach.
pub(super) struct Grants {
    handler: Arc<str>,
    hosts: Vec<Arc<Grant>>,
    limits: HttpLimits,
    /// A place for each request that may be under way.
    places: Arc<Semaphore>,
}

/// One of them, and the way there.
struct Grant {
    origin: Origin,
    url: Url,
    /// The headers that go with each request.
    added: Added,
    client: Client,
}

impl Grants {
    /// Prepares the way to each of these hosts. Nothing is looked up yet.
    pub(super) fn open(
        handler: &Arc<str>,
        hosts: &[HttpHost],
        limits: &HttpLimits,
        places: &Arc<Semaphore>,
    ) -> Result<Self> {
        let hosts = hosts.iter().map(|host| {
            let grant = Grant::open(host).map(Arc::new);
            grant.map_err(|error| error.at(format!("`transforms.{handler}.allow.http`")))
        });
        let hosts = hosts.collect::<Result<_>>()?;
        let (handler, places) = (Arc::clone(handler), Arc::clone(places));
        Ok(Self { handler, hosts, limits: limits.clone(), places })
    }

    /// Tells if the handler may import `wasi:http` at all.
    pub(super) fn any(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Returns the time that a call may wait in all.
    pub(super) fn patience(&self) -> std::time::Duration {
        self.limits.wait.0
    }

    fn find(&self, origin: &Origin) -> Option<&Arc<Grant>> {
        self.hosts.iter().find(|grant| grant.origin == *origin)
    }
}

impl Grant {
    fn open(host: &HttpHost) -> Result<Self> {
        let origin = &host.host;
        let bug = |why: &'static str| Error::new(Fault::Bug, format!("`{origin}` cannot be reached: {why}"));
        if let Some(why) = origin.address().and_then(|address| address::refused(address, &host.private)) {
            let address = origin.address().map_or(String::new(), |address| address.to_string());
            return Err(Error::new(
                Fault::Config,
                format!("`{origin}` is {why}, which a handler reaches only by its address"),
            )
            .help(format!("write `{{ host: \"{origin}\", private: [\"{address}\"] }}` if that is meant")));
        }
        let mut added = Added::default();
        for (name, value) in &host.headers {
            let wrong = || Error::new(Fault::Config, format!("`{name}` of `{origin}` cannot be a header"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            added.insert(name, HeaderValue::from_str(value.expose()).map_err(|_| wrong())?);
        }
        let url = format!("{}://{}:{}/", origin.scheme(), origin.host, origin.port);
        Ok(Self {
            url: url.parse().map_err(|_| bug("it makes no URL"))?,
            client: dial::client(host)
                .map_err(|error| Error::new(Fault::Environment, "cannot set up TLS").because(error.without_url()))?,
            origin: origin.clone(),
            added,
        })
    }
}

/// The state of `wasi:http` in one instance.
pub(super) struct Session {
    context: WasiHttpCtx,
    gate: Gate,
}

impl Session {
    pub(super) fn new(grants: Arc<Grants>, voice: Voice) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELD_BYTES);
        Self { context, gate: Gate::new(grants, voice) }
    }

    /// A call begins: with a budget of its own, and to blame for what it does itself.
    pub(super) fn begin(&mut self) {
        self.gate.take_refusal();
        self.gate.budget = Some(Budget::new(&self.gate.grants.limits));
    }

    /// The call is over, and with it everything that was still under way.
    pub(super) fn end(&mut self) {
        if let Some(budget) = self.gate.budget.take() {
            budget.end();
        }
    }

    /// The last request of the call that was refused, in full.
    pub(super) fn take_refusal(&mut self) -> Option<Error> {
        self.gate.take_refusal()
    }

    pub(super) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.gate, table, ctx: &mut self.context }
    }
}

/// Links `wasi:http`, for handlers with grants only.
pub(super) fn link<T: WasiHttpView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(linker)
}
