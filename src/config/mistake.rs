//! `Mistake`: a flaw of a node in serde's terms, and the words in which a person is told of it.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::diagnostic::Findings;
use super::repair::{find, key_of, scalar_of};
use super::yaml::{Id, Node};

/// Bytes of a name that may be a misspelling. To compare two takes memory by the product of their
/// lengths.
const MAX_MISSPELT: usize = 100;

/// The name among `names` that was probably meant.
pub(super) fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if wrong.len() > MAX_MISSPELT {
        return None;
    }
    let wrong = wrong.to_lowercase();
    let names = names.into_iter().filter(|name| name.len() <= MAX_MISSPELT);
    let measured = names.map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name));
    let (distance, name) = measured.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.len() / 3) && distance < name.len()).then_some(name)
}

/// `a`, `b`, `c`
pub(super) fn quoted<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// "expected `a`" or "expected one of `a`, `b`"
pub(super) fn one_of(names: &[&str]) -> String {
    match names {
        [] => "expected nothing here".to_owned(),
        [name] => format!("expected `{name}`"),
        _ => format!("expected one of {}", quoted(names.iter().copied())),
    }
}

/// A flaw of a node, in serde's terms.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The node that it is about, once that is known.
    pub(super) at: Option<Id>,
    pub(super) flaw: Flaw,
}

#[derive(Debug)]
pub(super) enum Flaw {
    UnknownField { name: String, expected: &'static [&'static str] },
    UnknownVariant { expected: &'static [&'static str] },
    MissingField(&'static str),
    Other { message: String, help: String },
}

impl Mistake {
    pub(super) fn other(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at: None, flaw: Flaw::Other { message: message.into(), help: help.into() } }
    }

    /// The innermost node that is told of counts.
    pub(super) fn at(mut self, id: Id) -> Self {
        self.at.get_or_insert(id);
        self
    }

    pub(super) fn report(&self, at: Id, root: &Node, findings: &mut Findings<'_>) {
        let did_you_mean = |name: &str, expected: &'static [&'static str]| {
            nearest(name, expected.iter().copied()).map_or(String::new(), |name| format!("did you mean `{name}`?"))
        };
        match &self.flaw {
            Flaw::UnknownField { name, expected } => {
                let message = format!("unknown field `{name}`, {}", one_of(expected));
                findings.at(at, message, did_you_mean(name, expected));
            }
            Flaw::UnknownVariant { expected } => {
                let scalar = find(root, at).and_then(scalar_of).filter(|scalar| !scalar.hidden);
                let help = scalar.map_or(String::new(), |scalar| did_you_mean(&scalar.text, expected));
                let found = scalar.map_or(String::new(), |scalar| format!("unknown value `{}`, ", scalar.text));
                findings.at(at, found + &one_of(expected), help);
            }
            Flaw::MissingField(name) => {
                // A block's first key says less about where the field belongs than the key that the block is under.
                let at = key_of(root, at).unwrap_or(at);
                let example = if *name == "version" { "1" } else { "…" };
                findings.at(at, format!("missing field `{name}`"), format!("add `{name}: {example}`"));
            }
            Flaw::Other { message, help } => {
                let bare = find(root, at).and_then(scalar_of).filter(|scalar| !scalar.textual && !scalar.hidden);
                let help = match bare.map(|scalar| &scalar.text) {
                    Some(number) if message.starts_with("expected a size") => {
                        format!("write `{number}MiB` or `{number}B`")
                    }
                    Some(number) if message.starts_with("expected a time") => {
                        format!("write `{number}ms` or `{number}s`")
                    }
                    _ => help.clone(),
                };
                findings.at(at, message.clone(), help);
            }
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.flaw)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::other(message.to_string(), "")
    }

    /// Without what was found, which may come from an environment variable.
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::other(format!("expected {expected}"), "")
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::other(format!("expected {expected}"), "")
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        Self { at: None, flaw: Flaw::UnknownField { name: name.to_owned(), expected } }
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self { at: None, flaw: Flaw::UnknownVariant { expected } }
    }

    fn missing_field(name: &'static str) -> Self {
        Self { at: None, flaw: Flaw::MissingField(name) }
    }
}
