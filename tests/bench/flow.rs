//! A whole pipeline inside this process, until its sink has all that it should have.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use pgstream_host::components::{PipelineSettings, REGISTRY};
use pgstream_host::config;
use pgstream_host::host::Host;
use tokio_util::sync::CancellationToken;

use crate::handler::failed;
use crate::machine::Process;
use crate::rig::{Recorded, Rig};

/// How often is looked whether all is there: little beside what a measurement takes.
const LOOK: Duration = Duration::from_millis(1);

/// The file of a pipeline that reads `table` from `slot`.
pub(crate) fn pipeline(url: &str, table: &str, slot: &str, flow: &Flow<'_>) -> String {
    let Flow { handler, embeds, sink } = flow;
    let embedders = if *embeds { "embedders: { words: { type: hash, dimension: 384 } }" } else { "" };
    let lent = if *embeds { ", embedders: [words]" } else { "" };
    format!(
        "version: 1
name: bench
sources:
  db: {{ type: postgres, url: \"{url}\", tables: [public.{table}], slot: {slot}, publication: bench_{table} }}
{embedders}
transforms:
  embed: {{ type: wasm, inputs: [db], component: {}{lent} }}
sinks:
  store: {{ {sink}, inputs: [embed] }}
",
        handler.display()
    )
}

/// What a pipeline took for its rows.
pub(crate) struct Ran {
    /// Rows per second, from the open pipeline until every row was durable in its sink.
    pub(crate) rate: f64,
    /// Time that opening took before, in seconds.
    pub(crate) opening: f64,
    /// CPU time of the whole process, with opening, in µs per row.
    pub(crate) cpu: f64,
    /// Wake-ups of its threads, for 1,000 rows.
    pub(crate) wakes: f64,
}

/// Opens a pipeline and runs it until the sink has all rows.
pub(crate) async fn run(host: &Host, rig: &Rig, recorded: &Recorded, flow: &Flow<'_>) -> Result<Ran> {
    let slot = rig.slot(&recorded.table)?;
    let settings = settings(&pipeline(&rig.url, &recorded.table, &slot, flow))?;
    let (process, began) = (Process::current(), Instant::now());
    let cpu = process.cpu()?;
    let pipeline = host.open(&settings, &pgstream_host::host::Owner::of_everything()).await.map_err(failed)?;
    let (opening, began, wakes) = (began.elapsed().as_secs_f64(), Instant::now(), process.wakes()?);
    let (status, stop) = (pipeline.status(), CancellationToken::new());
    let running = tokio::spawn(pipeline.run(stop.clone()));
    while status.sinks[0].commands() < recorded.rows {
        ensure!(!running.is_finished(), "the pipeline has ended: {:?}", running.await);
        tokio::time::sleep(LOOK).await;
    }
    let (took, cpu, wakes) = (began.elapsed(), process.cpu()? - cpu, process.wakes()?.saturating_sub(wakes));
    stop.cancel();
    running.await?.map_err(failed)?;
    ensure!(status.sinks[0].commands() == recorded.rows, "the sink has more than there is");
    rig.drop_slot(&slot)?;
    let rows = recorded.rows as f64;
    Ok(Ran { rate: rows / took.as_secs_f64(), opening, cpu: cpu / rows * 1e6, wakes: wakes as f64 / rows * 1e3 })
}

/// Reads a pipeline file.
pub(crate) fn settings(text: &str) -> Result<PipelineSettings> {
    config::parse(&REGISTRY, "bench.yaml", text, Path::new(""), &|_| None)
        .map_err(|problems| anyhow!(problems.render(false)))
}

/// What lies behind the source.
pub(crate) struct Flow<'a> {
    pub(crate) handler: &'a Path,
    /// Whether the handler leaves texts to the host to embed.
    pub(crate) embeds: bool,
    /// `type` and settings of the sink.
    pub(crate) sink: &'a str,
}

/// The component of a guest in `plugins/`, built from source.
pub(crate) fn guest(name: &str) -> Result<PathBuf> {
    crate::guests::guest(name)
        .ok_or_else(|| anyhow!("the target wasm32-wasip2 is missing: `rustup target add wasm32-wasip2`"))
}
