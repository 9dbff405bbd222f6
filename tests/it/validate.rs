//! `validate`, and `validate --connect`: what does not fit is found before anything is made.

use std::collections::BTreeSet;
use std::process::Output;

use qdrant_client::Qdrant;

use crate::embedder::Server;
use crate::support::program::{Folder, pgstream, root};
use crate::support::qdrant_server::QdrantServer;
use crate::support::{Database, documents, fresh_database};

/// A pipeline with a sink of each kind that could make something.
fn pipeline(folder: &Folder, qdrant: &str) -> String {
    let (component, folder) = (root().join("plugins/documents-rust/documents.wasm"), folder.path("made"));
    let folder = folder.display();
    format!(
        "version: 1
name: validated
sources:
  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], snapshot: initial }}
embedders:
  words: {{ type: hash, dimension: 8 }}
transforms:
  embed:
    type: wasm
    inputs: [db]
    component: {}
    config: {{ text_column: content }}
    embedders: [words]
sinks:
  vectors: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: vectors, create: {{ dimension: 8 }} }}
  store: {{ type: qdrant, inputs: [embed], url: \"{qdrant}\", collection: docs, create: {{ dimension: 8 }} }}
  edge: {{ type: qdrant-edge, inputs: [embed], path: {folder}/edge, create: {{ dimension: 8 }} }}
  letters: {{ type: dead-letters, inputs: [embed.rejected] }}
",
        component.display()
    )
}

fn validate(folder: &Folder, database: &Database, arguments: &[&str], file: &str) -> (Output, String) {
    let file = folder.write("validated.yaml", file);
    let mut command = pgstream(["validate"]);
    let output = command.args(arguments).arg(&file).env("DATABASE_URL", &database.url).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// Everything that the database has, beside what it began with.
async fn catalogue(database: &Database) -> BTreeSet<String> {
    let sql = "SELECT 'relation ' || c.oid::regclass::text FROM pg_class c
               UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%temp\\_%'
               UNION ALL SELECT 'extension ' || extname FROM pg_extension
               UNION ALL SELECT 'publication ' || pubname FROM pg_publication
               UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()";
    database.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_makes_nothing_anywhere() {
    let (database, folder, store) = (documents().await, Folder::new(), QdrantServer::start(None));
    std::fs::create_dir(folder.path("made")).unwrap();
    let file = pipeline(&folder, &store.url());
    let before = catalogue(&database).await;
    for rows in ["", "INSERT INTO documents VALUES (1, 'Tents', 'Dry it.')"] {
        database.client.batch_execute(rows).await.unwrap();
        let (output, said) = validate(&folder, &database, &["--connect"], &file);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.matches("it is a superuser").count(), 1, "source and two sinks share the role: {said}");
        assert_eq!(catalogue(&database).await, before);
        assert_eq!(std::fs::read_dir(folder.path("made")).unwrap().count(), 0);
        let client = Qdrant::from_url(&store.url()).skip_compatibility_check().build().unwrap();
        assert!(!client.collection_exists("docs").await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_found_by_a_row_that_is_sent_through() {
    let (database, folder, store) = (documents().await, Folder::new(), QdrantServer::start(None));
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'Tents', 'Dry it.')").await.unwrap();
    let provider = Server::good().await; // its vectors have three numbers
    let file = pipeline(&folder, &store.url());
    let words = "words: { type: hash, dimension: 8 }";
    let openai = |url: &str| file.replace(words, &format!("words: {{ type: openai, url: \"{url}\", model: small }}"));
    let before = catalogue(&database).await;
    for (wrong, expected) in [
        (file.replace("text_column: content", "text_column: contents"), "has no column `contents`"),
        (
            file.replace("    embedders: [words]", "    embedders: [words]\n    columns: [titel]"),
            "no table of the source has a column `titel`",
        ),
        (
            file.replace("    embedders: [words]\n", "")
                .replace("embedders:\n  words: { type: hash, dimension: 8 }\n", ""),
            "embedder",
        ),
        (openai(provider.url()), "3 numbers"),
        (openai("http://127.0.0.1:1/v1"), "the server cannot be reached"),
    ] {
        let (output, said) = validate(&folder, &database, &["--connect"], &wrong);
        assert!(output.status.code().is_some_and(|code| code != 0), "{expected}: {said}");
        assert!(said.contains(expected), "`{expected}` is missing in\n{said}");
        assert_eq!(catalogue(&database).await, before);
    }
    // An empty table: the row is made up, and what a handler says of it is no more than a warning.
    database.client.batch_execute("TRUNCATE documents").await.unwrap();
    let (output, said) = validate(&folder, &database, &["--connect"], &openai(provider.url()));
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("a row that was made up"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_another_length_than_create_are_found_without_a_server_and_make_no_table() {
    let (database, folder) = (documents().await, Folder::new());
    let file = pipeline(&folder, "http://localhost:1")
        .replace("table: vectors, create: { dimension: 8 }", "table: vectors, create: { dimension: 1536 }");
    let (output, said) = validate(&folder, &database, &[], &file);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("embedder `words` makes vectors of 8 numbers, sink `vectors` is made for 1536"), "{said}");
    assert!(said.contains("`sinks.vectors.create.dimension`") && said.contains("write `dimension: 8` there"), "{said}");
    let before = catalogue(&database).await;
    let path = folder.path("validated.yaml");
    let run = pgstream(["run"]).arg(&path).env("DATABASE_URL", &database.url).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert_eq!(catalogue(&database).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_could_not_be_made_is_found_without_making_it() {
    let (database, folder, store) = (documents().await, Folder::new(), QdrantServer::start(None));
    let file = pipeline(&folder, &store.url());
    let (output, said) =
        validate(&folder, &database, &["--connect"], &file.replace("table: vectors", "table: nowhere.vectors"));
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("schema \"nowhere\" does not exist"), "{said}");
    folder.write("made", "a file, not a folder");
    let nobody = file;
    let (output, said) = validate(&folder, &database, &["--connect"], &nobody);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("made/edge` cannot be made"), "{said}");
}

/// What is published is not there yet when a row is made up or read.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_tried_with_the_columns_that_will_be_sent() {
    let (database, folder, store) = (fresh_database().await, Folder::new(), QdrantServer::start(None));
    std::fs::create_dir(folder.path("made")).unwrap();
    let table = "CREATE TABLE documents (id int, title text, content text, key int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY)";
    database.client.batch_execute(table).await.unwrap();
    for rows in ["", "INSERT INTO documents VALUES (1, 'Tents', 'Dry it.')"] {
        database.client.batch_execute(rows).await.unwrap();
        let (output, said) = validate(&folder, &database, &["--connect"], &pipeline(&folder, &store.url()));
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(!said.contains("rejects one that was made up"), "{said}");
    }
}
