//! Points without vectors are stored, and whoever made their handler is told: no search by meaning finds them.

use crate::guests::guest;
use crate::support::documents;
use crate::support::program::{Folder, Running, eventually};

const SAID: &str = "the handler writes points without vectors";

/// `echo` answers each event with a point that has a payload alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_point_without_a_vector_is_stored_and_said_once_where_vectors_are_held() {
    let Some(component) = guest("echo") else { return };
    let (database, folder) = (documents().await, Folder::new());
    let out = folder.path("out.jsonl");
    let file = folder.write(
        "unembedded.yaml",
        &format!(
            "version: 1\nname: unembedded_{}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
             transforms:\n  echo: {{ type: wasm, inputs: [db], component: {component} }}\n  \
             aside: {{ type: wasm, inputs: [db], component: {component} }}\n\
             sinks:\n  out: {{ type: file, inputs: [aside], path: {} }}\n  \
             vectors: {{ type: pgvector, inputs: [echo], url: \"${{DATABASE_URL}}\", table: vectors, create: {{ dimension: 3 }} }}\n",
            database.name,
            out.display(),
            component = component.display(),
        ),
    );
    let mut host = Running::start(&file, &[("DATABASE_URL", database.url.as_str())]);
    host.said("streaming").await;
    // Points of `echo` are named after the place in the transaction.
    for ids in ["(1, 'a', 'b')", "(2, 'a', 'b'), (3, 'a', 'b')"] {
        database.client.batch_execute(&format!("INSERT INTO documents VALUES {ids}")).await.unwrap();
    }
    let stored = "SELECT count(*) FROM vectors WHERE embedding IS NULL AND payload->>'operation' = 'insert'";
    eventually("the points are stored, with NULL", async || {
        database.client.query_one(stored, &[]).await.unwrap().get::<_, i64>(0) == 2
    })
    .await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
    assert_eq!(log.matches(SAID).count(), 1, "once, and not of the sink that holds no vectors: {log}");
    let line = log.lines().find(|line| line.contains(SAID)).unwrap();
    assert!(line.contains("echo") && line.contains("give `upsert` a text"), "{line}");
}
