//! Signals: the first asks for an orderly stop, the second ends the process at once. SIGHUP asks `run` to read its files again.

use std::fs::File;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The wishes that signals express to `run`.
pub(crate) struct Signals {
    /// Cancelled by the first that asks for a stop.
    pub(crate) stop: CancellationToken,
    /// Told when the files are to be read again. Several that come while one is dealt with count once.
    pub(crate) reload: Arc<Notify>,
}

/// Cancelled by the first SIGINT, SIGTERM or SIGHUP: a terminal that goes away is no reason to drop what was received. The second ends the process with 128 + its number, as a shell expects.
pub(crate) fn stop_on_first_exit_on_second() -> CancellationToken {
    watch(None).stop
}

/// As [`stop_on_first_exit_on_second`], but SIGHUP asks for a reload, unless it says that the terminal is gone on which the process
/// was started.
pub(crate) fn stop_or_reload() -> Signals {
    watch(Some(Terminal::now()))
}

#[expect(clippy::disallowed_methods, reason = "a second signal asks for just that: to go without tidying up")]
fn watch(reloads: Option<Terminal>) -> Signals {
    let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
    let signals = Signals { stop: stop.clone(), reload: Arc::clone(&reload) };
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    // Before this returns: one that comes early must not end the process.
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        // Without handlers the signals keep their default: they end the process.
        return signals;
    };
    tokio::spawn(async move {
        loop {
            let number = next(&mut interrupt, &mut terminate, &mut hangup).await;
            let asks_to_reload = number == SignalKind::hangup().as_raw_value()
                && reloads.as_ref().is_some_and(|terminal| !terminal.is_gone());
            match (asks_to_reload, stop.is_cancelled()) {
                (true, false) => {
                    tracing::info!("reload: reading the files again");
                    reload.notify_one();
                }
                (true, true) => tracing::info!("stopping: nothing is reloaded any more"),
                (false, false) => {
                    tracing::info!(
                        signal = number,
                        "stopping: finishing what was received; a second signal ends at once"
                    );
                    stop.cancel();
                }
                (false, true) => std::process::exit(128 + number),
            }
        }
    });
    signals
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
        _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
    }
}

/// The terminal of the process, if it has one.
struct Terminal(bool);

impl Terminal {
    const PATH: &str = "/dev/tty";

    fn now() -> Self {
        Self(File::open(Self::PATH).is_ok())
    }

    /// Tells if there was one that cannot be opened any more.
    fn is_gone(&self) -> bool {
        self.0 && File::open(Self::PATH).is_err()
    }
}
