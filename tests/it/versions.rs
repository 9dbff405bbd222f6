//! The whole program on every version of Postgres: rows that are there, changes, a kill in the middle; then table and sink agree.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::support::program::{Folder, Running, eventually, root};
use crate::support::{Database, fresh_database, versions};

#[tokio::test(flavor = "multi_thread")]
async fn table_and_sink_agree_after_a_kill_on_every_version() {
    for cluster in versions() {
        // Postgres 15 comes without pgvector here: the sink is elsewhere, as it often is.
        let (source, sink) = (Database::create(cluster).await, fresh_database().await);
        let client = &source.client;
        client.batch_execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)").await.unwrap();
        client
            .batch_execute("INSERT INTO documents SELECT i, 'old', 'row ' || i FROM generate_series(1, 3000) i")
            .await
            .unwrap();
        let folder = Folder::new();
        let file = folder.write("versions.yaml", &pipeline(&source.name));
        let environment = [("DATABASE_URL", &*source.url), ("SINK_URL", &*sink.url)];
        let mut host = Running::start(&file, &environment);
        host.said("running").await;
        for round in 0..3 {
            for id in 0..40 {
                client.batch_execute(&change(round * 40 + id)).await.unwrap();
            }
            // In the middle of the copy, or of what came since.
            host.kill();
            host = Running::start(&file, &environment);
        }
        host.said("running").await;
        let mut seen = (BTreeMap::new(), BTreeMap::new());
        eventually("table and sink agree", async || {
            seen = (
                rows(client, "SELECT id::text, title, content FROM documents").await,
                rows(&sink.client, "SELECT group_id, payload->>'title', payload->>'content' FROM vectors").await,
            );
            seen.0 == seen.1
        })
        .await;
        assert!(seen.0.len() > 2500, "{}", seen.0.len());
        let (status, log) = host.stop().await;
        assert!(status.success(), "{log}");
    }
}

/// A transaction, or one that is rolled back.
fn change(number: i64) -> String {
    let id = 1 + number * 23 % 3000;
    match number % 6 {
        0 => format!("UPDATE documents SET content = 'changed {number}' WHERE id BETWEEN {id} AND {}", id + 5),
        1 => format!("DELETE FROM documents WHERE id = {id}"),
        2 => format!("UPDATE documents SET id = id + 10000 WHERE id = {id}"),
        3 => format!("BEGIN; INSERT INTO documents VALUES ({}, 'new', 'undone'); ROLLBACK", 20_000 + number),
        4 => format!(
            "INSERT INTO documents SELECT {0} + g, 'new', 'bulk ' || g FROM generate_series(1, 50) g",
            30_000 + 100 * number
        ),
        _ => format!("UPDATE documents SET title = 'seen {number}' WHERE id = {id}"),
    }
}

fn pipeline(name: &str) -> String {
    format!(
        "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], snapshot: initial, \
         batch: {{ max_events: 100 }} }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  search: {{ type: pgvector, inputs: [embed], url: \"${{SINK_URL}}\", table: public.vectors, create: {{ dimension: 8 }} }}\n",
        name.replace('_', "-"),
        root().join("plugins/documents-rust/documents.wasm").display()
    )
}

async fn rows(client: &Client, query: &str) -> BTreeMap<String, Vec<(Option<String>, Option<String>)>> {
    let mut rows: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for row in client.query(query, &[]).await.unwrap() {
        rows.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    rows
}
