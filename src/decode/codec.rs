//! `Codec`: the ways in which values are read.

/// The way to read the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Of the value, or of an array's elements.
    pub(super) codec: Codec,
    pub(super) array: Option<Elements>,
}

/// The elements of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elements {
    pub(super) oid: u32,
    pub(super) delimiter: u8,
}

/// The way to read a value that is not an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Char,
    Bytes,
    Timestamp,
    TimestampTz,
    Date,
    Time,
    Uuid,
    Json,
    Jsonb,
    Vector,
    HalfVec,
    /// Only Postgres' own text is of use.
    Other,
}
