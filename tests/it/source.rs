//! The source `postgres` against real servers: nothing lost, nothing twice, nothing confirmed that was not.

use std::collections::BTreeMap;
use std::time::Duration;

use pgstream_host::config::{Secret, Size, Span, model};
use pgstream_host::demo::{Options, Stop};
use pgstream_host::error::Error;
use pgstream_host::event::{Batch, Event, Operation, Value};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, OnSlotLost, PostgresSettings, PostgresSource, Snapshot, Toast};
use tokio_postgres::Client;

use crate::support::program::{Running, eventually, root};
use crate::support::{
    Database, cluster_without_its_standby, connect, fresh_database, private_cluster, standby_arrives, versions,
};

/// Long enough for the slowest machine; only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) fn config(url: &str, tables: &[&str]) -> PostgresSettings {
    PostgresSettings {
        url: Secret::new(url),
        password_file: None,
        trusted_owners: Vec::new(),
        read_url: None,
        read_password_file: None,
        folder: None,
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        snapshot: Snapshot::Never,
        toast: Toast::Keep,
        on_slot_lost: OnSlotLost::Stop,
        failover: false,
        heartbeat: Span(Duration::ZERO), // nothing but what the test does
        slot: None,
        publication: None,
        max_row: Size(256 << 20),
        batch: model::SourceBatch::default(),
    }
}

/// A pipeline's name, and so a slot, that no other test of the shared server has.
pub(crate) fn pipeline(database: &Database) -> String {
    database.name.replace('_', "-")
}

pub(crate) fn slot(database: &Database) -> String {
    format!("pgstream_{}", database.name)
}

/// Reads on until the source gives up; why it does.
pub(crate) async fn last_word(source: &mut PostgresSource) -> Error {
    let reading = async {
        loop {
            if let Err(error) = source.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("an error in time")
}

/// A source that logs in as the smallest role.
async fn open(database: &Database, tables: &[&str]) -> PostgresSource {
    let url = database.smallest_role(tables).await;
    PostgresSource::connect(&pipeline(database), &config(&url, tables)).await.unwrap()
}

/// A source that makes its publication by itself, as it takes to follow a pattern.
async fn open_as_owner(database: &Database, tables: &[&str]) -> PostgresSource {
    PostgresSource::connect(&pipeline(database), &config(&database.url, tables)).await.unwrap()
}

async fn next(source: &mut PostgresSource) -> Batch {
    tokio::time::timeout(DEADLINE, source.next()).await.expect("a batch in time").unwrap().expect("the stream goes on")
}

/// Confirms all that it reads, until `events` have come.
async fn read(source: &mut PostgresSource, events: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < events {
        let batch = next(source).await;
        seen.extend(batch.events().iter().map(|event| describe(&batch, event)));
        if let Some(end) = batch.ends_at() {
            source.confirm(end);
        }
    }
    seen
}

fn describe(batch: &Batch, event: &Event) -> String {
    let values =
        |row: pgstream_host::event::Row<'_>| row.iter().map(|value| text(&value)).collect::<Vec<_>>().join(",");
    let operation = match event.operation {
        Operation::Insert => "+",
        Operation::Update => "~",
        Operation::Delete => "-",
        Operation::Truncate => "0",
    };
    format!("{operation}{} {}", batch.relation(event).table, values(batch.row(event))).trim_end().to_owned()
}

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Unchanged => "unchanged".into(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) | Value::Other(text) | Value::Json(text) | Value::Numeric(text) => (*text).to_owned(),
        other => format!("{other:?}"),
    }
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn confirmed(database: &Database) -> Lsn {
    let sql =
        format!("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{}'", slot(database));
    one::<String>(&database.client, &sql).await.parse().unwrap()
}

/// Kills the walsender of a database's slot.
async fn cut(database: &Database) {
    let sql = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(database)
    );
    database.client.execute(&sql, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_holds_what_was_committed_in_the_order_of_commits() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let client = &database.client;
        client
            .batch_execute("CREATE TABLE t (id int PRIMARY KEY, body text); CREATE TABLE u (id int PRIMARY KEY)")
            .await
            .unwrap();
        let mut source = open(&database, &["t"]).await;
        let other = connect(&database.url).await;

        client.batch_execute("INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, 'ü')").await.unwrap();
        client.batch_execute("COPY t FROM PROGRAM 'printf \"4\\tx\\n5\\ty\\n\"'").await.unwrap();
        client.batch_execute("BEGIN; INSERT INTO t VALUES (6, 'first begun')").await.unwrap();
        other
            .batch_execute(
                "BEGIN; INSERT INTO t VALUES (7, 'first committed'); UPDATE t SET body = 'b' WHERE id = 1; COMMIT",
            )
            .await
            .unwrap();
        client.batch_execute("INSERT INTO u VALUES (1); DELETE FROM t WHERE id = 2; COMMIT").await.unwrap();
        client.batch_execute("BEGIN; INSERT INTO t VALUES (8, 'undone'); ROLLBACK").await.unwrap();
        client.batch_execute("BEGIN; SAVEPOINT s; INSERT INTO t VALUES (9, 'undone'); ROLLBACK TO s; INSERT INTO t VALUES (10, 'kept'); COMMIT").await.unwrap();

        let expected = [
            "+t 1,a",
            "+t 2,null",
            "+t 3,ü",
            "+t 4,x",
            "+t 5,y",
            "+t 7,first committed",
            "~t 1,b",
            "+t 6,first begun",
            "-t 2,null",
            "+t 10,kept",
        ];
        assert_eq!(read(&mut source, expected.len()).await, expected);
        assert_eq!(source.origin().rsplit('/').next(), Some(slot(&database).as_str()));
        Box::new(source).close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_spans_bounded_batches_and_only_its_last_may_be_confirmed() {
    const ROWS: usize = 200_000;
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, body text)").await.unwrap();
    let mut config = config(&database.url, &["t"]);
    config.batch = model::SourceBatch { max_events: 5000, max_bytes: Size(256 << 10), ..Default::default() };
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    database
        .client
        .execute(&format!("INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, {ROWS}) i"), &[])
        .await
        .unwrap();
    let end: Lsn = one::<String>(&database.client, "SELECT pg_current_wal_insert_lsn()::text").await.parse().unwrap();

    let (mut rows, mut last, mut batches) = (0_usize, None::<Position>, 0);
    while rows < ROWS {
        let batch = next(&mut source).await;
        assert!(batch.bytes() <= (256 << 10) + 1024, "{} bytes", batch.bytes());
        assert!(batch.events().len() <= 5000);
        for event in batch.events() {
            assert!(
                last.is_none_or(|last| event.position.lsn == last.lsn && event.position.ordinal == last.ordinal + 1)
            );
            assert_eq!(batch.row(event).get(0), Some(Value::Int(rows as i64 + 1)));
            last = Some(event.position);
            rows += 1;
        }
        batches += usize::from(!batch.events().is_empty());
        let begun_before = batch.ends_at().is_none_or(|ends_at| last.is_none_or(|last| ends_at <= last.lsn));
        assert!(begun_before || rows == ROWS, "a point inside the transaction was offered for confirmation");
    }
    assert!(batches >= ROWS / 5000);
    while confirmed(&database).await < last.unwrap().lsn {
        let batch = next(&mut source).await;
        if let Some(ends_at) = batch.ends_at() {
            assert!(ends_at > last.unwrap().lsn && last.unwrap().lsn < end);
            source.confirm(ends_at);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_leaves_out_is_unchanged_and_a_changed_key_is_a_delete_and_an_insert() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, n int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL",
        )
        .await
        .unwrap();
    let mut source = open(&database, &["public.t"]).await;
    client.batch_execute("INSERT INTO t VALUES (1, 1, repeat('x', 10000))").await.unwrap();
    client.batch_execute("UPDATE t SET n = 2; UPDATE t SET id = 5, body = 'short'; TRUNCATE t").await.unwrap();
    let seen = read(&mut source, 5).await;
    assert_eq!(seen[0].len(), "+t 1,1,".len() + 10_000);
    assert_eq!(seen[1..], ["~t 1,2,unchanged", "-t 1,null,null", "+t 5,2,short", "0t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_arrive_as_their_root_and_new_tables_of_a_pattern_with_the_next_start() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TABLE chunk_a (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE chunk_a1 PARTITION OF chunk_a FOR VALUES FROM (0) TO (10);
        CREATE TABLE chunkxb (id int PRIMARY KEY); CREATE VIEW chunk_v AS SELECT 1 AS x",
        )
        .await
        .unwrap();
    let mut source = open_as_owner(&database, &["public.chunk_*"]).await;
    client
        .batch_execute("INSERT INTO chunk_a VALUES (1); INSERT INTO chunkxb VALUES (2); INSERT INTO chunk_a VALUES (3)")
        .await
        .unwrap();
    assert_eq!(read(&mut source, 2).await, ["+chunk_a 1", "+chunk_a 3"]);
    Box::new(source).close().await.unwrap();

    client.batch_execute("CREATE TABLE chunk_c (id int PRIMARY KEY)").await.unwrap();
    let mut source = open_as_owner(&database, &["public.chunk_*"]).await;
    client.batch_execute("INSERT INTO chunk_c VALUES (4)").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+chunk_c 4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_without_a_readable_binary_form_come_as_text_also_when_they_appear_later() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('happy'); CREATE DOMAIN short AS text;
        CREATE TABLE t (id int PRIMARY KEY, mood mood, short short, tags text[], at tstzrange)",
        )
        .await
        .unwrap();
    let mut source = open(&database, &["t"]).await;
    client.batch_execute("INSERT INTO t VALUES (1, 'happy', 's', '{a,b}', '[2020-01-01,)')").await.unwrap();
    assert_eq!(read(&mut source, 1).await, [r#"+t 1,happy,s,["a","b"],["2020-01-01 00:00:00+00",)"#]);
    Box::new(source).close().await.unwrap();

    client.batch_execute("ALTER TABLE t DROP at").await.unwrap();
    let mut source = open(&database, &["t"]).await;
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+t 2,null,null,null"]);
    client
        .batch_execute("ALTER TABLE t ADD net cidr; INSERT INTO t VALUES (3, NULL, NULL, NULL, '10.0.0.0/8')")
        .await
        .unwrap();
    assert_eq!(read(&mut source, 1).await, ["+t 3,null,null,null,10.0.0.0/8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_an_idle_table_follows_a_busy_server() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (id int)").await.unwrap();
    let mut source = open(&database, &["t"]).await;
    database.client.batch_execute("INSERT INTO busy SELECT generate_series(1, 1000)").await.unwrap();
    let busy: Lsn = one::<String>(&database.client, "SELECT pg_current_wal_insert_lsn()::text").await.parse().unwrap();
    while confirmed(&database).await < busy {
        let batch = next(&mut source).await;
        assert!(batch.events().is_empty());
        source.confirm(batch.ends_at().expect("a batch without events carries progress"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn confirming_moves_the_slot_to_that_point_and_not_further() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let start = {
        let source = open(&database, &["t"]).await;
        let start = confirmed(&database).await;
        Box::new(source).close().await.unwrap();
        start
    };
    let mut source = open(&database, &["t"]).await;
    let mut ends = Vec::new();
    for id in 0..3 {
        database.client.execute("INSERT INTO t VALUES ($1)", &[&id]).await.unwrap();
        let mut got = 0;
        while got == 0 {
            let batch = next(&mut source).await;
            got = batch.events().len();
            if got > 0 {
                ends.push(batch.ends_at().unwrap());
            }
        }
    }
    assert_eq!(confirmed(&database).await, start, "nothing was confirmed yet");
    for end in ends {
        source.confirm(end);
        eventually("the slot follows", async || confirmed(&database).await >= end).await;
        assert_eq!(confirmed(&database).await, end);
        source.confirm(start);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unconfirmed_changes_come_again_after_a_restart_of_the_host() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let mut source = open(&database, &["t"]).await;
    database.client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+t 1"]);
    database.client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    while next(&mut source).await.events().is_empty() {}
    Box::new(source).close().await.unwrap();
    let mut source = open(&database, &["t"]).await;
    assert_eq!(read(&mut source, 1).await, ["+t 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_nobody_reads_keeps_its_connection() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, body text)").await.unwrap();
    let url = format!("{}?options=-c%20wal_sender_timeout%3D2s", database.url);
    let mut source = PostgresSource::connect(&pipeline(&database), &config(&url, &["t"])).await.unwrap();
    // More than the sockets' buffers hold, so that the server is stuck in sending.
    database
        .client
        .batch_execute("INSERT INTO t SELECT i, repeat(i::text, 2000) FROM generate_series(1, 5000) i")
        .await
        .unwrap();
    let state = || async {
        let sql = "SELECT pid, extract(epoch FROM reply_time)::float8, extract(epoch FROM now())::float8 FROM pg_stat_replication
                   JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = $1";
        let row = database.client.query_one(sql, &[&slot(&database)]).await.unwrap();
        (row.get::<_, i32>(0), row.get::<_, f64>(1), row.get::<_, f64>(2))
    };
    let (pid, _, begin) = state().await;
    // Three times the timeout, by the server's own clock; it hears from us all the while.
    eventually("replies go on", async || state().await.1 > begin + 6.0).await;
    assert_eq!(state().await.0, pid);
    assert_eq!(read(&mut source, 5000).await.len(), 5000);
    assert_eq!(state().await.0, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_again_and_again_loses_nothing_and_repeats_nothing() {
    const ROWS: usize = 30_000;
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, body text)").await.unwrap();
    let mut config = config(&database.url, &["t"]);
    config.batch.max_events = 500;
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    // Two large transactions, and small ones around them.
    database.client.batch_execute("INSERT INTO t VALUES (0, NULL); INSERT INTO t VALUES (1, NULL)").await.unwrap();
    database
        .client
        .batch_execute(&format!("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(2, {}) i", ROWS / 2))
        .await
        .unwrap();
    database
        .client
        .batch_execute(&format!(
            "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series({}, {}) i",
            ROWS / 2 + 1,
            ROWS - 2
        ))
        .await
        .unwrap();
    database.client.execute(&format!("INSERT INTO t VALUES ({}, NULL)", ROWS - 1), &[]).await.unwrap();

    let (mut rows, mut batches) = (0_i64, 0);
    while rows < ROWS as i64 {
        let batch = next(&mut source).await;
        for event in batch.events() {
            assert_eq!(batch.row(event).get(0), Some(Value::Int(rows)));
            rows += 1;
        }
        batches += 1;
        if batches % 13 == 0 {
            cut(&database).await;
        }
        if batches % 17 == 0
            && let Some(end) = batch.ends_at()
        {
            source.confirm(end);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_that_is_cancelled_all_the_time_still_gets_there() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let mut source = open(&database, &["t"]).await;
    cut(&database).await;
    database.client.batch_execute("INSERT INTO t SELECT generate_series(1, 3000)").await.unwrap();
    let mut rows = 0;
    let reading = async {
        while rows < 3000 {
            if let Ok(batch) = tokio::time::timeout(Duration::from_millis(1), source.next()).await {
                rows += batch.unwrap().unwrap().events().len();
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("all rows in time");
    assert_eq!(rows, 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_stop_and_crash_and_come_back() {
    let mut cluster = private_cluster(18, &Options::fast());
    let database = Database::create(&cluster).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let mut source = open(&database, &["t"]).await;
    let (stop, mut stopped) = tokio::sync::watch::channel(0);
    let reader = tokio::spawn(async move {
        let mut rows = Vec::new();
        loop {
            tokio::select! {
                batch = source.next() => {
                    let batch = batch.unwrap().unwrap();
                    rows.extend(batch.events().iter().map(|event| describe(&batch, event)));
                    if let Some(end) = batch.ends_at() {
                        source.confirm(end);
                    }
                }
                () = async { stopped.wait_for(|wanted| *wanted > 0).await.unwrap(); } => {
                    if rows.len() >= *stopped.borrow() {
                        return (source, rows);
                    }
                    let _ = tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await;
                }
            }
        }
    });
    let mut expected = Vec::new();
    for (round, how) in [Stop::Fast, Stop::Immediate, Stop::Fast].into_iter().enumerate() {
        let client = connect(&cluster.url(&database.name)).await;
        for id in round * 10..round * 10 + 10 {
            client.execute(&format!("INSERT INTO t VALUES ({id})"), &[]).await.unwrap();
            expected.push(format!("+t {id}"));
        }
        // Blocks, and fails, if the server waits for us.
        cluster = tokio::task::spawn_blocking(move || {
            cluster.stop(how).unwrap();
            cluster.start_again().unwrap();
            cluster
        })
        .await
        .unwrap();
    }
    stop.send(expected.len()).unwrap();
    let (_source, rows) = tokio::time::timeout(DEADLINE, reader).await.expect("all rows in time").unwrap();
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_left_for_a_new_connection() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let wire = Wire::to(&database.url).await;
    let url = format!("{}?options=-c%20wal_sender_timeout%3D1s", wire.url);
    let mut source = PostgresSource::connect(&pipeline(&database), &config(&url, &["t"])).await.unwrap();
    database.client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+t 1"]);
    wire.freeze();
    database.client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+t 2"]);
}

/// A stretch of network that can lose all that is under way, as a firewall that forgets its connections does.
struct Wire {
    url: String,
    frozen: tokio::sync::watch::Sender<u32>,
}

impl Wire {
    async fn to(url: &str) -> Self {
        let (login, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{login}@{}/{database}", listener.local_addr().unwrap());
        let (frozen, generation) = tokio::sync::watch::channel(0);
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = tokio::net::TcpStream::connect(&server).await.unwrap();
                let mut generation = generation.clone();
                generation.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        // Both ends stay open, and nothing moves any more.
                        _ = generation.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { url, frozen }
    }

    fn freeze(&self) {
        self.frozen.send_modify(|generation| *generation += 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_use_is_waited_for() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let first = open(&database, &["t"]).await;
    let mut second = open(&database, &["t"]).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), second.next()).await.is_err());
    Box::new(first).close().await.unwrap();
    database.client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(read(&mut second, 1).await, ["+t 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_may_be_repeated_and_teardown_leaves_nothing() {
    let database = fresh_database().await;
    database
        .client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)")
        .await
        .unwrap();
    let (name, slot) = (pipeline(&database), slot(&database));
    let config_t = config(&database.url, &["t"]);
    let steps = |config| {
        let name = name.clone();
        async move { postgres::setup(&name, &config).await.unwrap() }
    };
    assert_eq!(
        steps(config_t.clone()).await,
        [format!("created publication `{slot}`"), format!("created slot `{slot}`")]
    );
    assert_eq!(
        steps(config_t.clone()).await,
        [format!("publication `{slot}` is there"), format!("slot `{slot}` is there")]
    );
    let steps = steps(config(&database.url, &["t", "u"])).await;
    assert_eq!(
        steps,
        [
            format!("gave publication `{slot}` the tables of the source"),
            "ids of `public.u` begin with the table's name, as the pipeline has several tables".to_owned(),
            format!("slot `{slot}` is there"),
        ]
    );
    postgres::check(&name, &config_t).await.unwrap();
    assert_eq!(
        postgres::teardown(&name, &config_t).await.unwrap(),
        [format!("dropped slot `{slot}`"), format!("dropped publication `{slot}`")]
    );
    assert_eq!(
        postgres::teardown(&name, &config_t).await.unwrap(),
        [format!("slot `{slot}` is not there"), format!("publication `{slot}` is not there")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_rebuilt_from_the_stream_are_the_rows_of_the_table() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, n int)").await.unwrap();
    let mut source = open(&database, &["t"]).await;
    let writers: Vec<_> = (0..4_i32)
        .map(|writer| {
            let url = database.url.clone();
            tokio::spawn(async move {
                let client = connect(&url).await;
                for round in 0..50_i32 {
                    let id = writer * 7 + round % 7;
                    let sql = match round % 5 {
                        4 => format!("DELETE FROM t WHERE id = {id}"),
                        3 => format!("UPDATE t SET id = id + 1000 WHERE id = {id} AND NOT EXISTS (SELECT FROM t WHERE id = {id} + 1000)"),
                        _ => format!("INSERT INTO t VALUES ({id}, {round}) ON CONFLICT (id) DO UPDATE SET n = t.n + {round}"),
                    };
                    client.batch_execute(&sql).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    database.client.batch_execute("INSERT INTO t VALUES (-1, 0)").await.unwrap();
    let mut rows = BTreeMap::new();
    while !rows.contains_key(&-1) {
        let batch = next(&mut source).await;
        for event in batch.events() {
            let row: Vec<_> = batch.row(event).iter().collect();
            let (Value::Int(id), value) = (row[0], row[1]) else { panic!("id is not a number") };
            match event.operation {
                Operation::Delete => assert!(rows.remove(&id).is_some()),
                _ => drop(rows.insert(id, text(&value))),
            }
        }
    }
    let table = database.client.query("SELECT id, n::text FROM t", &[]).await.unwrap();
    let table: BTreeMap<i64, String> = table.iter().map(|row| (i64::from(row.get::<_, i32>(0)), row.get(1))).collect();
    assert_eq!(rows, table);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_closes_after_its_linger_and_gathers_what_came_until_then() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let mut config = config(&database.url, &["t"]);
    config.batch.linger = Span(Duration::from_secs(3600));
    config.batch.max_events = 20;
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    for id in 0..20_i32 {
        database.client.execute("INSERT INTO t VALUES ($1)", &[&id]).await.unwrap();
    }
    loop {
        let batch = next(&mut source).await;
        if !batch.events().is_empty() {
            assert_eq!(batch.events().len(), 20, "transactions gather until the batch is full");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heart_beats_where_nothing_happens() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let config = PostgresSettings { heartbeat: Span(Duration::from_millis(20)), ..config(&database.url, &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let mut last = Lsn::INVALID;
    for _ in 0..3 {
        let batch = next(&mut source).await;
        assert_eq!(batch.events().len(), 0);
        assert!(batch.ends_at().is_some_and(|end| end > last), "there is something new to confirm");
        last = batch.ends_at().unwrap();
        source.confirm(last);
    }
    eventually("the server lets go", async || confirmed(&database).await >= last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_about_to_lose_its_log_is_told_of_early() {
    let options = Options::fast().setting("max_slot_wal_keep_size", "64MB");
    let cluster = private_cluster(18, &options);
    let database = Database::create(&cluster).await;
    let client = &database.client;
    client.batch_execute("CREATE TABLE documents (id int PRIMARY KEY, title text, content text)").await.unwrap();
    let file = root().join("pipelines/postgres-to-pgvector.yaml");
    let mut host = Running::start(&file, &[("DATABASE_URL", &database.url), ("HEARTBEAT", "50ms")]);
    host.said("running").await;
    // The sink waits, and with it the confirmation.
    let mut blocker = connect(&database.url).await;
    let lock = blocker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE document_vectors").await.unwrap();
    client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'b'); CREATE TABLE bulk (text text)").await.unwrap();
    for _ in 0..6 {
        let bulk = "INSERT INTO bulk SELECT repeat(md5(i::text), 30) FROM generate_series(1, 9000) i";
        client.batch_execute(bulk).await.unwrap();
    }
    host.said("the server soon drops log that the pipeline still needs").await;
    lock.rollback().await.unwrap();
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_that_were_not_sent_are_read_on_request() {
    let database = fresh_database().await;
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TABLE t (id int, day date, at timestamptz, tag bytea, body text, PRIMARY KEY (id, day, at, tag));
             ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
             CREATE TABLE u (id int PRIMARY KEY, body text, tags text[]); ALTER TABLE u ALTER body SET STORAGE EXTERNAL;
             ALTER TABLE u ALTER tags SET STORAGE EXTERNAL;
             INSERT INTO t VALUES (1, '2026-02-03', '2026-02-03 04:05:06.789+00', '\\x00ff', repeat('a', 9000));
             INSERT INTO u SELECT i, repeat(i::text, 9000), ARRAY[repeat('x', 9000), NULL] FROM generate_series(1, 250) i",
        )
        .await
        .unwrap();
    let config = PostgresSettings { toast: Toast::Reread, ..config(&database.url, &["t", "u"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    client.batch_execute("UPDATE t SET id = id + 1; UPDATE u SET id = id + 1000 WHERE id < 250").await.unwrap();
    let mut seen = read(&mut source, 2 + 2 * 249).await;
    assert!(seen.remove(0).starts_with("-t 1,"));
    assert!(seen[0].starts_with("+t 2,") && seen[0].ends_with(&"a".repeat(9000)), "{}", seen[0]);
    let tags = format!("[\"{}\",null]", "x".repeat(9000));
    for (index, event) in seen[1..].iter().enumerate().filter(|(_, event)| event.starts_with('+')) {
        let id = index / 2 + 1;
        assert_eq!(*event, format!("+u {},{},{tags}", id + 1000, id.to_string().repeat(9000)));
    }
    // Of a row that is gone there is nothing to read; what took it away follows.
    client
        .batch_execute("BEGIN; UPDATE u SET id = 9 WHERE id = 250; DELETE FROM u WHERE id = 9; COMMIT")
        .await
        .unwrap();
    let seen = read(&mut source, 3).await;
    assert_eq!(seen[0], "-u 250,null,null");
    assert!(seen[1].starts_with("-u 9,unchanged"), "{}", seen[1]);
    assert_eq!(seen[2], "-u 9,null,null");
}

/// The commit of a moved key is streamed while nobody sees it yet: its row must not be taken for one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_read_only_once_their_commit_is_seen() {
    let cluster = cluster_without_its_standby();
    let database = Database::create(&cluster).await;
    let client = &database.client;
    let body = "x".repeat(9000);
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
             INSERT INTO t VALUES (1, '{body}')"
        ))
        .await
        .unwrap();
    let config = PostgresSettings { toast: Toast::Reread, ..config(&database.url, &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let writer = connect(&database.url).await;
    let update = "SET synchronous_commit = on; UPDATE t SET id = 2";
    let writing = tokio::spawn(async move { writer.batch_execute(update).await });

    let reading = tokio::spawn(async move { read(&mut source, 2).await });
    let asks =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot%' AND pid <> pg_backend_pid()";
    eventually("the row is looked for", async || one::<i64>(client, asks).await > 0).await;
    let seen: i32 = one(client, "SELECT id FROM t").await;
    assert_eq!((seen, reading.is_finished()), (1, false), "the commit waits for its standby, and we for the commit");
    standby_arrives(&cluster);
    assert_eq!(reading.await.unwrap(), ["-t 1,null".to_owned(), format!("+t 2,{body}")]);
    writing.await.unwrap().unwrap();
}

/// A server that stops waits until its stream is confirmed to the end. The sinks may be down, or lie on that very server.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_let_go_although_nothing_is_confirmed() {
    let mut cluster = private_cluster(18, &Options::fast());
    let database = Database::create(&cluster).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let mut source = open(&database, &["t"]).await;
    database.client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    while next(&mut source).await.events().is_empty() {}
    // Nobody asks for more, as while a sink is down.
    tokio::task::block_in_place(|| cluster.stop(Stop::Fast)).expect("the server can stop");
    tokio::task::block_in_place(|| cluster.start_again()).unwrap();
    let client = connect(&database.url).await;
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+t 2"]);
}
