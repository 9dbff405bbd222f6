//! `boundary`: what it takes to hand rows to a handler and to take its commands back, with the way to its thread.

use std::time::Duration;

use anyhow::{Result, ensure};
use pgstream_host::event::Operation;
use pgstream_host::transform::Engine;

use super::Bench;
use crate::counting;
use crate::flow::guest;
use crate::handler::{cache, failed, load, repeat};
use crate::report::{Figure, Target};
use crate::rounds::Spread;
use crate::rows::rows;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let engine = Engine::new(Some(&cache())).map_err(failed)?;
    let transform = load(&engine, &guest("noop")?, 1)?;
    let patience = Duration::from_millis(bench.scale(1000, 300));
    let sizes = [1, 100, 1000];
    let batches = sizes.map(|size| rows(size, Operation::Insert, false));
    for batch in &batches {
        let output = transform.apply(batch.clone()).await.map_err(failed)?;
        ensure!(output.commands.len() == batch.events().len(), "the handler answers one command per event");
    }
    let mut costs = sizes.map(|_| Vec::new());
    for _ in 0..bench.rounds() {
        for (batch, costs) in batches.iter().zip(&mut costs) {
            let (events, took) = repeat(&transform, batch, |_, took| took >= patience).await?;
            costs.push(took.as_secs_f64() * 1e6 / events as f64);
        }
    }
    let mut figures = Vec::new();
    for (size, costs) in sizes.iter().zip(costs) {
        let what = format!("to the handler and back, batches of {size}");
        let figure = Figure::new("boundary", what, Spread::of(costs), "µs/event");
        figures.push(if *size == 1000 { figure.target(Target::AtMost(0.8)) } else { figure });
    }
    let batch = &batches[2];
    counting::start();
    transform.apply(batch.clone()).await.map_err(failed)?;
    let allocated = counting::stop();
    let each = allocated.calls as f64 / batch.events().len() as f64;
    figures.push(Figure::once("boundary", "the same, the host's allocations", each, "per event"));
    Ok(figures)
}
