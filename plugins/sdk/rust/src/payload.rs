//! `Payload`: a JSON object whose keys keep their order, and whose values are text already.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::{Result, exact};

/// A JSON object whose keys keep their order; [`Row::payload`](crate::Row::payload) makes one of a
/// row. Whatever JSON Postgres sent stands in it as Postgres wrote it.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Payload {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key, in its old place if it is there already. An error if the value does not
    /// serialize as JSON.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Serialize) -> Result<()> {
        let (name, value) = (name.into(), exact::raw(&value)?);
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name, value)),
        }
        Ok(())
    }

    /// Takes a key away. Answers whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(known, _)| known != name);
        self.fields.len() < before
    }

    /// The value of a key, as JSON text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.get())
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, &Field(value))?;
        }
        map.end()
    }
}

/// A value that may be asked to become a `serde_json::Value`.
struct Field<'a>(&'a RawValue);

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        exact::serialize(self.0.get(), serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_keep_their_places() {
        let mut payload = Payload::new();
        payload.insert("a", 1).unwrap();
        payload.insert("b", "x").unwrap();
        payload.insert("a", [1.5]).unwrap();
        assert_eq!((payload.len(), payload.get("b"), payload.get("c")), (2, Some("\"x\""), None));
        assert_eq!(exact::text(&payload).unwrap(), r#"{"a":[1.5],"b":"x"}"#);
        assert_eq!(json!({ "of": payload }), json!({ "of": { "a": [1.5], "b": "x" } }));
        assert!(payload.remove("a") && !payload.remove("a") && !payload.is_empty());
    }
}
