//! The oracle: for every type of the server, what a handler sees, copied or streamed, as text or binary, is what the server
//! says of the same row.

mod cases;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use pgstream_host::command::Action;
use pgstream_host::demo::Cluster;
use pgstream_host::source::Source;
use pgstream_host::source::postgres::PostgresSource;
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};
use pgstream_host::transform::Transform;
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::guests::{Embedders, guest, load, settings};
use crate::source::{config, pipeline};
use crate::support::program::PATIENCE;
use crate::support::{Database, connect, postgres, postgres15, postgres16};
use Kind::*;
use cases::{CORE, Case, EXTENSIONS, OWN, OWN_TYPES, WITHOUT_VALUES};

/// Which case of the WIT's `value` a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Float,
    Numeric,
    Text,
    Bytes,
    Timestamp,
    Date,
    Time,
    Uuid,
    Json,
    /// A domain over an array: a JSON array, too. Arrays of such are left out.
    List,
    Vector,
    Other,
}

/// By id, the values in the form of [`plain`].
type Rows = BTreeMap<i64, Vec<Option<String>>>;

/// Settings under which the oracle's answers do not depend on anybody's taste.
const PLAIN: &str =
    "SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; SET extra_float_digits = 3;
    SET bytea_output = hex; SET standard_conforming_strings = on";

/// Settings of a database that change the text of nearly everything.
const HOSTILE: &[(&str, &str)] = &[
    ("DateStyle", "'SQL, DMY'"),
    ("IntervalStyle", "'sql_standard'"),
    ("TimeZone", "'Asia/Kathmandu'"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "'escape'"),
    ("standard_conforming_strings", "off"),
    ("client_encoding", "'LATIN1'"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_sees_what_postgres_18_says() {
    a_handler_sees_what_the_server_says(postgres()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_sees_what_postgres_16_says() {
    a_handler_sees_what_the_server_says(postgres16()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_sees_what_postgres_15_says() {
    let Some(cluster) = postgres15() else { return };
    a_handler_sees_what_the_server_says(cluster).await;
}

async fn a_handler_sees_what_the_server_says(cluster: &Cluster) {
    let Some(component) = guest("echo") else { return };
    let echo = load(&settings(&component), Embedders::new()).unwrap();
    let database = Database::create(cluster).await;
    let columns = columns(&database.client).await;
    every_type_is_among(&columns, &database.client).await;
    for (name, value) in HOSTILE {
        let sql = format!("ALTER DATABASE {} SET {name} = {value}", database.name);
        database.client.batch_execute(&sql).await.unwrap();
    }
    let oracle = connect(&database.url).await;
    oracle.batch_execute(PLAIN).await.unwrap();
    let readable: Vec<&Column> = columns.iter().filter(|column| column.case.kind != Kind::Other).collect();
    for (table, columns, format) in
        [("all_types", columns.iter().collect(), "text"), ("binary_types", readable, "binary")]
    {
        fill(&oracle, table, &columns).await;
        let expected = expected(&oracle, table, &columns).await;
        let config = Config {
            snapshot: Snapshot::Initial,
            slot: Some(format!("{}_{format}", database.name)),
            publication: Some(format!("{format}_types")),
            ..config(&database.url, &[table])
        };
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        let copied = see(&mut source, &echo, expected.len()).await;
        assert!(copied.iter().all(|event| event.copied));
        check(&format!("{table}, copied"), &columns, &expected, &copied);

        let again = format!("UPDATE {table} SET id = id; DELETE FROM {table}");
        // The rows as they are, before and after a change.
        oracle.batch_execute(&again).await.unwrap();
        let streamed = see(&mut source, &echo, 2 * expected.len()).await;
        let (updated, deleted) = streamed.split_at(expected.len());
        assert!(updated.iter().all(|event| event.operation == "update" && event.old.is_some() && !event.copied));
        assert!(deleted.iter().all(|event| event.operation == "delete"));
        check(&format!("{table}, streamed as {format}"), &columns, &expected, updated);
        check(&format!("{table}, deleted, as {format}"), &columns, &expected, deleted);
        let sql = format!(
            "SELECT query FROM pg_stat_activity JOIN pg_replication_slots ON pid = active_pid WHERE slot_name = '{}_{format}'",
            database.name
        );
        let command: String = oracle.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(command.contains("binary 'true'"), format == "binary", "{command}");
        Box::new(source).close().await.unwrap();
    }
}

/// A case on this server, as a column and as a column of its array.
struct Column {
    case: &'static Case,
    oid: u32,
    number: usize,
}

/// What this server has of the cases.
async fn columns(client: &Client) -> Vec<Column> {
    client.batch_execute(OWN_TYPES).await.unwrap();
    let mut cases: Vec<&'static Case> = CORE.iter().chain(OWN).collect();
    for (extension, own) in EXTENSIONS {
        let there = client.query("SELECT FROM pg_available_extensions WHERE name = $1", &[extension]).await.unwrap();
        if !there.is_empty() {
            client.batch_execute(&format!("CREATE EXTENSION {extension}")).await.unwrap();
            cases.extend(own.iter());
        }
    }
    let mut columns = Vec::new();
    for (number, case) in cases.into_iter().enumerate() {
        let probe = format!("SELECT '{}'::regtype::oid, '{}'::{}", case.sql, escaped(case.values[0]), case.sql);
        match client.simple_query(&probe).await {
            Ok(_) => {}
            // A server that was built without libxml.
            Err(error) if case.sql == "xml" && error.code().unwrap().code() == "0A000" => continue,
            Err(error) => panic!("{}: {error:?}", case.sql),
        }
        let oid = client.query_one(&format!("SELECT '{}'::regtype::oid", case.sql), &[]).await.unwrap().get(0);
        columns.push(Column { case, oid, number });
    }
    columns
}

/// Fails when the server has a type that is not among the cases, so that none is forgotten.
async fn every_type_is_among(columns: &[Column], client: &Client) {
    let known: Vec<u32> = columns.iter().map(|column| column.oid).collect();
    let types = client
        .query(
            "SELECT typname::text FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
             WHERE typtype IN ('b', 'r', 'm', 'e', 'd') AND nspname = 'pg_catalog' AND NOT t.oid = ANY ($1)
                 AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) ORDER BY 1",
            &[&known],
        )
        .await
        .unwrap();
    for row in types {
        let name: &str = row.get(0);
        let refused = client.simple_query(&format!("SELECT ''::pg_catalog.{name}")).await.unwrap_err();
        let without = WITHOUT_VALUES.contains(&name) || name == "xml";
        assert!(without && refused.code().unwrap().code() == "0A000", "`{name}` is not in the oracle: {refused:?}");
    }
}

/// Makes a table whose rows hold each value of each case, arrays of them, and nulls.
async fn fill(client: &Client, table: &str, columns: &[&Column]) {
    let mut sql = format!("CREATE TABLE {table} (id int4 PRIMARY KEY");
    for Column { case, number, .. } in columns {
        let element = if case.kind == List { "int4" } else { case.sql };
        let _ = write!(sql, ", c{number} {}, a{number} {element}[]", case.sql);
    }
    let _ = write!(sql, "); ALTER TABLE {table} REPLICA IDENTITY FULL");
    client.batch_execute(&sql).await.unwrap();
    // One row more than the longest list, which is null throughout.
    let rows = columns.iter().map(|column| column.case.values.len()).max().unwrap() + 1;
    for row in 0..rows {
        let (mut names, mut values) = ("id".to_owned(), row.to_string());
        for Column { case: Case { sql, kind, values: given }, number, .. } in columns {
            let literal = |value: &str| format!("'{}'", escaped(value));
            let _ = write!(names, ", c{number}, a{number}");
            let value = given.get(row).map_or("NULL".to_owned(), |value| literal(value));
            let list = given.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ");
            let (first, last) = (literal(given[0]), literal(given[given.len() - 1]));
            let array = match row {
                _ if *kind == List => "NULL".to_owned(),
                0 => format!("ARRAY[{list}, NULL]::{sql}[]"),
                1 => format!(
                    "format('[0:1][-1:0]=%s', ARRAY[ARRAY[{first}, {last}], ARRAY[NULL, {first}]]::{sql}[])::{sql}[]"
                ),
                2 => "'{}'".to_owned(),
                _ => "NULL".to_owned(),
            };
            let _ = write!(values, ", {value}, {array}");
        }
        client.batch_execute(&format!("INSERT INTO {table} ({names}) VALUES ({values})")).await.unwrap();
    }
}

fn escaped(value: &str) -> String {
    value.replace('\'', "''")
}

/// What the server says of each row, in the form of [`plain`]; None for NULL.
async fn expected(client: &Client, table: &str, columns: &[&Column]) -> Rows {
    let mut sql = "SELECT id::int8".to_owned();
    for Column { case, number, .. } in columns {
        let (c, a) = (format!("c{number}"), format!("a{number}"));
        let alone = case.kind.alone(&c);
        let element = format!("CASE num_nulls(e) WHEN 0 THEN {} ELSE 'null' END", case.kind.element("e"));
        // In a FROM a composite would fall apart into its columns.
        let unnested = format!("FROM (SELECT e, row_number() OVER () AS o FROM (SELECT unnest({a}) AS e) es) u");
        let _ = write!(
            sql,
            ", CASE num_nulls({c}) WHEN 0 THEN {alone} END, CASE
             WHEN num_nulls({a}) = 1 THEN NULL
             WHEN array_ndims({a}) = 2
                 THEN (SELECT format('json [[%s,%s],[%s,%s]]', VARIADIC array_agg({element} ORDER BY o)) {unnested})
             ELSE (SELECT 'json [' || coalesce(string_agg({element}, ',' ORDER BY o), '') || ']' {unnested}) END"
        );
    }
    let _ = write!(sql, " FROM public.{table} ORDER BY id");
    // As every session of the host: names in values, such as those of regtype, carry their schema.
    client.batch_execute("SET search_path = pg_catalog, pg_temp").await.unwrap();
    let rows = client.query(&sql, &[]).await.unwrap();
    client.batch_execute("RESET search_path").await.unwrap();
    rows.iter().map(|row| (row.get(0), (1..row.len()).map(|column| row.get(column)).collect())).collect()
}

impl Kind {
    /// SQL for a value that is not null: the case's name, and the content.
    fn alone(self, e: &str) -> String {
        let text = |case: &str| format!("'{case} ' || format('%s', {e})");
        match self {
            Bool => format!("'bool ' || {e}::text"),
            Int => text("int"),
            Float => format!("'float ' || encode(float8send({e}::float8), 'hex')"),
            Numeric => text("numeric"),
            Text => text("text"),
            Bytes => format!("'bytes ' || encode({e}, 'hex')"),
            Timestamp => format!(
                "CASE WHEN {} THEN 'other ' || {e}::text ELSE 'timestamp ' || {} END",
                beyond(e),
                counted(e, i64::MIN, i64::MAX, &micros(e))
            ),
            Date => format!("'date ' || {}", counted(e, i32::MIN.into(), i32::MAX.into(), &days(e))),
            Time => format!("'time ' || {}", micros(e)),
            Uuid => text("uuid"),
            Json => text("json"),
            List => format!("'json ' || to_json({e})::text"),
            // Behind dimension and flags stand the numbers.
            Vector => format!("'vector ' || encode(substring(public.vector_send({e}::public.vector) from 5), 'hex')"),
            Other => text("other"),
        }
    }

    /// SQL for an element that is not null, as JSON.
    fn element(self, e: &str) -> String {
        match self {
            Bool | Int | Json | Vector => format!("{e}::text"),
            Float => format!("to_json({e})::text"),
            Bytes => format!("to_json('\\x' || encode({e}, 'hex'))::text"),
            Timestamp => format!(
                "CASE WHEN {} THEN to_json({e}::text)::text ELSE {} END",
                beyond(e),
                counted(e, i64::MIN, i64::MAX, &micros(e))
            ),
            Date => counted(e, i32::MIN.into(), i32::MAX.into(), &days(e)),
            Time => micros(e),
            Numeric | Text | Uuid | List | Other => format!("to_json(format('%s', {e}))::text"),
        }
    }
}

/// Whether a timestamp's count does not fit 64 bits beside that of infinity.
fn beyond(e: &str) -> String {
    format!("isfinite({e}) AND {e} >= '294247-01-10 04:00:54.775807+00'")
}

fn micros(e: &str) -> String {
    format!("trunc(extract(epoch FROM {e}) * 1000000)::text")
}

fn days(e: &str) -> String {
    format!("({e} - date '1970-01-01')::text")
}

/// The infinities are the ends of the range.
fn counted(e: &str, first: i64, last: i64, count: &str) -> String {
    format!("CASE {e}::text WHEN 'infinity' THEN '{last}' WHEN '-infinity' THEN '{first}' ELSE {count} END")
}

/// An event as the guest `echo` tells it.
struct Seen {
    operation: String,
    copied: bool,
    row: Vec<Option<String>>,
    old: Option<Vec<Option<String>>>,
}

/// Reads so many events and has the handler say what it sees.
async fn see(source: &mut PostgresSource, echo: &Transform, events: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while seen.len() < events {
        let batch = tokio::time::timeout(PATIENCE, source.next()).await.expect("a batch in time").unwrap().unwrap();
        let end = batch.ends_at();
        if !batch.events().is_empty() {
            let output = echo.apply(Arc::new(batch)).await.unwrap();
            seen.extend(output.commands.iter().map(|command| match &command.action {
                Action::Upsert(point) => Seen::read(&serde_json::from_str(&point.payload).unwrap()),
                other => panic!("{other:?}"),
            }));
        }
        if let Some(end) = end {
            source.confirm(end);
        }
    }
    seen
}

impl Seen {
    fn read(payload: &Json) -> Self {
        let row = |values: &Json| values.as_array().map(|values| values.iter().map(plain).collect::<Vec<_>>());
        Self {
            operation: payload["operation"].as_str().unwrap().to_owned(),
            copied: payload["snapshot"].as_bool().unwrap(),
            row: row(&payload["row"]).unwrap(),
            old: row(&payload["old_row"]),
        }
    }
}

/// A value that the guest saw: its case and its content, as [`Kind::alone`] writes them. None for null.
fn plain(value: &Json) -> Option<String> {
    let (kind, content) = (value[0].as_str().unwrap(), &value[1]);
    let list = |width| -> String {
        content.as_array().unwrap().iter().map(|number| format!("{:0width$x}", number.as_u64().unwrap())).collect()
    };
    Some(match (kind, content) {
        ("null", _) => return None,
        ("unchanged", _) => "unchanged".to_owned(),
        ("float", bits) => format!("float {:016x}", bits.as_str().unwrap().parse::<u64>().unwrap()),
        ("bytes", _) => format!("bytes {}", list(2)),
        ("vector", _) => format!("vector {}", list(8)),
        (kind, Json::String(text)) => format!("{kind} {text}"),
        (kind, number) => format!("{kind} {number}"),
    })
}

fn check(what: &str, columns: &[&Column], expected: &Rows, seen: &[Seen]) {
    assert_eq!(seen.len(), expected.len(), "{what}");
    let mut wrong = String::new();
    for event in seen {
        for row in [Some(&event.row), event.old.as_ref()].into_iter().flatten() {
            let id: i64 = row[0].as_deref().and_then(|id| id.strip_prefix("int ")).unwrap().parse().unwrap();
            let expected = &expected[&id];
            assert_eq!(row.len(), expected.len() + 1);
            for (index, (found, expected)) in row[1..].iter().zip(expected).enumerate() {
                let case = columns[index / 2].case;
                let (array, brackets) = if index % 2 == 1 { (true, "[]") } else { (false, "") };
                if found != expected && !(array && same_json(found.as_deref(), expected.as_deref(), case.kind)) {
                    let _ = writeln!(wrong, "{}{brackets}: found {found:?}, Postgres says {expected:?}", case.sql);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{wrong}");
}

/// Whether two arrays are the same up to spaces, escapes, and how a float is written.
fn same_json(found: Option<&str>, expected: Option<&str>, kind: Kind) -> bool {
    let read = |text: &str| serde_json::from_str::<Json>(text.strip_prefix("json ")?).ok();
    let both = found.and_then(read).zip(expected.and_then(read));
    both.is_some_and(|(found, expected)| match kind {
        Float | Vector => floats(found) == floats(expected),
        _ => found == expected,
    })
}

/// `1e+20`, `1e20` and a whole number with its digits are one; the zeros are two.
fn floats(json: Json) -> Json {
    match json {
        Json::Array(items) => items.into_iter().map(floats).collect(),
        Json::Number(number) => number.as_f64().unwrap().to_bits().into(),
        other => other,
    }
}
