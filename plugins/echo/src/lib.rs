//! A guest for tests: gives back every value that it was given, exactly, as the payload of a point.

#![cfg(target_family = "wasm")]

use pgstream_handler::{Event, Operation, Out, Result, Value, handler, json};

handler!(on_event);

fn on_event(event: &Event, out: &mut Out) -> Result<()> {
    let operation = match event.operation() {
        Operation::Insert => "insert",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Truncate => "truncate",
    };
    let columns: Vec<_> =
        event.columns().iter().map(|column| json!([column.name, column.type_name, column.key])).collect();
    let values = |row: pgstream_handler::Row| row.iter().map(|(_, value)| exact(value)).collect::<Vec<_>>();
    let payload = json!({
        "operation": operation,
        "table": format!("{}.{}", event.schema(), event.table()),
        "columns": columns,
        "row": values(event.row()),
        "old_row": event.old_row().map(values),
        "lsn": event.lsn().to_string(),
        "ordinal": event.ordinal(),
        "commit_time": event.commit_time().to_string(),
        "xid": event.xid(),
        "snapshot": event.snapshot(),
    });
    out.upsert(event.ordinal(), (), payload)
}

/// The case and its content, with floats by their bits and long integers as text: JSON would round them.
fn exact(value: &Value) -> pgstream_handler::Json {
    match value {
        Value::Null => json!(["null"]),
        Value::Unchanged => json!(["unchanged"]),
        Value::Boolean(value) => json!(["bool", value]),
        Value::Int(value) => json!(["int", value.to_string()]),
        Value::Float(value) => json!(["float", value.to_bits().to_string()]),
        Value::Numeric(text) => json!(["numeric", text]),
        Value::Text(text) => json!(["text", text]),
        Value::Bytes(bytes) => json!(["bytes", bytes]),
        Value::Timestamp(micros) => json!(["timestamp", micros.to_string()]),
        Value::Date(days) => json!(["date", days]),
        Value::Time(micros) => json!(["time", micros.to_string()]),
        Value::Uuid(text) => json!(["uuid", text]),
        Value::Json(text) => json!(["json", text]),
        Value::Vector(values) => json!(["vector", values.iter().map(|value| value.to_bits()).collect::<Vec<_>>()]),
        Value::Other(text) => json!(["other", text]),
    }
}
