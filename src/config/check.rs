//! What values must fulfil beyond their type: ranges, names, patterns, URLs, files that exist.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::Secret;
use super::diagnostic::Findings;
use super::file::{Component, File, VERSION};
use super::model::{Create, Embedder, JsonlSource, PostgresSource, Sink, Source, Transform};
use super::schema;
use super::units::{Size, Span};
use super::yaml::{Kind, Node};

/// Postgres cuts longer names off without a word (`NAMEDATALEN` - 1).
const MAX_IDENTIFIER: usize = 63;

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

    /// Numbers, sizes, times, texts and lists against the bounds that the schema states.
    pub(super) fn bounds(&mut self) {
        self.section_bounds::<Source>();
        self.section_bounds::<Embedder>();
        self.section_bounds::<Transform>();
        self.section_bounds::<Sink>();
    }

    pub(super) fn section_bounds<C: Component>(&mut self) {
        let kinds = C::kinds();
        let mut schemas = HashMap::new();
        for entry in self.root.get(C::SECTION).map_or(&[][..], Node::entries) {
            let kind = entry.value.get("type").and_then(Node::text).unwrap_or_default();
            if let Some(variant) = kinds.iter().find(|variant| variant.kind == kind) {
                let schema = schemas.entry(variant.kind).or_insert_with(|| schema::of(variant));
                bounds(&entry.key, &entry.value, schema, entry.id, self.findings);
            }
        }
    }

    pub(super) fn source(&mut self, name: &str, source: &Source) {
        match source {
            Source::Postgres(source) => self.postgres_source(name, source),
            Source::Jsonl(source) => self.jsonl_source(name, source),
        }
    }

    fn jsonl_source(&mut self, name: &str, source: &JsonlSource) {
        if source.path.as_os_str().is_empty() {
            self.report(&["sources", name, "path"], "`path` is empty", "name a file, or `-` for standard input");
        }
        for (index, table) in source.tables.iter().enumerate() {
            if let Some((message, help)) = table_problem(table, false) {
                self.report(&["sources", name, "tables", &index.to_string()], message, help);
            }
        }
    }

    fn postgres_source(&mut self, name: &str, source: &PostgresSource) {
        self.postgres_url(&["sources", name, "url"], source.url.expose());
        if let Some(url) = &source.read_url {
            self.postgres_url(&["sources", name, "read_url"], url.expose());
        }
        let mut seen = HashSet::new();
        for (index, table) in source.tables.iter().enumerate() {
            let path = ["sources", name, "tables", &index.to_string()];
            if let Some((message, help)) = table_problem(table, true) {
                self.report(&path, message, help);
            } else if !seen.insert(table) {
                self.report(&path, format!("`{table}` stands twice in `tables`"), "remove one of the two");
            }
        }
        if !source.heartbeat.0.is_zero() && source.heartbeat < PostgresSource::SHORTEST_HEARTBEAT {
            let help = format!("write a value from {} on, or `0s` for never", PostgresSource::SHORTEST_HEARTBEAT);
            self.report(&["sources", name, "heartbeat"], "`heartbeat` is out of range", help);
        }
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if let Some(slot) = source.slot.as_ref().filter(|slot| !fits(slot) || !slot.chars().all(lower)) {
            let message = "Postgres does not allow this name of a replication slot";
            let help = format!(
                "use lower-case letters, digits and `_`, at most {MAX_IDENTIFIER}; such as `{}`",
                slot_like(slot)
            );
            self.report(&["sources", name, "slot"], message, help);
        }
        if source.publication.as_ref().is_some_and(|name| !fits(name)) {
            let message = format!("a publication's name has 1 to {MAX_IDENTIFIER} characters");
            self.report(&["sources", name, "publication"], message, "");
        }
    }

    pub(super) fn embedder(&mut self, name: &str, embedder: &Embedder) {
        match embedder {
            Embedder::Hash(_) => {}
            Embedder::OpenAi(settings) => {
                let path = ["embedders", name, "url"];
                self.http_url(&path, &settings.url, "https://api.openai.com/v1");
                if settings.url.trim_end_matches('/').ends_with("/embeddings") {
                    self.report(
                        &path,
                        "`url` is the base, without `/embeddings`",
                        "the host adds `/embeddings` itself",
                    );
                }
            }
        }
    }

    /// Also makes the component's path one that can be opened from the working directory.
    pub(super) fn transform(&mut self, name: &str, transform: &mut Transform, folder: &Path) {
        let Transform::Wasm(transform) = transform;
        let resolved = folder.join(&transform.component);
        if !resolved.is_file() {
            let found = if resolved.is_dir() { "a folder" } else { "no file" };
            let message = format!("there is {found} at `{}`", resolved.display());
            let help = "`component` is relative to the pipeline file; build the handler first, or correct the path";
            self.report(&["transforms", name, "component"], message, help);
        }
        transform.component = resolved;
        let mut seen = HashSet::new();
        for (index, host) in transform.allow.http.iter().enumerate() {
            let path = ["transforms", name, "allow", "http", &index.to_string()];
            if !seen.insert(&host.host) {
                self.report(&path, "the host stands twice in `http`", "remove one of the two");
            }
            for (header, value) in &host.headers {
                if let Some((message, help)) = header_problem(header, value) {
                    self.report(&[&path[..], &["headers", header]].concat(), message, help);
                }
            }
        }
    }

    /// Dead letters lie in the source's database, unless they are told another one.
    pub(super) fn letters(&mut self, name: &str, sink: &Sink, source: &Source) {
        if let (Sink::DeadLetters(sink), Source::Jsonl(_)) = (sink, source)
            && sink.url.is_none()
        {
            let help = "add `url: postgres://…`; or let a sink of `type: file` take them";
            self.report(&["sinks", name], "the source has no database that could keep dead letters", help);
        }
    }

    pub(super) fn sink(&mut self, name: &str, sink: &Sink) {
        match sink {
            Sink::Pgvector(sink) => {
                self.postgres_url(&["sinks", name, "url"], sink.url.expose());
                if let Some((message, help)) = table_problem(&sink.table, false) {
                    self.report(&["sinks", name, "table"], message, help);
                }
                self.create(name, sink.create.as_ref());
            }
            Sink::Qdrant(sink) => {
                self.http_url(&["sinks", name, "url"], &sink.url, "http://localhost:6334");
                self.create(name, sink.create.as_ref());
            }
            Sink::QdrantEdge(sink) => self.create(name, Some(&sink.create)),
            Sink::DeadLetters(sink) => {
                if let Some(url) = &sink.url {
                    self.postgres_url(&["sinks", name, "url"], url.expose());
                }
            }
            Sink::File(_) | Sink::Stdout(_) | Sink::Blackhole(_) => {}
        }
    }

    fn create(&mut self, sink: &str, create: Option<&Create>) {
        let Some(create) = create else { return };
        if create.dimension.is_none() && create.vectors.is_empty() && create.sparse.is_empty() {
            let help = "write `create: { dimension: 384 }`, with the length of your embedder's vectors";
            self.report(&["sinks", sink, "create"], "`create` names no vector", help);
        }
        let good = |name: &str| fits(name) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let help = format!(
            "use letters, digits, `_` and `-`, at most {MAX_IDENTIFIER}; the unnamed vector is `create.dimension`"
        );
        for name in create.vectors.keys().filter(|name| !good(name)) {
            self.report(&["sinks", sink, "create", "vectors", name], format!("`{name}` cannot name a vector"), &help);
        }
        let mut seen = HashSet::new();
        for (index, name) in create.sparse.iter().enumerate() {
            let path = ["sinks", sink, "create", "sparse", &index.to_string()];
            if !good(name) {
                self.report(&path, format!("`{name}` cannot name a vector"), &help);
            } else if create.vectors.contains_key(name) || !seen.insert(name) {
                self.report(&path, format!("two vectors have the name `{name}`"), "rename one of the two");
            }
        }
    }

    fn postgres_url(&mut self, path: &[&str], url: &str) {
        // Frameworks write it in several ways; what is told from the source's own reading of it comes later.
        let begins = url.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'));
        let begins = begins.strip_prefix("jdbc:").unwrap_or(begins);
        let rest = begins
            .split_once("://")
            .filter(|(scheme, _)| ["postg", "psql", "pgsql"].iter().any(|ours| scheme.starts_with(ours)));
        if rest.is_none_or(|(_, rest)| rest.is_empty()) {
            let message = "expected a URL that starts with `postgres://`";
            self.report(path, message, "such as `postgres://user@localhost:5432/database`");
        }
    }

    fn http_url(&mut self, path: &[&str], url: &str, example: &str) {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            let message = "expected a URL that starts with `http://` or `https://`";
            self.report(path, message, format!("such as `{example}`"));
        }
    }

    /// A problem with what stands at `path`, or as far along it as the file goes.
    pub(super) fn report(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        if self.findings.is_full() {
            return;
        }
        let mut node = self.root;
        let mut at = node.id;
        for step in path {
            let next = match &node.kind {
                Kind::List(items) => {
                    step.parse().ok().and_then(|index: usize| items.get(index)).map(|item| (item.id, item))
                }
                _ => node.entry(step).map(|entry| (entry.id, &entry.value)),
            };
            let Some((id, value)) = next else { break };
            (at, node) = (id, value);
        }
        let at = if node.text().is_some() { node.id } else { at };
        self.findings.at(at, message, help);
    }
}

/// What is wrong with a header that the host is to add to a handler's requests.
fn header_problem(name: &str, value: &Secret) -> Option<(String, &'static str)> {
    const FRAMING: [&str; 9] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
    ];
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some((format!("`{name}` cannot be the name of a header"), "use letters, digits and `-`"));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Some((
            format!("`{name}` belongs to the connection"),
            "it is set by whoever sends the request; remove it",
        ));
    }
    let wrong = http::HeaderValue::from_str(value.expose()).is_err() || value.expose().is_empty();
    let help = "look for a line break in it, or for a variable that is not set";
    wrong.then(|| (format!("what `{name}` holds cannot be the value of a header"), help))
}

/// Whether Postgres keeps the whole of an identifier.
fn fits(name: &str) -> bool {
    (1..=MAX_IDENTIFIER).contains(&name.len())
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

/// What is wrong with the name of a table, or with a pattern of names.
fn table_problem(table: &str, pattern: bool) -> Option<(String, String)> {
    let parts: Vec<&str> = table.split('.').collect();
    let (schema, name) = match parts[..] {
        [schema, name] => (Some(schema), name),
        [name] if !pattern => (None, name),
        [name] => return Some((format!("`{table}` has no schema"), format!("write `public.{name}`"))),
        _ => {
            return Some((
                format!("`{table}` is not of the form `schema.table`"),
                "a pipeline reads one database, that of `url`".into(),
            ));
        }
    };
    let odd = |part: &str| part.is_empty() || part.chars().any(|c| c.is_control() || c == '"' || c.is_whitespace());
    if schema.is_some_and(odd) || odd(name) {
        let help = "write names as they are in the catalogue, without SQL quotes".to_owned();
        return Some((format!("`{table}` is not of the form `schema.table`"), help));
    }
    if schema.is_some_and(|schema| schema.contains('*')) {
        let help = "list each schema: `[one.*, two.*]`".to_owned();
        return Some((format!("`{table}` has a `*` in its schema, it may only stand in the table's name"), help));
    }
    if !pattern && name.contains('*') {
        return Some((format!("`{table}` is a pattern, a sink writes to one table"), "name the table".to_owned()));
    }
    let long = schema.is_some_and(|schema| !fits(schema)) || !fits(name);
    long.then(|| (format!("`{table}` is longer than Postgres' {MAX_IDENTIFIER} characters for a name"), String::new()))
}

/// Compares a value under `key` with the bounds in its schema, and so on inside it.
pub(super) fn bounds(key: &str, node: &Node, schema: &Value, id: usize, findings: &mut Findings<'_>) {
    for choice in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        bounds(key, node, choice, id, findings);
    }
    match &node.kind {
        Kind::Map(entries) => {
            for entry in entries {
                let own = schema.get("properties").and_then(|fields| fields.get(&entry.key));
                let other = schema.get("additionalProperties");
                if let Some(schema) = own.or(other) {
                    bounds(&entry.key, &entry.value, schema, entry.id, findings);
                }
            }
        }
        Kind::List(items) => {
            if items.is_empty() && schema.get("minItems").is_some() {
                findings.at(id, format!("`{key}` is empty"), format!("write `{key}: […]` with at least one"));
            }
            for item in items {
                schema.get("items").into_iter().for_each(|schema| bounds(key, item, schema, item.id, findings));
            }
        }
        Kind::Scalar(scalar) => {
            if scalar.text.is_empty() && schema.get("minLength").is_some() {
                findings.at(id, format!("`{key}` is empty"), "");
            }
            // JSON Schema has no bounds for text, so those of sizes and times stand under names of our own.
            let stated = |name: &str| schema.get(name).or_else(|| schema.get(format!("x-{name}")));
            let bound = |name: &str| stated(name).and_then(|bound| Bound::new(bound, &scalar.text));
            let (low, high) = (bound("minimum"), bound("maximum"));
            let shown = |name: &str| stated(name).map(|bound| bound.to_string().replace('"', ""));
            let beyond =
                low.is_some_and(|low| low.value < low.bound) || high.is_some_and(|high| high.value > high.bound);
            if beyond {
                let allowed = match (shown("minimum"), shown("maximum")) {
                    (Some(low), Some(high)) => format!("from {low} to {high}"),
                    (Some(low), None) => format!("at least {low}"),
                    (None, high) => format!("at most {}", high.unwrap_or_default()),
                };
                findings.at(node.id, format!("`{key}` is out of range"), format!("write a value {allowed}"));
            }
        }
        Kind::Null | Kind::Hole => {}
    }
}

/// A value beside a bound for it, both in the unit of the bound.
#[derive(Clone, Copy)]
struct Bound {
    value: u128,
    bound: u128,
}

impl Bound {
    fn new(bound: &Value, text: &str) -> Option<Self> {
        if let Some(bound) = bound.as_u64() {
            return Some(Self { value: text.parse().ok()?, bound: bound.into() });
        }
        let bound = bound.as_str()?;
        match (bound.parse::<Size>(), bound.parse::<Span>()) {
            (Ok(size), _) => Some(Self { value: text.parse::<Size>().ok()?.0.into(), bound: size.0.into() }),
            (_, Ok(span)) => Some(Self { value: text.parse::<Span>().ok()?.0.as_nanos(), bound: span.0.as_nanos() }),
            _ => None,
        }
    }
}
