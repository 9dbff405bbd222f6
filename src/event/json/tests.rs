//! Tests of the JSON form: events read back as they were written, and events written by hand are
//! understood or refused with the place of the mistake.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::event::{
    Batch, BatchBuilder, Cell, Column, EventHead, Kind, Naming, Operation, Place, Relation, ReplicaIdentity, Value,
};
use crate::lsn::{Lsn, Position};

/// A value that owns what it holds.
#[derive(Clone, Debug)]
enum Owned {
    Plain(Cell),
    Slice(Kind, Vec<u8>),
    Vector(Vec<f32>),
}

impl Owned {
    fn push(&self, out: &mut BatchBuilder) {
        let cell = match self {
            Owned::Plain(cell) => *cell,
            Owned::Slice(kind, bytes) => {
                let start = out.derived().len() as u32;
                out.derived().extend_from_slice(bytes);
                Cell::Slice { kind: *kind, place: Place::Derived, start, len: bytes.len() as u32 }
            }
            Owned::Vector(values) => {
                let start = out.floats().len() as u32;
                out.floats().extend_from_slice(values);
                Cell::Vector { start, len: values.len() as u32 }
            }
        };
        out.push_cell(cell);
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,40}", Just("\u{1F9E6}\u{0}\"\\\n\u{2028}e\u{301}".to_owned()), Just(String::new())]
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-12345678901234567890.10".to_owned()),
        Just("1e-400".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        text().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((text(), inner), 0..4).prop_map(|entries| {
                let entries =
                    entries.iter().map(|(key, value)| format!("{}:{value}", serde_json::to_string(key).unwrap()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

/// A type with a value that the decoder makes of it.
fn typed() -> impl Strategy<Value = (&'static str, Owned)> {
    let slice = |kind: Kind| move |text: String| Owned::Slice(kind, text.into_bytes());
    let known = prop_oneof![
        any::<bool>().prop_map(|value| ("bool", Owned::Plain(Cell::Bool(value)))),
        any::<i64>().prop_map(|value| ("int8", Owned::Plain(Cell::Int(value)))),
        prop::num::f64::ANY.prop_map(|value| ("float8", Owned::Plain(Cell::Float(value)))),
        "-?[0-9]{1,40}(\\.[0-9]{1,20})?".prop_map(move |text| ("numeric", slice(Kind::Numeric)(text))),
        text().prop_map(move |text| ("text", slice(Kind::Text)(text))),
        text().prop_map(move |text| ("an enum", slice(Kind::Text)(text))),
        text().prop_map(move |text| ("interval", slice(Kind::Other)(text))),
        json().prop_map(move |text| ("json", slice(Kind::Json)(text))),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| ("bytea", Owned::Slice(Kind::Bytes, bytes))),
        any::<i64>().prop_map(|micros| ("timestamptz", Owned::Plain(Cell::Timestamp(micros)))),
        any::<i32>().prop_map(|days| ("date", Owned::Plain(Cell::Date(days)))),
        (0..=86_400_000_000i64).prop_map(|micros| ("time", Owned::Plain(Cell::Time(micros)))),
        any::<u128>().prop_map(move |bits| ("uuid", slice(Kind::Uuid)(uuid::Uuid::from_u128(bits).to_string()))),
        prop::collection::vec(prop::num::f32::ANY, 0..9).prop_map(|values| ("vector", Owned::Vector(values))),
        text().prop_map(move |text| ("text", slice(Kind::Other)(text))),
    ];
    let nothing = prop_oneof![Just(Cell::Null), Just(Cell::Unchanged)].prop_map(Owned::Plain);
    (known, proptest::option::weighted(0.2, nothing))
        .prop_map(|((name, value), nothing)| (name, nothing.unwrap_or(value)))
}

fn push_row(out: &mut BatchBuilder, values: &[Owned]) -> Range<u32> {
    let start = out.row_start();
    values.iter().for_each(|value| value.push(out));
    start..out.row_start()
}

fn relation(types: &[&str], keys: usize) -> Arc<Relation> {
    let column = |(index, name): (usize, &&str)| Column {
        name: format!("c{index}"),
        type_name: (*name).to_owned(),
        type_oid: 0,
        type_modifier: -1,
        key: index < keys,
    };
    Arc::new(Relation {
        id: 1,
        schema: "we\"ird".into(),
        table: "tä".into(),
        replica_identity: ReplicaIdentity::Default,
        columns: types.iter().enumerate().map(column).collect(),
        naming: Naming::Alone,
    })
}

/// `==` that takes NaN for NaN and tells -0.0 from 0.0.
fn equal(one: Value<'_>, other: Value<'_>) -> bool {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan(),
        (Value::Vector(one), Value::Vector(other)) => {
            let same = |(one, other): (&f32, &f32)| one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan();
            one.len() == other.len() && one.iter().zip(other).all(same)
        }
        _ => one == other,
    }
}

fn read(lines: &[String]) -> Batch {
    let mut reader = Reader::default();
    for line in lines {
        reader.push(&Json::parse(line).unwrap()).unwrap_or_else(|flaw| panic!("{flaw} in {line}"));
    }
    reader.finish()
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        columns in prop::collection::vec(typed(), 1..12),
        (keys, operation, with_old) in (0..3usize, 0..4u8, any::<bool>()),
        (lsn, ordinal, commit_time, xid, snapshot) in
            (1u64.., 0u32..u32::MAX, any::<i64>(), any::<u32>(), any::<bool>()),
    ) {
        let (types, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let relation = relation(&types, keys);
        let operation = [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate][operation as usize];
        let values = if operation == Operation::Truncate { vec![] } else { values };
        let head = EventHead { operation, position: Position { lsn: Lsn(lsn), ordinal }, commit_time, xid, snapshot, replayed: false };
        let mut out = BatchBuilder::default();
        out.push_frame(Bytes::new());
        let row = push_row(&mut out, &values);
        let old_row = (with_old && operation != Operation::Truncate).then(|| push_row(&mut out, &values));
        out.push_event(&relation, head, row, old_row);
        let batch = out.take();
        let written = write(&batch, &batch.events()[0]);
        prop_assert!(!written.contains('\n'));
        serde_json::from_str::<serde_json::Value>(&written).unwrap();

        let again = read(std::slice::from_ref(&written));
        let (one, other) = (&batch.events()[0], &again.events()[0]);
        prop_assert_eq!((one.position, one.commit_time, one.xid, one.snapshot), (other.position, other.commit_time, other.xid, other.snapshot));
        prop_assert_eq!(batch.relation(one), again.relation(other));
        let rows = [(Some(batch.row(one)), Some(again.row(other))), (batch.old_row(one), again.old_row(other))];
        for (one, other) in rows {
            prop_assert_eq!(one.map(|row| row.len()), other.map(|row| row.len()));
            for (one, other) in one.iter().flat_map(|row| row.iter()).zip(other.iter().flat_map(|row| row.iter())) {
                prop_assert!(equal(one, other), "{:?} became {:?} through {}", one, other, written);
            }
        }
        prop_assert_eq!(write(&again, other), written);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}", json in json()) {
        let _ = Json::parse(&text);
        let json = Json::parse(&json).unwrap();
        let _ = Reader::default().push(&json);
        let event = format!(r#"{{"operation":"insert","table":"t","row":{{"a":{json}}},"types":{{"a":"vector"}}}}"#);
        let _ = Reader::default().push(&Json::parse(&event).unwrap());
    }
}

/// The values of the one event in `line`, as their debug text.
fn values(line: &str) -> Result<Vec<String>, String> {
    let mut reader = Reader::default();
    reader.push(&Json::parse(line).unwrap()).map_err(|flaw| flaw.to_string())?;
    let batch = reader.finish();
    Ok(batch.row(&batch.events()[0]).iter().map(|value| format!("{value:?}")).collect())
}

fn insert(type_name: &str, value: &str) -> String {
    format!(r#"{{"operation":"insert","table":"t","types":{{"c":"{type_name}"}},"row":{{"c":{value}}}}}"#)
}

#[test]
fn a_column_s_type_says_what_a_plain_value_is() {
    for (type_name, value, expected) in [
        ("int8", "9223372036854775807", "Int(9223372036854775807)"),
        ("oid", "4294967295", "Int(4294967295)"),
        ("float8", "1", "Float(1.0)"),
        ("float8", "\"NaN\"", "Float(NaN)"),
        ("numeric", "12345678901234567890.10", "Numeric(\"12345678901234567890.10\")"),
        ("bytea", "\"\\\\x00FF\"", "Bytes([0, 255])"),
        ("timestamptz", "\"2026-01-01T00:00:00.5+01:00\"", "Timestamp(1767222000500000)"),
        ("timestamp", "\"2026-01-01 00:00:00\"", "Timestamp(1767225600000000)"),
        ("timestamp", "\"-infinity\"", "Timestamp(-9223372036854775808)"),
        ("date", "\"1969-12-31\"", "Date(-1)"),
        ("time", "\"24:00:00\"", "Time(86400000000)"),
        ("uuid", "\"00000000-0000-0000-0000-00000000000A\"", "Uuid(\"00000000-0000-0000-0000-00000000000a\")"),
        ("jsonb", "{\"b\":[1.10,2]}", "Json(\"{\\\"b\\\": [1.10, 2]}\")"),
        ("json", "{\"b\":[1.10,2]}", "Json(\"{\\\"b\\\":[1.10,2]}\")"),
        ("int4[]", "[1,null]", "Json(\"[1,null]\")"),
        ("vector", "[1,0.5]", "Vector([1.0, 0.5])"),
        ("interval", "\"1 day\"", "Other(\"1 day\")"),
        ("mood", "\"fine\"", "Text(\"fine\")"),
        ("text", "{\"unchanged\":true}", "Unchanged"),
    ] {
        assert_eq!(values(&insert(type_name, value)), Ok(vec![expected.to_owned()]), "{type_name} {value}");
    }
}

#[test]
fn a_mistake_is_told_with_its_place_and_without_the_value() {
    for (line, flaw) in [
        (insert("int8", "9223372036854775808"), "`row.c`: `int8` ends before this number"),
        (insert("int2", "40000"), "`row.c`: `int2` ends before this number"),
        (insert("int8", "\"7\""), "`row.c`: the column is `int8`: expected a whole number, found text"),
        (insert("text", "7"), "`row.c`: the column is `text`: expected text, found a number"),
        (insert("uuid", "\"hunter2\""), "`row.c`: that is no uuid"),
        (insert("vector", "[1,true]"), "`row.c[1]`: expected a number"),
        (insert("float8", "1e999"), "`row.c`: the number is too large for a float"),
        (insert("text", "{\"unchanged\":1}"), "`row.c.unchanged`: expected `true`, found a number"),
        (insert("text", "1").replace("\"c\":1", "\"d\":1"), "`row.d`: `public.t` has no column `d`, it has `c`"),
        (
            insert("text", "null").replace("insert", "upsert"),
            "`operation`: expected one of insert, update, delete, truncate",
        ),
        (insert("text", "null").replace("insert", "truncate"), "`row`: a truncate has no row"),
        (insert("text", "null").replace("\"table\":\"t\",", ""), "`table`: the event names no table"),
        (
            insert("text", "null").replace("\"types\"", "\"key\":[\"id\"],\"types\""),
            "`key[0]`: the key names a column that there is not, there are `c`",
        ),
        (
            insert("text", "null").replace("\"types\"", "\"lsn\":7,\"types\""),
            "`lsn`: expected a log sequence number such as `16/B374D848`, found a number",
        ),
        (
            insert("text", "null").replace("\"types\"", "\"xid\":4294967296,\"types\""),
            "`xid`: expected a whole number from 0 to 4294967295",
        ),
        (
            insert("text", "null").replace("\"types\"", "\"tyeps\":1,\"types\""),
            "`tyeps`: an event has no `tyeps`, it has operation, schema, table, key, types, row, old_row, commit_time, xid, lsn, ordinal, snapshot",
        ),
        (
            r#"{"operation":"update","table":"t","types":{"a":"text","b":"text"},"row":{"a":null}}"#.into(),
            "`row`: the update does not say what becomes of column `b`",
        ),
    ] {
        assert_eq!(values(&line), Err(flaw.to_owned()), "{line}");
    }
}

#[test]
fn json_is_read_again_however_deep_it_is() {
    let relation = relation(&["jsonb"], 1);
    for depth in 0..300 {
        let json = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let mut out = BatchBuilder::default();
        out.push_frame(Bytes::new());
        let row = push_row(&mut out, &[Owned::Slice(Kind::Json, json.clone().into_bytes())]);
        let position = Position { lsn: Lsn(1), ordinal: 0 };
        let head = EventHead {
            operation: Operation::Insert,
            position,
            commit_time: 0,
            xid: 1,
            snapshot: false,
            replayed: false,
        };
        out.push_event(&relation, head, row.clone(), Some(row));
        let batch = out.take();
        let written = write(&batch, &batch.events()[0]);
        assert_eq!(written.contains("json_text"), depth > 64, "{written}");
        let again = read(std::slice::from_ref(&written));
        let event = &again.events()[0];
        assert_eq!(again.row(event).get(0), Some(Value::Json(&json)));
        assert_eq!(again.old_row(event).unwrap().get(0), Some(Value::Json(&json)));
    }
}

#[test]
fn a_dead_letter_of_before_is_still_read() {
    let old = r#"{"operation":"delete","schema":"public","table":"documents","row":{"id":7,"n":{"numeric":"1.50"},"at":{"timestamp":5},"x":{"float":"inf"}},"old_row":null,"commit_time":-1,"xid":4294967295}"#;
    assert_eq!(
        values(old),
        Ok(["Int(7)", "Numeric(\"1.50\")", "Timestamp(5)", "Float(inf)"].map(str::to_owned).to_vec())
    );
}

#[test]
fn events_without_a_position_follow_one_another_and_one_that_goes_back_is_refused() {
    let plain = insert("text", "\"a\"");
    let batch = read(&[plain.clone(), plain.clone()]);
    assert!(batch.events()[0].position < batch.events()[1].position);
    assert_eq!(batch.relations().len(), 1);
    let placed = |lsn: &str| Json::parse(&plain.replace("\"types\"", &format!("\"lsn\":\"{lsn}\",\"types\""))).unwrap();
    let mut reader = Reader::default();
    reader.push(&placed("0/20")).unwrap();
    reader.push(&placed("0/20")).unwrap();
    let flaw = reader.push(&placed("0/10")).unwrap_err();
    assert_eq!(flaw.to_string(), "`lsn`: the event does not stand behind the one before it");
    assert_eq!(reader.len(), 2, "what is refused leaves nothing behind");
}

#[test]
fn json_is_read_by_its_grammar_and_numbers_are_compared_by_value() {
    for text in ["{\"a\":[1,-0.5e+10,true,null,\"\\ud83e\\udde6\"]}", " [ ] ", "{\"a\":1,\"a\":2}"] {
        let json = Json::parse(text).unwrap();
        assert_eq!(Json::parse(&json.to_string()), Ok(json));
    }
    for text in ["", "[1,]", "{\"a\"}", "01", "1.", "-", "tru", "\"\\ud800\"", "\"a", "[1] 2", "+1", "1x", "\"\u{1}\""]
    {
        assert!(Json::parse(text).is_err(), "{text}");
    }
    assert!(Json::parse(&"[".repeat(100_000)).is_err());
    assert_eq!(Json::parse("[1,\n  x]").unwrap_err().to_string(), "expected a value at line 2 column 3");
    let same = |one: &str, other: &str| Json::parse(one).unwrap().same(&Json::parse(other).unwrap());
    assert!(
        same("1", "1.0") && same("1e2", "100") && same("-0", "0") && same("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}")
    );
    assert!(same("0.1", "0.1000000000000000055"), "the same double");
    assert!(!same("9007199254740993", "9007199254740992"), "no double is asked about integers");
    assert!(!same("1", "\"1\"") && !same("[1]", "[1,1]") && !same("{\"a\":1}", "{\"a\":1,\"b\":1}"));
}
