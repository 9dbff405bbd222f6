//! `latency`: from a row's commit to its point's commit, at 1,000 rows a second.
//!
//! The server itself keeps when a transaction committed (`track_commit_timestamp`), of the row as of its point. So nobody
//! has to watch the table, and both times are of one clock.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Bench, pgvector};
use crate::flow::{self, Flow};
use crate::handler::failed;
use crate::report::{Figure, Target};
use crate::rig::Rig;
use crate::rounds::Spread;

const EVERY: Duration = Duration::from_millis(1);
/// Sessions that write in turn, so that one slow commit does not hold back the next.
const WRITERS: usize = 4;
/// The first rows find a pipeline whose threads and plans are cold.
const WARM_UP: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (rig, host, rows) = (bench.rig().await?, bench.host().await?, bench.scale(60_000, 5_000) + WARM_UP);
    rig.table("fresh")?;
    pgvector::make(rig, "fresh_points")?;
    let (slot, handler) = (rig.slot("fresh")?, flow::guest("points")?);
    let sink = format!("type: pgvector, url: \"{}\", table: fresh_points", rig.url);
    let flow = Flow { handler: &handler, embeds: true, sink: &sink };
    let settings = flow::settings(&flow::pipeline(&rig.url, "fresh", &slot, &flow))?;
    let pipeline = host.open(&settings, &pgstream_host::host::Owner::of_everything()).await.map_err(failed)?;
    let (status, stop) = (pipeline.status(), CancellationToken::new());
    let running = tokio::spawn(pipeline.run(stop.clone()));

    let rate = write(rig, rows).await?;
    let all_there = async {
        while status.sinks[0].commands() < rows {
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_there).await.context("rows are missing in the sink")?;
    stop.cancel();
    running.await?.map_err(failed)?;
    rig.drop_slot(&slot)?;

    let mut delays = delays(rig).await?;
    ensure!(delays.len() as u64 == rows - WARM_UP, "{} of {rows} points are there", delays.len());
    let what = |share: &str| format!("commit → committed in pgvector, {share}");
    let mut at = |share, name, limit| {
        let figure = Figure::once("latency", what(name), Spread::quantile(&mut delays, share), "ms");
        figure.target(Target::AtMost(limit))
    };
    let (median, tail) = (at(0.5, "p50", 5.0), at(0.99, "p99", 25.0));
    Ok(vec![median, tail, Figure::once("latency", "rows written", rate, "per second")])
}

/// Writes a row each millisecond, whether the one before is done or not; answers how many a second it came to.
async fn write(rig: &Rig, rows: u64) -> Result<f64> {
    let insert = Rig::insert("fresh", "$1", "$1").replace("$1", "$1::bigint");
    let mut queues = Vec::new();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (queue, mut ids) = tokio::sync::mpsc::channel::<i64>(usize::try_from(rows)?);
        let client = rig.client().await?;
        let insert = client.prepare(&insert).await?;
        queues.push(queue);
        writers.spawn(async move {
            while let Some(id) = ids.recv().await {
                client.execute(&insert, &[&id]).await?;
            }
            anyhow::Ok(())
        });
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = std::time::Instant::now();
    for id in 1..=rows {
        ticks.tick().await;
        queues[id as usize % WRITERS].try_send(i64::try_from(id)?)?;
    }
    drop(queues);
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

/// Of each row after the warm-up, in ms.
async fn delays(rig: &Rig) -> Result<Vec<f64>> {
    let sql = format!(
        "SELECT (extract(epoch FROM pg_xact_commit_timestamp(p.xmin) - pg_xact_commit_timestamp(f.xmin)) * 1000)::float8
         FROM fresh f JOIN fresh_points p ON p.id = f.id::text WHERE f.id > {WARM_UP}"
    );
    Ok(rig.client().await?.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}
