//! `Document`: any YAML file whose mistakes are told with their line, for files that hold data
//! beside settings.

use std::io::Read;
use std::path::Path;

use indexmap::IndexMap;
use serde::de::DeserializeOwned;

use super::diagnostic::{Diagnostics, Findings};
use super::file::components;
use super::kind::{Component, KindEntry};
use super::room::Room;
use super::yaml::{self, Id, Kind, Node};
use super::{drop_duplicate_keys, read, reason, syntax_help};

/// A larger file is read line by line elsewhere, not as YAML.
const MAX_BYTES: u64 = 8 << 20;

/// As much as a file without aliases can hold.
const ROOM: Room = Room { nodes: 2 * MAX_BYTES as usize, text: 2 * MAX_BYTES as usize, brackets: usize::MAX };

/// A parsed file.
#[derive(Debug)]
pub struct Document {
    name: String,
    text: String,
    root: Node,
}

/// A value of the file, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Part<'d> {
    node: &'d Node,
    key: Id,
}

/// The content of a [`Part`].
#[derive(Clone, Debug)]
pub enum Shape<'d> {
    /// Nothing, `null` or `~`.
    Null,
    /// Text: quoted, or nothing but text in YAML's eyes.
    Text(&'d str),
    /// A number or boolean, as it is written.
    Bare(&'d str),
    /// A list.
    List(Vec<Part<'d>>),
    /// A map, in the order of the file. Each value stands under its key.
    Map(Vec<(&'d str, Part<'d>)>),
}

/// The mistakes in a [`Document`].
pub struct Mistakes<'d> {
    findings: Findings<'d>,
    root: &'d Node,
}

impl Document {
    /// Reads the file at `path`. References to the environment stay as they are: data may hold
    /// dollar signs.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is larger than 8 MiB or is not UTF-8 text, and as
    /// [`parse`](Self::parse) does.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let name = path.to_string_lossy();
        let refused = |message: String| {
            let mut findings = Findings::new(&name, "");
            findings.at_spot(None, message, "");
            findings.finish()
        };
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|error| refused(format!("cannot read the file: {}", reason(&error))))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refused("the file is larger than 8 MiB".to_owned()));
        }
        let text = String::from_utf8(bytes).map_err(|_| refused("the file is not UTF-8 text".to_owned()))?;
        Self::parse(&name, text)
    }

    /// Reads `text` as the file `name`.
    ///
    /// # Errors
    /// Fails if the text is empty, is not YAML, is no map, has a key twice in one map, or is too
    /// large with its aliases written out.
    pub fn parse(name: &str, text: String) -> Result<Self, Diagnostics> {
        let mut findings = Findings::new(name, &text);
        let root = match yaml::parse(&text, ROOM) {
            Ok(Some(mut root)) => {
                if !root.is_map() {
                    findings.at(root.id, "expected a map", "");
                }
                drop_duplicate_keys(&mut root, &mut findings);
                Some(root)
            }
            Ok(None) => {
                findings.at_spot(None, "the file is empty", "");
                None
            }
            Err(error) => {
                let line = error.spot.map_or("", |spot| findings.line(spot.line));
                findings.at_spot(error.spot, &error.message, syntax_help(line, &error));
                None
            }
        };
        match root.filter(|_| findings.is_empty()) {
            Some(root) => Ok(Self { name: name.to_owned(), text, root }),
            None => Err(findings.finish()),
        }
    }

    /// The whole file.
    pub fn root(&self) -> Part<'_> {
        Part { node: &self.root, key: self.root.id }
    }

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// None yet.
    pub fn mistakes(&self) -> Mistakes<'_> {
        Mistakes { findings: Findings::new(&self.name, &self.text), root: &self.root }
    }

    /// Line and column, from one, of the key under which `part` stands.
    pub fn place(&self, part: Part<'_>) -> Option<(usize, usize)> {
        yaml::locate(&self.text, part.key).map(|spot| (spot.line, spot.column))
    }
}

impl<'d> Part<'d> {
    /// Returns its content.
    pub fn shape(self) -> Shape<'d> {
        match &self.node.kind {
            Kind::Null | Kind::Hole => Shape::Null,
            Kind::Scalar(scalar) if scalar.textual => Shape::Text(&scalar.text),
            Kind::Scalar(scalar) => Shape::Bare(&scalar.text),
            Kind::List(items) => Shape::List(items.iter().map(|node| Part { node, key: node.id }).collect()),
            Kind::Map(entries) => {
                let parts = entries.iter().map(|entry| (&*entry.key, Part { node: &entry.value, key: entry.id }));
                Shape::Map(parts.collect())
            }
        }
    }

    /// The value under `key` of a map.
    pub fn get(self, key: &str) -> Option<Part<'d>> {
        self.node.entry(key).map(|entry| Part { node: &entry.value, key: entry.id })
    }

    /// The items of a list; none for anything else.
    pub fn items(self) -> impl Iterator<Item = Part<'d>> {
        self.node.items().iter().map(|node| Part { node, key: node.id })
    }

    /// Returns the kind of its content, in words.
    pub fn kind(self) -> &'static str {
        match self.shape() {
            Shape::Null => "nothing",
            Shape::Text(_) => "text",
            Shape::Bare(_) => "a number or boolean",
            Shape::List(_) => "a list",
            Shape::Map(_) => "a map",
        }
    }
}

impl Mistakes<'_> {
    /// A mistake in the value of `part`.
    pub fn at(&mut self, part: Part<'_>, message: impl Into<String>, help: impl Into<String>) {
        let id = match part.node.kind {
            Kind::Scalar(_) => part.node.id,
            _ => part.key,
        };
        self.findings.at(id, message, help);
    }

    /// A mistake in the key under which `part` stands.
    pub fn at_key(&mut self, part: Part<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.findings.at(part.key, message, help);
    }

    /// Reads `part` into a struct as settings are read. None if there are mistakes in it, which are
    /// noted.
    pub fn read<T: DeserializeOwned>(&mut self, part: Part<'_>) -> Option<T> {
        read::read(part.node, part.key, &mut self.findings)
    }

    /// The file's section `embedders`, as in a pipeline file.
    pub fn embedders<C: Component>(&mut self, kinds: &[KindEntry<C>]) -> IndexMap<String, C> {
        components(self.root, kinds, &mut self.findings)
    }

    /// Tells if there are none.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// All of them, in the order of the file.
    pub fn finish(self) -> Diagnostics {
        self.findings.finish()
    }
}
