//! The oracle: what a sink must hold, which is what the handler makes of the table's rows; and how that is compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use pgstream_host::command::{Action, Embedding};
use pgstream_host::embedder::HashEmbedder;
use pgstream_host::embedder::{self, Embedder};
use pgstream_host::event::{Operation, Relation, Value};
use pgstream_host::transform::Transform;
use serde_json::Map;
use tokio_postgres::Client;

use super::program::root;
use crate::guests;
use crate::sinks::contract::{Points, Stored};

/// The table that the tests of delivery write to. Large texts are not compressed, so that they are TOASTed soon.
pub(crate) const TABLE: &str = "
    CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text, views bigint NOT NULL DEFAULT 0);
    ALTER TABLE documents ALTER COLUMN content SET STORAGE EXTERNAL";

/// Numbers of a vector.
pub(crate) const DIMENSION: usize = 16;

/// The transform of the pipelines that write for [`TABLE`]: titles are payload only, so that a point follows from the row as
/// it is and not from the order in which its columns were changed.
pub(crate) fn transform() -> String {
    format!(
        "embedders:\n  words: {{ type: hash, dimension: {DIMENSION} }}\ntransforms:\n  embed:\n    type: wasm\n    \
         inputs: [db]\n    component: {}\n    embedders: [words]\n    workers: 2\n    \
         config: {{ title_column: \"\", chunk_chars: \"200\" }}\n",
        root().join("plugins/documents-rust/documents.wasm").display()
    )
}

/// What the sinks must hold.
pub(crate) struct Oracle {
    handler: Transform,
    embedders: IndexMap<String, Arc<dyn Embedder>>,
    relation: Arc<Relation>,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let hash = HashEmbedder { dimension: DIMENSION };
        let embedders = IndexMap::from([("words".to_owned(), embedder::open("words", &hash).unwrap())]);
        let mut settings = guests::settings(&root().join("plugins/documents-rust/documents.wasm"));
        settings.config.insert("title_column".into(), String::new());
        settings.config.insert("chunk_chars".into(), "200".into());
        settings.embedders = vec!["words".into()];
        let columns =
            [("id", "int8", true), ("title", "text", false), ("content", "text", false), ("views", "int8", false)];
        Self {
            handler: guests::load(&settings, embedders.clone()).unwrap(),
            embedders,
            relation: guests::relation("documents", &columns),
        }
    }

    /// What the handler makes of the rows that are in the table now. Answers how many there are, too.
    pub(crate) async fn expected(&self, client: &Client) -> (usize, Points) {
        let rows = client.query("SELECT id, title, content, views FROM documents ORDER BY id", &[]).await.unwrap();
        let mut points = Points::new();
        for rows in rows.chunks(500) {
            let values: Vec<(i64, Option<String>, Option<String>, i64)> =
                rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
            let changes: Vec<guests::Change<'_>> = values
                .iter()
                .map(|(id, title, content, views)| {
                    let row = vec![Value::Int(*id), text(title), text(content), Value::Int(*views)];
                    guests::Change::new(&self.relation, Operation::Insert, row)
                })
                .collect();
            let mut output = self.handler.apply(guests::batch(&changes)).await.unwrap();
            assert!(output.rejections.is_empty(), "the handler takes every row");
            embedder::resolve(&mut output.commands, &self.embedders).await.unwrap();
            for command in output.commands {
                match command.action {
                    Action::Replace { group, points: made } => points.extend(made.into_iter().map(|point| {
                        let payload = serde_json::from_str(&point.payload).unwrap();
                        let vectors = point.embeddings.into_iter().collect();
                        (point.id, Stored { group: Some(group.clone()), vectors, payload })
                    })),
                    Action::DeleteGroup { .. } => {} // a row without a text
                    other => panic!("not what the handler makes of a row that is new: {other:?}"),
                }
            }
        }
        (rows.len(), points)
    }
}

/// The points of a table that the sink `pgvector` made.
pub(crate) async fn pgvector_points(client: &Client, table: &str) -> Points {
    let sql = format!("SELECT id, group_id, embedding::text, payload::text FROM {table}");
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let values = serde_json::from_str(row.get(2)).unwrap();
            let vectors = BTreeMap::from([(String::new(), Embedding::Dense(values))]);
            let payload: Map<String, serde_json::Value> = serde_json::from_str(row.get(3)).unwrap();
            (row.get(0), Stored { group: row.get(1), vectors, payload })
        })
        .collect()
}

fn text(value: &Option<String>) -> Value<'_> {
    value.as_deref().map_or(Value::Null, Value::Text)
}

/// What is wrong with a sink, point by point; nothing if all is well.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// The row is there, its point is not.
    pub(crate) missing: Vec<String>,
    /// The row is gone, its point is still there.
    pub(crate) surplus: Vec<String>,
    /// The point is not what the row is now.
    pub(crate) outdated: Vec<String>,
}

impl Differences {
    pub(crate) fn between(expected: &Points, found: &Points) -> Self {
        let missing = expected.keys().filter(|id| !found.contains_key(*id)).cloned().collect();
        let surplus = found.keys().filter(|id| !expected.contains_key(*id)).cloned().collect();
        let differs = |(id, point): &(&String, &Stored)| found.get(*id).is_some_and(|found| found != *point);
        let outdated = expected.iter().filter(differs).map(|(id, _)| id.clone()).collect();
        Self { missing, surplus, outdated }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.outdated.is_empty()
    }
}

impl std::fmt::Display for Differences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, ids) in [("missing", &self.missing), ("surplus", &self.surplus), ("outdated", &self.outdated)] {
            write!(f, "{} {what}", ids.len())?;
            if let Some(some) = ids.get(..ids.len().min(20)).filter(|some| !some.is_empty()) {
                write!(f, " ({})", some.join(", "))?;
            }
            write!(f, "{}", if what == "outdated" { "" } else { ", " })?;
        }
        Ok(())
    }
}
