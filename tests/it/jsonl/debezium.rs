//! Messages of Debezium's Postgres connector, as its documentation shows them, become the events that Postgres would give.

use super::{groups, pipeline, run};
use crate::support::program::{Folder, pgstream, root};

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_and_without_a_schema_keep_the_store_in_step() {
    let folder = Folder::new();
    std::fs::copy(root().join("tests/events/debezium.jsonl"), folder.path("events.jsonl")).unwrap();
    let file = pipeline(&folder, ", format: debezium, key: [id], follow: false");
    let checked = pgstream(["validate", "--connect"]).arg(&file).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let (code, said) = run(&file);
    assert_eq!(code, Some(0), "{said}");
    let bad = std::fs::read_to_string(folder.path("bad.jsonl")).unwrap_or_default();
    assert_eq!(bad, "", "every line is read");
    let written = groups(&folder.path("points.jsonl"));
    assert_eq!(
        written,
        ["1", "2", "1", "2", "5", "6", "5", "clear"],
        "insert, read, update, delete, and a key that moves"
    );
}

#[test]
fn the_example_without_a_database_is_one_that_runs() {
    let folder = Folder::new();
    let points = folder.path("points.jsonl");
    let mut command = pgstream(["run", "pipelines/file-to-file.yaml"]);
    std::fs::copy(root().join("tests/events/debezium.jsonl"), folder.path("events.jsonl")).unwrap();
    command.env("EVENTS", folder.path("events.jsonl")).env("POINTS", &points).env("FOLLOW", "false");
    command.env("REJECTED", folder.path("rejected.jsonl"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(groups(&points).len(), 8);
}
