//! Large values that Postgres does not send because an UPDATE left them alone: what becomes of them in every kind of sink.

use std::collections::BTreeMap;
use std::path::Path;

use pgstream_host::command::Embedding;
use pgstream_host::embedder;
use pgstream_host::embedder::HashEmbedder;
use serde_json::Value;

use crate::sinks::contract::{Points, Stored};
use crate::sinks::{pgvector, qdrant, qdrant_edge};
use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually, root};
use crate::support::qdrant_server::QdrantServer;

const DIMENSION: usize = 64;

/// A group of points: key, title in the payload, title that the vectors were made with, views, whether there are several.
type Group = (&'static str, &'static str, &'static str, i64, bool);

/// A statement, and what every sink holds then.
type Step = (&'static str, &'static [Group]);

const TABLE: &str = "CREATE TABLE documents (id int PRIMARY KEY, title text, content text, views int DEFAULT 0);
    ALTER TABLE documents ALTER content SET STORAGE EXTERNAL";

/// So long that it lies apart from its row, and is cut into several chunks.
const LONG: &str = "(SELECT string_agg('word' || n, ' ') FROM generate_series(1, 900) n)";

const KEEP: &[Step] = &[
    (
        "INSERT INTO documents VALUES (1, 'Old', {LONG}), (2, 'Short', 'a few words')",
        &[("1", "Old", "Old", 0, true), ("2", "Short", "Short", 0, false)],
    ),
    (
        "UPDATE documents SET title = 'New', views = 5 WHERE id = 1",
        &[("1", "New", "Old", 5, true), ("2", "Short", "Short", 0, false)],
    ),
    ("UPDATE documents SET views = views + 1", &[("1", "New", "Old", 6, true), ("2", "Short", "Short", 1, false)]),
    // Nobody has the text but the table: the event is set aside.
    ("UPDATE documents SET id = 10 WHERE id = 1", &[("2", "Short", "Short", 1, false)]),
    (
        "UPDATE documents SET content = content || ' end' WHERE id = 10",
        &[("10", "New", "New", 6, true), ("2", "Short", "Short", 1, false)],
    ),
    (
        "UPDATE documents SET content = {LONG} WHERE id = 2",
        &[("10", "New", "New", 6, true), ("2", "Short", "Short", 1, true)],
    ),
    (
        "BEGIN; UPDATE documents SET title = 'T' WHERE id = 2; UPDATE documents SET content = 'cut' WHERE id = 2; UPDATE documents SET views = 7 WHERE id = 2; COMMIT",
        &[("10", "New", "New", 6, true), ("2", "T", "T", 7, false)],
    ),
    ("UPDATE documents SET content = NULL WHERE id = 10", &[("2", "T", "T", 7, false)]),
];

const REREAD: &[Step] = &[
    KEEP[0],
    (
        "UPDATE documents SET title = 'New', views = 5 WHERE id = 1",
        &[("1", "New", "New", 5, true), ("2", "Short", "Short", 0, false)],
    ),
    ("UPDATE documents SET id = 10 WHERE id = 1", &[("10", "New", "New", 5, true), ("2", "Short", "Short", 0, false)]),
    (
        "UPDATE documents SET content = {LONG} WHERE id = 2",
        &[("10", "New", "New", 5, true), ("2", "Short", "Short", 0, true)],
    ),
    // What is read is newer than the first event, and the second one says the same.
    (
        "BEGIN; UPDATE documents SET title = 'T' WHERE id = 2; UPDATE documents SET content = NULL WHERE id = 2; COMMIT",
        &[("10", "New", "New", 5, true)],
    ),
    ("UPDATE documents SET content = 'cut', views = 8 WHERE id = 10", &[("10", "New", "New", 8, false)]),
];

#[tokio::test(flavor = "multi_thread")]
async fn kept_values_stay_in_every_sink_with_their_vectors() {
    every_sink_is_right("keep", KEEP, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reread_values_reach_every_sink() {
    every_sink_is_right("reread", REREAD, 0).await;
}

async fn every_sink_is_right(policy: &str, story: &[Step], rejected: usize) {
    let (database, server, folder) = (fresh_database().await, QdrantServer::start(None), Folder::new());
    database.client.batch_execute(TABLE).await.unwrap();
    let file = folder.write("toast.yaml", &pipeline(policy, &server.url(), &folder));
    let client = qdrant::client(&server.url(), None);
    for (statement, expected) in story {
        let mut host = Running::start(&file, &[("DATABASE_URL", &database.url)]);
        host.said("running").await;
        database.client.batch_execute(&statement.replace("{LONG}", LONG)).await.unwrap();
        let mut seen = Points::new();
        eventually(&format!("`{statement}` is in pgvector"), async || {
            seen = pgvector::dump(&database.client).await;
            summary(&seen).await == describe(expected)
        })
        .await;
        // What was received is written by every sink before the host ends.
        let (status, log) = host.stop().await;
        assert!(status.success(), "{log}");
        assert_eq!(qdrant::dump(&client, "docs").await, seen, "qdrant after `{statement}`");
        assert_eq!(qdrant_edge::dump(&folder.path("edge")), seen, "qdrant-edge after `{statement}`");
        assert_eq!(replayed(&folder.path("commands.jsonl")), seen, "file after `{statement}`");
    }
    let lines = std::fs::read_to_string(folder.path("rejected.jsonl")).unwrap_or_default();
    assert_eq!(lines.lines().count(), rejected, "{lines}");
    assert!(lines.lines().all(|line| line.contains("REPLICA IDENTITY FULL")), "{lines}");
}

fn pipeline(policy: &str, qdrant: &str, folder: &Folder) -> String {
    let create = format!(
        "create: {{ dimension: {DIMENSION}, distance: dot, vectors: {{ title: {{ dimension: 3, distance: dot }} }}, sparse: [words] }}"
    );
    format!(
        "version: 1\nname: toast-{policy}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], \
         toast: {policy} }}\n\
         embedders:\n  words: {{ type: hash, dimension: {DIMENSION} }}\n\
         transforms:\n  embed:\n    type: wasm\n    inputs: [db]\n    component: {}\n    embedders: [words]\n\
         sinks:\n  table: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: public.points, {create} }}\n  \
         server: {{ type: qdrant, inputs: [embed], url: \"{qdrant}\", collection: docs, {create} }}\n  \
         edge: {{ type: qdrant-edge, inputs: [embed], path: {}, {create} }}\n  \
         lines: {{ type: file, inputs: [embed], path: {} }}\n  \
         parked: {{ type: file, inputs: [embed.rejected], path: {} }}\n",
        root().join("plugins/documents-rust/documents.wasm").display(),
        folder.path("edge").display(),
        folder.path("commands.jsonl").display(),
        folder.path("rejected.jsonl").display(),
    )
}

fn describe(groups: &[Group]) -> Vec<String> {
    groups
        .iter()
        .map(|(key, title, made_with, views, several)| format!("{key} {title} {made_with} {views} {several}"))
        .collect()
}

/// What the points of each group come to, in the form of [`describe`]; says what is wrong with a group that is not whole.
async fn summary(points: &Points) -> Vec<String> {
    let mut groups: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
    for point in points.values() {
        groups.entry(point.group.as_deref().unwrap()).or_default().push(point);
    }
    let mut told = Vec::new();
    for (key, points) in groups {
        let first = &points[0].payload;
        let (title, views) = (first["title"].as_str().unwrap(), first["views"].as_i64().unwrap());
        let mut made_with = Vec::new();
        for point in &points {
            assert_eq!((&point.payload["title"], &point.payload["views"]), (&first["title"], &first["views"]));
            assert_eq!(point.payload["id"].to_string(), key);
            let chunk = point.payload["content"].as_str().expect("no chunk without its text");
            for title in ["Old", "New", "Short", "T"] {
                if point.vectors[""] == vector(&format!("{title}\n\n{chunk}")).await {
                    made_with.push(title);
                }
            }
        }
        assert_eq!(made_with.len(), points.len(), "every vector is that of its chunk, under one title");
        made_with.dedup();
        told.push(format!("{key} {title} {} {views} {}", made_with.join("+"), points.len() > 1));
    }
    told
}

async fn vector(text: &str) -> Embedding {
    let embedder = embedder::open("words", &HashEmbedder { dimension: DIMENSION }).unwrap();
    Embedding::Dense(embedder.embed(&[text]).await.unwrap().data)
}

/// What the commands of the file come to.
fn replayed(path: &Path) -> Points {
    let mut points = Points::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let group = line["group"].as_str().map(str::to_owned);
        match line["action"].as_str().unwrap() {
            "replace" => {
                points.retain(|_, point| point.group != group);
                for point in line["points"].as_array().unwrap() {
                    let values =
                        point["embeddings"][""].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32);
                    let vectors = BTreeMap::from([(String::new(), Embedding::Dense(values.collect()))]);
                    let payload = point["payload"].as_object().unwrap().clone();
                    points.insert(
                        point["id"].as_str().unwrap().to_owned(),
                        Stored { group: group.clone(), vectors, payload },
                    );
                }
            }
            "patch_group" => {
                let patch = line["payload"].as_object().unwrap();
                assert!(!patch.contains_key("content"), "a patch leaves the text alone: {line}");
                for point in points.values_mut().filter(|point| point.group == group) {
                    point.payload.extend(patch.clone());
                }
            }
            "delete_group" => points.retain(|_, point| point.group != group),
            other => panic!("{other}"),
        }
    }
    points
}
