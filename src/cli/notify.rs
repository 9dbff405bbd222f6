//! Tells systemd, where it started the process, that it is ready, reloads or stops: units of `Type=notify` and `notify-reload`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Everything that was started runs, or is being opened.
pub(super) fn ready() {
    tell("READY=1");
}

/// Files are being read again; [`ready`] follows.
pub(super) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
}

/// The pipelines finish what they have received.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

/// Says it, if there is anybody to hear it. Nothing depends on that.
fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(cause) = told {
        tracing::debug!(%cause, "systemd cannot be told");
    }
}
