//! `Relation`: a table as it was at one point of the log.

/// Schema, name and columns of a table, as of the point of the log at which the server described
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The table's OID in its database.
    pub id: u32,
    /// The schema's name, such as `public`.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// The columns of a row's old version that the server sends.
    pub replica_identity: ReplicaIdentity,
    /// In the order in which values stand in a row.
    pub columns: Vec<Column>,
    /// The form of its rows' ids, and with it their beginning.
    pub naming: Naming,
}

/// The form of the ids of a table's points, which keeps them apart from those of other tables. Once
/// a table has points, it stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The source has no other table: an id is the key.
    #[default]
    Alone,
    /// There are others by now, but its ids have always been the keys, and stay what they are.
    Key,
    /// This stands before the key.
    Named(Box<str>),
}

impl Naming {
    /// Returns the prefix for the keys of a table that is one of several.
    pub fn prefix(schema: &str, table: &str) -> String {
        format!("{}.{}", word(schema), word(table))
    }
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// Postgres' name of the type (`int8`, `text`, `vector`), of a domain that of its base type, of
    /// an array the element's with `[]`; the OID as text where no name is known.
    pub type_name: String,
    /// OID of the type.
    pub type_oid: u32,
    /// `atttypmod`, such as the precision of a numeric; -1 for none.
    pub type_modifier: i32,
    /// True if the column identifies the row: it is part of the replica identity, or with
    /// `ReplicaIdentity::Full` of the primary key. True of all columns if that is not known.
    pub key: bool,
}

/// `REPLICA IDENTITY` of a table: which old values an UPDATE or DELETE carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing.
    Nothing,
    /// Every column.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A name as it stands in ids: in quotation marks if it has a character that could be mistaken, so
/// that no two tables have ids in common.
fn word(name: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || char == '_';
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn names_that_could_be_mistaken_stand_in_quotation_marks() {
        assert_eq!(word("tä_1"), "tä_1");
        assert_eq!(word("a.b"), "\"a.b\"");
        assert_eq!(word("a:\"1"), "\"a:\"\"1\"");
    }
}
