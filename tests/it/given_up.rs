//! A set-up that is given up while the server still makes the slot leaves nothing behind.

use pgstream_host::error::Fault;
use pgstream_host::source::postgres;

use crate::source::{config, pipeline, slot};
use crate::support::program::{Folder, Running, eventually, root};
use crate::support::{Database, connect, fresh_database, versions};

async fn exists(database: &Database) -> bool {
    let sql = format!("SELECT FROM pg_replication_slots WHERE slot_name = '{}'", slot(database));
    !database.client.query(&sql, &[]).await.unwrap().is_empty()
}

/// A transaction that holds the making of slots up.
async fn hold_up(database: &Database) -> tokio_postgres::Client {
    let holder = connect(&database.url).await;
    holder.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_set_up_that_is_given_up_is_not_made_later() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
        let holder = hold_up(&database).await;
        let (name, ours) = (pipeline(&database), config(&database.url, &["t"]));
        let task = tokio::spawn(async move { postgres::setup(&name, &ours).await });
        eventually("the slot is being made", async || exists(&database).await).await;
        task.abort();
        eventually("the slot is given up", async || !exists(&database).await).await;
        drop(holder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_process_that_was_killed_is_not_made_later_either() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let holder = hold_up(&database).await;
    let folder = Folder::new();
    let text = format!(
        "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.t] }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {} }}\n\
         sinks:\n  none: {{ type: blackhole, inputs: [embed] }}\n",
        pipeline(&database),
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let file = folder.write("pipeline.yaml", &text);
    let mut host = Running::start_with(&["setup"], &file, &[("DATABASE_URL", &database.url)]);
    eventually("the slot is being made", async || {
        assert!(host.exit().is_none(), "{}", host.log());
        exists(&database).await
    })
    .await;
    host.kill();
    eventually("the slot is given up", async || !exists(&database).await).await;
    drop(holder);
}

#[tokio::test(flavor = "multi_thread")]
async fn teardown_says_that_a_slot_is_still_being_made_and_by_whom() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let holder = hold_up(&database).await;
    let maker = connect(&database.url).await;
    maker.batch_execute("SET application_name = 'somebody'").await.unwrap();
    let sql = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", slot(&database));
    let made = tokio::spawn(async move { maker.batch_execute(&sql).await.map_err(drop) });
    eventually("the slot is being made", async || exists(&database).await).await;
    let (name, ours) = (pipeline(&database), config(&database.url, &["t"]));
    let error = postgres::teardown(&name, &ours).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Transient);
    let report = error.report();
    assert!(report.contains("of the server is still making it for `somebody`"), "{report}");
    // What it says to type leaves nothing.
    let typed = error.advice().unwrap().split("any more: ").nth(1).unwrap().split(", which").next().unwrap();
    database.client.execute(typed, &[]).await.unwrap();
    assert_eq!(made.await.unwrap(), Err(()));
    eventually("the slot is gone", async || !exists(&database).await).await;
    postgres::teardown(&name, &ours).await.unwrap();
    drop(holder);
}
