//! `pgvector`: rows to points in a table of the same server, against a client that only writes them: binary COPY into a
//! temporary table, and a merge from there.
//!
//! The table is as the sink makes it, but for the HNSW index: building that costs some hundred times the rest, and would
//! make everything look alike. The bare client has its vectors ready.

use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;

use super::Bench;
use crate::flow::{self, Flow};
use crate::points::{self, Point};
use crate::report::{Figure, Target};
use crate::rig::Rig;
use crate::rounds::contest;

/// Points in a transaction, as the sink's default.
const BATCH: usize = 1000;

/// The table that is written.
pub(super) const STORE: &str = "stored";

pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let (rig, recorded) = (bench.rig().await?, bench.articles().await?);
    let points = points::of(rig, recorded).await?;
    make(rig, STORE)?;
    write(rig, &points).await?;
    let wanted = content(rig, "embedding", STORE)?;
    ensure!(wanted.starts_with(&format!("{}|", recorded.rows)), "the bare client wrote {wanted}");
    let ours = async || {
        let rate = host(bench).await?;
        ensure!(content(rig, "embedding", STORE)? == wanted, "the host and the bare client wrote different points");
        Ok(rate)
    };
    let theirs = async || {
        make(rig, STORE)?;
        write(rig, &points).await
    };
    let contest = contest(bench.rounds(), ours, theirs).await?;
    let what = "log → handler → embedder → pgvector, same server";
    Ok(vec![Figure::ratio("pgvector", what, contest, "binary COPY + merge", "rows").target(Target::AtLeast(0.4))])
}

/// Points per second of the host, into the table when it is empty.
pub(super) async fn host(bench: &Bench) -> Result<f64> {
    let rig = bench.rig().await?;
    make(rig, STORE)?;
    let sink = format!("type: pgvector, url: \"{}\", table: {STORE}", rig.url);
    let flow = Flow { handler: &flow::guest("points")?, embeds: true, sink: &sink };
    let recorded = rig.renew(bench.articles().await?)?;
    Ok(flow::run(bench.host().await?, rig, &recorded, &flow).await?.rate)
}

/// An empty table.
pub(super) fn make(rig: &Rig, table: &str) -> Result<()> {
    rig.sql(&format!(
        "DROP TABLE IF EXISTS {table};
         CREATE TABLE {table} (id text PRIMARY KEY, group_id text, embedding vector(384), payload jsonb NOT NULL)
           WITH (fillfactor = 50);
         CREATE INDEX ON {table} (group_id)"
    ))
    .map(drop)
}

/// What a table, or some rows of it, holds, in short.
pub(super) fn content(rig: &Rig, vector: &str, rows: &str) -> Result<String> {
    rig.sql(&format!("SELECT count(*), sum(hashtext(id || payload::text || {vector}::text)) FROM {rows}"))
}

/// Points per second of a bare client, once it is ready.
async fn write(rig: &Rig, points: &[Point]) -> Result<f64> {
    let mut client = rig.client().await?;
    client
        .batch_execute(
            "CREATE TEMPORARY TABLE staged (id text, embedding vector(384), payload jsonb) ON COMMIT DELETE ROWS",
        )
        .await?;
    let stage = client.prepare("COPY pg_temp.staged FROM STDIN (FORMAT binary)").await?;
    let merge = client
        .prepare(&format!(
            "INSERT INTO {STORE} (id, embedding, payload) SELECT id, embedding, payload FROM pg_temp.staged
             ON CONFLICT (id) DO UPDATE SET embedding = EXCLUDED.embedding, payload = EXCLUDED.payload"
        ))
        .await?;
    let began = Instant::now();
    for points in points.chunks(BATCH) {
        let transaction = client.transaction().await?;
        let mut copy = Box::pin(transaction.copy_in::<_, Bytes>(&stage).await?);
        copy.send(encode(points)).await?;
        copy.as_mut().finish().await?;
        transaction.execute(&merge, &[]).await?;
        transaction.commit().await?;
    }
    Ok(points.len() as f64 / began.elapsed().as_secs_f64())
}

/// Points as COPY's binary format has them.
fn encode(points: &[Point]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0");
    for Point { id, vector, payload } in points {
        let (id, payload) = (id.to_string(), payload.to_string());
        out.put_i16(3);
        out.put_i32(id.len() as i32);
        out.put_slice(id.as_bytes());
        out.put_i32(4 + 4 * vector.len() as i32);
        out.put_i16(vector.len() as i16);
        out.put_i16(0);
        vector.iter().for_each(|number| out.put_f32(*number));
        out.put_i32(1 + payload.len() as i32);
        out.put_u8(1);
        out.put_slice(payload.as_bytes());
    }
    out.put_i16(-1);
    out.freeze()
}
