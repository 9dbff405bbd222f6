//! A recording of a live pipeline, read without its database, asks the same of the sinks.

use std::process::Stdio;

use super::run;
use crate::support::documents;
use crate::support::program::{Folder, Running, eventually, pgstream, root};

/// What a sink wrote, without the places in the stream.
fn commands(folder: &Folder, name: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(folder.path(name)).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("position");
        line
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_gives_the_same_commands_as_the_live_run() {
    let database = documents().await;
    let more = "ALTER TABLE documents ADD price numeric, ADD at timestamptz, ADD tags text[], ADD more jsonb";
    database.client.batch_execute(more).await.unwrap();
    let folder = Folder::new();
    let component = root().join("plugins/documents-rust/documents.wasm");
    let pipeline = |source: &str, out: &str| {
        format!(
            "version: 1\nname: recorded\nsources:\n  db: {source}\nembedders:\n  words: {{ type: hash, dimension: 8 }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words], config: {{ text_column: content, \
             title_column: title }} }}\nsinks:\n  out: {{ type: file, inputs: [embed], path: {} }}\n",
            component.display(),
            folder.path(out).display()
        )
    };
    let source = "{ type: postgres, url: \"${DATABASE_URL}\", tables: [public.documents] }";
    let live = folder.write("live.yaml", &pipeline(source, "live.jsonl"));
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut host = Running::start(&live, &environment);
    host.said("streaming").await;
    let mut tap = pgstream(["tap", "--count", "9", "--record"]);
    tap.arg(folder.path("events.jsonl")).arg(&live).env("DATABASE_URL", &database.url).stdout(Stdio::null());
    let mut tap = tap.spawn().unwrap();
    // A slot that is being made is listed, too, and sends nothing of what commits meanwhile.
    let slots = "SELECT count(*) FROM pg_replication_slots
                 WHERE temporary AND database = current_database() AND confirmed_flush_lsn IS NOT NULL";
    eventually("the tap has its slot", async || {
        database.client.query_one(slots, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    let changes = "INSERT INTO documents VALUES (9007199254740993, 'Täg', 'some \"text\"', 1.50, '2026-01-01 00:00:00.5Z', '{a,b}', '{\"a\":[1.10]}');
                   INSERT INTO documents SELECT i, 'title ' || i, 'words ' || i FROM generate_series(1, 3) i;
                   UPDATE documents SET title = NULL WHERE id = 2;
                   UPDATE documents SET id = 7 WHERE id = 3;
                   DELETE FROM documents WHERE id = 1;
                   UPDATE documents SET content = NULL WHERE id = 2";
    database.client.batch_execute(changes).await.unwrap();
    let mut ended = None;
    eventually("the tap has seen all", async || {
        ended = tap.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert!(ended.unwrap().success());
    eventually("the live run has all", async || commands(&folder, "live.jsonl").len() >= 9).await;
    host.stop().await;

    let lines = format!("{{ type: jsonl, path: {}, follow: false }}", folder.path("events.jsonl").display());
    let (code, said) = run(&folder.write("replay.yaml", &pipeline(&lines, "replay.jsonl")));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(commands(&folder, "replay.jsonl"), commands(&folder, "live.jsonl"));
}
