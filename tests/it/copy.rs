//! Copies of tables that join the stream: what the events make of an empty map is the table, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgstream_host::demo::Cluster;
use pgstream_host::event::{Batch, Event, Operation, Value, json};
use pgstream_host::lsn::Lsn;
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, CopyRequest, PostgresSource, WantedRow};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::source::{config, last_word, pipeline, slot};
use crate::support::{Database, cluster_without_its_standby, connect, postgres, standby_arrives, versions};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(120);

/// With the smallest role.
async fn initial(database: &Database, tables: &[&str]) -> Config {
    Config { snapshot: Snapshot::Initial, ..config(&database.smallest_role(tables).await, tables) }
}

/// With a role that publishes tables by itself.
fn as_owner(database: &Database, tables: &[&str]) -> Config {
    Config { snapshot: Snapshot::Initial, ..config(&database.url, tables) }
}

/// What a sink would hold: rows by their key.
#[derive(Debug, Default)]
struct Mirror {
    rows: BTreeMap<String, String>,
    /// Events that a copy brought.
    copied: usize,
    streamed: usize,
}

impl Mirror {
    fn apply(&mut self, batch: &Batch) {
        for event in batch.events() {
            let relation = batch.relation(event);
            let values: Vec<String> = batch.row(event).iter().map(|value| text(&value)).collect();
            let key = relation.columns.iter().zip(&values).filter(|(column, _)| column.key);
            let key = key.fold(relation.table.clone(), |key, (_, value)| key + "/" + value);
            match event.snapshot {
                true => self.copied += 1,
                false => self.streamed += 1,
            }
            match event.operation {
                Operation::Insert | Operation::Update => drop(self.rows.insert(key, values.join(","))),
                Operation::Delete => drop(self.rows.remove(&key)),
                Operation::Truncate => {
                    let prefix = format!("{}/", relation.table);
                    self.rows.retain(|key, _| !key.starts_with(&prefix));
                }
            }
        }
    }
}

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) | Value::Numeric(text) | Value::Uuid(text) => (*text).to_owned(),
        other => format!("{other:?}"),
    }
}

/// Reads and confirms until the copies are done and the stream has come to `mark`, a row of the table `marks`.
async fn read_until_done(source: &mut PostgresSource, mirror: &mut Mirror, done: impl AsyncFn() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let reading = async {
        loop {
            tokio::select! {
                batch = source.next() => {
                    let batch = batch.unwrap().expect("the stream goes on");
                    mirror.apply(&batch);
                    if let Some(end) = batch.ends_at() {
                        source.confirm(end);
                    }
                }
                _ = look.tick() => {
                    if done().await {
                        return;
                    }
                }
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the copies are done in time");
}

async fn all_copied(database: &Database, config: &Config) -> bool {
    let copies = postgres::copied(&pipeline(database), config, None).await.unwrap();
    assert!(copies.iter().all(|copy| copy.error.is_none()), "{copies:?}");
    !copies.is_empty() && copies.iter().all(|copy| copy.done)
}

/// The tables as the mirror would hold them.
async fn expected(database: &Database, tables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for (table, key) in tables {
        let sql = format!(
            "SELECT concat_ws('/', '{table}', {key}), concat_ws(',', VARIADIC ARRAY(
            SELECT coalesce(value, 'null') FROM jsonb_each_text(to_jsonb(t)))) FROM {table} t"
        );
        // jsonb orders keys by length: the columns of these tables are named so that it is their order.
        for row in database.client.query(&sql, &[]).await.unwrap() {
            rows.insert(row.get(0), row.get(1));
        }
    }
    rows
}

/// The last change of all, so that the stream is known to have come to its end.
async fn last_mark(database: &Database) {
    database.client.batch_execute("INSERT INTO t (a, bb) VALUES (-1, 'the last')").await.unwrap();
}

/// Changes rows at random until it is told to stop: small transactions, large ones, moved keys, rollbacks.
async fn disturb(url: String, seed: u64, stop: Arc<AtomicBool>) -> usize {
    let mut client = connect(&url).await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        let transaction = client.transaction().await.unwrap();
        for _ in 0..random.random_range(1..20) {
            let id: i64 = random.random_range(1..13_000);
            let sql = match random.random_range(0..10) {
                0 => format!("DELETE FROM t WHERE a = {id}"),
                1 => format!(
                    "UPDATE t SET a = {} WHERE a = {id} AND NOT EXISTS (SELECT FROM t WHERE a = {})",
                    id + 20_000,
                    id + 20_000
                ),
                2..5 => format!("INSERT INTO t VALUES ({id}, 'inserted {changes}') ON CONFLICT (a) DO NOTHING"),
                _ => format!(
                    "UPDATE t SET bb = 'changed {changes}' WHERE a BETWEEN {id} AND {}",
                    id + random.random_range(0..5)
                ),
            };
            transaction.batch_execute(&sql).await.unwrap();
            changes += 1;
        }
        match random.random_range(0..8) {
            0 => transaction.rollback().await.unwrap(),
            _ => transaction.commit().await.unwrap(),
        }
    }
    changes
}

async fn fill(database: &Database) {
    database
        .client
        .batch_execute(
            "CREATE TABLE t (a bigint PRIMARY KEY, bb text);
             INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 12000) i",
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_there_come_once_and_changes_win_over_them() {
    for (cluster, seed) in versions().into_iter().zip(1..) {
        let database = Database::create(cluster).await;
        fill(&database).await;
        let config = initial(&database, &["t"]).await;
        let stop = Arc::new(AtomicBool::new(false));
        let disturbing = tokio::spawn(disturb(database.url.clone(), seed, Arc::clone(&stop)));
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        let mut mirror = Mirror::default();
        read_until_done(&mut source, &mut mirror, async || all_copied(&database, &config).await).await;
        stop.store(true, Ordering::Relaxed);
        let changes = disturbing.await.unwrap();
        last_mark(&database).await;
        while !mirror.rows.contains_key("t/-1") {
            let batch = source.next().await.unwrap().unwrap();
            mirror.apply(&batch);
        }
        assert_eq!(mirror.rows, expected(&database, &[("t", "a")]).await, "seed {seed}");
        assert!(mirror.copied > 5_000 && mirror.streamed > 50, "{} {} {changes}", mirror.copied, mirror.streamed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_asked_for_come_as_they_are_or_as_deletes_and_changes_win_over_them() {
    let database = Database::create(postgres()).await;
    fill(&database).await;
    let config = initial(&database, &["t"]).await;
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let mut mirror = Mirror::default();
    read_until_done(&mut source, &mut mirror, async || all_copied(&database, &config).await).await;
    let (copied, stop) = (mirror.copied, Arc::new(AtomicBool::new(false)));
    let disturbing = tokio::spawn(disturb(database.url.clone(), 5, Arc::clone(&stop)));
    let mut random = StdRng::seed_from_u64(6);
    for _ in 0..10 {
        // Some of them are gone, some were never there.
        let keys: Vec<String> = (0..600).map(|_| format!("{{\"a\":{}}}", random.random_range(1..13_500))).collect();
        let rows: Vec<WantedRow<'_>> = keys.iter().map(|key| WantedRow { table: "public.t", key }).collect();
        let asked = postgres::ask_rows(&pipeline(&database), &config, &rows).await.unwrap();
        assert_eq!((asked.copies.len(), asked.refused.len(), asked.served), (2, 0, true));
        let numbers: Vec<i64> = asked.copies.iter().map(|(number, _)| *number).collect();
        let done = async || {
            let copies = postgres::copied(&pipeline(&database), &config, Some(&numbers)).await.unwrap();
            assert!(copies.iter().all(|copy| copy.error.is_none()), "{copies:?}");
            copies.iter().all(|copy| copy.done)
        };
        read_until_done(&mut source, &mut mirror, done).await;
    }
    stop.store(true, Ordering::Relaxed);
    disturbing.await.unwrap();
    last_mark(&database).await;
    while !mirror.rows.contains_key("t/-1") {
        let batch = source.next().await.unwrap().unwrap();
        mirror.apply(&batch);
    }
    assert_eq!(mirror.rows, expected(&database, &[("t", "a")]).await);
    let came = mirror.copied - copied;
    assert!((4_000..6_000).contains(&came), "{came}: all but those that changed meanwhile, and those asked for twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_asked_for_is_read_as_it_is_whatever_its_key() {
    let database = Database::create(postgres()).await;
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('fine', 'it''s');
             CREATE TABLE t (a uuid, b mood, c timestamptz, d numeric(9, 2), e bytea, f date, g real, h char(4), \"I j\" text,
                             PRIMARY KEY (\"I j\", a, b, c, d, e, f, g, h), v text);
             INSERT INTO t SELECT '0b6f1c2e-5a0d-4d5c-9f5e-2f6a7b8c9d0e', 'it''s', '2026-01-31 12:00:00.123456+02', 1.50, '\\xff00',
                                  '0044-03-15 BC', 0.1, 'ab', 'Zoë''s \\ \"key\"', 'kept'",
        )
        .await
        .unwrap();
    let config = config(&database.url, &["t"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    client.batch_execute("UPDATE t SET v = 'changed'").await.unwrap();
    let streamed = loop {
        let batch = tokio::time::timeout(DEADLINE, source.next()).await.unwrap().unwrap().unwrap();
        if let Some(event) = batch.events().first() {
            break (json::key(&batch, event), row(&batch, event));
        }
    };
    let (key, whole) = &streamed;
    for operation in [Operation::Insert, Operation::Delete] {
        let rows = [WantedRow { table: "public.t", key }];
        let asked = postgres::ask_rows(&pipeline(&database), &config, &rows).await.unwrap();
        assert!(asked.refused.is_empty(), "{:?}", asked.refused);
        let (batch, event) = loop {
            let batch = tokio::time::timeout(DEADLINE, source.next()).await.unwrap().unwrap().unwrap();
            if let Some(event) = batch.events().iter().find(|event| event.replayed).cloned() {
                break (batch, event);
            }
        };
        assert_eq!((event.operation, event.snapshot, &json::key(&batch, &event)), (operation, true, key));
        if operation == Operation::Insert {
            assert_eq!(row(&batch, &event), *whole);
            client.batch_execute("DELETE FROM t").await.unwrap();
        }
    }
    let nowhere = [WantedRow { table: "public.t", key: "{}" }, WantedRow { table: "public.u", key: "{\"a\":1}" }];
    let asked = postgres::ask_rows(&pipeline(&database), &config, &nowhere).await.unwrap();
    let why: Vec<String> = asked.refused.iter().map(|(_, error)| error.chain()).collect();
    assert!(asked.copies.is_empty() && why.iter().any(|why| why.contains("a truncate")), "{why:?}");
    assert!(why.iter().any(|why| why.contains("`public.u` is not a table of the source")), "{why:?}");
}

fn row(batch: &Batch, event: &Event) -> Vec<String> {
    batch.row(event).iter().map(|value| format!("{value:?}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_after_lost_connections_and_restarts() {
    let database = Database::create(postgres()).await;
    fill(&database).await;
    let config = initial(&database, &["t"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let disturbing = tokio::spawn(disturb(database.url.clone(), 3, Arc::clone(&stop)));
    let mut mirror = Mirror::default();
    let mut random = StdRng::seed_from_u64(4);
    for _ in 0..6 {
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        let mut confirmed = None;
        for _ in 0..random.random_range(1..12) {
            let batch = source.next().await.unwrap().unwrap();
            mirror.apply(&batch);
            if let (Some(end), true) = (batch.ends_at(), random.random_bool(0.8)) {
                source.confirm(end);
                confirmed = Some(end);
            }
            if random.random_bool(0.2) {
                let sql = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgstream-host %' \
                     AND datname = current_database() AND random() < 0.7 AND '{}' <> ''",
                    slot(&database)
                );
                database.client.execute(&sql, &[]).await.unwrap();
            }
        }
        drop((source, confirmed)); // as if killed: what was not confirmed comes again
    }
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    read_until_done(&mut source, &mut mirror, async || all_copied(&database, &config).await).await;
    stop.store(true, Ordering::Relaxed);
    disturbing.await.unwrap();
    last_mark(&database).await;
    while !mirror.rows.contains_key("t/-1") {
        let batch = source.next().await.unwrap().unwrap();
        mirror.apply(&batch);
    }
    assert_eq!(mirror.rows, expected(&database, &[("t", "a")]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_added_later_is_copied_and_no_other_is_copied_again() {
    let database = Database::create(postgres()).await;
    let client = &database.client;
    fill(&database).await;
    client
        .batch_execute("CREATE TABLE u (a text, bb int, ccc text, PRIMARY KEY (bb, a)); INSERT INTO u SELECT 'x' || i % 7, i, NULL FROM generate_series(1, 300) i")
        .await
        .unwrap();
    let mut mirror = Mirror::default();
    let first = as_owner(&database, &["t"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &first).await.unwrap();
    read_until_done(&mut source, &mut mirror, async || all_copied(&database, &first).await).await;
    Box::new(source).close().await.unwrap();
    assert_eq!(mirror.copied, 12_000);

    let both = as_owner(&database, &["t", "u"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &both).await.unwrap();
    read_until_done(&mut source, &mut mirror, async || all_copied(&database, &both).await).await;
    assert_eq!(mirror.copied, 12_300);
    assert_eq!(mirror.rows, expected(&database, &[("t", "a"), ("u", "a, bb")]).await.into_iter().collect());

    // Asked for by hand, with a condition.
    let request =
        CopyRequest { tables: vec!["u".into()], filter: Some("bb > 290 -- the last".into()), rows_per_second: None };
    let (numbers, served) = postgres::ask_copy(&pipeline(&database), &both, &request).await.unwrap();
    assert!(served);
    let done = async || {
        let copies = postgres::copied(&pipeline(&database), &both, Some(&numbers)).await.unwrap();
        copies.iter().all(|copy| copy.done)
    };
    read_until_done(&mut source, &mut mirror, done).await;
    assert_eq!(mirror.copied, 12_310);

    let wrong = CopyRequest { filter: Some("no_such_column > 1".into()), ..request };
    let (numbers, _) = postgres::ask_copy(&pipeline(&database), &both, &wrong).await.unwrap();
    let failed = async || {
        let copies = postgres::copied(&pipeline(&database), &both, Some(&numbers)).await.unwrap();
        copies.iter().all(|copy| copy.error.as_deref().is_some_and(|error| error.contains("no_such_column")))
    };
    read_until_done(&mut source, &mut mirror, failed).await;
    assert_eq!(mirror.copied, 12_310);
}

/// A commit that stands in the log and has been streamed while other sessions do not see it yet: it waits for a synchronous
/// standby. What a query reads meanwhile is older than what the sinks have.
struct Unseen {
    cluster: Cluster,
    database: Database,
    source: PostgresSource,
    mirror: Mirror,
    writing: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Unseen {
    async fn new() -> Self {
        let cluster = cluster_without_its_standby();
        let database = Database::create(&cluster).await;
        let table = "CREATE TABLE t (a bigint PRIMARY KEY, bb text); INSERT INTO t VALUES (1, 'old')";
        database.client.batch_execute(table).await.unwrap();
        let source = PostgresSource::connect(&pipeline(&database), &config(&database.url, &["t"])).await.unwrap();
        let writer = connect(&database.url).await;
        let update = "SET synchronous_commit = on; UPDATE t SET bb = 'new' WHERE a = 1";
        let writing = tokio::spawn(async move { writer.batch_execute(update).await });
        let mut unseen = Self { cluster, database, source, mirror: Mirror::default(), writing };
        while unseen.mirror.rows.get("t/1").is_none_or(|row| row != "1,new") {
            if let Some(end) = unseen.next().await {
                unseen.source.confirm(end);
            }
        }
        let seen: String = unseen.database.client.query_one("SELECT bb FROM t", &[]).await.unwrap().get(0);
        assert_eq!(seen, "old", "the commit waits for its standby");
        unseen
    }

    /// Takes the next batch in; where it ends.
    async fn next(&mut self) -> Option<Lsn> {
        let batch = tokio::time::timeout(DEADLINE, self.source.next()).await.unwrap().unwrap().unwrap();
        self.mirror.apply(&batch);
        batch.ends_at()
    }

    /// Another process goes on, which knows nothing of what was streamed.
    async fn restarted(self) -> Self {
        let Self { cluster, database, source, mirror, writing } = self;
        Box::new(source).close().await.unwrap();
        let source = PostgresSource::connect(&pipeline(&database), &config(&database.url, &["t"])).await.unwrap();
        Self { cluster, database, source, mirror, writing }
    }

    /// Asks for a copy, which must wait until the commit is seen.
    async fn survives_a_copy(mut self) {
        let config = config(&self.database.url, &["t"]);
        let name = pipeline(&self.database);
        let (numbers, _) = postgres::ask_copy(&name, &config, &CopyRequest::default()).await.unwrap();
        // Watermarks come by, and no row with them: the copy is read again and again.
        for _ in 0..8 {
            self.next().await;
            assert_eq!(self.mirror.rows["t/1"], "1,new");
        }
        standby_arrives(&self.cluster);
        let done =
            async || postgres::copied(&name, &config, Some(&numbers)).await.unwrap().iter().all(|copy| copy.done);
        read_until_done(&mut self.source, &mut self.mirror, done).await;
        self.writing.await.unwrap().unwrap();
        assert_eq!((self.mirror.rows["t/1"].as_str(), self.mirror.copied), ("1,new", 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_sees_yet_survives_a_copy_by_a_copy() {
    Unseen::new().await.survives_a_copy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_sees_yet_survives_a_copy_after_a_restart_either() {
    Unseen::new().await.restarted().await.survives_a_copy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_policies_hide_are_an_error_and_not_left_out() {
    let database = Database::create(postgres()).await;
    let client = &database.client;
    let role = format!("{}_role", database.name);
    client
        .batch_execute(&format!(
            "CREATE TABLE t (a bigint PRIMARY KEY, bb text); INSERT INTO t VALUES (1, 'hidden');
             ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
             CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'pw'; ALTER TABLE t OWNER TO {role};
             GRANT CREATE ON DATABASE {} TO {role}; GRANT CREATE ON SCHEMA public TO {role}",
            database.name
        ))
        .await
        .unwrap();
    let mut url = database.url.clone();
    let at = url.find("://").unwrap() + 3;
    let host = url.rfind('@').unwrap();
    url.replace_range(at..host, &format!("{role}:pw"));
    let config = Config { snapshot: Snapshot::Initial, ..config(&url, &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let report = last_word(&mut source).await.report();
    assert!(report.contains("row-level security hides rows of `public.t`"), "{report}");
    assert!(report.contains(&format!("ALTER ROLE \"{role}\" BYPASSRLS;")), "{report}");
}
