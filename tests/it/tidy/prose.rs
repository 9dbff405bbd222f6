//! The first word of docs: a noun or a verb, so that a reader knows from it what he reads about.

use super::{File, rust_files};

/// Words with which a doc only asks what it should say.
const QUESTIONS: &[&str] = &["What", "How", "Whether", "Who", "Why", "Where", "Which"];

#[test]
fn docs_begin_with_a_noun_or_a_verb() {
    let files: Vec<File> = rust_files().into_iter().filter(|file| file.path.starts_with("src/")).collect();
    let found: Vec<(&str, usize)> =
        files.iter().map(|file| (file.path.as_str(), asking(file))).filter(|(_, number)| *number > 0).collect();
    assert!(found.is_empty(), "docs that begin with one of {QUESTIONS:?}: {found:?}");
}

/// The number of docs of a file that begin with a question.
fn asking(file: &File) -> usize {
    let docs = file.text.lines().map(|line| {
        let line = line.trim_start();
        line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))
    });
    let mut before = None;
    let first = docs.filter_map(|doc| std::mem::replace(&mut before, doc).is_none().then_some(doc).flatten());
    let asks = |doc: &str| doc.split_whitespace().next().is_some_and(|word| QUESTIONS.contains(&word));
    first.filter(|doc| asks(doc)).count()
}

#[test]
fn a_doc_that_asks_is_found() {
    let text = "//! Files.\n\n/// What a file has.\nstruct File;\n/// The whole.\n/// What follows is its second line.\nconst ONE: u8;\n    /// Whether it is there.\n";
    assert_eq!(asking(&File { path: "src/file.rs".into(), text: text.into() }), 2);
}
