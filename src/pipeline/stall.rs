//! Says in the log that nothing becomes durable, for how long, and what is waited for: for as long
//! as it lasts, ever more seldom.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Status;
use super::status::QUIET;
use crate::backoff::seconds;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// It is said at least this often.
const LONGEST: Duration = Duration::from_secs(300);

/// Watches a pipeline for as long as this is polled.
pub(super) async fn watch(status: Arc<Status>) {
    let mut pause = QUIET;
    let mut said: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(since) = status.stuck_since() else {
            if said.take().is_some() {
                tracing::info!("what was waited for is durable");
            }
            pause = QUIET;
            continue;
        };
        if said.is_some_and(|said| said.elapsed() < pause) {
            continue;
        }
        if said.is_some() {
            pause = (pause * 2).min(LONGEST);
        }
        said = Some(Instant::now());
        tracing::warn!(
            waiting_seconds = seconds(since.elapsed()),
            lag_seconds = status.lag_seconds(),
            waits_for = status.waits_for(),
            "what was received is not durable yet, and nothing is confirmed meanwhile"
        );
    }
}
