//! Stores that would not outlive a crash, or that are not the ones any more that were opened.

use std::collections::BTreeMap;

use pgstream_host::command::{Action, Embedding, Point};
use pgstream_host::config::Secret;
use pgstream_host::config::model::{Create, Distance, SinkBatch};
use pgstream_host::error::Fault;
use pgstream_host::sink::dead_letters::DeadLettersSettings;
use pgstream_host::sink::pgvector::PgvectorSettings;
use pgstream_host::sink::qdrant_edge::QdrantEdgeSettings;
use pgstream_host::sink::{Sink, SinkKind};

use super::contract::{ORIGIN, write};
use crate::support::{Database, fresh_database};

fn create() -> Create {
    Create { dimension: Some(1), distance: Distance::Dot, vectors: BTreeMap::new(), sparse: Vec::new() }
}

fn table(database: &Database) -> PgvectorSettings {
    PgvectorSettings {
        inputs: Vec::new(),
        url: Secret::new(&database.url),
        password_file: None,
        trusted_owners: Vec::new(),
        folder: None,
        table: "points".into(),
        create: Some(create()),
        batch: SinkBatch::default(),
    }
}

fn upsert(id: &str) -> Action {
    let embeddings = vec![(String::new(), Embedding::Dense(vec![1.0]))];
    Action::Upsert(Point { id: id.into(), embeddings, payload: "{}".into() })
}

async fn put(sink: &mut dyn Sink, delivery: u64) -> pgstream_host::error::Result<()> {
    write(sink, delivery, [upsert("a")]).await
}

#[tokio::test]
async fn a_table_that_a_crash_would_empty_is_refused_with_the_statement_that_mends_it() {
    const COLUMNS: &str = "(id text PRIMARY KEY, payload jsonb NOT NULL, embedding vector(1))";
    for (tables, volatile) in [
        (format!("CREATE UNLOGGED TABLE points {COLUMNS}"), "points"),
        (
            format!(
                "CREATE TABLE points {COLUMNS} PARTITION BY HASH (id);
                 CREATE TABLE sound PARTITION OF points FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                 CREATE UNLOGGED TABLE leaf PARTITION OF points FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
            ),
            "leaf",
        ),
    ] {
        let database = fresh_database().await;
        database.client.batch_execute(&format!("CREATE EXTENSION vector; {tables}")).await.unwrap();
        let opened = table(&database).open("documents", "search").await.map(drop).unwrap_err();
        let looked = table(&database).look().await.map(drop).unwrap_err();
        for error in [opened, looked] {
            assert_eq!(error.fault(), Fault::Environment);
            assert_eq!(error.advice(), Some(&*format!("ALTER TABLE public.{volatile} SET LOGGED")), "{error:?}");
        }
        database.client.batch_execute(&format!("ALTER TABLE {volatile} SET LOGGED")).await.unwrap();
        table(&database).look().await.map(drop).unwrap();
    }
}

#[tokio::test]
async fn a_table_that_is_made_unlogged_while_it_is_written_takes_nothing_more() {
    let database = fresh_database().await;
    let mut sink = table(&database).open("documents", "search").await.unwrap();
    sink.resume(ORIGIN).await.unwrap();
    put(&mut *sink, 1).await.unwrap();
    database.client.batch_execute("ALTER TABLE points SET UNLOGGED").await.unwrap();
    let error = put(&mut *sink, 2).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Environment);
    assert!(error.to_string().contains("unlogged"), "{error:?}");
}

#[tokio::test]
async fn dead_letters_are_not_kept_where_a_crash_would_remove_them() {
    let database = fresh_database().await;
    let url = Some(Secret::new(&database.url));
    let letters = DeadLettersSettings {
        inputs: Vec::new(),
        url,
        password_file: None,
        trusted_owners: Vec::new(),
        folder: None,
        max_letters: 10,
    };
    letters.open("documents", "letters").await.unwrap();
    database.client.batch_execute("ALTER TABLE pgstream.dead_letters SET UNLOGGED").await.unwrap();
    let error = letters.open("documents", "letters").await.map(drop).unwrap_err();
    assert!(error.advice().unwrap().contains("ALTER TABLE pgstream.dead_letters SET LOGGED"), "{error:?}");
}

#[tokio::test]
async fn a_folder_that_is_removed_or_replaced_takes_nothing_more() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("edge");
    let settings = QdrantEdgeSettings {
        inputs: Vec::new(),
        path: path.clone(),
        folder: None,
        create: create(),
        batch: SinkBatch::default(),
    };
    for replace in [false, true] {
        let mut sink = settings.open("documents", "edge").await.unwrap();
        put(&mut *sink, 1).await.unwrap();
        let marks = sink.marks();
        std::fs::rename(&path, parent.path().join(format!("old {replace}"))).unwrap();
        if replace {
            let mut other = settings.open("documents", "edge").await.unwrap();
            assert_ne!(other.marks(), marks, "it is told from the one before");
            put(&mut *other, 1).await.unwrap();
            other.close().await.unwrap();
        }
        let error = put(&mut *sink, 2).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Environment);
        assert!(error.to_string().contains("was removed or replaced"), "{error:?}");
    }
}
