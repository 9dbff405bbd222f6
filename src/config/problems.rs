//! `Problems`: where a kind of component reports what is wrong with its settings, and the checks
//! that kinds share.

use std::collections::HashSet;

use super::diagnostic::Findings;
use super::model::Create;
use super::table::parts;
use super::yaml::{Kind, Node};

/// Postgres cuts longer names off without a word (`NAMEDATALEN` - 1).
pub const MAX_IDENTIFIER: usize = 63;

/// Beginning of the names that a pipeline's own gives to what is kept for it on a server.
pub const SLOT_PREFIX: &str = "pgstream_";

/// Collects the problems of one component. Paths are keys below the component's name; an index of a
/// list is written as text.
pub struct Problems<'a, 't> {
    root: &'a Node,
    section: &'static str,
    name: &'a str,
    findings: &'a mut Findings<'t>,
}

impl<'a, 't> Problems<'a, 't> {
    pub(super) fn of(root: &'a Node, section: &'static str, name: &'a str, findings: &'a mut Findings<'t>) -> Self {
        Self { root, section, name, findings }
    }

    /// Reports a problem with what stands at `path`, or as far along it as the file goes.
    pub fn at(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let path = [&[self.section, self.name], path].concat();
        report(self.root, self.findings, &path, message, help);
    }

    /// Checks that a URL is one of Postgres.
    pub fn postgres_url(&mut self, path: &[&str], url: &str) {
        // Frameworks write it in several ways; what is told from the source's own reading of it comes later.
        let begins = url.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'));
        let begins = begins.strip_prefix("jdbc:").unwrap_or(begins);
        let rest = begins
            .split_once("://")
            .filter(|(scheme, _)| ["postg", "psql", "pgsql"].iter().any(|ours| scheme.starts_with(ours)));
        if rest.is_none_or(|(_, rest)| rest.is_empty()) {
            let message = "expected a URL that starts with `postgres://`";
            self.at(path, message, "such as `postgres://user@localhost:5432/database`");
        }
    }

    /// Checks that a URL is one of HTTP.
    pub fn http_url(&mut self, path: &[&str], url: &str, example: &str) {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            let message = "expected a URL that starts with `http://` or `https://`";
            self.at(path, message, format!("such as `{example}`"));
        }
    }

    /// Checks the name of a table that is written to. Grants compare such names as they are, so
    /// none may have two spellings.
    pub fn plain_table(&mut self, path: &[&str], table: &str) {
        match table.contains(|c: char| c == '"' || c.is_whitespace()) {
            true => {
                let help = "write names as they are in the catalogue, without SQL quotes, and without blanks in them";
                self.at(path, format!("`{table}` is not of the form `schema.table`"), help);
            }
            false => drop(self.table(path, table, false)),
        }
    }

    /// Checks the name of a table, or a pattern of names.
    pub fn table(&mut self, path: &[&str], table: &str, pattern: bool) -> bool {
        let problem = table_problem(table, pattern);
        let good = problem.is_none();
        problem.into_iter().for_each(|(message, help)| self.at(path, message, help));
        good
    }

    /// Checks the vectors that a table or collection is to be made with, under the key `create`.
    pub fn create(&mut self, create: Option<&Create>) {
        let Some(create) = create else { return };
        if create.dimension.is_none() && create.vectors.is_empty() && create.sparse.is_empty() {
            let help = "write `create: { dimension: 384 }`, with the length of your embedder's vectors";
            self.at(&["create"], "`create` names no vector", help);
        }
        let good = |name: &str| {
            is_whole_identifier(name) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        };
        let help = format!(
            "use letters, digits, `_` and `-`, at most {MAX_IDENTIFIER}; the unnamed vector is `create.dimension`"
        );
        for name in create.vectors.keys().filter(|name| !good(name)) {
            self.at(&["create", "vectors", name], format!("`{name}` cannot name a vector"), &help);
        }
        let mut seen = HashSet::new();
        for (index, name) in create.sparse.iter().enumerate() {
            let path = ["create", "sparse", &index.to_string()];
            if !good(name) {
                self.at(&path, format!("`{name}` cannot name a vector"), &help);
            } else if create.vectors.contains_key(name) || !seen.insert(name) {
                self.at(&path, format!("two vectors have the name `{name}`"), "rename one of the two");
            }
        }
    }
}

/// Reports a problem with what stands at `path`, or as far along it as the file goes.
pub(super) fn report(
    root: &Node,
    findings: &mut Findings<'_>,
    path: &[&str],
    message: impl Into<String>,
    help: impl Into<String>,
) {
    if findings.is_full() {
        return;
    }
    let mut node = root;
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
    findings.at(at, message, help);
}

/// Tells if Postgres keeps the whole of an identifier.
pub fn is_whole_identifier(name: &str) -> bool {
    (1..=MAX_IDENTIFIER).contains(&name.len())
}

/// Message and help about the name of a table, or a pattern of names, that cannot be one.
fn table_problem(table: &str, pattern: bool) -> Option<(String, String)> {
    let form = |help: &str| Some((format!("`{table}` is not of the form `schema.table`"), help.to_owned()));
    let Some((schema, name)) = parts(table) else {
        return form(match table.split('.').count() > 2 && !table.contains('"') {
            true => {
                "a pipeline reads one database, that of `url`; a name with a dot stands in quotes: `'public.\"my.table\"'`"
            }
            false => {
                "write names as they are in the catalogue; one with a dot stands in quotes: `'public.\"my.table\"'`"
            }
        });
    };
    let Some(schema) = schema else {
        return pattern.then(|| (format!("`{table}` has no schema"), format!("write `public.{table}`")));
    };
    let quoted = table.contains('"');
    let odd = |part: &str| part.chars().any(char::is_control) || !quoted && part.trim() != part;
    if odd(&schema) || odd(&name) || name.contains('"') && !table.contains("\"\"") {
        return form("write names as they are in the catalogue; blanks around one and quotes in it stand in quotes");
    }
    if schema.contains('*') {
        let help = "list each schema: `[one.*, two.*]`".to_owned();
        return Some((format!("`{table}` has a `*` in its schema, it may only stand in the table's name"), help));
    }
    if !pattern && name.contains('*') {
        return Some((format!("`{table}` is a pattern, a sink writes to one table"), "name the table".to_owned()));
    }
    let long = !is_whole_identifier(&schema) || !is_whole_identifier(&name);
    long.then(|| (format!("`{table}` is longer than Postgres' {MAX_IDENTIFIER} characters for a name"), String::new()))
}

/// The name of slot and publication of `pipeline` where its file gives none.
pub fn default_slot(pipeline: &str) -> String {
    format!("{SLOT_PREFIX}{}", pipeline.replace('-', "_"))
}

/// A name like this one that a pipeline may have.
pub(crate) fn example_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let plain: String =
        lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let trimmed = plain.trim_matches('-');
    if trimmed.is_empty() { "documents".to_owned() } else { trimmed.to_owned() }
}
