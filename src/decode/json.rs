//! The elements of arrays as JSON.

use std::io::Write;

use super::codec::Codec;
use crate::event::{Arena, Cell, Value};

/// Appends an element; `cell` was read from `frame` and `arena`.
///
/// An element looks as its value would alone: booleans, whole numbers, floats, and the counts of
/// timestamps, dates and times are JSON numbers and booleans, vectors are arrays, json and jsonb
/// stand as they are, all else is a string: exact decimal text for a numeric, `\x` and hexadecimal
/// for a bytea, a name for what is not finite.
pub(super) fn write(codec: Codec, cell: Cell, frame: &[u8], arena: &Arena, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = match cell.resolve(frame, arena) {
        Value::Null | Value::Unchanged => out.write_all(b"null"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int(value) | Value::Timestamp(value) | Value::Time(value) => write!(out, "{value}"),
        Value::Date(value) => write!(out, "{value}"),
        // Debug of a float is its shortest form and valid JSON; an `f32` widened has digits that it never had.
        Value::Float(value) if value.is_finite() && codec == Codec::Float4 => write!(out, "{:?}", value as f32),
        Value::Float(value) if value.is_finite() => write!(out, "{value:?}"),
        Value::Float(value) if value.is_nan() => out.write_all(b"\"NaN\""),
        Value::Float(value) => out.write_all(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" }),
        Value::Json(value) => out.write_all(value.as_bytes()),
        Value::Bytes(value) => {
            out.extend_from_slice(br#""\\x"#);
            value.iter().for_each(|byte| {
                let _ = write!(out, "{byte:02x}");
            });
            out.write_all(b"\"")
        }
        Value::Vector(value) => {
            out.push(b'[');
            for (index, number) in value.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(out, "{comma}{number:?}");
            }
            out.write_all(b"]")
        }
        Value::Text(value) | Value::Numeric(value) | Value::Uuid(value) | Value::Other(value) => {
            serde_json::to_writer(out, value).map_err(Into::into)
        }
    };
}
