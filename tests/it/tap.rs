//! `pgstream-host tap`: sees what a pipeline sees, disturbs nothing, leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value as Json;

use crate::support::program::{Folder, eventually, pgstream};
use crate::support::{Database, documents};

/// `documents` with columns that JSON has no words for, and another table.
async fn tables() -> Database {
    let database = documents().await;
    let more = "ALTER TABLE documents ADD price numeric, ADD at timestamptz;
                CREATE TABLE other (id int PRIMARY KEY, note text)";
    database.client.batch_execute(more).await.unwrap();
    database
}

fn pipeline(folder: &Folder, name: &str) -> std::path::PathBuf {
    let component = crate::support::program::root().join("plugins/documents-rust/documents.wasm");
    let text = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [\"public.*\"] }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {} }}\nsinks:\n  out: {{ type: blackhole, inputs: [embed] }}\n",
        component.display()
    );
    folder.write("pipeline.yaml", &text)
}

async fn temporary_slots(database: &Database) -> i64 {
    let query = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND database = current_database()";
    database.client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_shown_and_recorded_as_they_commit_and_the_pipeline_is_not_disturbed() {
    let database = tables().await;
    let folder = Folder::new();
    let file = pipeline(&folder, "tapped");
    let set_up = pgstream(["setup"]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap();
    assert!(set_up.status.success());
    let flushed = async || -> String {
        let query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'pgstream_tapped'";
        database.client.query_one(query, &[]).await.unwrap().get(0)
    };
    let before = flushed().await;

    let recorded = folder.path("tests/events.jsonl");
    std::fs::create_dir(folder.path("tests")).unwrap();
    let mut tap = pgstream(["tap"])
        .arg(&file)
        .args(["--table", "documents", "--count", "5", "--record"])
        .arg(&recorded)
        .env("DATABASE_URL", &database.url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the tap has its slot", async || temporary_slots(&database).await == 1).await;
    // The slot is there before the stream begins, and so sees everything from here on.
    let changes = "INSERT INTO documents VALUES (9007199254740993, 'Täg', 'text', 1.50, '2026-01-01 00:00:00Z');
                   INSERT INTO other VALUES (1, 'not asked for');
                   UPDATE documents SET title = NULL;
                   UPDATE documents SET id = 2;
                   DELETE FROM documents";
    database.client.batch_execute(changes).await.unwrap();
    let lines: Vec<String> = BufReader::new(tap.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert_eq!(tap.wait().unwrap().code(), Some(0));
    let events: Vec<Json> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let operations: Vec<_> = events.iter().map(|event| event["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["insert", "update", "delete", "insert", "delete"]);
    assert_eq!(events[0]["row"]["id"], 9007199254740993_i64);
    assert_eq!(events[0]["row"]["price"]["numeric"], "1.50");
    assert_eq!(events[0]["types"]["at"], "timestamptz");
    assert_eq!(events[0]["key"], serde_json::json!(["id"]));
    assert_eq!(std::fs::read_to_string(&recorded).unwrap().lines().collect::<Vec<_>>(), lines);

    assert_eq!(flushed().await, before, "nothing was confirmed for the pipeline");
    eventually("the slot is gone", async || temporary_slots(&database).await == 0).await;

    // What was recorded is what `test` reads.
    let expected = "cases:\n  - name: recorded\n    events: events.jsonl\n    expect:\n      - replace: { group: \"9007199254740993\" }\n      \
                    - replace: { group: \"9007199254740993\" }\n      - delete_group: \"9007199254740993\"\n      - replace: { group: 2 }\n      - delete_group: 2\n";
    let tests = folder.write("tests/recorded.yaml", expected);
    let component = crate::support::program::root().join("plugins/documents-rust/documents.wasm");
    let tested = pgstream(["test"]).arg(tests).arg("--component").arg(component).output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));

    let again = pgstream(["tap"]).arg(&file).arg("--record").arg(&recorded).env("DATABASE_URL", &database.url).output();
    let again = again.unwrap();
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("a recording is never overwritten"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_tap_leaves_no_slot() {
    let database = tables().await;
    let folder = Folder::new();
    let file = pipeline(&folder, "killed");
    assert!(pgstream(["setup"]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap().status.success());
    let mut tap =
        pgstream(["tap"]).arg(&file).env("DATABASE_URL", &database.url).stdout(Stdio::null()).spawn().unwrap();
    eventually("the tap has its slot", async || temporary_slots(&database).await == 1).await;
    tap.kill().unwrap();
    tap.wait().unwrap();
    eventually("the slot is gone", async || temporary_slots(&database).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_publication_the_help_says_setup_and_a_strange_table_is_named() {
    let database = tables().await;
    let folder = Folder::new();
    let file = pipeline(&folder, "untapped");
    let output = pgstream(["tap"]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("publication `pgstream_untapped`") && said.contains("pgstream-host setup"), "{said}");
    assert!(pgstream(["setup"]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap().status.success());
    let output = pgstream(["tap", "--table", "docs"]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("it reads: public.documents, public.other"), "{said}");
}
