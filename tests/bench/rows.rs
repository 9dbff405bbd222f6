//! Rows of eight columns and about 300 bytes, as batches for handlers.

use std::sync::Arc;

use pgstream_host::event::{Batch, Operation, Value};

use crate::guests::{Change, batch, relation};

pub(crate) const DIMENSION: usize = 384;

/// So many events of one operation; with a vector as the ninth column if there is to be one.
pub(crate) fn rows(count: usize, operation: Operation, vectors: bool) -> Arc<Batch> {
    let mut columns = vec![
        ("id", "int8", true),
        ("title", "text", false),
        ("content", "text", false),
        ("category", "text", false),
        ("author", "text", false),
        ("tags", "text", false),
        ("views", "int4", false),
        ("updated_at", "timestamptz", false),
    ];
    if vectors {
        columns.push(("embedding", "vector", false));
    }
    let table = relation("documents", &columns);
    let content = "How to dry a tent after a night of rain. ".repeat(5);
    let numbers: Vec<f32> = (0..DIMENSION).map(|n| n as f32 / DIMENSION as f32).collect();
    let change = |id: usize| {
        let mut row = vec![
            Value::Int(id as i64),
            Value::Text("Tents and rain"),
            Value::Text(&content),
            Value::Text("camping"),
            Value::Text("Ada"),
            Value::Text("tent,rain"),
            Value::Int(42),
            Value::Timestamp(1_700_000_000_000_000),
        ];
        if vectors {
            row.push(Value::Vector(&numbers));
        }
        Change::new(&table, operation, row)
    };
    batch(&(0..count).map(change).collect::<Vec<_>>())
}
