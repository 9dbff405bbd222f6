//! Two hosts on one pipeline: one works, the other waits and takes over. Real processes, killed and frozen.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{select_all, try_join_all};
use pgstream_host::config::Span;
use pgstream_host::demo::Options;
use pgstream_host::event::{Batch, Value};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::Snapshot;
use pgstream_host::source::postgres::{self, CopyRequest, PostgresSource};
use rustix::process::Signal;

use crate::source::{config, pipeline, slot};
use crate::support::program::{Running, eventually, pgstream, root};
use crate::support::proxy::{Proxy, Way};
use crate::support::{
    Database, cluster_without_its_standby, connect, fresh_database, private_cluster, standby_arrives,
};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(60);
const PIPELINE: &str = "pipelines/postgres-to-pgvector.yaml";

const TABLE: &str = "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)";

async fn holds(database: &Database, id: i64, content: &str) {
    let sql = "SELECT EXISTS (SELECT FROM document_vectors WHERE group_id = $1 AND payload->>'content' = $2)";
    let row = (id.to_string(), content.to_owned());
    eventually(&format!("the sink holds `{content}`"), async || {
        database.client.query_one(sql, &[&row.0, &row.1]).await.is_ok_and(|row| row.get(0))
    })
    .await;
}

async fn write(database: &Database, id: i64, content: &str) {
    let sql = "INSERT INTO documents VALUES ($1, 't', $2) ON CONFLICT (id) DO UPDATE SET content = excluded.content";
    database.client.execute(sql, &[&id, &content]).await.unwrap();
    holds(database, id, content).await;
}

fn start(url: &str) -> Running {
    let file = root().join(PIPELINE);
    Running::start(&file, &[("DATABASE_URL", url), ("HEARTBEAT", "100ms")])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_that_waits_disturbs_nobody_and_follows_a_killed_one() {
    let cluster = private_cluster(18, &Options::fast());
    let database = Database::create(&cluster).await;
    database.client.batch_execute(TABLE).await.unwrap();
    let mut first = start(&database.url);
    first.said("streaming").await;
    write(&database, 1, "by the first").await;

    let mut second = start(&database.url);
    second.said("waits for the slot, and takes over as soon as it is free").await;
    assert!(!cluster.log().contains("is active for PID"), "it does not even try to take the slot:\n{}", cluster.log());
    let log = second.log();
    assert!(log.contains("serves it to `pgstream-host documents-pgvector` at 127.0.0.1"), "{log}");
    write(&database, 1, "still by the first").await;
    assert!(!second.log().contains("streaming"), "{}", second.log());

    first.kill();
    write(&database, 2, "by the second").await;
    assert!(second.log().contains("streaming"), "{}", second.log());

    // And back: whoever has failed may wait for the other.
    let mut third = start(&database.url);
    third.said("waits for the slot").await;
    let (status, log) = second.stop().await;
    assert!(status.success(), "{log}");
    write(&database, 3, "by the third").await;
    let (status, log) = third.stop().await;
    assert!(status.success(), "{log}");
}

/// Frozen while it tries to write; when it wakes up, what it holds is outdated.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_wakes_up_late_writes_nothing() {
    let cluster = private_cluster(18, &Options::fast().setting("wal_sender_timeout", "2s"));
    let database = Database::create(&cluster).await;
    database.client.batch_execute(TABLE).await.unwrap();
    let way = Proxy::start(SocketAddr::from(([127, 0, 0, 1], cluster.port()))).await;
    let file = root().join(PIPELINE);
    let sink = way.url(&database.url);
    let environment = [("DATABASE_URL", database.url.as_str()), ("VECTOR_DATABASE_URL", &sink)];
    let mut first = Running::start(&file, &environment);
    first.said("streaming").await;
    write(&database, 1, "by the first").await;

    way.set(Way::Closed);
    database.client.batch_execute("UPDATE documents SET content = 'held by the first'").await.unwrap();
    first.said("trying again; nothing is confirmed meanwhile").await;
    first.signal(Signal::STOP);
    let second = start(&database.url);
    holds(&database, 1, "held by the first").await;
    write(&database, 1, "by the second").await;
    way.set(Way::Open);
    first.signal(Signal::CONT);
    let (status, log) = first.ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("another host has taken over sink `vectors`"), "{log}");
    holds(&database, 1, "by the second").await;
    let (status, log) = second.stop().await;
    assert!(status.success(), "{log}");
}

/// Runs a command on the pipeline.
fn command(database: &Database, words: &[&str]) {
    let output = pgstream(words.iter().copied()).arg(PIPELINE).env("DATABASE_URL", &database.url).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until the sink has a point of each row and of no other.
async fn agree(database: &Database) {
    let sql = "SELECT (SELECT array_agg(id::text ORDER BY id::text) FROM documents)
                      IS NOT DISTINCT FROM (SELECT array_agg(DISTINCT group_id ORDER BY group_id) FROM document_vectors)";
    eventually("table and sink agree", async || database.client.query_one(sql, &[]).await.unwrap().get(0)).await;
}

/// What there is to clear and to copy when both start is done by the first one, and is no business of the second any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_waited_clears_and_copies_nothing_again() {
    let cluster = private_cluster(18, &Options::fast());
    let database = Database::create(&cluster).await;
    database.client.batch_execute(TABLE).await.unwrap();
    let mut before = start(&database.url); // makes the tables of the sink
    before.said("all rows of the table are copied").await;
    before.stop().await;
    let rows = "INSERT INTO documents SELECT i, 't', 'text ' || i FROM generate_series(1, 100) i";
    database.client.batch_execute(rows).await.unwrap();

    for begin in ["teardown", "resnapshot"] {
        command(&database, &[begin]);
        // The sink cannot be taken over, so nothing is cleared or copied yet.
        database.client.batch_execute("BEGIN; LOCK TABLE pgstream.positions IN SHARE MODE").await.unwrap();
        let mut first = start(&database.url);
        first.said("streaming").await;
        let mut second = start(&database.url);
        second.said("waits for the slot").await;
        database.client.batch_execute("COMMIT").await.unwrap();
        first.said("all rows of the table are copied").await;
        agree(&database).await;

        first.kill();
        second.said("streaming").await;
        // What is asked for now comes after all that was left open.
        command(&database, &["backfill", "--where", "id = 1"]);
        agree(&database).await;
        let (status, log) = second.stop().await;
        assert!(status.success(), "{log}");
        assert_eq!(log.matches("copying the rows of a table").count(), 1, "after {begin}:\n{log}");
    }
}

/// Another host had streamed the commit, while this one waited.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_sees_yet_is_not_undone_by_a_host_that_waited() {
    let cluster = cluster_without_its_standby();
    let database = Database::create(&cluster).await;
    let table = "CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t VALUES (1, 'old')";
    database.client.batch_execute(table).await.unwrap();
    let config = config(&database.url, &["t"]);
    let mut first = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let mut second = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();

    let writer = connect(&database.url).await;
    let update = "SET synchronous_commit = on; UPDATE t SET body = 'new'";
    let writing = tokio::spawn(async move { writer.batch_execute(update).await });
    while !read(&mut first).await.contains(&"new".to_owned()) {}
    Box::new(first).close().await.unwrap();

    let (numbers, _) = postgres::ask_copy(&pipeline(&database), &config, &CopyRequest::default()).await.unwrap();
    // Watermarks come by, and no row with them: the copy is read again and again.
    for _ in 0..8 {
        assert_eq!(read(&mut second).await, [""; 0]);
    }
    standby_arrives(&cluster);
    writing.await.unwrap().unwrap();
    let mut copied = Vec::new();
    while !postgres::copied(&pipeline(&database), &config, Some(&numbers)).await.unwrap().iter().all(|copy| copy.done) {
        if let Ok(texts) = tokio::time::timeout(Duration::from_millis(50), read(&mut second)).await {
            copied.extend(texts);
        }
    }
    assert_eq!(copied, ["new"]);
}

/// What this host had read before another one's turn comes again afterwards, and counts only then.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_before_another_host_s_turn_is_confirmed_when_it_comes_again() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, body text)").await.unwrap();
    let config = config(&database.url, &["t"]);
    let mut first = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    database.client.batch_execute("INSERT INTO t VALUES (1, 'on its way')").await.unwrap();
    let end = read_unconfirmed(&mut first).await.ends_at().unwrap();

    // Nobody polls the first one meanwhile, so the second one is quicker.
    let sql = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1";
    database.client.execute(sql, &[&slot(&database)]).await.unwrap();
    let mut second = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    read_unconfirmed(&mut second).await;
    Box::new(second).close().await.unwrap();

    // It sets all up again, and knows of no log to come. Then a sink is done with what it had.
    while first.lag().bytes > 0 {
        let batch = first.next().now_or_never();
        assert!(batch.is_none_or(|batch| batch.unwrap().unwrap().events().is_empty()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    first.confirm(end);
    let batch = tokio::time::timeout(DEADLINE, first.next()).await.unwrap().unwrap().unwrap();
    assert!(batch.begins_anew());
    let again = if batch.events().is_empty() { read_unconfirmed(&mut first).await } else { batch };
    assert_eq!(texts(&again), ["on its way"]);
    first.confirm(end);
    Box::new(first).close().await.unwrap();
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    let confirmed: String = database.client.query_one(sql, &[&slot(&database)]).await.unwrap().get(0);
    assert_eq!(confirmed.parse(), Ok(end));
}

/// Whoever sets the pipeline up alters the publication, for all of its processes.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_streams_a_table_that_another_process_has_found() {
    let database = fresh_database().await;
    let client = &database.client;
    client.batch_execute("CREATE TABLE t1 (id int PRIMARY KEY, body text)").await.unwrap();
    let mut config = config(&database.url, &["t*"]);
    (config.heartbeat, config.snapshot) = (Span(Duration::from_millis(20)), Snapshot::Initial);
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    client
        .batch_execute("CREATE TABLE t2 (id int PRIMARY KEY, body text); INSERT INTO t2 VALUES (1, 'before')")
        .await
        .unwrap();
    postgres::setup(&pipeline(&database), &config).await.unwrap();
    assert_eq!(read_texts(&mut source).await, ["before"]);
    client.batch_execute("INSERT INTO t2 VALUES (2, 'after')").await.unwrap();
    assert_eq!(read_texts(&mut source).await, ["after"]);
}

/// What is published and what is noted of it must never differ: it would look as if somebody had altered the publication.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_set_up_whole_or_not_at_all() {
    let database = fresh_database().await;
    let client = &database.client;
    client.batch_execute("CREATE TABLE t1 (id int PRIMARY KEY); CREATE TABLE t2 (id int PRIMARY KEY)").await.unwrap();
    postgres::setup(&pipeline(&database), &config(&database.url, &["t1"])).await.unwrap();
    let refuse = "ALTER TABLE pgstream.slots ADD CONSTRAINT no_room CHECK (cardinality(tables) < 2) NOT VALID";
    client.batch_execute(refuse).await.unwrap();
    let both = config(&database.url, &["t1", "t2"]);
    let error = postgres::setup(&pipeline(&database), &both).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot write to `pgstream.slots`", "{}", error.report());
    client.batch_execute("ALTER TABLE pgstream.slots DROP CONSTRAINT no_room").await.unwrap();
    let published = "SELECT string_agg(tablename, ' ') FROM pg_publication_tables WHERE pubname = $1";
    let published: String = client.query_one(published, &[&slot(&database)]).await.unwrap().get(0);
    assert_eq!(published, "t1");
    postgres::setup(&pipeline(&database), &both).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_start_for_the_first_time_at_once_agree() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, body text)").await.unwrap();
    let (name, config) = (pipeline(&database), config(&database.url, &["t"]));
    let mut sources = try_join_all((0..6).map(|_| PostgresSource::connect(&name, &config))).await.unwrap();
    database.client.batch_execute("INSERT INTO t VALUES (1, 'one')").await.unwrap();
    let one = select_all(sources.iter_mut().map(|source| Box::pin(read_texts(source)))).await.0;
    assert_eq!(one, ["one"]);
}

/// The texts of the next batch with events. All that is read is confirmed.
async fn read_texts(source: &mut PostgresSource) -> Vec<String> {
    loop {
        let texts = read(source).await;
        if !texts.is_empty() {
            return texts;
        }
    }
}

/// The next batch with events.
async fn read_unconfirmed(source: &mut PostgresSource) -> Batch {
    loop {
        let batch = tokio::time::timeout(DEADLINE, source.next()).await.unwrap().unwrap().unwrap();
        if !batch.events().is_empty() {
            return batch;
        }
    }
}

/// The texts that the next batch brings. All that is read is confirmed.
async fn read(source: &mut PostgresSource) -> Vec<String> {
    let batch = tokio::time::timeout(DEADLINE, source.next()).await.unwrap().unwrap().unwrap();
    if let Some(end) = batch.ends_at() {
        source.confirm(end);
    }
    texts(&batch)
}

fn texts(batch: &Batch) -> Vec<String> {
    let text = |value| match value {
        Some(Value::Text(text)) => text.to_owned(),
        other => panic!("not a text: {other:?}"),
    };
    batch.events().iter().map(|event| text(batch.row(event).get(1))).collect()
}
