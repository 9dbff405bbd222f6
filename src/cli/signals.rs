//! Signals: the first asks for an orderly stop, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by the first SIGINT, SIGTERM or SIGHUP: a terminal that goes away is no reason to drop what was received. The second ends the process with 128 + its number, as a shell expects.
#[expect(clippy::disallowed_methods, reason = "a second signal asks for just that: to go without tidying up")]
pub(crate) fn stop_on_first_exit_on_second() -> CancellationToken {
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        let number = next_signal().await;
        tracing::info!(signal = number, "stopping: finishing what was received; a second signal ends at once");
        told.cancel();
        let number = next_signal().await;
        std::process::exit(128 + number);
    });
    stop
}

async fn next_signal() -> i32 {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        // Without handlers the signals keep their default: they end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
        _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
    }
}
