//! What identifies a row is the same for rows that are copied, that change, and that go, however
//! the table says it.

use std::collections::BTreeSet;
use std::time::Duration;

use pgstream_host::event::{Operation, json};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, PostgresSource, WantedRow};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use crate::source::{config, pipeline};
use crate::support::{Database, versions};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

/// Tables `t` with a column `id` from 1 to 3 and a column `body`, and the keys of their rows.
const TABLES: &[(&str, [&str; 3])] = &[
    ("CREATE TABLE t (id int, title text, body text, PRIMARY KEY (id) INCLUDE (title))", IDS),
    ("CREATE TABLE t (id int, title text, body text, meta json DEFAULT '{}', PRIMARY KEY (id) INCLUDE (meta))", IDS),
    (
        "CREATE TABLE t (id int NOT NULL, title text, body text); CREATE UNIQUE INDEX i ON t (id) INCLUDE (title);
         ALTER TABLE t REPLICA IDENTITY USING INDEX i",
        IDS,
    ),
    (
        "CREATE TABLE t (id int, title text, body text, PRIMARY KEY (id) INCLUDE (title)); ALTER TABLE t REPLICA IDENTITY FULL",
        IDS,
    ),
    (
        "CREATE TABLE t (title text, body text, id int, part int DEFAULT 7, PRIMARY KEY (part, id) INCLUDE (title));
         ALTER TABLE t REPLICA IDENTITY FULL",
        [r#"{"id":1,"part":7}"#, r#"{"id":2,"part":7}"#, r#"{"id":3,"part":7}"#],
    ),
    (
        "CREATE TABLE t (id int, title text, body text, PRIMARY KEY (id) INCLUDE (title)) PARTITION BY RANGE (id);
         CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (2); CREATE TABLE t_2 PARTITION OF t DEFAULT",
        IDS,
    ),
    // Checks that values do not meet, and a text of no length.
    (
        "CREATE DOMAIN low AS int; CREATE TABLE t (id low PRIMARY KEY, title text, body text);
         INSERT INTO t (id) VALUES (1), (2), (3); ALTER DOMAIN low ADD CHECK (VALUE > 100) NOT VALID",
        IDS,
    ),
    (
        "CREATE TABLE t (id int, title text, body text, name text DEFAULT '', PRIMARY KEY (name, id))",
        [r#"{"id":1,"name":""}"#, r#"{"id":2,"name":""}"#, r#"{"id":3,"name":""}"#],
    ),
];

const IDS: [&str; 3] = [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#];

/// The keys of the next `count` events that `wanted` says.
async fn keys(source: &mut PostgresSource, count: usize, wanted: impl Fn(Operation, bool) -> bool) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let reading = async {
        while keys.len() < count {
            let batch = source.next().await.unwrap().unwrap();
            let events = batch.events().iter().filter(|event| wanted(event.operation, event.snapshot));
            keys.extend(events.map(|event| json::key(&batch, event)));
            if let Some(end) = batch.ends_at() {
                source.confirm(end);
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the events come");
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_changed_and_deleted_rows_have_the_same_keys() {
    for cluster in versions() {
        for (table, expected) in TABLES {
            let database = Database::create(cluster).await;
            let client = &database.client;
            client.batch_execute(table).await.unwrap();
            // Nulls in what is included.
            let rows = "INSERT INTO t (id) SELECT g FROM generate_series(1, 3) g WHERE NOT EXISTS (SELECT FROM t)";
            let _ = client.batch_execute(rows).await;
            let config = Config { snapshot: Snapshot::Initial, ..config(&database.url, &["t"]) };
            let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
            let expected: BTreeSet<String> = expected.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(keys(&mut source, 3, |_, copied| copied).await, expected, "{table}");
            client.batch_execute("UPDATE t SET title = 'a', body = 'b'").await.unwrap();
            let changed = keys(&mut source, 3, |operation, _| operation == Operation::Update).await;
            assert_eq!(changed, expected, "{table}");
            let name = pipeline(&database);
            let wanted: Vec<WantedRow<'_>> = expected.iter().map(|key| WantedRow { table: "public.t", key }).collect();
            let asked = postgres::ask_rows(&name, &config, &wanted).await.unwrap();
            assert!(asked.refused.is_empty(), "{:?}", asked.refused);
            assert_eq!(keys(&mut source, 3, |_, copied| copied).await, expected, "asked for: {table}");
            client.batch_execute("DELETE FROM t").await.unwrap();
            let gone = keys(&mut source, 3, |operation, _| operation == Operation::Delete).await;
            assert_eq!(gone, expected, "{table}");
        }
    }
}
