//! `Node`: a value of a YAML file, numbered in the order of the text.

/// Number of a key or value in the order of the text.
pub(super) type Id = usize;

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) id: Id,
    pub(super) kind: Kind,
}

/// The kind and content of a [`Node`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Stands for a value with which there is a problem already: anything is expected of it,
    /// nothing reported.
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

    /// True if the value comes from an environment variable.
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
