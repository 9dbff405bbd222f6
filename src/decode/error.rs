//! `DecodeError`: why a message of the server could not be turned into events. Names columns, never
//! holds values.

use crate::error::{Error, Fault};

/// The reason why a message could not be decoded. Every one is definite for its decoder: the same
/// bytes fail again in the same session, with the same catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte names no message of protocol version 1.
    #[error("unknown message tag 0x{0:02X}")]
    UnknownTag(u8),
    /// The message is not laid out as the protocol says.
    #[error("malformed {message} message: {flaw}")]
    Malformed {
        /// The kind of the message.
        message: &'static str,
        /// The flaw in its form.
        flaw: &'static str,
    },
    /// The message stands where none of its kind may stand.
    #[error("{message} message {place}")]
    OutOfPlace {
        /// The kind of the message.
        message: &'static str,
        /// The place where it stands.
        place: &'static str,
    },
    /// A row of a table that the server did not describe before.
    #[error("{message} message for relation {oid}, which was never described")]
    UnknownRelation {
        /// The kind of the message.
        message: &'static str,
        /// The relation it names.
        oid: u32,
    },
    /// A row has not as many values as its table has columns.
    #[error("a row of `{relation}` with {found} values, the relation has {expected} columns")]
    ColumnCount {
        /// Schema and table.
        relation: String,
        /// The number of columns that the relation has.
        expected: usize,
        /// The number of values that the message announces.
        found: i16,
    },
    /// The bytes of a value are not a value of the column's type.
    #[error("column `{column}` of `{relation}`: not a valid `{type_name}`: {flaw}")]
    Value {
        /// Schema and table.
        relation: String,
        /// The column's name.
        column: String,
        /// The type's name.
        type_name: String,
        /// The flaw in the bytes.
        flaw: &'static str,
    },
    /// A type that the catalogue did not have when it was read: it is to be read again.
    #[error("type `{name}` ({oid}) is not in the catalogue that was read")]
    UnknownType {
        /// The type's OID.
        oid: u32,
        /// Its name in the stream; for a domain its base type's name.
        name: String,
    },
    /// None of the table's columns can be told to be its primary key: the catalogue is to be read
    /// again.
    #[error("the primary key of `{relation}` is not among its columns {}", columns.join(", "))]
    UnknownKey {
        /// Schema and table.
        relation: String,
        /// The names of its columns in the stream.
        columns: Vec<String>,
    },
    /// The session has described more than is remembered of it: a new one begins with nothing.
    #[error("the server has described more tables and types than are kept in memory")]
    Crowded,
    /// The type's binary form is not known here: the stream must be asked for in text format.
    #[error("column `{column}` of `{relation}`: `{type_name}` cannot be read in binary format")]
    BinaryOnly {
        /// Schema and table.
        relation: String,
        /// The column's name.
        column: String,
        /// The type's name.
        type_name: String,
    },
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let fault = match error {
            DecodeError::Crowded => Fault::Transient,
            DecodeError::Value { .. } | DecodeError::BinaryOnly { .. } => Fault::Data,
            _ => Fault::Bug,
        };
        Error::new(fault, "a message of the server could not be decoded").because(error)
    }
}
