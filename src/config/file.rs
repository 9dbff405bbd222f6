//! The shape of a pipeline file: its sections, and the components in them by their `type`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, IgnoredAny};

use super::diagnostic::Findings;
use super::kind::{Component, Components, KindEntry};
use super::mistake::{nearest, one_of};
use super::read::read;
use super::yaml::{Entry, Kind, Node};

/// A pipeline: one source, its transforms, and the sinks that they feed.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the sections are read by `components`; here they name the keys, for reader and schema")]
pub(super) struct File {
    /// Version of the file's format.
    #[schemars(extend("const" = VERSION))]
    pub(super) version: u64,
    /// Slot and publication are named after it; positions and dead letters are kept under it. Lower-case letters, digits, `-`
    /// and `_`.
    #[schemars(regex(pattern = "^[a-z0-9_-]{1,54}$"))]
    pub(super) name: String,
    /// The tenant that owns the pipeline; limits come from the host file.
    #[serde(default)]
    pub(super) tenant: Option<String>,
    /// The source of the events: exactly one.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub(super) sources: Section,
    /// Embedding models that the host calls for the handlers.
    #[serde(default)]
    pub(super) embedders: Section,
    /// Handlers: they turn events into commands.
    #[schemars(extend("minProperties" = 1))]
    pub(super) transforms: Section,
    /// The sinks that take the commands.
    #[schemars(extend("minProperties" = 1))]
    pub(super) sinks: Section,
}

impl File {
    /// Reads what stands outside the sections.
    pub(super) fn read<C: Components>(root: &Node, findings: &mut Findings<'_>) -> Option<Self> {
        let mut outside = root.clone();
        if let Kind::Map(entries) = &mut outside.kind {
            let sections = [C::Source::SECTION, C::Embedder::SECTION, C::Transform::SECTION, C::Sink::SECTION];
            let within = entries.iter_mut().filter(|entry| sections.contains(&entry.key.as_str()));
            within.for_each(|entry| entry.value.kind = Kind::Null);
        }
        read(&outside, root.id, findings)
    }
}

/// Forgets the keys of the whole file that only hold what aliases name. Each alias has brought its own copy.
pub(super) fn drop_ignored(root: &mut Node) {
    if let Kind::Map(entries) = &mut root.kind {
        entries.retain(|entry| !entry.key.starts_with("x-"));
    }
}

/// The format that this build reads.
pub(super) const VERSION: u64 = 1;

/// Components by name. Read one by one through [`components`], so that a mistake in one does not hide the others.
#[derive(Default)]
pub(super) struct Section;

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Self)
    }
}

/// Reads every component of a section. Those with a problem are missing from the answer, the problem is reported.
pub(super) fn components<C: Component>(
    root: &Node,
    kinds: &[KindEntry<C>],
    findings: &mut Findings<'_>,
) -> IndexMap<String, C> {
    let Some(section) = root.entry(C::SECTION) else { return IndexMap::new() };
    if !section.value.is_map() && section.value.kind != Kind::Null && !section.value.is_hole() {
        let noun = C::NOUN;
        findings.at(
            section.id,
            format!("expected a map of {noun}s by name"),
            format!("write `{}: {{ my_{noun}: {{ type: … }} }}`", C::SECTION),
        );
    }
    let entries = section.value.entries().iter();
    entries.filter_map(|entry| Some((entry.key.clone(), component(entry, kinds, findings)?))).collect()
}

fn component<C: Component>(entry: &Entry, kinds: &[KindEntry<C>], findings: &mut Findings<'_>) -> Option<C> {
    let names: Vec<_> = kinds.iter().map(|known| known.kind).collect();
    let example = names.first().copied().unwrap_or_default();
    if entry.value.is_hole() {
        return None;
    }
    if !entry.value.is_map() {
        let message = format!("expected the settings of {} `{}` as a map", C::NOUN, entry.key);
        findings.at(entry.id, message, format!("write `{}: {{ type: {example}, … }}`", entry.key));
        return None;
    }
    let Some(kind) = entry.value.get("type") else {
        let message = format!("{} `{}` has no `type`, {}", C::NOUN, entry.key, one_of(&names));
        findings.at(entry.id, message, format!("add `type: {example}`"));
        return None;
    };
    let Some(text) = kind.text() else {
        if !kind.is_hole() {
            findings.at(kind.id, format!("the type of a {} is text, {}", C::NOUN, one_of(&names)), "");
        }
        return None;
    };
    let Some(known) = kinds.iter().find(|known| known.kind == text) else {
        let message = match kind.is_hidden() {
            true => format!("an environment variable holds an unknown type of {}", C::NOUN),
            false => format!("unknown type `{text}` of {}", C::NOUN),
        };
        let help = match nearest(text, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("for another kind of {}, see docs/extending.md", C::NOUN),
        };
        let help = if kind.is_hidden() { String::new() } else { help };
        findings.at(kind.id, format!("{message}, {}", one_of(&names)), help);
        return None;
    };
    (known.read)(&entry.value.without("type"), entry.id, findings)
}
