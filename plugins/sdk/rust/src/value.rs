//! What can be done with a `Value`: looked at, serialized, made from Rust's own types.

use serde::ser::{Serialize, Serializer};
use serde_json::json;

use crate::time::{date, time, timestamp};
use crate::{Value, exact};

impl Value {
    /// The text, if the value is or travels as text: `text`, `numeric`, `uuid`, `json` and every other type.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Numeric(text) | Value::Uuid(text) | Value::Json(text) | Value::Other(text) => {
                Some(text)
            }
            _ => None,
        }
    }

    /// The integer, if the value is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(value) = self { Some(*value) } else { None }
    }

    /// The number, if the value is one; integers and numerics as near as a float gets.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            Value::Numeric(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The truth value, if the value is one.
    pub fn as_boolean(&self) -> Option<bool> {
        if let Value::Boolean(value) = self { Some(*value) } else { None }
    }

    /// The vector, if the value is one.
    pub fn as_vector(&self) -> Option<&[f32]> {
        if let Value::Vector(values) = self { Some(values) } else { None }
    }

    /// Whether the value is null. An unchanged one is not.
    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }

    /// Whether the value was left alone and not sent.
    pub fn is_unchanged(&self) -> bool {
        *self == Value::Unchanged
    }

    /// The value as JSON, to be looked at: integers and floats as numbers; `numeric` as text, because no digit may be lost; times
    /// as RFC 3339; bytes as Postgres' `\x…`; vectors as arrays; infinities and not-a-number as Postgres writes them. Unchanged
    /// is null here: leave it out before.
    ///
    /// Of JSON this is what `serde_json` can hold: numbers as near as an integer of 64 bits or a float gets, and what nests too
    /// deeply is text. A value that is serialized itself, `json!({"meta": event.row()["meta"]})`, or by
    /// [`Row::payload`](crate::Row::payload), arrives in the payload as Postgres wrote it.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null | Value::Unchanged => serde_json::Value::Null,
            Value::Boolean(value) => json!(value),
            Value::Int(value) => json!(value),
            Value::Float(value) if value.is_nan() => json!("NaN"),
            Value::Float(value) if value.is_infinite() => json!(if *value > 0.0 { "Infinity" } else { "-Infinity" }),
            Value::Float(value) => json!(value),
            Value::Numeric(text) | Value::Text(text) | Value::Uuid(text) | Value::Other(text) => json!(text),
            Value::Bytes(bytes) => json!(hex(bytes)),
            Value::Timestamp(micros) => json!(timestamp(*micros)),
            Value::Date(days) => json!(date(*days)),
            Value::Time(micros) => json!(time(*micros)),
            Value::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            Value::Vector(values) => json!(values),
        }
    }

    /// What the value is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Unchanged => "unchanged (not sent, as the UPDATE left it alone)",
            Value::Boolean(_) => "a truth value",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Numeric(_) => "a numeric",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "a timestamp",
            Value::Date(_) => "a date",
            Value::Time(_) => "a time",
            Value::Uuid(_) => "a uuid",
            Value::Json(_) => "JSON",
            Value::Vector(_) => "a vector",
            Value::Other(_) => "of a type that travels as text",
        }
    }
}

/// Writes what [`Value::to_json`] gives, so that `json!({"title": event.row()["title"]})` works, and JSON as Postgres wrote it.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Text(text) => serializer.serialize_str(text),
            Value::Json(text) => exact::serialize(text, serializer),
            other => other.to_json().serialize(serializer),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.push(DIGITS[usize::from(half)] as char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_json_form_that_loses_nothing() {
        let cases = [
            (Value::Null, json!(null)),
            (Value::Boolean(true), json!(true)),
            (Value::Int(i64::MAX), json!(9223372036854775807i64)),
            (Value::Float(1.5), json!(1.5)),
            (Value::Float(f64::NAN), json!("NaN")),
            (Value::Float(f64::NEG_INFINITY), json!("-Infinity")),
            (Value::Numeric("0.10".into()), json!("0.10")),
            (Value::Bytes(vec![0, 255]), json!("\\x00ff")),
            (Value::Json("[1,{\"a\":null}]".into()), json!([1, {"a": null}])),
            (Value::Vector(vec![0.5, -1.0]), json!([0.5, -1.0])),
            (Value::Other("(1,2)".into()), json!("(1,2)")),
        ];
        for (value, expected) in cases {
            assert_eq!(value.to_json(), expected);
            assert_eq!(serde_json::to_value(&value).unwrap(), expected);
        }
    }
}
