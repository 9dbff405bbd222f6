//! A test file: what stands at its top, and its cases.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::events::{Source, source};
use super::expect::expected;
use crate::components::REGISTRY;
use crate::config::model::Limits;
use crate::config::{Diagnostics, Document, Mistakes, Part, Shape};
use crate::embedder::{EmbedderKind, HashEmbedder};
use crate::event::json::Json;

/// Events of one call, unless a case says otherwise: as many as a source puts into a batch.
const BATCH: usize = 1000;
/// Length of the vectors of the embedder that a handler has if the file names none.
const DIMENSION: usize = 8;

/// A file that was read.
pub(super) struct Suite<'d> {
    pub(super) component: Option<PathBuf>,
    pub(super) embedders: IndexMap<String, Box<dyn EmbedderKind>>,
    pub(super) vectors: bool,
    pub(super) cases: Vec<Case<'d>>,
}

/// A case of it.
pub(super) struct Case<'d> {
    pub(super) part: Part<'d>,
    pub(super) name: String,
    pub(super) config: BTreeMap<String, String>,
    pub(super) limits: Limits,
    pub(super) batch: usize,
    pub(super) source: Source<'d>,
    pub(super) expected: Vec<Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what is ignored here is read part by part; it stands here to be a known key")]
struct Head {
    #[serde(default)]
    component: Option<PathBuf>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    embedders: Option<IgnoredAny>,
    #[serde(default)]
    vectors: bool,
    #[serde(default)]
    table: Option<IgnoredAny>,
    #[serde(default)]
    tables: Option<IgnoredAny>,
    cases: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct CaseHead {
    name: String,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    limits: Option<Limits>,
    #[serde(default)]
    batch: Option<usize>,
    #[serde(default)]
    table: Option<IgnoredAny>,
    events: IgnoredAny,
    #[serde(default)]
    expect: Option<IgnoredAny>,
}

/// Reads the whole file; every mistake is found at once.
pub(super) fn read(document: &Document) -> Result<Suite<'_>, Diagnostics> {
    let mut mistakes = document.mistakes();
    let suite = suite(document.root(), &mut mistakes);
    match suite.filter(|_| mistakes.is_empty()) {
        Some(suite) => Ok(suite),
        None => Err(mistakes.finish()),
    }
}

fn suite<'d>(root: Part<'d>, mistakes: &mut Mistakes<'_>) -> Option<Suite<'d>> {
    let head: Option<Head> = mistakes.read(root);
    let mut embedders = mistakes.embedders(REGISTRY.embedders);
    for (name, embedder) in &embedders {
        let part = root.get("embedders").and_then(|part| part.get(name)).unwrap_or(root);
        if !embedder.is_offline() {
            let help = format!("write `{name}: {{ type: hash, dimension: {DIMENSION} }}`");
            mistakes.at(part, "a test has no network: only embedders of type `hash` give the same each time", help);
        } else if embedder.dimension().is_some_and(|dimension| !(1..=65_535).contains(&dimension)) {
            mistakes.at(part, "`dimension` is out of range", "write a value from 1 to 65535");
        }
    }
    if embedders.is_empty() {
        embedders.insert("default".to_owned(), Box::new(HashEmbedder { dimension: DIMENSION }));
    }
    let list = root.get("cases")?;
    if !matches!(list.shape(), Shape::List(_)) {
        mistakes.at(
            list,
            format!("expected a list of cases, found {}", list.kind()),
            "write `cases: [{ name: …, events: […], expect: […] }]`",
        );
    }
    let mut cases: Vec<Case<'d>> = Vec::new();
    for part in list.items() {
        let source = source(root, part, mistakes);
        let expected = part.get("expect").map_or(Some(Vec::new()), |part| expected(part, mistakes));
        let Some(read) = mistakes.read::<CaseHead>(part) else { continue };
        if cases.iter().any(|case| case.name == read.name) {
            mistakes.at(part, format!("two cases have the name `{}`", read.name), "rename one of the two");
        }
        let (Some(head), Some(source), Some(expected)) = (&head, source, expected) else { continue };
        let mut config = head.config.clone();
        config.extend(read.config);
        cases.push(Case {
            part,
            name: read.name,
            config,
            limits: read.limits.unwrap_or_else(|| head.limits.clone()),
            batch: read.batch.unwrap_or(BATCH).max(1),
            source,
            expected,
        });
    }
    let head = head?;
    Some(Suite { component: head.component, embedders, vectors: head.vectors, cases })
}
