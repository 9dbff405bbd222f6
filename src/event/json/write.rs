//! An event as one line of JSON.

use std::fmt::Write;

use super::tree::{Json, quote};
use crate::event::{Batch, Column, Event, Operation, Relation, Row, Value};

/// The JSON form of `event`, on one line, without a line break at its end.
pub fn write(batch: &Batch, event: &Event) -> String {
    let relation = batch.relation(event);
    let mut out = String::with_capacity(256);
    let mut texts = |key: &str, text: &str| {
        out.push_str(key);
        quote(&mut out, text);
    };
    texts("{\"operation\":", operation(event.operation));
    texts(",\"schema\":", &relation.schema);
    texts(",\"table\":", &relation.table);
    let key = relation.columns.iter().filter(|column| column.key);
    list(&mut out, ",\"key\":[", key, ']', |out, column| quote(out, &column.name));
    list(&mut out, ",\"types\":{", &relation.columns, '}', |out, column| {
        quote(out, &column.name);
        out.push(':');
        quote(out, &column.type_name);
    });
    out.push_str(",\"row\":");
    row(&mut out, relation, batch.row(event));
    out.push_str(",\"old_row\":");
    match batch.old_row(event) {
        Some(old) => row(&mut out, relation, old),
        None => out.push_str("null"),
    }
    let Event { commit_time, xid, position, snapshot, .. } = event;
    out.push_str(&format!(
        ",\"commit_time\":{commit_time},\"xid\":{xid},\"lsn\":\"{}\",\"ordinal\":{}",
        position.lsn, position.ordinal
    ));
    // Rare, and so only said where it is so.
    out.push_str(if *snapshot { ",\"snapshot\":true}" } else { "}" });
    out
}

/// The key of the row that `event` is about, as a JSON object on one line; empty for a truncate.
pub fn key(batch: &Batch, event: &Event) -> String {
    let (mut out, relation) = (String::new(), batch.relation(event));
    let cells = relation.columns.iter().zip(batch.row(event).iter()).filter(|(column, _)| column.key);
    list(&mut out, "{", cells, '}', entry);
    out
}

/// The name of an operation.
pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Insert => "insert",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Truncate => "truncate",
    }
}

fn row(out: &mut String, relation: &Relation, row: Row<'_>) {
    list(out, "{", relation.columns.iter().zip(row.iter()), '}', entry);
}

fn entry(out: &mut String, (column, cell): (&Column, Value<'_>)) {
    quote(out, &column.name);
    out.push(':');
    value(out, cell);
}

/// Writes a value. A value of a kind that JSON lacks becomes an object with the kind as its only
/// key, so that nothing is guessed.
fn value(out: &mut String, value: Value<'_>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Unchanged => out.push_str("{\"unchanged\":true}"),
        Value::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) if value.is_finite() => out.push_str(&float(value)),
        Value::Float(value) => tagged(out, "float", &name(value)),
        Value::Text(text) => quote(out, text),
        Value::Numeric(text) => tagged(out, "numeric", text),
        Value::Uuid(text) => tagged(out, "uuid", text),
        Value::Other(text) => tagged(out, "other", text),
        Value::Json(text) => match Json::parse_value(text) {
            Ok(json) => out.push_str(&format!("{{\"json\":{json}}}")),
            // Not for our parser, which would refuse the whole event for deep nesting in it: as it stands.
            Err(_) => tagged(out, "json_text", text),
        },
        Value::Bytes(bytes) => {
            out.push_str("{\"bytes\":\"");
            for byte in bytes {
                let _ = write!(out, "{byte:02x}"); // a string cannot fail to be written
            }
            out.push_str("\"}");
        }
        Value::Timestamp(micros) => out.push_str(&format!("{{\"timestamp\":{micros}}}")),
        Value::Date(days) => out.push_str(&format!("{{\"date\":{days}}}")),
        Value::Time(micros) => out.push_str(&format!("{{\"time\":{micros}}}")),
        Value::Vector(values) => {
            out.push_str("{\"vector\":");
            list(out, "[", values, ']', |out, value| match value.is_finite() {
                // The shortest text that is this number again as a float of 32 bits.
                true => out.push_str(&serde_json::to_string(value).unwrap_or_else(|_| value.to_string())),
                false => quote(out, &name(f64::from(*value))),
            });
            out.push('}');
        }
    }
}

/// The shortest text that is this number again; always with a fraction or an exponent, so that it
/// is no integer.
fn float(value: f64) -> String {
    serde_json::to_string(&value).unwrap_or_else(|_| format!("{value:?}"))
}

fn name(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "inf"
    } else {
        "-inf"
    }
    .to_owned()
}

fn tagged(out: &mut String, kind: &str, text: &str) {
    out.push_str(&format!("{{\"{kind}\":"));
    quote(out, text);
    out.push('}');
}

fn list<T>(
    out: &mut String,
    open: &str,
    items: impl IntoIterator<Item = T>,
    close: char,
    each: impl Fn(&mut String, T),
) {
    out.push_str(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(close);
}
