//! `GuestState`: what the sandbox keeps of one instance, whatever guest it holds: its call and
//! clock, its turn to compute, its memory, what it says, HTTP and WASI.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::FutureExt;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::p2::{StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtxView;

use super::call::{Call, Stop};
use super::cpu::{Spent, Turn, thread_time};
use super::http::{Grants, Session};
use super::limits::Meter;
use super::tenant::Tenant;
use super::voice::Voice;
use crate::error::Result;
use crate::meter::TransformMeter;

/// Things of the host (streams, clocks, random sources) that an instance may hold at once. Each
/// costs host memory that no limit of the guest's own memory counts; a runtime holds some dozen.
pub(super) const HANDLES: usize = 4096;

/// The rights of a guest, the same for all its instances.
pub(super) struct Rights {
    /// Its name, for errors and log lines.
    pub(super) name: Arc<str>,
    /// Time that a call may compute.
    pub(super) deadline: Duration,
    /// Whose it is.
    pub(super) tenant: Tenant,
    /// Hosts that it may reach.
    pub(super) grants: Arc<Grants>,
    /// The counts of its work.
    pub(super) meter: Arc<TransformMeter>,
}

/// The state of one instance of a guest that answers with `A`.
pub(super) struct GuestState<A> {
    pub(super) rights: Arc<Rights>,
    pub(super) voice: Voice,
    pub(super) meter: Meter,
    /// The slot that the guest computes in.
    turn: Turn,
    pub(super) call: Option<Call<A>>,
    /// The thread's CPU time at which the call began.
    began: Duration,
    /// The time that the call has waited for answers and alarms.
    waited: Duration,
    pub(super) http: Session,
    wasi: WasiCtx,
    table: ResourceTable,
}

/// The state of a store whose guest lives in this sandbox.
pub(super) trait Guest: WasiView + 'static {
    /// The answer to a call.
    type Answer: Send + 'static;

    /// The sandbox's part of the state.
    fn guest(&mut self) -> &mut GuestState<Self::Answer>;
}

/// Puts a store under the limits of its guest: memory, handles, `output` bytes that it may hand
/// over in a call, and time.
pub(super) fn confine<S: Guest>(store: &mut Store<S>, output: usize) {
    store.limiter(|state| &mut state.guest().meter);
    store.set_hostcall_fuel(output);
    store.set_max_component_handles(HANDLES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        store.data_mut().guest().tick().map_err(wasmtime::Error::new)?;
        Ok(UpdateDeadline::Continue(1))
    });
}

impl<A> GuestState<A> {
    pub(super) fn new(rights: Arc<Rights>, voice: Voice, wasi: WasiCtx, memory: usize) -> Self {
        Self {
            turn: Turn::new(Arc::clone(&rights.tenant.share)),
            meter: Meter::new(memory, Arc::clone(&rights.tenant.memory), Arc::clone(&rights.meter)),
            http: Session::new(Arc::clone(&rights.grants), voice.clone()),
            rights,
            waited: Duration::ZERO,
            call: None,
            began: thread_time(),
            wasi,
            table: handles(),
            voice,
        }
    }

    /// Starts the clock of a call.
    pub(super) fn begin(&mut self, call: Call<A>) {
        self.call = Some(call);
        self.began = thread_time();
        self.waited = Duration::ZERO;
        self.http.begin();
        self.meter.take_refused();
        self.voice.take_last_words();
    }

    /// Tells if the guest may go on. Time is the thread's own: neither waiting for an embedder nor
    /// other guests count.
    fn check(&self) -> Result<(), Stop> {
        if self.call.as_ref().is_some_and(|call| call.reply.is_closed()) {
            return Err(Stop::Abandoned);
        }
        let ran = thread_time().saturating_sub(self.began);
        if ran > self.rights.deadline { Err(Stop::Deadline { ran }) } else { Ok(()) }
    }

    /// Waits until the guest may compute. Nothing of the wait counts as the guest's time.
    pub(super) fn take_turn(&mut self) -> Result<(), Stop> {
        self.turn.take(self.call.as_mut())
    }

    /// Leaves its turn to others, and counts what it has used.
    pub(super) fn give_up_turn(&mut self) {
        self.turn.give_up();
        let Spent { ran, waited } = self.turn.take_spent();
        let (guest, tenant) = (&self.rights.meter, &self.rights.tenant.meter);
        guest.cpu.add(ran);
        tenant.cpu.add(ran);
        if !waited.is_zero() {
            guest.cpu_wait.add(waited);
            tenant.cpu_wait.add(waited);
        }
    }

    /// Does to a guest that computes what every tick does.
    fn tick(&mut self) -> Result<(), Stop> {
        self.check()?;
        self.turn.tick(self.call.as_mut())
    }

    /// Waits for something of the host's on the caller's runtime, until the caller goes away. None
    /// while the component starts.
    pub(super) fn wait_outside<T>(&mut self, waiting: impl Future<Output = T>) -> wasmtime::Result<Option<T>> {
        let Some(Call { runtime, reply }) = &mut self.call else { return Ok(None) };
        self.turn.give_up();
        let done = runtime.block_on(async {
            tokio::select! {
                biased;
                done = waiting => Ok(done),
                () = reply.closed() => Err(Stop::Abandoned),
            }
        });
        let done = done.map_err(wasmtime::Error::new)?;
        self.take_turn().map_err(wasmtime::Error::new)?;
        Ok(Some(done))
    }

    /// Lets the guest wait, on the caller's runtime: until the caller goes away, or the call has
    /// waited for too long in all.
    pub(super) fn wait_for<T>(&mut self, waiting: impl AsyncFnOnce(&mut ResourceTable) -> T) -> wasmtime::Result<T> {
        let Some(Call { runtime, reply }) = &mut self.call else {
            let done = waiting(&mut self.table).now_or_never();
            return done.ok_or_else(|| wasmtime::Error::msg("a component cannot wait while it starts"));
        };
        let limit = self.rights.grants.patience();
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

    /// Tells if waits take time: in a call of a guest that may wait for answers. For others they are
    /// over at once.
    pub(super) fn may_wait(&self) -> bool {
        self.call.is_some() && self.rights.grants.any()
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) fn wasi(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }

    pub(super) fn wasi_http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(&mut self.table)
    }
}

fn handles() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES);
    table
}
