//! The first word of docs: a noun or a verb, so that a reader knows from it what he reads about.

use std::collections::BTreeMap;

use super::{File, rust_files};

/// Words with which a doc only asks what it should say.
const QUESTIONS: &[&str] = &["What", "How", "Whether", "Who", "Why", "Where", "Which"];

/// Docs that begin so still, by file. The list may only shrink. Many are texts of settings and commands, which users see.
const STILL: &[(&str, usize)] = &[
    ("src/api/caller.rs", 1),
    ("src/api/client.rs", 1),
    ("src/cli/build.rs", 1),
    ("src/cli/copies.rs", 2),
    ("src/cli/dlq/show.rs", 1),
    ("src/cli/mod.rs", 1),
    ("src/cli/new.rs", 1),
    ("src/cli/notify.rs", 1),
    ("src/cli/pipelines.rs", 2),
    ("src/cli/progress.rs", 2),
    ("src/cli/search.rs", 2),
    ("src/cli/signals.rs", 2),
    ("src/cli/steer.rs", 1),
    ("src/cli/test.rs", 1),
    ("src/cli/watch.rs", 2),
    ("src/config/file.rs", 3),
    ("src/config/host_shape.rs", 2),
    ("src/config/model.rs", 6),
    ("src/config/model/host.rs", 5),
    ("src/config/model/network.rs", 6),
    ("src/config/model/pipeline.rs", 2),
    ("src/config/model/sink.rs", 7),
    ("src/demo/mod.rs", 1),
    ("src/embedder/openai/settings.rs", 3),
    ("src/host/graph.rs", 1),
    ("src/host/letter_box.rs", 3),
    ("src/host/plan.rs", 7),
    ("src/host/reload.rs", 1),
    ("src/host/state.rs", 2),
    ("src/sink/dead_letters/letters.rs", 2),
    ("src/sink/lines/settings.rs", 3),
    ("src/sink/pgvector/settings.rs", 1),
    ("src/sink/qdrant/settings.rs", 2),
    ("src/sink/qdrant_edge/settings.rs", 1),
    ("src/source/jsonl/jsonl_settings.rs", 4),
    ("src/source/postgres/postgres_settings.rs", 8),
    ("src/source/postgres/settings.rs", 5),
    ("src/transform/call.rs", 3),
    ("src/transform/cpu.rs", 1),
    ("src/transform/guest.rs", 5),
    ("src/transform/http/desk.rs", 2),
    ("src/transform/imports.rs", 1),
    ("src/transform/settings.rs", 6),
];

#[test]
fn docs_begin_with_a_noun_or_a_verb() {
    let files: Vec<File> = rust_files().into_iter().filter(|file| file.path.starts_with("src/")).collect();
    let found: BTreeMap<&str, usize> =
        files.iter().map(|file| (file.path.as_str(), asking(file))).filter(|(_, number)| *number > 0).collect();
    let listed: BTreeMap<&str, usize> = STILL.iter().copied().collect();
    assert_eq!(
        found, listed,
        "docs that begin with {QUESTIONS:?}; where there are fewer now, lower the number in the list"
    );
}

/// The number of docs of a file that begin with a question.
fn asking(file: &File) -> usize {
    let docs = file.text.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "))
    });
    docs.filter(|doc| doc.split(|c: char| !c.is_alphanumeric()).next().is_some_and(|word| QUESTIONS.contains(&word)))
        .count()
}

#[test]
fn a_doc_that_asks_is_found() {
    let text = "//! Files.\n/// What a file has.\nstruct File;\n/// The whole.\n    /// Whether it is there.\n";
    assert_eq!(asking(&File { path: "src/file.rs".into(), text: text.into() }), 2);
}
