//! The host file: read and checked as the pipeline file is.

use std::path::Path;

use serde_json::Value;

use super::bounds::bounds;
use super::check::Check;
use super::diagnostic::{Diagnostics, Findings};
use super::file::{VERSION, components};
use super::handed::text_of;
use super::host_shape::Shape;
use super::kind::{Component, Components, Registry};
use super::mistake::{nearest, one_of};
use super::model::HostFile;
use super::read::read;
use super::room::Room;
use super::yaml::{Kind, Node};
use super::{env, nodes, schema};

/// Longest name of a tenant: it stands before a pipeline's in the name of a slot.
const MAX_NAME: usize = 30;

/// As much as a pipeline file, with a map for each of many tenants.
const ROOM: Room = Room { brackets: usize::MAX, ..super::ROOM };

/// Reads and checks the host file at `path`, with references resolved from the process's environment.
///
/// # Errors
/// All the problems that were found, never only the first.
pub fn load_host<C: Components>(registry: &Registry<C>, path: &Path) -> Result<HostFile<C>, Diagnostics> {
    let text = text_of(path)?;
    parse_host(registry, &path.to_string_lossy(), &text, &|variable| std::env::var(variable).ok())
}

/// Checks `text` as the host file `name`, with the environment that `lookup` gives.
///
/// # Errors
/// All the problems that were found, never only the first.
pub fn parse_host<C: Components>(
    registry: &Registry<C>,
    name: &str,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<HostFile<C>, Diagnostics> {
    let mut findings = Findings::new(name, text);
    let Some(mut root) = nodes(text, ROOM, &mut findings) else { return Err(findings.finish()) };
    env::resolve(&mut root, lookup, &mut findings);
    let file = host(registry, &root, &mut findings);
    file.filter(|_| findings.is_empty()).ok_or_else(|| findings.finish())
}

fn host<C: Components>(registry: &Registry<C>, root: &Node, findings: &mut Findings<'_>) -> Option<HostFile<C>> {
    let mut outside = root.clone();
    if let Kind::Map(entries) = &mut outside.kind {
        let section = entries.iter_mut().filter(|entry| entry.key == C::Embedder::SECTION);
        section.for_each(|entry| entry.value.kind = Kind::Null);
    }
    let shape: Option<Shape> = read(&outside, root.id, findings);
    let mut embedders = components(root, registry.embedders, findings);
    let mut check = Check { root, findings };
    check.bounds(registry.embedders);
    check.components(embedders.iter_mut(), Path::new(""));
    bounds("host", &outside, &schema::host(registry), root.id, findings);
    names(root, findings);

    let shape = shape?;
    if shape.version != VERSION {
        let at = root.entry("version").map_or(root.id, |entry| entry.value.id);
        findings.at(
            at,
            format!("version {} of the file format is not known to this build", shape.version),
            "write `version: 1`",
        );
    }
    for (index, token) in shape.api.tokens.iter().enumerate() {
        if let Some(tenant) = token.tenant.as_ref().filter(|tenant| !shape.tenants.contains_key(*tenant)) {
            let list = root.get("api").and_then(|api| api.get("tokens"));
            let item = match list.map(|list| &list.kind) {
                Some(Kind::List(items)) => items.get(index).and_then(|item| item.entry("tenant")).map(|entry| entry.id),
                _ => None,
            };
            let help = nearest(tenant, shape.tenants.keys().map(String::as_str))
                .map_or("name one of `tenants`".to_owned(), |near| format!("did you mean `{near}`?"));
            findings.at(item.unwrap_or(root.id), format!("there is no tenant `{tenant}`"), help);
        }
    }
    for (name, tenant) in &shape.tenants {
        let known: Vec<&str> =
            root.get(C::Embedder::SECTION).map_or(&[][..], Node::entries).iter().map(|it| it.key.as_str()).collect();
        for lent in tenant.embedders.keys().filter(|lent| !known.contains(&lent.as_str())) {
            let entry = root.get("tenants").and_then(|all| all.get(name)?.get("embedders")?.entry(lent));
            let help = match nearest(lent, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it under `embedders`".to_owned(),
            };
            findings.at(entry.map_or(root.id, |entry| entry.id), format!("there is no embedder `{lent}`"), help);
        }
        let kinds: Vec<&str> = registry.sinks.iter().map(|known| known.kind).collect();
        for (index, sink) in tenant.sinks.iter().enumerate().filter(|(_, sink)| !kinds.contains(&sink.as_str())) {
            let list = root.get("tenants").and_then(|all| all.get(name)?.get("sinks"));
            let item = match list.map(|list| &list.kind) {
                Some(Kind::List(items)) => items.get(index).map(|item| item.id),
                _ => None,
            };
            let help =
                nearest(sink, kinds.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`?"));
            findings.at(item.unwrap_or(root.id), format!("unknown type `{sink}` of sink, {}", one_of(&kinds)), help);
        }
    }
    let Shape { reserve_cores, cache, compile, api, tenants, .. } = shape;
    Some(HostFile { reserve_cores, cache, compile, api, embedders, tenants })
}

/// A tenant's name stands before all that is its own, so none may be the beginning of another's.
fn names(root: &Node, findings: &mut Findings<'_>) {
    let entries = root.get("tenants").map_or(&[][..], Node::entries);
    let prefix = |name: &str| format!("{}_", name.replace('-', "_"));
    for entry in entries {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if entry.key.is_empty() || entry.key.len() > MAX_NAME || !entry.key.chars().all(plain) {
            let help = format!("use lower-case letters, digits, `-` and `_`, at most {MAX_NAME}");
            findings.at(entry.id, format!("`{}` cannot be the name of a tenant", entry.key), help);
        }
        let other =
            entries.iter().find(|other| other.id != entry.id && prefix(&entry.key).starts_with(&prefix(&other.key)));
        if let Some(other) = other {
            let message = format!("the name `{}` begins as what belongs to tenant `{}` does", entry.key, other.key);
            findings.at(entry.id, message, "slots and collections are named after the tenant: rename one of the two");
        }
    }
}

/// The schema of a host file, for editors.
pub fn host_schema<C: Components>(registry: &Registry<C>) -> Value {
    schema::host_file(registry)
}
