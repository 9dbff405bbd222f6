//! WASI as handlers get it: everything that toolchains drag in links, and none of it reaches the
//! machine.
//!
//! No files, no sockets, no names to resolve, no arguments, an empty environment, nothing on
//! standard input. Clocks tell whole milliseconds: enough for a log line, too coarse to time
//! another tenant's work. A wait is over at once, because a call that may compute for a second must
//! not be able to hold its thread for an hour; only a handler that may wait for answers over HTTP
//! can wait, within the limit for that. Random numbers are real, 4 KiB at a time. `exit` ends the
//! call.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult, subscribe};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx};

use super::guest::Guest;
use super::voice::{Stream, Voice};
use super::wait;

/// Bytes of one request for random numbers: a key or a seed, not a way to burn time inside the
/// host.
const RANDOM_BYTES: u64 = 4096;

/// Bytes that a guest may write in one go.
const WRITE_BYTES: usize = 4096;

/// The interfaces that link, by package; all of WASI 0.2 but `http`, which is linked by grant.
pub(super) const PACKAGES: [&str; 6] =
    ["wasi:io", "wasi:cli", "wasi:clocks", "wasi:random", "wasi:filesystem", "wasi:sockets"];

/// Links the interfaces of [`PACKAGES`].
pub(super) fn link<S: Guest>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    wait::link(linker)?;
    monotonic_clock::add_to_linker::<S, Alarms>(linker, |state| {
        let guest = state.guest();
        let may_wait = guest.may_wait();
        Alarm { table: guest.table(), may_wait }
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Returns the part of WASI that an instance with this voice gets.
pub(super) fn context(voice: &Voice) -> WasiCtx {
    WasiCtx::builder()
        .stdout(Output { voice: voice.clone(), stream: Stream::Stdout })
        .stderr(Output { voice: voice.clone(), stream: Stream::Stderr })
        .wall_clock(Coarse)
        .monotonic_clock(Coarse)
        .max_random_size(RANDOM_BYTES)
        .build()
}

/// Clocks that tell whole milliseconds.
struct Coarse;

impl Coarse {
    const RESOLUTION: Duration = Duration::from_millis(1);

    /// Since the host first asked, and never zero, which some runtimes take for "no time yet".
    fn monotonic() -> u64 {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        (START.elapsed() + Self::RESOLUTION).as_millis() as u64 * 1_000_000
    }
}

impl HostWallClock for Coarse {
    fn resolution(&self) -> Duration {
        Self::RESOLUTION
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(now.as_millis() as u64)
    }
}

impl HostMonotonicClock for Coarse {
    fn resolution(&self) -> u64 {
        Self::RESOLUTION.as_nanos() as u64
    }

    fn now(&self) -> u64 {
        Self::monotonic()
    }
}

/// The monotonic clock. Its alarms ring at once, unless the handler may wait.
struct Alarms;

impl HasData for Alarms {
    type Data<'a> = Alarm<'a>;
}

struct Alarm<'a> {
    table: &'a mut ResourceTable,
    may_wait: bool,
}

impl monotonic_clock::Host for Alarm<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(Coarse::monotonic())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(Coarse.resolution_nanos())
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_duration(when.saturating_sub(Coarse::monotonic()))
    }

    fn subscribe_duration(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let rings = Instant::now().checked_add(Duration::from_nanos(nanos)).filter(|_| self.may_wait && nanos > 0);
        let due = self.table.push(Due(rings))?;
        subscribe(self.table, due)
    }
}

impl Coarse {
    fn resolution_nanos(&self) -> u64 {
        HostMonotonicClock::resolution(self)
    }
}

/// The time at which an alarm rings; None for at once.
struct Due(Option<Instant>);

#[async_trait::async_trait]
impl Pollable for Due {
    async fn ready(&mut self) {
        if let Some(rings) = self.0 {
            tokio::time::sleep_until(rings.into()).await;
        }
    }
}

/// Standard output and error: the handler's voice.
struct Output {
    voice: Voice,
    stream: Stream,
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    /// Asked for by WASI 0.3 alone, which is not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Output { voice: self.voice.clone(), stream: self.stream })
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.voice.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}
