//! Checks of how components hang together: their names, their `inputs`, and components that nobody
//! uses. They work on nodes, so that a component which could not be read still counts as what it
//! is.

use std::collections::{HashMap, HashSet};

use super::diagnostic::Findings;
use super::kind::{Accepts, Component, Components, KindEntry};
use super::mistake::nearest;
use super::yaml::{Entry, Id, Kind, Node};

/// The output of a transform that carries the events which its handler refused.
pub(super) const REJECTED: &str = ".rejected";

/// The word for what the host may lend, so that a name may be known although the file has no such
/// section.
const EMBEDDER: &str = "embedder";

/// Reports everything about names and `inputs` that cannot work.
pub(super) fn check<C: Components>(
    root: &Node,
    kinds: &[KindEntry<C::Sink>],
    lent: &[String],
    findings: &mut Findings<'_>,
) {
    let sources = section::<C::Source>(root);
    let embedders = section::<C::Embedder>(root);
    let transforms = section::<C::Transform>(root);
    let sinks = section::<C::Sink>(root);

    names(&[("source", sources), ("transform", transforms), ("sink", sinks)], findings);
    names(&[("embedder", embedders)], findings);
    counts::<C>(root, findings);

    let (used, chained) = transform_inputs(sources, transforms, sinks, findings);
    for source in sources.iter().take(1).filter(|source| used.lacks(&source.key)) {
        let help = format!("add `{}` to the `inputs` of a transform", source.key);
        findings.at(source.id, format!("no transform takes the events of source `{}`", source.key), help);
    }
    let used = sink_inputs(sources, transforms, sinks, kinds, findings);
    let idle = |transform: &&Entry| used.lacks(&transform.key) && !chained.contains(&transform.key);
    for transform in transforms.iter().filter(idle) {
        let help = format!("add `{}` to the `inputs` of a sink", transform.key);
        findings.at(transform.id, format!("no sink takes the commands of transform `{}`", transform.key), help);
    }
    let used = embedder_uses(embedders, lent, transforms, findings);
    for embedder in embedders.iter().filter(|embedder| used.lacks(&embedder.key)) {
        let help = format!("add `embedders: [{}]` to a transform, or remove the embedder", embedder.key);
        findings.at(embedder.id, format!("no transform uses embedder `{}`", embedder.key), help);
    }
}

fn section<C: Component>(root: &Node) -> &[Entry] {
    root.get(C::SECTION).map_or(&[], Node::entries)
}

/// Names stand in log lines, in stored positions and on the command line, and `.` leads to a
/// transform's other outputs.
fn names(sections: &[(&'static str, &[Entry])], findings: &mut Findings<'_>) {
    let mut seen: HashMap<&str, (&str, Id)> = HashMap::new();
    for (noun, entries) in sections {
        for entry in *entries {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
            if entry.key.is_empty() || entry.key.len() > MAX_NAME || !entry.key.chars().all(good) {
                let message = format!("`{}` cannot be the name of a {noun}", entry.key);
                let help = format!("use lower-case letters, digits, `-` and `_`, at most {MAX_NAME}");
                findings.at(entry.id, message, help);
            }
            if let Some((other, first)) = seen.insert(&entry.key, (noun, entry.id)) {
                let line = findings.line_of(first);
                if other != *noun {
                    let message = format!("`{}` names a {noun} here and a {other} on line {line}", entry.key);
                    findings.at(entry.id, message, "`inputs` could mean either; rename one of the two");
                }
            }
        }
    }
}

const MAX_NAME: usize = 63;

fn counts<C: Components>(root: &Node, findings: &mut Findings<'_>) {
    for second in section::<C::Source>(root).iter().skip(1) {
        let help = "positions of two sources have no common order; write one pipeline file for each";
        findings.at(second.id, format!("a second source `{}`, a pipeline has exactly one", second.key), help);
    }
    let mut needs_one = |noun: &str, key: &str| {
        if let Some(entry) = root.entry(key).filter(|entry| match &entry.value.kind {
            Kind::Map(entries) => entries.is_empty(),
            kind => *kind == Kind::Null,
        }) {
            findings.at(entry.id, format!("a pipeline needs a {noun}, `{key}` is empty"), "");
        }
    };
    needs_one(C::Source::NOUN, C::Source::SECTION);
    needs_one(C::Transform::NOUN, C::Transform::SECTION);
    needs_one(C::Sink::NOUN, C::Sink::SECTION);
}

/// Names that something refers to.
#[derive(Default)]
struct Used {
    names: HashSet<String>,
    /// A reference could not be read, so nothing can be said of what is not used.
    unsure: bool,
}

impl Used {
    fn lacks(&self, name: &str) -> bool {
        !self.unsure && !self.names.contains(name)
    }
}

/// The names in a list of a component, each once. A lone text counts as a list of one: it is
/// reported elsewhere.
fn references<'n>(entry: &'n Entry, key: &str, used: &mut Used, findings: &mut Findings<'_>) -> Vec<(Id, &'n str)> {
    let Some(list) = entry.value.get(key) else {
        return Vec::new();
    };
    let items = match &list.kind {
        Kind::List(items) => items.iter().collect(),
        Kind::Scalar(_) => vec![list],
        _ => {
            used.unsure = true;
            Vec::new()
        }
    };
    let (mut named, mut seen) = (Vec::new(), HashSet::new());
    for item in items {
        match item.text() {
            Some(text) if !seen.insert(text) => {
                findings.at(item.id, format!("`{text}` stands twice in `{key}`"), "remove one of the two");
            }
            Some(text) => named.push((item.id, text)),
            None => used.unsure = true,
        }
    }
    named
}

/// Reports `inputs` of transforms that cannot work. Returns the sources that are used, and the
/// transforms that another transform wrongly takes.
fn transform_inputs(
    sources: &[Entry],
    transforms: &[Entry],
    sinks: &[Entry],
    findings: &mut Findings<'_>,
) -> (Used, HashSet<String>) {
    let mut used = Used { unsure: transforms.is_empty(), ..Used::default() };
    let mut chained = HashSet::new();
    for transform in transforms {
        used.unsure |= transform.value.get("inputs").is_none();
        for (id, input) in references(transform, "inputs", &mut used, findings) {
            let base = input.strip_suffix(REJECTED).unwrap_or(input);
            if has(sources, input) {
                used.names.insert(input.to_owned());
            } else if base == transform.key {
                let help = suggestion(sources);
                findings.at(id, format!("transform `{base}` takes its own output"), help);
                used.unsure = true;
            } else if has(transforms, base) {
                let message = format!("transform `{}` takes transform `{base}`", transform.key);
                let help = "a transform makes commands, and only a source makes the events that one takes: do both in one handler";
                findings.at(id, message, help);
                chained.insert(base.to_owned());
                used.unsure = true;
            } else if has(sinks, input) {
                findings.at(id, format!("`{input}` is a sink, a transform takes a source"), suggestion(sources));
                used.unsure = true;
            } else {
                let known = sources.iter().map(|source| source.key.as_str());
                dangling(id, input, "source", known, &mut used, findings);
            }
        }
    }
    (used, chained)
}

fn sink_inputs<C>(
    sources: &[Entry],
    transforms: &[Entry],
    sinks: &[Entry],
    kinds: &[KindEntry<C>],
    findings: &mut Findings<'_>,
) -> Used {
    let mut used = Used { unsure: sinks.is_empty(), ..Used::default() };
    let outputs: Vec<String> =
        transforms.iter().flat_map(|it| [it.key.clone(), format!("{}{REJECTED}", it.key)]).collect();
    for sink in sinks {
        used.unsure |= sink.value.get("inputs").is_none();
        let kind = sink.value.get("type").and_then(Node::text).unwrap_or_default();
        let accepts = kinds.iter().find(|known| known.kind == kind).and_then(|known| known.accepts).map(|of| of());
        for (id, input) in references(sink, "inputs", &mut used, findings) {
            let base = input.strip_suffix(REJECTED);
            if has(transforms, input) {
                used.names.insert(input.to_owned());
                if accepts == Some(Accepts::Rejected) {
                    let message = format!("a sink of type `{kind}` takes rejected events, not commands");
                    findings.at(id, message, format!("write `inputs: [{input}{REJECTED}]`"));
                }
            } else if base.is_some_and(|base| has(transforms, base)) {
                if accepts == Some(Accepts::Commands) {
                    let message = format!("a sink of type `{kind}` cannot take rejected events, which have no vectors");
                    findings.at(id, message, format!("send them to a sink of type {}", takers_of_rejected(kinds)));
                }
            } else if has(sources, input) {
                let message = format!("sink `{}` takes source `{input}` directly", sink.key);
                let help =
                    format!("a sink takes commands, which a transform makes of events; {}", suggestion(transforms));
                findings.at(id, message, help);
                used.unsure = true;
            } else if has(sinks, input) {
                let message = format!("`{input}` is a sink, a sink takes a transform");
                findings.at(id, message, suggestion(transforms));
                used.unsure = true;
            } else {
                dangling(id, input, "transform", outputs.iter().map(String::as_str), &mut used, findings);
            }
        }
    }
    used
}

fn embedder_uses(embedders: &[Entry], lent: &[String], transforms: &[Entry], findings: &mut Findings<'_>) -> Used {
    let mut used = Used::default();
    for transform in transforms {
        for (id, name) in references(transform, "embedders", &mut used, findings) {
            if has(embedders, name) || lent.iter().any(|lent| lent == name) {
                used.names.insert(name.to_owned());
            } else {
                let own = embedders.iter().map(|embedder| embedder.key.as_str());
                let known = own.chain(lent.iter().map(String::as_str));
                dangling(id, name, EMBEDDER, known, &mut used, findings);
            }
        }
    }
    used
}

/// A name that leads nowhere. What was probably meant counts as used: one mistake is one problem.
fn dangling<'n>(
    id: Id,
    name: &str,
    noun: &str,
    known: impl Iterator<Item = &'n str> + Clone,
    used: &mut Used,
    findings: &mut Findings<'_>,
) {
    if findings.is_full() {
        used.unsure = true;
        return; // to look for what was meant costs more than to read the file
    }
    if known.clone().next().is_none() && noun != EMBEDDER {
        used.unsure = true;
        return; // that the whole section is missing is reported as such
    }
    let help = match nearest(name, known.clone()) {
        Some(near) => {
            used.names.insert(near.to_owned());
            format!("did you mean `{near}`?")
        }
        None => {
            used.unsure = true;
            match known.map(|name| format!("`{name}`")).collect::<Vec<_>>() {
                none if none.is_empty() => format!("add it under `{noun}s`"),
                all => format!("there is {}", all.join(", ")),
            }
        }
    };
    findings.at(id, format!("there is no {noun} `{name}`"), help);
}

/// The kinds of sinks that can take rejected events, which have no vectors.
fn takers_of_rejected<C>(kinds: &[KindEntry<C>]) -> String {
    let takes = |kind: &&KindEntry<C>| kind.accepts.is_some_and(|accepts| accepts() != Accepts::Commands);
    let names: Vec<String> = kinds.iter().filter(takes).map(|kind| format!("`{}`", kind.kind)).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
        None => String::new(),
    }
}

fn has(entries: &[Entry], name: &str) -> bool {
    entries.iter().any(|entry| entry.key == name)
}

fn suggestion(entries: &[Entry]) -> String {
    match entries.first() {
        Some(entry) => format!("write `inputs: [{}]`", entry.key),
        None => String::new(),
    }
}
