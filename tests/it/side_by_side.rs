//! Several pipelines in one process: what befalls one does not befall the others, and what may pass is tried again.

use tonic::Code;

use crate::embedder::Server;
use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually, root};
use crate::support::qdrant_server::QdrantServer;

/// A pipeline from the table to a file, both of the pipeline's own name.
fn pipeline(folder: &Folder, name: &str, tables: &str) {
    let (component, out) =
        (root().join("plugins/documents-rust/documents.wasm"), folder.path(&format!("{name}.jsonl")));
    folder.write(
        &format!("{name}.yaml"),
        &format!(
            "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [{tables}], snapshot: initial }}\n\
             embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
             transforms:\n  chunk: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
             sinks:\n  out: {{ type: file, inputs: [chunk], path: {} }}\n",
            component.display(),
            out.display()
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_start_holds_nobody_up_and_starts_once_it_can() {
    let (database, folder) = (fresh_database().await, Folder::new());
    let make = async |table: &str| {
        let rows = format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, title text, content text);
             INSERT INTO {table} VALUES (1, 'Tents', 'Dry it.')"
        );
        database.client.batch_execute(&rows).await.unwrap();
    };
    make("early").await;
    pipeline(&folder, "amiss", "pgstream.slots");
    pipeline(&folder, "early", "public.early");
    pipeline(&folder, "later", "public.later");
    let mut host = Running::start(&folder.path(""), &[("DATABASE_URL", database.url.as_str())]);
    let arrived = async |name: &str| {
        eventually(&format!("the row of `{name}` is written"), async || {
            std::fs::read_to_string(folder.path(&format!("{name}.jsonl"))).is_ok_and(|lines| lines.contains("Dry it."))
        })
        .await;
    };
    arrived("early").await;
    host.said("run{pipeline=later}: the pipeline is started again").await;
    make("later").await;
    arrived("later").await;
    let (status, log) = host.stop().await;
    assert_eq!(status.code(), Some(2), "the one that is amiss is told of at the end, too: {log}");
    assert_eq!(log.matches("pipeline `amiss` cannot start").count(), 1, "what cannot pass is not tried again: {log}");
    assert!(log.contains("run{pipeline=early}: running") && log.contains("run{pipeline=early}: streaming"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_started_again_pays_for_no_text_twice() {
    let (database, folder, provider) = (fresh_database().await, Folder::new(), Server::good().await);
    let store = QdrantServer::start(None);
    let tables =
        ["other", "paid"].map(|table| format!("CREATE TABLE {table} (id int PRIMARY KEY, title text, content text);"));
    database.client.batch_execute(&tables.concat()).await.unwrap();
    pipeline(&folder, "other", "public.other");
    let (component, (qdrant, openai)) =
        (root().join("plugins/documents-rust/documents.wasm"), (store.url(), provider.url()));
    let file = format!(
        "version: 1\nname: paid\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.paid], snapshot: never }}\n\
         embedders:\n  words: {{ type: openai, url: \"{openai}\", model: small, dimension: 3 }}\n\
         transforms:\n  chunk: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  store: {{ type: qdrant, inputs: [chunk], url: \"{qdrant}\", collection: paid, create: {{ dimension: 3, distance: cosine }} }}\n",
        component.display(),
    );
    folder.write("paid.yaml", &file);
    let mut host = Running::start(&folder.path(""), &[("DATABASE_URL", database.url.as_str())]);
    host.said("run{pipeline=paid}: streaming").await;
    store.fail(2, Code::FailedPrecondition);
    database.client.batch_execute("INSERT INTO paid VALUES (1, 'Tents', 'Dry it.')").await.unwrap();
    host.said("run{pipeline=paid}: the pipeline is started again").await;
    let confirmed =
        "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = 'pgstream_paid'";
    let end: String = database.client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    eventually("the row is confirmed", async || {
        database.client.query_one(confirmed, &[&end]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    assert_eq!(provider.requests(), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_down_at_the_end_is_the_exit_code() {
    let (database, folder) = (fresh_database().await, Folder::new());
    database.client.batch_execute("CREATE TABLE steady (id int PRIMARY KEY, title text, content text)").await.unwrap();
    pipeline(&folder, "steady", "public.steady");
    pipeline(&folder, "absent", "public.absent");
    let mut host = Running::start(&folder.path(""), &[("DATABASE_URL", database.url.as_str())]);
    host.said("the pipeline is started again").await;
    host.said("run{pipeline=steady}: streaming").await;
    let (status, log) = host.stop().await;
    assert_eq!(status.code(), Some(3), "{log}");
}
