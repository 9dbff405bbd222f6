//! The points that the handler `points` makes of a table's rows, for clients that only write them.

use anyhow::Result;
use pgstream_host::embedder;
use pgstream_host::embedder::HashEmbedder;
use serde_json::json;

use crate::handler::failed;
use crate::rig::{Recorded, Rig};
use crate::rows::DIMENSION;

/// A point, ready to be written.
pub(crate) struct Point {
    pub(crate) id: i64,
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: serde_json::Value,
}

pub(crate) async fn of(rig: &Rig, recorded: &Recorded) -> Result<Vec<Point>> {
    let sql = format!("SELECT id, content, title, category FROM {} ORDER BY id", recorded.table);
    let rows = rig.client().await?.query(&sql, &[]).await?;
    let embedder = embedder::open("words", &HashEmbedder { dimension: DIMENSION }).map_err(failed)?;
    let mut points = Vec::new();
    for rows in rows.chunks(1000) {
        let texts: Vec<&str> = rows.iter().map(|row| row.get("content")).collect();
        let vectors = embedder.embed(&texts).await.map_err(failed)?;
        points.extend(rows.iter().zip(vectors.rows()).map(|(row, vector)| {
            let (title, category): (&str, &str) = (row.get("title"), row.get("category"));
            Point {
                id: row.get("id"),
                vector: vector.to_vec(),
                payload: json!({ "title": title, "category": category }),
            }
        }));
    }
    Ok(points)
}
