//! The source `jsonl`: files that grow, are rotated, cut off and replaced; half-written and bad lines; Debezium's messages; and
//! what a recording of a live pipeline gives.

mod debezium;
mod delivery;
mod recorded;

use std::path::Path;

use crate::support::program::{Folder, pgstream, root};

/// A pipeline from `events.jsonl` of the folder into `points.jsonl` there, with more settings of the source.
pub(crate) fn pipeline(folder: &Folder, more: &str) -> std::path::PathBuf {
    let text = format!(
        "version: 1\nname: replay\nsources:\n  events: {{ type: jsonl, path: {}{more} }}\nembedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed:\n    type: wasm\n    inputs: [events]\n    embedders: [words]\n    component: {}\n    config: {{ text_column: content }}\n\
         sinks:\n  out: {{ type: file, inputs: [embed], path: {} }}\n  bad: {{ type: file, inputs: [embed.rejected], path: {} }}\n",
        folder.path("events.jsonl").display(),
        root().join("plugins/documents-rust/documents.wasm").display(),
        folder.path("points.jsonl").display(),
        folder.path("bad.jsonl").display(),
    );
    folder.write("pipeline.yaml", &text)
}

/// A line of this host's own form.
pub(crate) fn insert(id: usize) -> String {
    format!(
        "{{\"operation\":\"insert\",\"table\":\"documents\",\"key\":[\"id\"],\"types\":{{\"id\":\"int8\",\"content\":\"text\"}},\
         \"row\":{{\"id\":{id},\"content\":\"text {id}\"}}}}\n"
    )
}

/// The groups of the lines that a sink has written, in their order.
pub(crate) fn groups(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line may be half-written at this moment, or since a kill.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.map(|line| line["group"].as_str().unwrap_or_else(|| line["action"].as_str().unwrap()).to_owned()).collect()
}

/// Runs the pipeline to its end; its exit code and what it said.
pub(crate) fn run(file: &Path) -> (Option<i32>, String) {
    let output = pgstream(["run"]).arg(file).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
