//! A primary that dies and a standby that takes its place: the slot comes along, and the pipeline with it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use pgstream_host::demo::{Cluster, Options, Stop};
use pgstream_host::event::Value;
use pgstream_host::source::Source;
use pgstream_host::source::postgres::PostgresSettings as Config;
use pgstream_host::source::postgres::{self, PostgresSource};
use tokio_postgres::Client;

use crate::source::{config, pipeline, slot};
use crate::support::program::eventually;
use crate::support::proxy::Proxy;
use crate::support::{Database, connect, postgres16, private_cluster};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

fn address(server: &Cluster) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port()))
}

/// Waits until the standby could take the slot over, which it can only once the slot has moved.
async fn synced(database: &Database, standby: &Client, source: &mut PostgresSource) {
    let sql = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND synced AND NOT temporary";
    eventually("the standby has the slot", async || {
        database.client.batch_execute("SELECT pg_log_standby_snapshot()").await.unwrap();
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(100), source.next()).await {
            let batch = batch.unwrap().unwrap();
            assert!(batch.events().is_empty());
            source.confirm(batch.ends_at().unwrap());
        }
        standby.query_one(sql, &[&slot(database)]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
}

/// Reads and confirms until the rows are `count`.
async fn read(source: &mut PostgresSource, rows: &mut BTreeSet<i64>, count: usize) {
    let reading = async {
        while rows.len() < count {
            let batch = source.next().await.unwrap().unwrap();
            for event in batch.events() {
                let Some(Value::Int(id)) = batch.row(event).get(0) else { panic!("not a number") };
                rows.insert(id);
            }
            if let Some(end) = batch.ends_at() {
                source.confirm(end);
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("all rows in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_follows_its_slot_to_the_new_primary() {
    let mut primary = private_cluster(18, &Options::fast());
    let database = Database::create(&primary).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let standing_by = Options::fast().setting("sync_replication_slots", "on").setting("hot_standby_feedback", "on");
    let standby = primary.standby(&standing_by).unwrap();
    primary.set("synchronized_standby_slots", "standby").unwrap();
    let way = Proxy::start(address(&primary)).await;

    // A slot that was made without is altered; another one stays as it is.
    let url = way.url(&database.url);
    let plain =
        Config { slot: Some("left_behind".into()), publication: Some("left_behind".into()), ..config(&url, &["t"]) };
    postgres::setup(&pipeline(&database), &plain).await.unwrap();
    postgres::setup(&pipeline(&database), &config(&url, &["t"])).await.unwrap();
    let ours = Config { failover: true, ..config(&url, &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    let mut rows = BTreeSet::new();
    database.client.batch_execute("INSERT INTO t SELECT generate_series(1, 100)").await.unwrap();
    read(&mut source, &mut rows, 100).await;

    let there = connect(&standby.url(&database.name)).await;
    synced(&database, &there, &mut source).await;
    database.client.batch_execute("INSERT INTO t SELECT generate_series(101, 150)").await.unwrap();
    // Sent to us only once the standby has it.
    read(&mut source, &mut rows, 150).await;

    primary.stop(Stop::Immediate).unwrap();
    standby.psql(&database.name, "SELECT pg_promote()").unwrap();
    way.lead_to(address(&standby));
    let after = connect(&standby.url(&database.name)).await;
    after.batch_execute("INSERT INTO t SELECT generate_series(151, 200)").await.unwrap();
    read(&mut source, &mut rows, 200).await;
    Box::new(source).close().await.unwrap();

    // And after a restart.
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    after.batch_execute("INSERT INTO t VALUES (201)").await.unwrap();
    read(&mut source, &mut rows, 201).await;

    let error = postgres::check(&pipeline(&database), &plain).await.unwrap_err();
    assert!(error.report().contains("left behind by a failover"), "{}", error.report());
    let error = PostgresSource::connect(&pipeline(&database), &plain).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "slot `left_behind` is gone");
}

/// The standby was promoted before it had what the pipeline had already handed on.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_ahead_of_the_new_primary_stops() {
    let mut primary = private_cluster(18, &Options::fast());
    let database = Database::create(&primary).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let standing_by = Options::fast().setting("sync_replication_slots", "on").setting("hot_standby_feedback", "on");
    let standby = primary.standby(&standing_by).unwrap();
    let way = Proxy::start(address(&primary)).await;
    let ours = Config { failover: true, ..config(&way.url(&database.url), &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    let there = connect(&standby.url(&database.name)).await;
    synced(&database, &there, &mut source).await;
    // It hears no more from now on.
    standby.set("primary_conninfo", "host=/nowhere").unwrap();
    let deaf = "SELECT count(*) = 0 FROM pg_stat_wal_receiver";
    eventually("the standby is cut off", async || there.query_one(deaf, &[]).await.unwrap().get(0)).await;
    database.client.batch_execute("INSERT INTO t SELECT generate_series(1, 10)").await.unwrap();
    read(&mut source, &mut BTreeSet::new(), 10).await;

    primary.stop(Stop::Immediate).unwrap();
    standby.psql(&database.name, "SELECT pg_promote()").unwrap();
    way.lead_to(address(&standby));
    let error = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    });
    let error = error.await.unwrap();
    assert_eq!(error.to_string(), "the pipeline is ahead of the server", "{}", error.report());
    assert!(error.advice().unwrap().contains("synchronized_standby_slots"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_server_has_no_failover_slots() {
    let database = Database::create(postgres16()).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let ours = Config { failover: true, ..config(&database.url, &["t"]) };
    let error = postgres::check(&pipeline(&database), &ours).await.unwrap_err();
    assert!(error.to_string().starts_with("the server is Postgres 16."), "{}", error.report());
    assert_eq!(
        error.advice(),
        Some("they came with Postgres 17: upgrade the server, or take `failover: true` out of the source")
    );
}
