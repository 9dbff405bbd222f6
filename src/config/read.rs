//! Nodes into structs: a serde `Deserializer` whose mistakes know their node, and that goes on
//! after each of them.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::diagnostic::Findings;
use super::mistake::{Flaw, Mistake, nearest};
use super::repair::{collect_holes, dig_hole, insert_hole, remove_entry, remove_value};
use super::yaml::{Entry, Id, Kind, Node};

/// The largest number of times that a part of the file is read: once more after each mistake in it.
/// Not every such mistake is reported.
const MAX_ROUNDS: usize = 200;

/// Reads `node`, which stands under the key numbered `key`. None if there is a problem in it, now
/// or before; then as many problems as are told of one file have been reported, or all that could
/// be found.
pub(super) fn read<T: DeserializeOwned>(node: &Node, key: Id, findings: &mut Findings<'_>) -> Option<T> {
    let mut node = node.clone();
    let mut holes = HashSet::new();
    collect_holes(&node, &mut holes);
    let mut clean = holes.is_empty();
    let mut meant = HashSet::new(); // misspelt elsewhere, so not missing
    let mut given_up = HashSet::new();
    for _ in 0..MAX_ROUNDS {
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
        if findings.is_full() {
            return None;
        }
        collect_holes(&node, &mut holes);
    }
    None
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
