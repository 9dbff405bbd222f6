//! Nodes into structs: a serde `Deserializer` whose mistakes know their node, and that goes on after each of them.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};

use super::diagnostic::Findings;
use super::yaml::{Entry, Id, Kind, Node, Scalar};

/// Reads `node`, which stands under the key numbered `key`. None if there is a problem in it, now or before; then
/// every problem that could be found has been reported.
pub(super) fn read<T: DeserializeOwned>(node: &Node, key: Id, findings: &mut Findings<'_>) -> Option<T> {
    let mut node = node.clone();
    let mut holes = HashSet::new();
    collect_holes(&node, &mut holes);
    let mut clean = holes.is_empty();
    let mut meant = HashSet::new(); // misspelt elsewhere, so not missing
    let mut given_up = HashSet::new();
    loop {
        let mistake = match T::deserialize(Reader { node: &node, key: "" }) {
            Ok(value) => return clean.then_some(value),
            Err(mistake) => mistake,
        };
        clean = false;
        let at = mistake.at.unwrap_or(node.id);
        if holes.contains(&at) {
            // Not every type can be made of a hole. Without it the other fields still can be read.
            given_up.insert(remove_value(&mut node, at)?);
            continue;
        }
        let shown = if at == node.id { key } else { at };
        match &mistake.flaw {
            Flaw::MissingField(name) if given_up.contains(*name) => return None,
            Flaw::MissingField(name) if meant.contains(name) => insert_hole(&mut node, at, name),
            Flaw::MissingField(name) => {
                mistake.report(shown, &node, findings);
                insert_hole(&mut node, at, name);
            }
            Flaw::UnknownField { name, expected } => {
                mistake.report(shown, &node, findings);
                meant.extend(nearest(name, expected.iter().copied()));
                remove_entry(&mut node, at);
            }
            Flaw::UnknownVariant { .. } | Flaw::Other { .. } => {
                mistake.report(shown, &node, findings);
                dig_hole(&mut node, at);
            }
        }
        collect_holes(&node, &mut holes);
    }
}

/// The name among `names` that was probably meant.
pub(super) fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wrong = wrong.to_lowercase();
    let measured = names.into_iter().map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name));
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

/// What is wrong with a node, in serde's terms.
#[derive(Debug)]
struct Mistake {
    at: Option<Id>,
    flaw: Flaw,
}

#[derive(Debug)]
enum Flaw {
    UnknownField { name: String, expected: &'static [&'static str] },
    UnknownVariant { expected: &'static [&'static str] },
    MissingField(&'static str),
    Other { message: String, help: String },
}

impl Mistake {
    fn other(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at: None, flaw: Flaw::Other { message: message.into(), help: help.into() } }
    }

    /// The innermost node that is told of counts.
    fn at(mut self, id: Id) -> Self {
        self.at.get_or_insert(id);
        self
    }

    fn report(&self, at: Id, root: &Node, findings: &mut Findings<'_>) {
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

/// A node under a key, as serde reads it.
#[derive(Clone, Copy)]
struct Reader<'n> {
    node: &'n Node,
    key: &'n str,
}

impl Reader<'_> {
    fn wrong(&self, expected: &str, example: &str) -> Mistake {
        let (found, literal) = match &self.node.kind {
            Kind::Null => ("nothing", None),
            Kind::List(_) => ("a list", None),
            Kind::Map(_) => ("a map", None),
            Kind::Scalar(scalar) if scalar.hidden => ("what an environment variable holds", None),
            Kind::Scalar(scalar) if scalar.textual => ("text", Some(scalar.text.as_str())),
            Kind::Scalar(scalar) => ("a number or boolean", Some(scalar.text.as_str())),
            Kind::Hole => ("nothing", None),
        };
        let harmless = |text: &&str| {
            text.len() <= 60 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*'))
        };
        let value = match literal.filter(harmless) {
            Some(text) if example.starts_with('[') => format!("[{text}]"),
            Some(text) if example == "1" && text.parse::<u64>().is_ok() => text.to_owned(),
            _ => example.to_owned(),
        };
        let help = if self.key.is_empty() { String::new() } else { format!("write `{}: {value}`", self.key) };
        Mistake::other(format!("expected {expected}, found {found}"), help)
    }

    /// A number or boolean; in quotes it is text, unless a variable gave it.
    fn bare(&self) -> Option<&str> {
        match &self.node.kind {
            Kind::Scalar(scalar) if scalar.hidden || !scalar.textual => Some(&scalar.text),
            _ => None,
        }
    }

    fn located<T>(&self, result: Result<T, Mistake>) -> Result<T, Mistake> {
        result.map_err(|mistake| mistake.at(self.node.id))
    }
}

macro_rules! number {
    ($($method:ident $visit:ident $type:ty, $what:literal, $example:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            let number: Option<$type> = match &self.node.kind {
                Kind::Hole => Some(1 as $type),
                _ => self.bare().and_then(|text| text.parse().ok()),
            };
            self.located(match number {
                Some(number) => visitor.$visit(number),
                None => Err(self.wrong($what, $example)),
            })
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            Kind::Null | Kind::Hole => self.located(visitor.visit_unit()),
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Scalar(scalar) => {
                let text = self.bare().unwrap_or_default();
                self.located(if let Ok(number) = text.parse() {
                    visitor.visit_u64(number)
                } else if let Ok(number) = text.parse() {
                    visitor.visit_i64(number)
                } else if let Ok(boolean) = text.parse() {
                    visitor.visit_bool(boolean)
                } else if let Ok(number) = text.parse() {
                    visitor.visit_f64(number)
                } else {
                    visitor.visit_str(&scalar.text)
                })
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let boolean = match &self.node.kind {
            Kind::Hole => Some(false),
            _ => self.bare().and_then(|text| text.to_lowercase().parse().ok()),
        };
        self.located(match boolean {
            Some(boolean) => visitor.visit_bool(boolean),
            None => Err(self.wrong("`true` or `false`", "true")),
        })
    }

    number! {
        deserialize_u8 visit_u8 u8, "a whole number up to 255", "1";
        deserialize_u16 visit_u16 u16, "a whole number up to 65535", "1";
        deserialize_u32 visit_u32 u32, "a whole number", "1";
        deserialize_u64 visit_u64 u64, "a whole number", "1";
        deserialize_i8 visit_i8 i8, "a whole number", "1";
        deserialize_i16 visit_i16 i16, "a whole number", "1";
        deserialize_i32 visit_i32 i32, "a whole number", "1";
        deserialize_i64 visit_i64 i64, "a whole number", "1";
        deserialize_f32 visit_f32 f32, "a number", "0.5";
        deserialize_f64 visit_f64 f64, "a number", "0.5";
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.located(match &self.node.kind {
            Kind::Scalar(scalar) => visitor.visit_str(&scalar.text),
            Kind::Hole => visitor.visit_str(""),
            _ => {
                struct Expecting<'v, V>(&'v V);
                impl<'de, V: Visitor<'de>> fmt::Display for Expecting<'_, V> {
                    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        self.0.expecting(f)
                    }
                }
                match Expecting(&visitor).to_string().as_str() {
                    "a string" => Err(self.wrong("text", "text")),
                    special => Err(self.wrong(special, "…")),
                }
            }
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            Kind::Null | Kind::Hole => self.located(visitor.visit_none()),
            // `${KEY:-}` is how to leave something out where the variable is not set.
            Kind::Scalar(scalar) if scalar.hidden && scalar.text.is_empty() => self.located(visitor.visit_none()),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        self.located(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let items = match &self.node.kind {
            Kind::List(items) => items.as_slice(),
            Kind::Hole => &[],
            _ => return Err(self.wrong("a list", "[…]").at(self.node.id)),
        };
        self.located(visitor.visit_seq(Items { items, key: self.key }))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let entries = match &self.node.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Hole => &[],
            _ => return Err(self.wrong("a map", "{ … }").at(self.node.id)),
        };
        self.located(visitor.visit_map(Entries { entries, value: None }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let text = match &self.node.kind {
            Kind::Scalar(scalar) => scalar.text.as_str(),
            Kind::Hole => variants.first().copied().unwrap_or_default(),
            _ => return Err(self.wrong("text", variants.first().unwrap_or(&"…")).at(self.node.id)),
        };
        let name: StrDeserializer<'_, Mistake> = text.into_deserializer();
        self.located(visitor.visit_enum(name))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct }
}

struct Items<'n> {
    items: &'n [Node],
    key: &'n str,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some((node, rest)) = self.items.split_first() else { return Ok(None) };
        self.items = rest;
        let reader = Reader { node, key: "" };
        reader.located(seed.deserialize(reader)).map(Some).map_err(|mistake| match mistake.flaw {
            Flaw::Other { message, help } if help.is_empty() && message.starts_with("expected text") => {
                let help = format!("write `{}: [text, …]`", self.key);
                Mistake { at: mistake.at, flaw: Flaw::Other { message, help } }
            }
            _ => mistake,
        })
    }
}

struct Entries<'n> {
    entries: &'n [Entry],
    value: Option<Reader<'n>>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let Some((entry, rest)) = self.entries.split_first() else { return Ok(None) };
        self.entries = rest;
        self.value = Some(Reader { node: &entry.value, key: &entry.key });
        let key: StrDeserializer<'_, Mistake> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mistake| mistake.at(entry.id))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        match self.value.take() {
            Some(reader) => reader.located(seed.deserialize(reader)),
            None => Err(Mistake::other("a value was read before its key", "")),
        }
    }
}

fn find(node: &Node, id: Id) -> Option<&Node> {
    if node.id == id {
        return Some(node);
    }
    let mut children = node.items().iter().chain(node.entries().iter().map(|entry| &entry.value));
    children.find_map(|child| find(child, id))
}

fn find_mut(node: &mut Node, id: Id) -> Option<&mut Node> {
    if node.id == id {
        return Some(node);
    }
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().find_map(|item| find_mut(item, id)),
        Kind::Map(entries) => entries.iter_mut().find_map(|entry| find_mut(&mut entry.value, id)),
        _ => None,
    }
}

fn key_of(node: &Node, value: Id) -> Option<Id> {
    let own = node.entries().iter().find(|entry| entry.value.id == value).map(|entry| entry.id);
    let mut children = node.items().iter().chain(node.entries().iter().map(|entry| &entry.value));
    own.or_else(|| children.find_map(|child| key_of(child, value)))
}

fn scalar_of(node: &Node) -> Option<&Scalar> {
    match &node.kind {
        Kind::Scalar(scalar) => Some(scalar),
        _ => None,
    }
}

fn remove_entry(node: &mut Node, key: Id) {
    match &mut node.kind {
        Kind::Map(entries) => {
            entries.retain(|entry| entry.id != key);
            entries.iter_mut().for_each(|entry| remove_entry(&mut entry.value, key));
        }
        Kind::List(items) => items.iter_mut().for_each(|item| remove_entry(item, key)),
        _ => {}
    }
}

/// Removes the entry with this value and answers its key.
fn remove_value(node: &mut Node, value: Id) -> Option<String> {
    match &mut node.kind {
        Kind::Map(entries) => match entries.iter().position(|entry| entry.value.id == value) {
            Some(index) => Some(entries.remove(index).key),
            None => entries.iter_mut().find_map(|entry| remove_value(&mut entry.value, value)),
        },
        Kind::List(items) => items.iter_mut().find_map(|item| remove_value(item, value)),
        _ => None,
    }
}

fn insert_hole(node: &mut Node, map: Id, name: &str) {
    // No key of the text has this number, so that the hole's own mistakes are told apart from all others.
    const NOWHERE: Id = Id::MAX;
    match find_mut(node, map) {
        Some(Node { kind: Kind::Map(entries), .. }) => {
            let hole = Node { id: NOWHERE, kind: Kind::Hole };
            entries.push(Entry { id: NOWHERE, key: name.to_owned(), value: hole });
        }
        _ => dig_hole(node, map),
    }
}

fn dig_hole(node: &mut Node, at: Id) {
    match find_mut(node, at) {
        Some(found) => found.kind = Kind::Hole,
        None => node.kind = Kind::Hole,
    }
}

fn collect_holes(node: &Node, holes: &mut HashSet<Id>) {
    if node.is_hole() {
        holes.insert(node.id);
    }
    node.items().iter().for_each(|item| collect_holes(item, holes));
    node.entries().iter().for_each(|entry| collect_holes(&entry.value, holes));
}
