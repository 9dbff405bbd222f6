//! YAML text into a tree of `Node`s that know where they stand. The only file that names the YAML crate.
//!
//! The crate tells a place only with an error. So nodes are numbered in the order in which they are visited, and
//! the place of one is found by visiting again and failing at its number: linear per problem, and nothing to pay
//! while there is none.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Number of a key or value in the order of the text.
pub(super) type Id = usize;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) id: Id,
    pub(super) kind: Kind,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Stands for a value with which there is a problem already: anything is expected of it, nothing reported.
    Hole,
}

/// Text, a number or a boolean: which, is for the reader to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Quoted, or nothing but text in YAML's eyes.
    pub(super) textual: bool,
    /// Made from an environment variable, so that it must not be shown.
    pub(super) hidden: bool,
}

/// A key of a map with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) id: Id,
    pub(super) key: String,
    pub(super) value: Node,
}

impl Node {
    /// The entries of a map; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a map under `key`.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a map under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    pub(super) fn is_hole(&self) -> bool {
        self.kind == Kind::Hole
    }

    /// Whether the value comes from an environment variable.
    pub(super) fn is_hidden(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.hidden)
    }

    /// A copy of a map without one of its entries.
    pub(super) fn without(&self, key: &str) -> Node {
        let mut node = self.clone();
        if let Kind::Map(entries) = &mut node.kind {
            entries.retain(|entry| entry.key != key);
        }
        node
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }
}

/// A place in the text, both counted from one, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Why text is not YAML, or not YAML that a configuration needs.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) spot: Option<Spot>,
    pub(super) message: String,
    /// Where that began which was not brought to its end.
    pub(super) began: Option<Spot>,
}

impl SyntaxError {
    fn new(error: &serde_yaml::Error, refused: Option<String>) -> Self {
        let text = error.to_string();
        let began =
            text.rsplit_once(" at line ").filter(|(before, _)| before.contains(", while ")).and_then(|(_, at)| {
                let (line, column) = at.split_once(" column ")?;
                Some(Spot { line: line.parse().ok()?, column: column.parse().ok()? })
            });
        let message = refused.unwrap_or_else(|| plain(&text));
        // A key without its colon is noticed only on the next line.
        let spot = if message.contains("expected ':'") { began.or(spot(error)) } else { spot(error) };
        Self { spot, message, began }
    }
}

/// Reads the one document of `text`. None if there is nothing in it.
pub(super) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut walk = Walk::default();
    let mut root = match walk.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(root) if root.kind == Kind::Null => return Ok(None),
        Ok(root) => root,
        Err(error) => return Err(SyntaxError::new(&error, walk.refused)),
    };
    let raw = Raw(&mut root).deserialize(serde_yaml::Deserializer::from_str(text));
    raw.map_err(|error| SyntaxError::new(&error, None))?;
    merge(&mut root);
    Ok(Some(root))
}

/// Where the key or value numbered `id` stands.
pub(super) fn locate(text: &str, id: Id) -> Option<Spot> {
    let mut walk = Walk { target: Some(id), ..Walk::default() };
    spot(&walk.deserialize(serde_yaml::Deserializer::from_str(text)).err()?)
}

fn spot(error: &serde_yaml::Error) -> Option<Spot> {
    error.location().map(|place| Spot { line: place.line(), column: place.column() })
}

/// The parser's message without its places, which are shown by themselves.
fn plain(text: &str) -> String {
    match text.split(" at line ").next().unwrap_or_default() {
        "EOF while parsing a value" => "the file is empty".to_owned(),
        message if message.starts_with("deserializing from YAML containing more than one") => {
            "the file holds more than one document (`---`), a pipeline file is one".to_owned()
        }
        message => message.to_owned(),
    }
}

/// Builds nodes, and fails at the one that is looked for.
#[derive(Default)]
struct Walk {
    next: Id,
    target: Option<Id>,
    refused: Option<String>,
}

impl Walk {
    fn number<E: serde::de::Error>(&mut self) -> Result<Id, E> {
        let id = self.next;
        self.next += 1;
        if self.target == Some(id) { Err(E::custom("found")) } else { Ok(id) }
    }

    fn scalar<E: serde::de::Error>(&mut self, text: &str, textual: bool) -> Result<Node, E> {
        let scalar = Scalar { text: text.to_owned(), textual, hidden: false };
        Ok(Node { id: self.number()?, kind: Kind::Scalar(scalar) })
    }

    fn refuse<E: serde::de::Error>(&mut self, message: &str) -> E {
        self.refused = Some(message.to_owned());
        E::custom(message)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Walk {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Walk {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        Ok(Node { id: self.number()?, kind: Kind::Null })
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Node, E> {
        self.scalar("", false)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Node, E> {
        self.scalar("", false)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Node, E> {
        self.scalar("", false)
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Node, E> {
        self.scalar("", false)
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Node, E> {
        self.scalar("", false)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Node, E> {
        self.scalar("", false)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Node, E> {
        self.scalar(text, true)
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(self.refuse("YAML tags (`!name`) have no meaning here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(&mut *self)? {
            items.push(item);
        }
        Ok(Node { id, kind: Kind::List(items) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let id = self.number()?;
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(&mut *self)? {
            if !matches!(key.kind, Kind::Scalar(_)) {
                return Err(self.refuse("a key must be plain text"));
            }
            entries.push(Entry { id: key.id, key: String::new(), value: map.next_value_seed(&mut *self)? });
        }
        Ok(Node { id, kind: Kind::Map(entries) })
    }
}

/// Fills in scalars as they are written: `1.10` is a number to YAML, but may be a version or a key to us.
struct Raw<'n>(&'n mut Node);

impl<'de> DeserializeSeed<'de> for Raw<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match &mut self.0.kind {
            Kind::Null | Kind::Hole => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            Kind::Scalar(scalar) => deserializer.deserialize_str(RawText(&mut scalar.text)),
            Kind::List(_) => deserializer.deserialize_seq(self),
            Kind::Map(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Raw<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was read before")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Kind::List(items) = &mut self.0.kind else { return Err(A::Error::custom("not a list")) };
        for item in items {
            seq.next_element_seed(Raw(item))?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Kind::Map(entries) = &mut self.0.kind else { return Err(A::Error::custom("not a map")) };
        for entry in entries {
            map.next_key_seed(RawText(&mut entry.key))?;
            map.next_value_seed(Raw(&mut entry.value))?;
        }
        Ok(())
    }
}

struct RawText<'n>(&'n mut String);

impl<'de> DeserializeSeed<'de> for RawText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for RawText<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        text.clone_into(self.0);
        Ok(())
    }
}

/// `<<: *defaults` and `<<: [*a, *b]`: entries that the map does not have itself.
fn merge(node: &mut Node) {
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(merge),
        Kind::Map(entries) => {
            entries.iter_mut().for_each(|entry| merge(&mut entry.value));
            let mergeable = |node: &Node| match &node.kind {
                Kind::Map(_) => true,
                Kind::List(items) => items.iter().all(|item| matches!(item.kind, Kind::Map(_))),
                _ => false,
            };
            while let Some(index) = entries.iter().position(|entry| entry.key == "<<" && mergeable(&entry.value)) {
                let merged = match entries.remove(index).value.kind {
                    Kind::Map(merged) => merged,
                    Kind::List(maps) => maps.iter().flat_map(|map| map.entries().to_vec()).collect(),
                    _ => Vec::new(),
                };
                for entry in merged {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_keep_their_spelling_and_every_node_its_place() {
        let text = "a: 1.10\nb:\n  - 0x10\n  - \"\\u0041\"\nc: {d: ~, é: yes}\n";
        let root = parse(text).unwrap().unwrap();
        assert_eq!(root.get("a").and_then(Node::text), Some("1.10"));
        let b = root.get("b").unwrap().items();
        assert_eq!((b[0].text(), b[1].text()), (Some("0x10"), Some("A")));
        assert_eq!(locate(text, b[1].id), Some(Spot { line: 4, column: 5 }));
        let c = root.entry("c").unwrap();
        assert_eq!(locate(text, c.id), Some(Spot { line: 5, column: 1 }));
        assert_eq!(locate(text, c.value.entry("é").unwrap().value.id), Some(Spot { line: 5, column: 14 }));
        assert_eq!(c.value.get("d").unwrap().kind, Kind::Null);
    }

    #[test]
    fn a_merge_key_brings_what_the_map_does_not_have() {
        let root = parse("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n").unwrap().unwrap();
        let y = root.get("y").unwrap();
        assert_eq!(y.get("a").and_then(Node::text), Some("1"));
        assert_eq!(y.get("b").and_then(Node::text), Some("3"));
    }
}
