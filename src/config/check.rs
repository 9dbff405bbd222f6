//! What values must fulfil beyond their type: ranges, names, patterns, URLs, files that exist.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use indexmap::IndexMap;

use super::bounds::bounds;
use super::diagnostic::Findings;
use super::file::{File, VERSION};
use super::kind::{Component, KindEntry, SinkComponent, SourceComponent};
use super::model::{JsonlSource, PostgresSource, Source};
use super::problems::{MAX_IDENTIFIER, Problems, is_whole_identifier, report};
use super::resource::SourceDatabase;
use super::schema;
use super::table::qualified;
use super::yaml::Node;

/// Checks the values of the file, and puts the component's path beside the pipeline file's.
pub(super) struct Check<'a, 't> {
    pub(super) root: &'a Node,
    pub(super) findings: &'a mut Findings<'t>,
}

impl Check<'_, '_> {
    /// What stands outside the sections.
    pub(super) fn file(&mut self, file: &File) {
        if file.version != VERSION {
            let message = format!("version {} of the file format is not known to this build", file.version);
            self.report(&["version"], message, format!("write `version: {VERSION}`"));
        }
        let longest = MAX_IDENTIFIER - PostgresSource::SLOT_PREFIX.len();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        for (key, name) in [("name", Some(&file.name)), ("tenant", file.tenant.as_ref())] {
            let Some(name) = name else { continue };
            if name.is_empty() || !name.chars().all(plain) {
                let message = format!("`{key}` may only hold lower-case letters, digits, `-` and `_`");
                self.report(&[key], message, format!("write `{key}: {}`", example_name(name)));
            } else if name.len() > longest {
                let message = format!("`{key}` has {} characters, more than {longest}", name.len());
                self.report(&[key], message, "the replication slot is named after it, and Postgres allows 63 in all");
            }
        }
    }

    /// Numbers, sizes, times, texts and lists of a section against the bounds that its kinds' schemas state.
    pub(super) fn bounds<C: Component>(&mut self, kinds: &[KindEntry<C>]) {
        let mut schemas = HashMap::new();
        for entry in self.root.get(C::SECTION).map_or(&[][..], Node::entries) {
            let kind = entry.value.get("type").and_then(Node::text).unwrap_or_default();
            if let Some(known) = kinds.iter().find(|known| known.kind == kind) {
                let schema = schemas.entry(known.kind).or_insert_with(|| schema::of(known));
                bounds(&entry.key, &entry.value, schema, entry.id, self.findings);
            }
        }
    }

    /// What the kinds of a section say of its components, whose paths start at `folder`.
    pub(super) fn components<'c, C: Component>(
        &mut self,
        components: impl Iterator<Item = (&'c String, &'c mut C)>,
        folder: &Path,
    ) {
        for (name, component) in components {
            component.locate(folder);
            component.review(&mut Problems::of(self.root, C::SECTION, name, self.findings));
        }
    }

    /// Fills in what sinks take from the source's database, if it reads one.
    pub(super) fn complete<C: SinkComponent>(
        &mut self,
        sinks: &mut IndexMap<String, C>,
        database: Option<&SourceDatabase>,
    ) {
        for (name, sink) in sinks {
            sink.complete(database, &mut Problems::of(self.root, C::SECTION, name, self.findings));
        }
    }

    fn report(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        report(self.root, self.findings, path, message, help);
    }
}

impl Component for Source {
    const SECTION: &'static str = "sources";
    const NOUN: &'static str = "source";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        match self {
            Source::Postgres(source) => postgres_source(source, problems),
            Source::Jsonl(source) => jsonl_source(source, problems),
        }
    }

    fn locate(&mut self, _folder: &Path) {}
}

impl SourceComponent for Source {
    fn database(&self) -> Option<SourceDatabase> {
        match self {
            Source::Postgres(source) => Some(SourceDatabase {
                url: source.url.clone(),
                password_file: source.password_file.clone(),
                trusted_owners: source.trusted_owners.clone(),
            }),
            Source::Jsonl(_) => None,
        }
    }
}

fn jsonl_source(source: &JsonlSource, problems: &mut Problems<'_, '_>) {
    if source.path.as_os_str().is_empty() {
        problems.at(&["path"], "`path` is empty", "name a file, or `-` for standard input");
    }
    for (index, table) in source.tables.iter().enumerate() {
        problems.table(&["tables", &index.to_string()], table, false);
    }
}

fn postgres_source(source: &PostgresSource, problems: &mut Problems<'_, '_>) {
    problems.postgres_url(&["url"], source.url.expose());
    if let Some(url) = &source.read_url {
        problems.postgres_url(&["read_url"], url.expose());
    }
    let mut seen = HashSet::new();
    for (index, table) in source.tables.iter().enumerate() {
        let path = ["tables", &index.to_string()];
        if problems.table(&path, table, true) && !seen.insert(qualified(table)) {
            problems.at(&path, format!("`{table}` stands twice in `tables`"), "remove one of the two");
        }
    }
    if !source.heartbeat.0.is_zero() && source.heartbeat < PostgresSource::SHORTEST_HEARTBEAT {
        let help = format!("write a value from {} on, or `0s` for never", PostgresSource::SHORTEST_HEARTBEAT);
        problems.at(&["heartbeat"], "`heartbeat` is out of range", help);
    }
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if let Some(slot) = source.slot.as_ref().filter(|slot| !is_whole_identifier(slot) || !slot.chars().all(lower)) {
        let message = "Postgres does not allow this name of a replication slot";
        let help =
            format!("use lower-case letters, digits and `_`, at most {MAX_IDENTIFIER}; such as `{}`", slot_like(slot));
        problems.at(&["slot"], message, help);
    }
    if source.publication.as_ref().is_some_and(|name| !is_whole_identifier(name)) {
        let message = format!("a publication's name has 1 to {MAX_IDENTIFIER} characters");
        problems.at(&["publication"], message, "");
    }
}

fn example_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let plain: String =
        lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let trimmed = plain.trim_matches('-');
    if trimmed.is_empty() { "documents".to_owned() } else { trimmed.to_owned() }
}

fn slot_like(name: &str) -> String {
    example_name(name).replace('-', "_").chars().take(MAX_IDENTIFIER).collect()
}
