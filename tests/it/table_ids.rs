//! Rows of several tables in one collection: each has a point of its own, and the ids of points that are there never change.

use std::path::Path;

use pgstream_host::event::Naming;
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, PostgresSource};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use crate::guests::{guest, root};
use crate::source::{config, pipeline, slot};
use crate::support::program::{Folder, Running, eventually};
use crate::support::{Database, fresh_database};

const TWO: &str = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)";

fn initial(database: &Database, tables: &[&str]) -> Config {
    Config { snapshot: Snapshot::Initial, ..config(&database.url, tables) }
}

/// What ids of tables begin with, as a row of each is copied and one is streamed.
async fn namings(database: &Database, tables: &[&str]) -> Vec<(String, Option<String>)> {
    let mut source = PostgresSource::connect(&pipeline(database), &initial(database, tables)).await.unwrap();
    let change = "UPDATE a SET id = id; UPDATE b SET id = id";
    database.client.batch_execute(change).await.unwrap();
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    let (mut streamed, wanted) = (0, if tables.len() == 1 && !tables[0].contains('*') { 1 } else { 2 });
    while streamed < wanted {
        let batch = source.next().await.unwrap().unwrap();
        for event in batch.events() {
            let relation = batch.relation(event);
            let naming = match &relation.naming {
                Naming::Alone => "alone".into(),
                Naming::Key => "key".into(),
                Naming::Named(prefix) => prefix.to_string(),
            };
            streamed += usize::from(!event.snapshot);
            found.push((relation.table.clone(), Some(naming)));
        }
        batch.ends_at().into_iter().for_each(|end| source.confirm(end));
    }
    Box::new(source).close().await.unwrap();
    found.sort();
    found.dedup();
    found
}

fn told(namings: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    namings.iter().map(|(table, naming)| ((*table).to_owned(), Some((*naming).to_owned()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_grows_leaves_the_ids_of_its_first_table_as_they_are() {
    let database = fresh_database().await;
    database.client.batch_execute(TWO).await.unwrap();
    assert_eq!(namings(&database, &["a"]).await, told(&[("a", "alone")]));
    let both = told(&[("a", "key"), ("b", "public.b")]);
    assert_eq!(namings(&database, &["a", "b"]).await, both);
    assert_eq!(namings(&database, &["b", "a"]).await, both);
    // Whichever is taken out, and whatever its name is by then.
    assert_eq!(namings(&database, &["b"]).await, told(&[("b", "public.b")]));
    assert_eq!(namings(&database, &["a"]).await, told(&[("a", "key")]));
    assert_eq!(namings(&database, &["a", "b"]).await, both);
    database.client.batch_execute("ALTER TABLE b RENAME TO c; CREATE VIEW b AS SELECT * FROM c").await.unwrap();
    assert_eq!(namings(&database, &["a", "c"]).await, told(&[("a", "key"), ("c", "public.b")]));
    database.client.batch_execute("DROP VIEW b; ALTER TABLE c RENAME TO b").await.unwrap();
    assert_eq!(namings(&database, &["a", "b"]).await, both);
    // The sinks are emptied: now each may have a name.
    postgres::resnapshot(&pipeline(&database), &initial(&database, &["a", "b"])).await.unwrap();
    assert_eq!(namings(&database, &["a", "b"]).await, told(&[("a", "public.a"), ("b", "public.b")]));
    postgres::teardown(&pipeline(&database), &initial(&database, &["a", "b"])).await.unwrap();
    assert_eq!(namings(&database, &["a"]).await, told(&[("a", "alone")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tables_from_the_start_have_their_names_in_their_ids() {
    let database = fresh_database().await;
    database.client.batch_execute(TWO).await.unwrap();
    assert_eq!(namings(&database, &["public.*"]).await, told(&[("a", "public.a"), ("b", "public.b")]));
    assert_eq!(namings(&database, &["b"]).await, told(&[("b", "public.b")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_shared_a_pipeline_before_keep_the_ids_that_they_have() {
    let database = fresh_database().await;
    database.client.batch_execute(TWO).await.unwrap();
    namings(&database, &["a", "b"]).await;
    // As a host leaves it that knew nothing of it.
    database.client.batch_execute("DROP TABLE pgstream.ids").await.unwrap();
    assert_eq!(namings(&database, &["a", "b"]).await, told(&[("a", "key"), ("b", "key")]));
    database.client.batch_execute("DROP TABLE pgstream.ids, pgstream.slots").await.unwrap();
    let there = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1";
    let row = database.client.query_one(there, &[&slot(&database)]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    assert_eq!(namings(&database, &["a", "b"]).await, told(&[("a", "key"), ("b", "key")]));
}

/// A pipeline of these tables into `vectors` of the same database.
fn file(folder: &Folder, database: &Database, component: &Path, tables: &str, more: &str) -> std::path::PathBuf {
    let text = format!(
        "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", snapshot: initial, tables: [{tables}] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words]{more} }}\n\
         sinks:\n  vectors: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: vectors, create: {{ dimension: 8 }} }}\n",
        pipeline(database),
        component.display()
    );
    folder.write("ids.yaml", &text)
}

async fn ids(database: &Database) -> String {
    let sql = "SELECT coalesce(string_agg(id, ' ' ORDER BY id COLLATE \"C\"), '') FROM public.vectors";
    database.client.query_one(sql, &[]).await.map(|row| row.get(0)).unwrap_or_default()
}

const DOCUMENTS: &str =
    "CREATE TABLE documents (id int PRIMARY KEY, content text, title text DEFAULT 't', category text DEFAULT 'c');
    CREATE TABLE notes (LIKE documents INCLUDING ALL);
    INSERT INTO documents VALUES (7, 'a document'), (8, 'another'); INSERT INTO notes VALUES (7, 'a note')";

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_equal_keys_have_points_of_their_own_also_when_they_change_and_go() {
    let (database, folder) = (fresh_database().await, Folder::new());
    database.client.batch_execute(DOCUMENTS).await.unwrap();
    let component = root().join("plugins/documents-rust/documents.wasm");
    let environment = [("DATABASE_URL", database.url.as_str())];
    let become_ids = async |expected: &str| {
        eventually(&format!("the points are {expected}"), async || ids(&database).await == expected).await;
    };

    let one = file(&folder, &database, &component, "public.documents", "");
    let host = Running::start(&one, &environment);
    become_ids("7#0 8#0").await;
    assert!(host.stop().await.0.success());

    let both = file(&folder, &database, &component, "public.documents, public.notes", "");
    let host = Running::start(&both, &environment);
    become_ids("7#0 8#0 public.notes:7#0").await;
    let change = async |sql: &str| database.client.batch_execute(sql).await.unwrap();
    change("UPDATE documents SET content = 'changed' WHERE id = 7; INSERT INTO notes VALUES (8, 'second')").await;
    become_ids("7#0 8#0 public.notes:7#0 public.notes:8#0").await;
    change("DELETE FROM documents WHERE id = 7; DELETE FROM notes WHERE id = 8").await;
    become_ids("8#0 public.notes:7#0").await;
    let (status, log) = host.stop().await;
    assert!(status.success() && !log.contains("are given the same ids"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_handler_gives_rows_of_two_tables_the_same_ids_is_said_once_unless_it_is_meant() {
    let Some(component) = guest("points") else { return };
    for (more, said) in [("", true), (", ids: key", false)] {
        let (database, folder) = (fresh_database().await, Folder::new());
        database.client.batch_execute(DOCUMENTS).await.unwrap();
        let file = file(&folder, &database, &component, "public.documents, public.notes", more);
        let host = Running::start(&file, &[("DATABASE_URL", database.url.as_str())]);
        eventually("both are copied", async || ids(&database).await == "7 8").await;
        database.client.batch_execute("INSERT INTO notes VALUES (8, 'x'), (9, 'x')").await.unwrap();
        eventually("the last is there", async || ids(&database).await == "7 8 9").await;
        let (status, log) = host.stop().await;
        assert!(status.success(), "{log}");
        let lines = log.lines().filter(|line| line.contains("rows of two tables are given the same ids")).count();
        assert_eq!(lines, usize::from(said), "{log}");
        if said {
            assert!(log.contains("public.documents, public.notes"), "{log}");
            assert!(log.contains("let the handler make ids with the event's `id`"), "{log}");
        }
    }
}
