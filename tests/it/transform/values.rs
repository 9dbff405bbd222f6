//! What goes in comes back: every kind of value, through a real guest.

use std::sync::Arc;

use pgstream_host::command::{Action, Command};
use pgstream_host::event::{Batch, Column, Operation, Row, Value};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};

use crate::guests::{Change, Embedders, batch, guest, load, relation, settings, things};

/// A value that owns what it holds.
#[derive(Clone, Debug)]
enum Owned {
    Plain(Value<'static>),
    Text(fn(&'static str) -> Value<'static>, String),
    Bytes(Vec<u8>),
    Vector(Vec<f32>),
}

fn value() -> impl Strategy<Value = Owned> {
    let plain = prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        // The bits of a NaN may change on the way, which is all that is allowed to.
        any::<f64>().prop_map(|value| Value::Float(if value.is_nan() { f64::NAN } else { value })),
        any::<i64>().prop_map(Value::Timestamp),
        any::<i32>().prop_map(Value::Date),
        any::<i64>().prop_map(Value::Time),
    ];
    let cases: [fn(&'static str) -> Value<'static>; 5] =
        [Value::Numeric, Value::Text, Value::Uuid, Value::Json, Value::Other];
    prop_oneof![
        plain.prop_map(Owned::Plain),
        (prop::sample::select(cases.to_vec()), any::<String>()).prop_map(|(case, text)| Owned::Text(case, text)),
        any::<Vec<u8>>().prop_map(Owned::Bytes),
        prop::collection::vec(any::<f32>().prop_map(|value| if value.is_nan() { 0.0 } else { value }), 0..20)
            .prop_map(Owned::Vector),
    ]
}

/// Leaks, for the length of a test.
fn leaked(value: Owned) -> Value<'static> {
    match value {
        Owned::Plain(value) => value,
        Owned::Text(case, text) => case(String::leak(text)),
        Owned::Bytes(bytes) => Value::Bytes(Vec::leak(bytes)),
        Owned::Vector(values) => Value::Vector(Vec::leak(values)),
    }
}

#[test]
fn every_value_survives_the_way_through_a_guest() {
    survive(None);
}

#[test]
fn only_the_key_and_the_columns_that_were_asked_for_reach_the_guest() {
    survive(Some(&["d", "ä", "of another table"]));
}

fn survive(chosen: Option<&[&str]>) {
    let Some(component) = guest("echo") else { return };
    let mut settings = settings(&component);
    settings.columns = chosen.map(|names| names.iter().copied().map(Into::into).collect());
    let echo = load(&settings, Embedders::new()).unwrap();
    let crosses = |column: &Column| column.key || chosen.is_none_or(|names| names.contains(&&*column.name));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = prop::collection::vec((0usize..4, prop::collection::vec(value(), 5), any::<bool>()), 0..20);
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let relations = [
        things(),
        relation(
            "wide",
            &[("a", "int8", true), ("b", "text", true), ("c", "x", false), ("d", "y", false), ("ä", "z", false)],
        ),
    ];
    let result = runner.run(&rows, |rows| {
        let changes: Vec<Change<'_>> = rows
            .into_iter()
            .map(|(operation, values, wide)| {
                let operations = [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];
                let relation = &relations[usize::from(wide)];
                let values: Vec<_> = values.into_iter().map(leaked).collect();
                let row = match operation {
                    3 => Vec::new(),
                    _ => values.iter().take(relation.columns.len()).copied().collect(),
                };
                let old_row =
                    (operation == 1).then(|| values.iter().rev().take(relation.columns.len()).copied().collect());
                Change { relation: Arc::clone(relation), operation: operations[operation], row, old_row }
            })
            .collect();
        let batch = batch(&changes);
        let output = runtime.block_on(echo.apply(Arc::clone(&batch))).unwrap();
        prop_assert_eq!(output.commands.len(), batch.events().len());
        for (index, command) in output.commands.iter().enumerate() {
            prop_assert_eq!(command.position, batch.events()[index].position);
            prop_assert_eq!(echoed(command), expected(&batch, index, crosses));
        }
        Ok(())
    });
    result.unwrap();
}

fn echoed(command: &Command) -> Json {
    let Action::Upsert(point) = &command.action else { panic!("no upsert") };
    serde_json::from_str(&point.payload).unwrap()
}

fn expected(batch: &Batch, index: usize, crosses: impl Fn(&Column) -> bool) -> Json {
    let event = &batch.events()[index];
    let relation = batch.relation(event);
    let columns = relation.columns.iter().filter(|column| crosses(column));
    let columns: Vec<_> = columns.map(|column| json!([column.name, column.type_name, column.key])).collect();
    let values = |row: Row<'_>| {
        let kept = row.iter().zip(&relation.columns).filter(|(_, column)| crosses(column));
        kept.map(|(value, _)| exact(value)).collect::<Vec<_>>()
    };
    json!({
        "operation": format!("{:?}", event.operation).to_lowercase(),
        "table": relation.to_string(),
        "columns": columns,
        "row": values(batch.row(event)),
        "old_row": batch.old_row(event).map(values),
        "lsn": event.position.lsn.0.to_string(),
        "ordinal": event.position.ordinal,
        "commit_time": event.commit_time.to_string(),
        "xid": event.xid,
        "snapshot": false,
    })
}

fn exact(value: Value<'_>) -> Json {
    match value {
        Value::Null => json!(["null"]),
        Value::Unchanged => json!(["unchanged"]),
        Value::Bool(value) => json!(["bool", value]),
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

/// Prints what an event of eight columns costs in a batch of a thousand, for a guest that does nothing with it.
#[test]
#[ignore = "a measurement"]
fn cost_of_an_event() {
    let component = guest("evil").unwrap();
    let evil = load(&settings(&component), Embedders::new()).unwrap();
    let columns = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (name, "text", false));
    let relation = relation("wide", &columns);
    let text = Value::Text("about thirty-five bytes of plain text");
    let row = vec![Value::Int(1), Value::Text("nothing"), text, text, text, text, Value::Int(2), Value::Timestamp(3)];
    let changes: Vec<_> = (0..1000).map(|_| Change::new(&relation, Operation::Insert, row.clone())).collect();
    let batch = batch(&changes);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..3 {
        let began = std::time::Instant::now();
        for _ in 0..200 {
            runtime.block_on(evil.apply(Arc::clone(&batch))).unwrap();
        }
        eprintln!("{:.2} µs per event", began.elapsed().as_secs_f64() * 1e6 / 200_000.0);
    }
}
