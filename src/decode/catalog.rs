//! `Catalog`: what a decoder knows of types and keys beside what the stream says; from it, how to
//! read each column.

use std::collections::HashMap;

use super::builtin;
use super::codec::{Codec, Elements, Plan};
use crate::event::Naming;

/// Types and primary keys of a database, as the source read them from its catalogue.
///
/// The stream names the types of columns only by OID. Core types are known by their fixed OIDs; for
/// all others the catalogue says what they are. `Type` messages of the stream fill in names that it
/// lacks.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    types: HashMap<u32, Type>,
    primary_keys: HashMap<u32, PrimaryKey>,
    namings: HashMap<u32, Naming>,
}

/// Of a table with `REPLICA IDENTITY FULL`, as it is when the catalogue is read: the stream may be
/// older, or newer.
#[derive(Clone, Debug)]
pub(super) struct PrimaryKey {
    /// Its columns.
    pub(super) names: Vec<String>,
    /// All columns that the table ever had, in their order; None for one that was dropped.
    pub(super) among: Vec<Option<String>>,
}

impl PrimaryKey {
    /// Returns the places of the key's columns among `count` columns of the stream, whatever their
    /// names were at that time: columns are only ever added at the end. None if a column before one
    /// of them was dropped and `count` is not the number of today's columns: then nothing tells if
    /// the stream still has it. None, too, if the stream has too few columns.
    pub(super) fn places(&self, count: usize) -> Option<Vec<usize>> {
        let alive = self.among.iter().flatten().count();
        let place = |name: &String| {
            let place = self.among.iter().position(|column| column.as_ref() == Some(name))?;
            let before = self.among.get(..place)?.iter().flatten().count();
            Some(before).filter(|&before| (before == place || alive == count) && before < count)
        };
        self.names.iter().map(place).collect()
    }
}

#[derive(Clone, Debug)]
struct Type {
    name: String,
    shape: Shape,
}

/// The kind of a type: `pg_type.typtype` and `typelem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A type of its own, such as an extension's; read by its name.
    Base,
    /// A domain over the type of this OID.
    Domain(u32),
    /// An enum: its values are labels.
    Enum,
    /// A composite, a range, a multirange: whatever its name, only Postgres' text is of use.
    Opaque,
    /// An array of the type of this OID; `typdelim` of the element stands between elements.
    Array {
        /// OID of the elements' type.
        element: u32,
        /// The byte between elements in text.
        delimiter: u8,
    },
}

impl Catalog {
    /// Adds a type: its `pg_type.typname` and what it is.
    pub fn add_type(&mut self, oid: u32, name: impl Into<String>, shape: Shape) {
        self.types.insert(oid, Type { name: name.into(), shape });
    }

    /// Sets the columns of the primary key of the table with this OID, `among` all columns that it
    /// ever had, in their order, None for one that was dropped.
    ///
    /// They matter under `REPLICA IDENTITY FULL`, where the stream marks every column as key.
    pub fn set_primary_key(&mut self, relation: u32, names: Vec<String>, among: Vec<Option<String>>) {
        self.primary_keys.insert(relation, PrimaryKey { names, among });
    }

    /// Sets how ids of the table with this OID are kept apart from those of others.
    pub fn set_naming(&mut self, relation: u32, naming: Naming) {
        self.namings.insert(relation, naming);
    }

    pub(super) fn naming(&self, relation: u32) -> Naming {
        self.namings.get(&relation).cloned().unwrap_or_default()
    }

    /// Tells if values of all these types can be read in binary format. Otherwise the stream should
    /// be asked for in text format: the first value of such a type would be an error.
    pub fn binary_is_readable(&self, types: impl IntoIterator<Item = u32>) -> bool {
        types.into_iter().all(|oid| self.plan(oid).codec != Codec::Other)
    }

    /// From a `Type` message: adds the name of a type that is not known yet; the name is then all
    /// that tells how to read it.
    pub fn learn(&mut self, oid: u32, name: &str) {
        self.types.entry(oid).or_insert_with(|| Type { name: name.to_owned(), shape: Shape::Base });
    }

    pub(super) fn knows(&self, oid: u32) -> bool {
        self.types.contains_key(&oid) || builtin::by_oid(oid).is_some() || builtin::by_array_oid(oid).is_some()
    }

    pub(super) fn primary_key(&self, relation: u32) -> Option<&PrimaryKey> {
        self.primary_keys.get(&relation).filter(|key| !key.names.is_empty())
    }

    /// Returns the way to read values of a type.
    pub(super) fn plan(&self, oid: u32) -> Plan {
        match self.base(oid) {
            Base::Array(elements) => match self.base(elements.oid) {
                Base::Scalar(codec) => Plan { codec, array: Some(elements) },
                // An array of a domain over an array: its elements have braces of their own inside quotes.
                Base::Array(_) => Plan { codec: Codec::Other, array: None },
            },
            Base::Scalar(codec) => Plan { codec, array: None },
        }
    }

    /// The name handlers see: of a domain the type below it, of an array the element's with `[]`.
    pub(super) fn type_name(&self, oid: u32) -> String {
        let oid = self.below_domains(oid);
        if let Some(builtin) = builtin::by_oid(oid) {
            return builtin.name.to_owned();
        }
        if let Some(element) = builtin::by_array_oid(oid) {
            return format!("{}[]", element.name);
        }
        match self.types.get(&oid) {
            Some(Type { shape: Shape::Array { element, .. }, .. }) if *element != oid => {
                let element = self.below_domains(*element);
                let name = self.types.get(&element).map(|known| known.name.clone());
                let name = name.or_else(|| builtin::by_oid(element).map(|known| known.name.to_owned()));
                format!("{}[]", name.unwrap_or_else(|| element.to_string()))
            }
            Some(Type { name, .. }) => match name.strip_prefix('_').and_then(builtin::by_name) {
                Some(element) => format!("{}[]", element.name),
                None => name.clone(),
            },
            None => oid.to_string(),
        }
    }

    fn base(&self, oid: u32) -> Base {
        let oid = self.below_domains(oid);
        if let Some(builtin) = builtin::by_oid(oid) {
            return Base::Scalar(builtin.codec);
        }
        if let Some(element) = builtin::by_array_oid(oid) {
            return Base::Array(element.elements());
        }
        match self.types.get(&oid) {
            Some(Type { shape: Shape::Array { element, delimiter }, .. }) => {
                Base::Array(Elements { oid: *element, delimiter: *delimiter })
            }
            Some(Type { shape: Shape::Enum, .. }) => Base::Scalar(Codec::Text),
            Some(Type { shape: Shape::Opaque, .. }) => Base::Scalar(Codec::Other),
            Some(Type { name, .. }) => by_name(name),
            None => Base::Scalar(Codec::Other),
        }
    }

    fn below_domains(&self, mut oid: u32) -> u32 {
        // Domains over domains are rare and shallow; a circle, which Postgres cannot have, must still end.
        for _ in 0..32 {
            match self.types.get(&oid) {
                Some(Type { shape: Shape::Domain(base), .. }) => oid = *base,
                _ => break,
            }
        }
        oid
    }
}

enum Base {
    Scalar(Codec),
    Array(Elements),
}

/// Extensions' types have another OID in each database. Of a domain, a `Type` message gives the
/// base type's name.
fn by_name(name: &str) -> Base {
    match name {
        "vector" => Base::Scalar(Codec::Vector),
        "halfvec" => Base::Scalar(Codec::HalfVec),
        "citext" => Base::Scalar(Codec::Text),
        _ => match (builtin::by_name(name), name.strip_prefix('_').and_then(builtin::by_name)) {
            (Some(builtin), _) => Base::Scalar(builtin.codec),
            (None, Some(element)) => Base::Array(element.elements()),
            (None, None) => Base::Scalar(Codec::Other),
        },
    }
}
