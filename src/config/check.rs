//! `Check`: the demands on values beyond their type: ranges, names, patterns, URLs, files that
//! exist.

use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;

use super::bounds::bounds;
use super::diagnostic::Findings;
use super::file::{File, VERSION};
use super::kind::{Component, KindEntry, SinkComponent};
use super::problems::{MAX_IDENTIFIER, Problems, SLOT_PREFIX, example_name, report};
use super::resource::SourceDatabase;
use super::schema;
use super::yaml::Node;

/// Checks the values of the file, and puts the component's path beside the pipeline file's.
pub(super) struct Check<'a, 't> {
    pub(super) root: &'a Node,
    pub(super) findings: &'a mut Findings<'t>,
}

impl Check<'_, '_> {
    /// Checks the values outside the sections.
    pub(super) fn file(&mut self, file: &File) {
        if file.version != VERSION {
            let message = format!("version {} of the file format is not known to this build", file.version);
            self.report(&["version"], message, format!("write `version: {VERSION}`"));
        }
        let longest = MAX_IDENTIFIER - SLOT_PREFIX.len();
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

    /// Numbers, sizes, times, texts and lists of a section against the bounds that its kinds'
    /// schemas state.
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

    /// Checks the components of a section as their kinds demand. Their paths start at `folder`.
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
