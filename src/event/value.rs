//! `Value`, the closed set of column values, and `Cell`, the 16 bytes that stand for one inside a
//! batch.

use std::ops::Range;

use super::Arena;
use super::utf8::utf8;

/// The value of a column, borrowed from its batch. Mirrors `variant value` of the WIT one to one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// A TOASTed column that the server did not send because the UPDATE left it alone. Not null.
    Unchanged,
    /// `bool`
    Bool(bool),
    /// `int2`, `int4`, `int8`, `oid`
    Int(i64),
    /// `float4`, `float8`; NaN and the infinities as they are.
    Float(f64),
    /// `numeric` as exact decimal text, or `NaN`, `Infinity`, `-Infinity`.
    Numeric(&'a str),
    /// `text`, `varchar`, `bpchar`, `"char"`, `name`, `citext`, enums.
    Text(&'a str),
    /// `bytea`
    Bytes(&'a [u8]),
    /// `timestamp` and `timestamptz`, in µs since 1970-01-01 UTC; `infinity` is `i64::MAX`,
    /// `-infinity` is `i64::MIN`. One that does not fit, after the year 294246, is `Other`.
    Timestamp(i64),
    /// `date`, in days since 1970-01-01; `infinity` is `i32::MAX`, `-infinity` is `i32::MIN`.
    Date(i32),
    /// `time`, in µs since midnight; `24:00` is 86,400,000,000.
    Time(i64),
    /// `uuid`, hyphenated, lower case.
    Uuid(&'a str),
    /// `json`, `jsonb`; arrays as JSON arrays, in which an element is what its value would be
    /// alone: `Bool`, `Int`, `Float`, `Timestamp`, `Date` and `Time` as JSON booleans and numbers,
    /// `Json` as it stands, `Vector` as an array, `Bytes` as a string of `\x` and hexadecimal, a
    /// float that is not finite by its name, all else, `Numeric` too, as a string. SQL NULL is
    /// `null`, and so is an element `'null'::json`. Lower bounds are not shown.
    Json(&'a str),
    /// pgvector's `vector` and `halfvec`.
    Vector(&'a [f32]),
    /// Postgres' own text for every other type.
    Other(&'a str),
}

/// One column inside a [`Batch`](super::Batch): a number, or where its bytes lie. Resolved by the
/// batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// See [`Value::Null`].
    Null,
    /// See [`Value::Unchanged`].
    Unchanged,
    /// See [`Value::Bool`].
    Bool(bool),
    /// See [`Value::Int`].
    Int(i64),
    /// See [`Value::Float`].
    Float(f64),
    /// See [`Value::Timestamp`].
    Timestamp(i64),
    /// See [`Value::Date`].
    Date(i32),
    /// See [`Value::Time`].
    Time(i64),
    /// Bytes in the event's frame or among the batch's derived bytes. Every kind but `Bytes` is
    /// valid UTF-8.
    Slice {
        /// The value that the bytes stand for.
        kind: Kind,
        /// The memory in which `start` counts.
        place: Place,
        /// The first byte.
        start: u32,
        /// Number of bytes.
        len: u32,
    },
    /// Numbers among the batch's floats; start and length in numbers, not bytes.
    Vector {
        /// The first number.
        start: u32,
        /// Count of numbers.
        len: u32,
    },
}

impl Cell {
    /// The value that the cell stands for. What lies outside of `frame` or `arena` is empty.
    #[inline]
    pub fn resolve<'a>(&self, frame: &'a [u8], arena: &'a Arena) -> Value<'a> {
        match *self {
            Cell::Null => Value::Null,
            Cell::Unchanged => Value::Unchanged,
            Cell::Bool(value) => Value::Bool(value),
            Cell::Int(value) => Value::Int(value),
            Cell::Float(value) => Value::Float(value),
            Cell::Timestamp(value) => Value::Timestamp(value),
            Cell::Date(value) => Value::Date(value),
            Cell::Time(value) => Value::Time(value),
            Cell::Vector { start, len } => Value::Vector(arena.floats.get(span(start, len)).unwrap_or_default()),
            Cell::Slice { kind, place, start, len } => {
                let bytes = match place {
                    Place::Frame => frame,
                    Place::Derived => arena.derived.as_slice(),
                };
                let bytes = bytes.get(span(start, len)).unwrap_or_default();
                // The builder's callers have checked UTF-8 already; checking again is cheaper than a refcount
                // per column would be, and needs no `unsafe`.
                let text = || utf8(bytes).unwrap_or_default();
                match kind {
                    Kind::Bytes => Value::Bytes(bytes),
                    Kind::Text => Value::Text(text()),
                    Kind::Numeric => Value::Numeric(text()),
                    Kind::Uuid => Value::Uuid(text()),
                    Kind::Json => Value::Json(text()),
                    Kind::Other => Value::Other(text()),
                }
            }
        }
    }
}

fn span(start: u32, len: u32) -> Range<usize> {
    start as usize..start as usize + len as usize
}

/// The [`Value`] that the bytes of a [`Cell::Slice`] stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Numeric`]
    Numeric,
    /// [`Value::Text`]
    Text,
    /// [`Value::Bytes`]
    Bytes,
    /// [`Value::Uuid`]
    Uuid,
    /// [`Value::Json`]
    Json,
    /// [`Value::Other`]
    Other,
}

/// The memory in which the bytes of a [`Cell::Slice`] lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the message that the server sent: no copy was made.
    Frame,
    /// In the batch's derived bytes: the text had to be made (a binary numeric, an array as JSON).
    Derived,
}

const _: () = assert!(size_of::<Cell>() == 16, "a row of cells must stay cheap to scan");
