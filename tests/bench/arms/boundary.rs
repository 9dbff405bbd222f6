//! `boundary`: what it takes to hand rows to a handler and to take its commands back, with the way to its thread.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use pgstream_host::event::Operation;
use pgstream_host::transform::Engine;

use super::Bench;
use crate::counting;
use crate::flow::guest;
use crate::handler::{cache, failed, load, load_for, repeat};
use crate::report::{Figure, Target};
use crate::rounds::Spread;
use crate::rows::rows;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (engine, file) = (Engine::new(Some(&cache())).map_err(failed)?, guest("noop")?);
    let (whole, key) = (load(&engine, &file, 1)?, load_for(&engine, &file, 1, Some(&["id"]))?);
    let patience = Duration::from_millis(bench.scale(1000, 300));
    let arms = [
        ("batches of 1", &whole, 1),
        ("batches of 100", &whole, 100),
        ("batches of 1000", &whole, 1000),
        ("batches of 1000, `columns: [id]`", &key, 1000),
    ];
    let mut costs = arms.map(|_| Vec::new());
    for _ in 0..bench.rounds() {
        for ((_, transform, size), costs) in arms.iter().zip(&mut costs) {
            let batch = rows(*size, Operation::Insert, false);
            let output = transform.apply(Arc::clone(&batch)).await.map_err(failed)?;
            ensure!(output.commands.len() == *size, "the handler answers one command per event");
            let (events, took) = repeat(transform, &batch, |_, took| took >= patience).await?;
            costs.push(took.as_secs_f64() * 1e6 / events as f64);
        }
    }
    let mut figures = Vec::new();
    for ((what, ..), costs) in arms.iter().zip(costs) {
        let figure = Figure::new("boundary", format!("to the handler and back, {what}"), Spread::of(costs), "µs/event");
        figures.push(if *what == "batches of 1000" { figure.target(Target::AtMost(0.8)) } else { figure });
    }
    let batch = rows(1000, Operation::Insert, false);
    counting::start();
    whole.apply(Arc::clone(&batch)).await.map_err(failed)?;
    let allocated = counting::stop();
    let each = allocated.calls as f64 / batch.events().len() as f64;
    figures.push(Figure::once("boundary", "the same, the host's allocations", each, "per event"));
    Ok(figures)
}
