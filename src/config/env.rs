//! `${VAR}` in values: replaced after the file was parsed, so that no value can change the file's
//! shape.

use super::diagnostic::Findings;
use super::yaml::{Id, Kind, Node};

/// The function that gives the values of variables; None for one that is not set.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Deeper nesting of defaults is a mistake, and must not cost the stack.
const MAX_NESTING: usize = 8;

/// Replaces the references in every scalar below `node`. A scalar with a problem becomes a hole.
pub(super) fn resolve(node: &mut Node, lookup: Lookup<'_>, findings: &mut Findings<'_>) {
    if findings.is_full() {
        return;
    }
    match &mut node.kind {
        Kind::Null | Kind::Hole => {}
        Kind::List(items) => items.iter_mut().for_each(|item| resolve(item, lookup, findings)),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| resolve(&mut entry.value, lookup, findings)),
        Kind::Scalar(scalar) => {
            if !scalar.text.contains('$') {
                return;
            }
            if is_bare(&scalar.text) {
                // Not repeated: it may be a password after all.
                let message = "a `$` with a name behind it is text, and no reference to a variable".to_owned();
                findings.within(
                    node.id,
                    &scalar.text,
                    message,
                    "write `${NAME}` for the variable, or `$$NAME` for the text",
                );
                node.kind = Kind::Hole;
                return;
            }
            let mut expansion = Expansion { lookup, findings, id: node.id, referred: false, failed: false };
            let text = expansion.expand(&scalar.text, 0);
            let (referred, failed) = (expansion.referred, expansion.failed);
            if failed {
                node.kind = Kind::Hole;
                return;
            }
            scalar.text = text;
            scalar.hidden = referred;
        }
    }
}

/// Tells text that is nothing but `$NAME`, as a shell would have it.
fn is_bare(text: &str) -> bool {
    let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.strip_prefix('$')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()) && rest.chars().all(name))
}

struct Expansion<'a, 'f, 't> {
    lookup: Lookup<'a>,
    findings: &'f mut Findings<'t>,
    id: Id,
    referred: bool,
    failed: bool,
}

impl Expansion<'_, '_, '_> {
    fn expand(&mut self, text: &str, depth: usize) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            if let Some(after) = from.strip_prefix("$$") {
                out.push('$');
                rest = after;
            } else if let Some(after) = from.strip_prefix("${") {
                let Some(end) = closing_brace(after) else {
                    self.fail(from, "`${` without its `}`".to_owned(), LITERAL);
                    return out;
                };
                let (inner, after) = (&after[..end], &after[end + 1..]);
                out.push_str(&self.reference(inner, &from[..end + 3], depth));
                rest = after;
            } else {
                out.push('$');
                rest = &from[1..];
            }
        }
        out + rest
    }

    /// The value of `inner`, which stands between the braces of `whole`.
    fn reference(&mut self, inner: &str, whole: &str, depth: usize) -> String {
        self.referred = true;
        let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || depth > MAX_NESTING {
            return self.malformed(whole);
        }
        let value = (self.lookup)(name);
        match (value, rest.get(..2).unwrap_or(rest)) {
            (Some(value), "") => value,
            (Some(value), ":-" | ":?") if !value.is_empty() => value,
            (_, ":-") => self.expand(&rest[2..], depth + 1),
            (None, "") => {
                let help = format!("set it with `export {name}=…`, or give a default: `${{{name}:-…}}`");
                self.fail(whole, format!("environment variable `{name}` is not set"), &help);
                String::new()
            }
            (_, ":?") => {
                let why = rest[2..].trim();
                let message = format!("environment variable `{name}` is not set");
                let message = if why.is_empty() { message } else { format!("{message}: {why}") };
                self.fail(whole, message, &format!("set it with `export {name}=…`"));
                String::new()
            }
            _ => self.malformed(whole),
        }
    }

    fn malformed(&mut self, whole: &str) -> String {
        let message = "expected `${VAR}`, `${VAR:-default}` or `${VAR:?message}`".to_owned();
        self.fail(whole, message, LITERAL);
        String::new()
    }

    fn fail(&mut self, reference: &str, message: String, help: &str) {
        self.failed = true;
        self.findings.within(self.id, reference, message, help);
    }
}

const LITERAL: &str = "write `$$` for a dollar sign that is meant as such";

/// The brace that closes the one before `text`, over those of nested references.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0usize;
    let mut last = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if last == '$' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
        last = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::room::Room;
    use crate::config::yaml;

    fn expand(text: &str) -> Result<String, Vec<String>> {
        let lookup = |name: &str| match name {
            "A" => Some("${B}: [x, 'y".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let quoted = format!("v: '{text}'");
        let mut findings = Findings::new("test.yaml", &quoted);
        let mut root = yaml::parse(&quoted, Room { nodes: 10, text: 1 << 20, brackets: usize::MAX }).unwrap().unwrap();
        resolve(&mut root, &lookup, &mut findings);
        let messages: Vec<_> = findings.finish().problems().iter().map(|problem| problem.message.clone()).collect();
        if messages.is_empty() { Ok(root.get("v").and_then(Node::text).unwrap().to_owned()) } else { Err(messages) }
    }

    #[test]
    fn references_are_replaced_once_and_defaults_may_hold_references() {
        for (text, expected) in [
            ("a-${A}-b", "a-${B}: [x, 'y-b"),
            ("${NONE:-d:e}", "d:e"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY}", ""),
            ("${NONE:-<${EMPTY:-deep}>}", "<deep>"),
            ("$$ $${A} $A cost$", "$ ${A} $A cost$"),
            ("$$A", "$A"),
            ("$price", "$price"),
            ("${NONE:-}", ""),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_unset_or_malformed_is_a_problem() {
        assert_eq!(expand("${NONE}${OTHER}").unwrap_err().len(), 2);
        assert_eq!(expand("${NONE:?ask Ann}").unwrap_err(), ["environment variable `NONE` is not set: ask Ann"]);
        for text in ["$OPENAI_API_KEY", "$A"] {
            assert_eq!(
                expand(text).unwrap_err(),
                ["a `$` with a name behind it is text, and no reference to a variable"]
            );
        }
        for text in ["${", "${}", "${A", "${A-b}", "${1A}", "${A b}", "${é}"] {
            assert_eq!(expand(text).unwrap_err().len(), 1, "{text}");
        }
        let deep = "${N:-".repeat(5000) + &"}".repeat(5000);
        assert_eq!(expand(&deep).unwrap_err().len(), 1);
    }
}
