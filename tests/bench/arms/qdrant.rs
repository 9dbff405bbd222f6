//! `qdrant`: rows to points in Qdrant, against a client that only writes them: bulk upserts, four in flight.
//!
//! The server is the one at `QDRANT_URL` (with `QDRANT_API_KEY`), or else Qdrant's engine behind Qdrant's protocol in this
//! process, as the tests use it. The bare client has its vectors ready.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use qdrant_client::qdrant::{CreateCollectionBuilder, Distance, PointStruct, UpsertPointsBuilder, VectorParamsBuilder};
use qdrant_client::{Payload, Qdrant};

use super::Bench;
use crate::flow::{self, Flow};
use crate::machine::Process;
use crate::points::{self, Point};
use crate::qdrant_server::QdrantServer;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, contest};
use crate::rows::DIMENSION;

/// Points in a request and requests in flight, as the sink has them.
const CHUNK: usize = 256;
const IN_FLIGHT: usize = 4;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let given = std::env::var("QDRANT_URL").ok();
    let server = given.is_none().then(|| QdrantServer::start(None));
    let url = given.or_else(|| server.as_ref().map(QdrantServer::url)).context("no Qdrant")?;
    let key = std::env::var("QDRANT_API_KEY").ok();
    let client = Qdrant::from_url(&url).api_key(key.clone()).skip_compatibility_check().build()?;
    let (rig, host, recorded) = (bench.rig().await?, bench.host().await?, bench.articles().await?);
    let (points, handler) = (points::of(rig, recorded).await?, flow::guest("points")?);
    let key = key.map(|key| format!("api_key: \"{key}\", ")).unwrap_or_default();
    let (mut cpu, mut bare_cpu) = (Vec::new(), Vec::new());
    let ours = async || {
        let name = fresh();
        let create = format!("create: {{ dimension: {DIMENSION}, distance: cosine }}");
        let sink = format!("type: qdrant, url: \"{url}\", {key}collection: {name}, {create}");
        let flow = Flow { handler: &handler, embeds: true, sink: &sink };
        let ran = flow::run(host, rig, &rig.renew(recorded)?, &flow).await?;
        cpu.push(ran.cpu);
        check(&client, &name, recorded.rows).await?;
        Ok(ran.rate)
    };
    let theirs = async || {
        let name = fresh();
        let (process, before) = (Process::current(), Process::current().cpu()?);
        let rate = write(&client, &name, &points).await?;
        bare_cpu.push((process.cpu()? - before) / points.len() as f64 * 1e6);
        check(&client, &name, recorded.rows).await?;
        Ok(rate)
    };
    let contest = contest(bench.rounds(), ours, theirs).await?;
    let (to, with) = if server.is_some() { ("its engine", " and the engine's") } else { ("a server", "") };
    let what = format!("log → handler → embedder → Qdrant ({to})");
    Ok(vec![
        Figure::ratio("qdrant", what, contest, "bulk upserts", "rows").target(Target::AtLeast(0.8)),
        Figure::new("qdrant", format!("the host's{with} CPU time"), Spread::of(cpu), "µs/row"),
        Figure::new("qdrant", format!("the bare client's{with} CPU time"), Spread::of(bare_cpu), "µs/row"),
    ])
}

fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("bench_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Checks that a collection has all points, and removes it.
async fn check(client: &Qdrant, name: &str, points: u64) -> Result<()> {
    let info = client.collection_info(name).await?.result.context("a collection has no info")?;
    ensure!(info.points_count == Some(points), "{points} points were written, {:?} are there", info.points_count);
    client.delete_collection(name).await?;
    Ok(())
}

/// Points per second of a bare client, once there is a collection.
async fn write(client: &Qdrant, name: &str, points: &[Point]) -> Result<f64> {
    let vectors = VectorParamsBuilder::new(DIMENSION as u64, Distance::Cosine);
    client.create_collection(CreateCollectionBuilder::new(name).vectors_config(vectors)).await?;
    let began = Instant::now();
    let chunks = stream::iter(points.chunks(CHUNK)).map(|chunk| async move {
        let points = chunk.iter().map(|Point { id, vector, payload }| {
            let payload = Payload::try_from(payload.clone()).map_err(|error| anyhow!(error))?;
            Ok(PointStruct::new(*id as u64, vector.clone(), payload))
        });
        let points = points.collect::<Result<Vec<_>>>()?;
        anyhow::Ok(client.upsert_points(UpsertPointsBuilder::new(name, points).wait(true)).await?)
    });
    chunks.buffer_unordered(IN_FLIGHT).try_for_each(|_| async { Ok(()) }).await?;
    Ok(points.len() as f64 / began.elapsed().as_secs_f64())
}
