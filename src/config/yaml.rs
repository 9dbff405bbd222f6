//! YAML text into a tree of `Node`s that know where they stand. The only file that names the YAML
//! crate.
//!
//! The crate tells a place only with an error. So nodes are numbered in the order in which they are
//! visited, and the place of one is found by visiting again and failing at its number: linear per
//! problem, and nothing to pay while there is none.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::room::{NO_TAGS, Room};

pub(super) use super::node::{Entry, Id, Kind, Node, Scalar};

/// A place in the text, both counted from one, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The reason why text is not YAML, or not YAML that a configuration needs.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) spot: Option<Spot>,
    pub(super) message: String,
    /// The place at which something began that was not brought to its end.
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

    fn too_much(what: &str) -> Self {
        let message = format!("the file holds more than {what}, those behind aliases counted each time");
        Self { spot: None, message, began: None }
    }
}

/// Reads the one document of `text`, which may take up `room`. None if there is nothing in it.
pub(super) fn parse(text: &str, room: Room) -> Result<Option<Node>, SyntaxError> {
    if let Some(message) = room.lacks(text) {
        return Err(SyntaxError { spot: None, message, began: None });
    }
    let text = unmarked(text);
    let mut walk = Walk::until(Stop::Beyond(room.nodes));
    let mut root = match walk.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(root) if root.kind == Kind::Null => return Ok(None),
        Ok(root) => root,
        Err(_) if walk.next > room.nodes => {
            return Err(SyntaxError::too_much(&format!("{} keys and values", room.nodes)));
        }
        Err(error) => return Err(SyntaxError::new(&error, walk.refused)),
    };
    let mut left = Some(room.text);
    let raw = Raw { node: &mut root, left: &mut left }.deserialize(serde_yaml::Deserializer::from_str(text));
    if left.is_none() {
        return Err(SyntaxError::too_much(&format!("{} bytes of text", room.text)));
    }
    raw.map_err(|error| SyntaxError::new(&error, None))?;
    super::merge::merge(&mut root);
    Ok(Some(root))
}

/// Returns the place of the key or value numbered `id`.
pub(super) fn locate(text: &str, id: Id) -> Option<Spot> {
    let mut walk = Walk::until(Stop::At(id));
    spot(&walk.deserialize(serde_yaml::Deserializer::from_str(unmarked(text))).err()?)
}

/// The text without the byte-order mark that some editors put before it, which the parser takes for
/// a document of its own.
fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
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

/// Builds nodes, with their scalars still empty, and fails where it is to stop.
struct Walk {
    next: Id,
    stop: Stop,
    refused: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stop {
    /// At the node that is looked for.
    At(Id),
    /// At the first node beyond so many.
    Beyond(usize),
}

impl Walk {
    fn until(stop: Stop) -> Self {
        Self { next: 0, stop, refused: None }
    }

    fn number<E: serde::de::Error>(&mut self) -> Result<Id, E> {
        let id = self.next;
        self.next += 1;
        if self.stop == Stop::At(id) || self.stop == Stop::Beyond(id) { Err(E::custom("stop")) } else { Ok(id) }
    }

    fn scalar<E: serde::de::Error>(&mut self, textual: bool) -> Result<Node, E> {
        let scalar = Scalar { text: String::new(), textual, hidden: false };
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
        self.scalar(false)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Node, E> {
        self.scalar(false)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Node, E> {
        self.scalar(false)
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Node, E> {
        self.scalar(false)
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Node, E> {
        self.scalar(false)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Node, E> {
        self.scalar(false)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Node, E> {
        self.scalar(true)
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(self.refuse(NO_TAGS))
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

/// Fills in scalars as they are written: `1.10` is a number to YAML, but may be a version or a key
/// to us.
struct Raw<'n> {
    node: &'n mut Node,
    /// Bytes of text that there is room for; None once there was not.
    left: &'n mut Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Raw<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match &mut self.node.kind {
            Kind::Null | Kind::Hole => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            Kind::Scalar(scalar) => deserializer.deserialize_str(RawText { text: &mut scalar.text, left: self.left }),
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
        let Kind::List(items) = &mut self.node.kind else { return Err(A::Error::custom("not a list")) };
        for node in items {
            seq.next_element_seed(Raw { node, left: &mut *self.left })?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Kind::Map(entries) = &mut self.node.kind else { return Err(A::Error::custom("not a map")) };
        for Entry { key, value, .. } in entries {
            map.next_key_seed(RawText { text: key, left: &mut *self.left })?;
            map.next_value_seed(Raw { node: value, left: &mut *self.left })?;
        }
        Ok(())
    }
}

struct RawText<'n> {
    text: &'n mut String,
    left: &'n mut Option<usize>,
}

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
        *self.left = self.left.and_then(|left| left.checked_sub(text.len()));
        if self.left.is_none() {
            return Err(E::custom("stop"));
        }
        text.clone_into(self.text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { nodes: 20, text: 100, brackets: 20 };

    #[test]
    fn scalars_keep_their_spelling_and_every_node_its_place() {
        let text = "a: 1.10\nb:\n  - 0x10\n  - \"\\u0041\"\nc: {d: ~, é: yes}\n";
        let root = parse(text, ROOM).unwrap().unwrap();
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
    fn a_byte_order_mark_before_the_first_key_is_no_part_of_it() {
        let text = "\u{feff}a: 1\nb: 2\n";
        let root = parse(text, ROOM).unwrap().unwrap();
        assert_eq!((root.get("a").and_then(Node::text), root.get("b").and_then(Node::text)), (Some("1"), Some("2")));
        assert_eq!(locate(text, root.entry("a").unwrap().id), Some(Spot { line: 1, column: 1 }));
    }

    #[test]
    fn what_aliases_bring_is_counted_each_time() {
        let aliases = |count: usize| format!("x: &x [1, 1, 1]\ny: [{}]\n", "*x,".repeat(count));
        assert!(parse(&aliases(3), ROOM).is_ok());
        let error = parse(&aliases(4), ROOM).unwrap_err();
        assert_eq!(
            error.message,
            "the file holds more than 20 keys and values, those behind aliases counted each time"
        );

        // Numbers are text too: they are kept as they are written.
        for scalar in ["a".repeat(20), "1".repeat(20), format!("1.{}", "0".repeat(18))] {
            let aliases = |count: usize| format!("x: &x {scalar}\ny: [{}]\n", "*x,".repeat(count));
            assert!(parse(&aliases(3), ROOM).is_ok());
            let error = parse(&aliases(4), ROOM).unwrap_err();
            assert_eq!(
                error.message,
                "the file holds more than 100 bytes of text, those behind aliases counted each time"
            );
        }
    }
}
