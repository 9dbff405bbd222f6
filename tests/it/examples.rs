//! The pipeline files of the README, run as they are: set `DATABASE_URL`, change a row, see the vector follow.

use std::time::Instant;

use crate::support::program::{PATIENCE, Running, eventually, pgstream, root};
use crate::support::qdrant_server::QdrantServer;
use crate::support::{Database, fresh_database};

const TABLE: &str = "
    CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text);
    INSERT INTO documents VALUES (1, 'Before', 'This row was there before the pipeline.')";

#[tokio::test(flavor = "multi_thread")]
async fn postgres_to_pgvector() {
    let database = fresh_database().await;
    let environment = [("DATABASE_URL", database.url.as_str())];
    let host = follow("pipelines/postgres-to-pgvector.yaml", &database, &environment).await;

    let vector = async || {
        let row = database.client.query_one("SELECT embedding::text FROM document_vectors WHERE id = '2#0'", &[]).await;
        row.unwrap().get::<_, String>(0)
    };
    let before = vector().await;
    database.client.execute("UPDATE documents SET content = 'Quince jelly' WHERE id = 2", &[]).await.unwrap();
    eventually("the vector changes", async || vector().await != before).await;
    stop(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_to_qdrant() {
    let database = fresh_database().await;
    let (local, real) = (QdrantServer::start(None), std::env::var("QDRANT_URL").ok());
    let (url, collection) = (real.unwrap_or_else(|| local.url()), format!("examples_{}", std::process::id()));
    let environment = [("DATABASE_URL", database.url.as_str()), ("QDRANT_URL", &url), ("COLLECTION", &collection)];
    let host = follow("pipelines/postgres-to-qdrant.yaml", &database, &environment).await;
    stop(host).await;
}

#[test]
fn without_a_database_they_say_what_to_set() {
    for file in ["pipelines/postgres-to-pgvector.yaml", "pipelines/postgres-to-qdrant.yaml"] {
        let output = pgstream(["run", file]).env_remove("DATABASE_URL").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("set it to postgres://user:password@host/database"), "{said}");
    }
}

/// Runs the file; a row that is inserted, changed and deleted is found, found by its new words, and gone.
async fn follow(file: &str, database: &Database, environment: &[(&str, &str)]) -> Running {
    database.client.batch_execute(TABLE).await.unwrap();
    let mut host = Running::start(&root().join(file), environment);
    host.said("running").await;
    let change = async |sql: &str| database.client.batch_execute(sql).await.unwrap();
    let found = |words: &str| {
        let started = Instant::now();
        loop {
            let mut search = pgstream(["search", file, words, "--json"]);
            let output = search.envs(environment.iter().copied()).output().unwrap();
            let hits: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
                panic!("no answer: {}", String::from_utf8_lossy(&output.stderr));
            });
            let titles: Vec<_> = hits.as_array().unwrap().iter().map(|hit| hit["payload"]["title"].clone()).collect();
            if titles.first().is_some_and(|title| title == words) {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "`{words}` is not found first, but {titles:?}");
        }
    };
    found("Before");
    change("INSERT INTO documents VALUES (2, 'Copper kettle', 'Boils water on any fire.'), (3, 'Rope', 'Ties.')").await;
    found("Copper kettle");
    change("UPDATE documents SET title = 'Wooden spoon', content = 'Stirs what boils.' WHERE id = 2").await;
    found("Wooden spoon");
    change("DELETE FROM documents WHERE id = 3; INSERT INTO documents VALUES (4, 'Rope', 'Pulls.')").await;
    found("Rope");
    host
}

async fn stop(host: Running) {
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}
