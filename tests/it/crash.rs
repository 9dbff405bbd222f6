//! Invariant 2 under fire: SIGKILL at random moments under write load, then table and sinks must agree.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgstream_host::config::model::{Create, Distance, SinkBatch};
use pgstream_host::sink::qdrant_edge::QdrantEdgeSettings;
use pgstream_host::sink::{Query, Searcher};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::Client;

use crate::support::program::{Folder, Running, eventually, root};
use crate::support::{Database, connect, fresh_database};

/// How often the host is killed.
const KILLS: usize = 8;

const TABLE: &str =
    "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text, views bigint NOT NULL DEFAULT 0)";

#[tokio::test(flavor = "multi_thread")]
async fn after_random_kills_under_load_the_sinks_hold_exactly_the_table() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let database = fresh_database().await;
    database.client.batch_execute(TABLE).await.unwrap();
    // Rows from before the pipeline: their copy is under fire too.
    let rows = "INSERT INTO documents SELECT i, 'old', 'an old row ' || i FROM generate_series(1, 3000) i";
    database.client.batch_execute(rows).await.unwrap();
    let folder = Folder::new();
    let store = folder.path("store");
    let file = folder.write("crash.yaml", &pipeline(&store));
    let environment = [("DATABASE_URL", database.url.as_str())];

    let mut host = Running::start(&file, &environment);
    host.said("running").await;
    let load = Load::start(&database.url, seed).await;
    for _ in 0..KILLS {
        let moment = load.transactions() + random.random_range(1..60);
        eventually("the load goes on", async || load.transactions() >= moment).await;
        host.kill();
        host = Running::start(&file, &environment);
    }
    host.said("running").await;
    let transactions = load.stop().await;
    println!("{transactions} transactions under {KILLS} kills");

    let table = agree(&database).await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
    assert_eq!(embedded(&store).await, table, "what the embedded sink holds");
    let slot = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND active";
    let active: i64 = database.client.query_one(slot, &[]).await.unwrap().get(0);
    assert_eq!(active, 0, "an orderly stop lets go of the slot");
}

fn pipeline(store: &Path) -> String {
    format!(
        "version: 1\nname: crash\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], \
         snapshot: initial, batch: {{ max_events: 40 }} }}\n\
         embedders:\n  words: {{ type: hash, dimension: 16 }}\n\
         transforms:\n  embed:\n    type: wasm\n    inputs: [db]\n    component: {}\n    embedders: [words]\n    workers: 2\n\
         sinks:\n  search:\n    type: pgvector\n    inputs: [embed]\n    url: \"${{DATABASE_URL}}\"\n    table: public.vectors\n    \
         create: {{ dimension: 16 }}\n  embedded: {{ type: qdrant-edge, inputs: [embed], path: {}, create: {{ dimension: 16 }} }}\n",
        root().join("plugins/documents-rust/documents.wasm").display(),
        store.display()
    )
}

/// Waits until the pgvector sink holds one point per row with the row's text, and no other; answers the rows.
async fn agree(database: &Database) -> BTreeMap<String, Vec<Row>> {
    let table = "SELECT id::text, title, content, views FROM documents WHERE content IS NOT NULL";
    let sink = "SELECT group_id, payload->>'title', payload->>'content', (payload->>'views')::bigint FROM vectors";
    let mut seen = (BTreeMap::new(), BTreeMap::new());
    eventually("table and sink agree", async || {
        seen = (contents(&database.client, table).await, contents(&database.client, sink).await);
        seen.0 == seen.1
    })
    .await;
    assert!(!seen.0.is_empty(), "the load has left rows to compare");
    seen.0
}

/// What the embedded sink holds, by way of a search that finds everything.
async fn embedded(store: &Path) -> BTreeMap<String, Vec<Row>> {
    let create = Create { dimension: Some(16), distance: Distance::Cosine, vectors: BTreeMap::new(), sparse: vec![] };
    let settings =
        QdrantEdgeSettings { inputs: vec![], path: store.into(), folder: None, create, batch: SinkBatch::default() };
    let query = Query { vector: "", values: &[0.25; 16], limit: 100_000 };
    let hits = settings.search(&query).await.unwrap();
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for hit in hits {
        let text = |key: &str| hit.payload[key].as_str().map(str::to_owned);
        let row = (text("title"), text("content"), hit.payload["views"].as_i64());
        rows.entry(hit.payload["id"].to_string()).or_default().push(row);
    }
    rows
}

type Row = (Option<String>, Option<String>, Option<i64>);

async fn contents(client: &Client, query: &str) -> BTreeMap<String, Vec<Row>> {
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in client.query(query, &[]).await.unwrap() {
        rows.entry(row.get(0)).or_default().push((row.get(1), row.get(2), row.get(3)));
    }
    rows
}

/// A writer that goes on until it is stopped: small and large transactions, key changes, rollbacks, truncates.
struct Load {
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    async fn start(url: &str, seed: u64) -> Self {
        let (stop, transactions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = connect(url).await;
        let mut random = StdRng::seed_from_u64(seed ^ 0x10AD);
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&transactions));
        let task = tokio::spawn(async move {
            while !told.load(Ordering::Relaxed) {
                client.batch_execute(&transaction(&mut random)).await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
            // The last transaction may have been a TRUNCATE.
            let last = "INSERT INTO documents VALUES (1, 'last', 'last') ON CONFLICT DO NOTHING";
            client.batch_execute(last).await.unwrap();
        });
        Self { stop, transactions, task }
    }

    fn transactions(&self) -> u64 {
        assert!(!self.task.is_finished(), "the load has failed");
        self.transactions.load(Ordering::Relaxed)
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.transactions.load(Ordering::Relaxed)
    }
}

/// One transaction over a small range of keys, so that rows are written again and again.
fn transaction(random: &mut StdRng) -> String {
    let statements = random.random_range(1..4);
    let body: String = (0..statements).map(|_| statement(random)).collect();
    match random.random_range(0..20) {
        0 => format!("BEGIN; {body} ROLLBACK;"),
        1 => format!("BEGIN; SAVEPOINT s; {body} ROLLBACK TO s; {} COMMIT;", statement(random)),
        _ => format!("BEGIN; {body} COMMIT;"),
    }
}

fn statement(random: &mut StdRng) -> String {
    let id: u32 = random.random_range(1..400);
    let word: u32 = random.random();
    match random.random_range(0..100) {
        0..40 => format!(
            "INSERT INTO documents VALUES ({id}, 't {word}', 'text {word}') ON CONFLICT (id) DO UPDATE SET content = 'again {word}'; "
        ),
        40..60 => format!("UPDATE documents SET content = 'changed {word}' WHERE id BETWEEN {id} AND {}; ", id + 5),
        60..70 => format!("UPDATE documents SET views = views + 1, title = 'seen {word}' WHERE id = {id}; "),
        70..80 => format!("DELETE FROM documents WHERE id BETWEEN {id} AND {}; ", id + 2),
        80..90 => format!(
            "UPDATE documents SET id = {0} WHERE id = {id} AND NOT EXISTS (SELECT FROM documents WHERE id = {0}); ",
            id + 1000
        ),
        90..97 => format!(
            "INSERT INTO documents SELECT g, 'bulk', 'bulk {word} ' || g FROM generate_series(2000, 2300) g ON CONFLICT (id) DO UPDATE SET content = excluded.content; "
        ),
        97..99 => "DELETE FROM documents WHERE id >= 1000; ".to_owned(),
        _ => "TRUNCATE documents; ".to_owned(),
    }
}
