//! `memory` and `idle`: what the program takes, at work, with nothing to do, and inside one huge transaction.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Bench, pgvector};
use crate::flow::{Flow, guest};
use crate::program::Program;
use crate::report::{Figure, Target};
use crate::rig::Rig;
use crate::rounds::Spread;

const MIB: f64 = (1 << 20) as f64;

/// A pipeline with a handler and pgvector: its memory while it works, and its CPU time once it has nothing to do.
pub(super) async fn steady(bench: &Bench) -> Result<Vec<Figure>> {
    let (rig, handler) = (bench.rig().await?, guest("points")?);
    let table = &bench.articles().await?.table;
    pgvector::make(rig, "kept")?;
    let sink = format!("type: pgvector, url: \"{}\", table: kept", rig.url);
    let mut program = Program::start(rig, table, &Flow { handler: &handler, embeds: true, sink: &sink })?;
    let memory = program.catch_up(rig).await?;
    let (process, period) = (program.process(), Duration::from_secs(bench.scale(60, 10)));
    let (cpu, began) = (process.cpu()?, Instant::now());
    tokio::time::sleep(period).await;
    let share = (process.cpu()? - cpu) / began.elapsed().as_secs_f64() * 100.0;
    let (now, peak) = (process.resident()? as f64, process.peak()? as f64);
    program.stop(rig)?;
    let at_work = Spread::of(memory.into_iter().map(|bytes| bytes / MIB));
    Ok(vec![
        Figure::new("memory", "resident, at work into pgvector", at_work, "MiB").target(Target::AtMost(96.0)),
        Figure::once("memory", "the same, at its peak", peak / MIB, "MiB"),
        Figure::once("memory", "resident, with nothing to do", now / MIB, "MiB"),
        Figure::once("memory", "CPU time with nothing to do", share, "% of a core").target(Target::AtMost(1.0)),
    ])
}

/// By how much the program grows in one transaction of millions of rows.
pub(super) async fn transaction(bench: &Bench) -> Result<Vec<Figure>> {
    let (rig, handler) = (bench.rig().await?, guest("noop")?);
    let rows = bench.scale(5_000_000, 200_000);
    let small = rig.record("huge", 50_000, 100)?.rows;
    let mut program = Program::start(rig, "huge", &Flow { handler: &handler, embeds: false, sink: "type: blackhole" })?;
    program.catch_up(rig).await?; // all threads have worked, all buffers are there
    let process = program.process();
    let before = process.resident()? as f64;
    process.forget_peak()?;
    rig.sql(&Rig::insert("huge", &(small + 1).to_string(), &(small + rows).to_string()))?;
    let began = Instant::now();
    program.catch_up(rig).await?;
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    let grown = process.peak()? as f64 - before;
    program.stop(rig)?;
    let what = format!("growth in one transaction of {rows} rows");
    Ok(vec![
        Figure::once("transaction", what, grown / MIB, "MiB").target(Target::AtMost(64.0)),
        Figure::once("transaction", "rows after its commit", rate, "per second"),
    ])
}
