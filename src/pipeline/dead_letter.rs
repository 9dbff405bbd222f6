//! `dead_letter`: a refused event as JSON, whole enough to be looked into and replayed.

use serde_json::{Map, Value as Json, json};

use crate::event::{Batch, Event, Operation, Relation, Row, Value};
use crate::sink::DeadLetter;

/// Keeps `event` with the reason why `transform` refused it.
pub(super) fn dead_letter(transform: &str, batch: &Batch, event: &Event, reason: String) -> DeadLetter {
    let relation = batch.relation(event);
    let operation = match event.operation {
        Operation::Insert => "insert",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Truncate => "truncate",
    };
    let json = json!({
        "operation": operation,
        "schema": relation.schema,
        "table": relation.table,
        "row": row(relation, batch.row(event)),
        "old_row": batch.old_row(event).map(|old| row(relation, old)),
        "commit_time": event.commit_time,
        "xid": event.xid,
    });
    DeadLetter { position: event.position, transform: transform.to_owned(), reason, event: json.to_string() }
}

/// Columns by name. What JSON cannot say is an object with the type as its only key, so that nothing is guessed.
fn row(relation: &Relation, row: Row<'_>) -> Json {
    let columns = relation.columns.iter().zip(row.iter());
    Json::Object(columns.map(|(column, value)| (column.name.clone(), cell(value))).collect::<Map<_, _>>())
}

fn cell(value: Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Unchanged => json!({ "unchanged": true }),
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Float(value) if value.is_finite() => value.into(),
        Value::Float(value) => json!({ "float": value.to_string() }),
        Value::Text(text) => text.into(),
        Value::Numeric(text) => json!({ "numeric": text }),
        Value::Uuid(text) => json!({ "uuid": text }),
        Value::Other(text) => json!({ "other": text }),
        Value::Json(text) => json!({ "json": serde_json::from_str::<Json>(text).unwrap_or_else(|_| text.into()) }),
        Value::Bytes(bytes) => json!({ "bytes": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
        Value::Timestamp(micros) => json!({ "timestamp": micros }),
        Value::Date(days) => json!({ "date": days }),
        Value::Time(micros) => json!({ "time": micros }),
        Value::Vector(values) => json!({ "vector": values }),
    }
}
