//! Rows of a megabyte: what is read of them at once is bounded in bytes, however many there are.

use std::collections::BTreeMap;
use std::time::Duration;

use pgstream_host::event::{Batch, Value};
use pgstream_host::lsn::Lsn;
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, PostgresSource, WantedRow};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot, Toast};

use crate::source::{config, pipeline};
use crate::support::{Database, fresh_database};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(60);
/// Of the text in a wide row.
const WIDE: usize = 1 << 20;
/// What is read at once: 4 MiB, and the row that goes beyond.
const MOST: usize = (4 << 20) + WIDE;

/// First narrow rows, so that nothing foretells the wide ones.
async fn fill(database: &Database) {
    let sql = format!(
        "CREATE TABLE t (id int PRIMARY KEY, body text, views int DEFAULT 0); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, repeat('x', CASE WHEN i <= 40 THEN 10 ELSE {WIDE} END) FROM generate_series(1, 80) i"
    );
    database.client.batch_execute(&sql).await.unwrap();
}

async fn next(source: &mut PostgresSource) -> Batch {
    let batch = tokio::time::timeout(DEADLINE, source.next()).await.expect("a batch in time").unwrap().unwrap();
    if let Some(end) = batch.ends_at() {
        source.confirm(end);
    }
    batch
}

/// The length of each text in the batch, with the transaction that brings it.
fn texts(batch: &Batch) -> impl Iterator<Item = (Lsn, usize)> {
    batch.events().iter().map(|event| match batch.row(event).get(1) {
        Some(Value::Text(text)) => (event.position.lsn, text.len()),
        other => panic!("{other:?} is no text"),
    })
}

/// The bytes of each part of a copy of so many rows: all of a part travel in one transaction.
async fn parts(source: &mut PostgresSource, rows: usize) -> Vec<usize> {
    let (mut parts, mut count): (BTreeMap<Lsn, usize>, _) = (BTreeMap::new(), 0);
    while count < rows {
        for (transaction, length) in texts(&next(source).await) {
            *parts.entry(transaction).or_default() += length;
            count += 1;
        }
    }
    parts.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_reads_as_much_at_once_as_it_may_and_no_more() {
    let database = fresh_database().await;
    fill(&database).await;
    let config = Config { snapshot: Snapshot::Initial, ..config(&database.url, &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let parts = parts(&mut source, 80).await;
    assert!(parts.iter().all(|bytes| *bytes <= MOST), "{parts:?}");
    assert!(parts.len() <= 12, "parts are not smaller than they need be: {parts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_asked_for_come_in_bounded_parts() {
    let database = fresh_database().await;
    fill(&database).await;
    let config = config(&database.url, &["t"]);
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let keys: Vec<String> = (1..=80).map(|id| format!("{{\"id\":{id}}}")).collect();
    let rows: Vec<WantedRow<'_>> = keys.iter().map(|key| WantedRow { table: "public.t", key }).collect();
    let asked = postgres::ask_rows(&pipeline(&database), &config, &rows).await.unwrap();
    assert_eq!(asked.copies.len(), 1);
    let parts = parts(&mut source, 80).await;
    assert!(parts.iter().all(|bytes| *bytes <= MOST), "{parts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_completed_from_the_table_is_small() {
    let database = fresh_database().await;
    fill(&database).await;
    let config = Config { toast: Toast::Reread, ..config(&database.url, &["t"]) };
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    database.client.batch_execute("UPDATE t SET views = 1").await.unwrap();
    let (mut rows, mut most) = (0, 0);
    while rows < 80 {
        let batch = next(&mut source).await;
        let wide = texts(&batch).filter(|(_, length)| *length == WIDE).count();
        (rows, most) = (rows + batch.events().len(), most.max(wide));
    }
    assert!((1..=32).contains(&most), "{most} large texts in one batch");
}
