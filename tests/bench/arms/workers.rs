//! `workers`: a handler that computes, with two workers against one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use pgstream_host::event::{Batch, Operation};
use pgstream_host::transform::{Engine, Transform};

use super::Bench;
use crate::guests::root;
use crate::handler::{cache, failed, load};
use crate::report::{Figure, Target};
use crate::rounds::contest;
use crate::rows::rows;

/// Calls under way at once: enough that no worker waits for its next batch.
const CALLS: usize = 6;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (engine, file) =
        (Engine::new(Some(&cache())).map_err(failed)?, root().join("plugins/documents-rust/documents.wasm"));
    let (one, two) = (start(&engine, &file, 1)?, start(&engine, &file, 2)?);
    let (batch, period) = (rows(1000, Operation::Insert, false), Duration::from_millis(bench.scale(3000, 1000)));
    let measure = async |transform: &Arc<Transform>| work(transform, &batch, period).await;
    measure(&two).await?; // the first call of each instance
    let contest = contest(bench.rounds(), async || measure(&two).await, async || measure(&one).await).await?;
    let what = "2 workers, where as many cores are free";
    Ok(vec![Figure::ratio("workers", what, contest, "1 worker", "events").target(Target::AtLeast(1.7))])
}

fn start(engine: &Engine, file: &Path, workers: usize) -> Result<Arc<Transform>> {
    Ok(Arc::new(load(engine, file, workers)?))
}

/// Events per second.
async fn work(transform: &Arc<Transform>, batch: &Arc<Batch>, period: Duration) -> Result<f64> {
    let began = Instant::now();
    let caller = async || {
        let mut events = 0;
        while began.elapsed() < period {
            transform.apply(Arc::clone(batch)).await.map_err(failed)?;
            events += batch.events().len();
        }
        anyhow::Ok(events)
    };
    let events = futures::future::try_join_all((0..CALLS).map(|_| caller())).await?;
    Ok(events.iter().sum::<usize>() as f64 / began.elapsed().as_secs_f64())
}
