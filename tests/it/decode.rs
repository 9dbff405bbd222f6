//! Decoding what real servers send, compared with what the same servers say the values are.

use bytes::Bytes;
use pgstream_host::decode::{Catalog, DecodeError, Decoded, Decoder, Shape};
use pgstream_host::event::{Batch, BatchBuilder, Row, Value};
use tokio_postgres::Client;

use crate::support::{Database, postgres, postgres16};

/// Types whose values are shown as more than text: SQL type, SQL that shows a value `c` as [`show`] does, and values.
const TYPES: &[(&str, &str, &[&str])] = &[
    ("bool", "c::text", &["true", "false"]),
    ("int2", "c::text", &["-32768", "32767"]),
    ("int4", "c::text", &["-2147483648", "2147483647"]),
    ("int8", "c::text", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    ("oid", "c::text", &["0", "4294967295"]),
    ("float4", "c::float8::text", &["0.1", "-3.4028235e38", "1e-45", "NaN", "-Infinity", "16777217"]),
    ("float8", "c::text", &["0.1", "1.7976931348623157e308", "5e-324", "NaN", "Infinity", "-0", "1e16"]),
    ("numeric", "c::text", NUMERICS),
    ("numeric(12,4)", "c::text", &["0", "-1.5", "12345678.9999"]),
    ("text", "c", TEXTS),
    ("varchar(40)", "c", TEXTS),
    ("bpchar(40)", "c::bpchar::text || repeat(' ', 40 - length(c))", &["padded", "ü"]),
    ("\"char\"", "c::text", &["a", "", "\\303"]),
    ("name", "c::text", &["a_name"]),
    ("bytea", "c::text", &["\\x", "\\x00ff5c27", "plain"]),
    ("timestamp", MICROS, TIMESTAMPS),
    (
        "timestamptz",
        MICROS,
        &[
            "1970-01-01 00:00+00",
            "1890-01-01 00:00-00:44:30",
            "infinity",
            "0044-03-15 12:00 BC",
            "294246-12-31 23:59:59.999999+00",
        ],
    ),
    (
        "date",
        DAYS,
        &["1970-01-01", "0001-01-01 BC", "4714-11-24 BC", "5874897-12-31", "infinity", "-infinity", "2024-02-29"],
    ),
    ("time", "trunc(extract(epoch from c) * 1000000)::text", &["00:00", "23:59:59.999999", "24:00", "08:30:00.5"]),
    ("uuid", "c::text", &["D7C1B4A0-1111-2222-3333-4444AAAABBBB"]),
    ("json", "c::text", &["null", "{\"b\" : 1,\"a\":[1, 2.50]}", "\"\\u00fc\""]),
    ("jsonb", "c::text", &["null", "{\"b\" : 1,\"a\":[1, 2.50]}"]),
    ("vector", "c::text", &["[1,-2.5,1e-10]", "[0.1,3e30]"]),
    ("vector(2)", "c::text", &["[0,1]"]),
    ("halfvec", "c::text", &["[1,-2.5,65504]", "[0.00006,0.1]"]),
    ("mood", "c::text", &["glad", "sehr, \"sehr\" böse"]),
    ("email", "c::text", &["a@b"]),
    ("positive", "c::text", &["7"]),
    ("bool[]", "to_json(c)::text", &["{t,f,NULL}"]),
    ("int8[]", "to_json(c)::text", &["{}", "{9223372036854775807,NULL}", "{{1,2},{3,4}}", "[0:1][-1:0]={{1,2},{3,4}}"]),
    ("float4[]", "to_json(c)::text", &["{0.1,1e20,1e-7}"]),
    ("float8[]", "to_json(c)::text", &["{0.1,1e20,1e-7,16777217,NaN,Infinity,-Infinity,NULL}"]),
    ("numeric[]", "to_json(c::text[])::text", &["{1.50,NaN,-Infinity,NULL,123456789012345678901234567890.5}"]),
    ("text[]", "to_json(c)::text", TEXT_ARRAYS),
    ("varchar[]", "to_json(c)::text", TEXT_ARRAYS),
    ("\"char\"[]", "to_json(c)::text", &["{a,\"\"}"]),
    ("mood[]", "to_json(c)::text", &["{glad,\"sehr, \\\"sehr\\\" böse\"}"]),
    ("email[]", "to_json(c)::text", &["{a@b,NULL}"]),
    ("numbers", "to_json(c)::text", &["{1,2}"]),
    ("bytea[]", "to_json(c)::text", &["{\"\\\\x00ff\",NULL}"]),
    ("uuid[]", "to_json(c)::text", &["{d7c1b4a0-1111-2222-3333-4444aaaabbbb}"]),
    ("jsonb[]", "to_json(c)::text", &["{\"{\\\"a\\\": \\\"b \\\\\\\\ c\\\"}\",NULL}"]),
    ("date[]", "to_json(array(select e - date '1970-01-01' from unnest(c) e))::text", &["{2024-02-29,1969-12-31}"]),
    (
        "timestamptz[]",
        "to_json(array(select (extract(epoch from e) * 1000000)::int8 from unnest(c) e))::text",
        &["{\"2024-02-29 08:30:00.25+02\",\"0044-03-15 12:00:00 BC\"}"],
    ),
    ("vector[]", "'[' || array_to_string(c, ',') || ']'", &["{\"[1,2]\",\"[0.5,3]\"}"]),
];

const TEXTS: &[&str] = &["", "plain", "ünïcödé 🦀", "a \"quoted\" \\ back'slash", "line\nbreak\ttab"];

const TEXT_ARRAYS: &[&str] =
    &["{}", "{a,\"\",NULL,\"NULL\",null}", "{\"a,b\",\"{}\",\"\\\"\",\"\\\\\",\" \",\"line\nbreak\"}", "{{ä},{🦀}}"];

const NUMERICS: &[&str] = &[
    "0",
    "0.00",
    "-0.1",
    "1e20",
    "1e-20",
    "123456789012345678901234567890.123456789012345678901234567890",
    "10000.0001",
    "0.00010000",
    "9999999.9999",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e131071",
    "-1e-16383",
];

const TIMESTAMPS: &[&str] = &[
    "1970-01-01",
    "1999-12-31 23:59:59.999999",
    "0001-01-01 BC",
    "4714-11-24 BC",
    "12024-02-29 01:02:03.000004",
    "infinity",
    "-infinity",
    "294276-12-31 23:59:59.999999",
];

/// Infinity has its own number; what lies beyond 64 bits is Postgres' text.
const MICROS: &str = "case c when 'infinity' then '9223372036854775807' when '-infinity' then '-9223372036854775808' else \
                      case when extract(epoch from c) * 1000000 > 9223372036854775806 then c::text \
                      else trunc(extract(epoch from c) * 1000000)::text end end";

const DAYS: &str = "case c when 'infinity' then '2147483647' when '-infinity' then '-2147483648' else \
                    (c - date '1970-01-01')::text end";

/// Types that are shown as Postgres' own text.
const OTHERS: &[(&str, &str)] = &[
    ("interval", "1 year 2 days 03:04:05.6"),
    ("timetz", "08:30:00+02"),
    ("inet", "192.168.0.1/24"),
    ("macaddr", "08:00:2b:01:02:03"),
    ("money", "12.50"),
    ("point", "(1,2)"),
    ("int4range", "[1,5)"),
    ("datemultirange", "{[2024-01-01,2024-02-01)}"),
    ("tsvector", "a fat cat"),
    ("bit varying", "101"),
    ("pg_lsn", "16/B374D848"),
    ("sparsevec", "{1:0.5,3:2}/5"),
    ("pair", "(1,\"b c\")"),
];

async fn database(cluster: &pgstream_host::demo::Cluster) -> Database {
    let database = Database::create(cluster).await;
    let set_up = "CREATE EXTENSION vector;
        SET TimeZone = 'UTC';
        CREATE TYPE mood AS ENUM ('glad', 'sehr, \"sehr\" böse');
        CREATE DOMAIN email AS varchar(80);
        CREATE DOMAIN positive AS int4 CHECK (value > 0);
        CREATE DOMAIN numbers AS int4[];
        CREATE TYPE pair AS (a int4, b text);
        CREATE PUBLICATION p FOR ALL TABLES;";
    database.client.batch_execute(set_up).await.unwrap();
    database
}

async fn create_slot(database: &Database) {
    let create = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", database.name);
    database.client.batch_execute(&create).await.unwrap();
}

/// The stream so far. Looked at, not taken, so that it can be had in both formats.
async fn stream(database: &Database, binary: bool) -> Vec<Bytes> {
    let peek = format!(
        "SELECT data FROM pg_logical_slot_peek_binary_changes('{}', null, null,
            'proto_version', '1', 'publication_names', 'p', 'messages', 'true', 'binary', '{binary}')",
        database.name
    );
    let rows = database.client.query(&peek, &[]).await.unwrap();
    rows.iter().map(|row| Bytes::from(row.get::<_, Vec<u8>>(0))).collect()
}

async fn catalog(client: &Client) -> Catalog {
    let query = "SELECT t.oid, t.typname::text, t.typtype = 'd', t.typbasetype, t.typtype = 'e',
            t.typcategory = 'A', t.typelem, e.typdelim
        FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid >= 16384";
    let mut catalog = Catalog::default();
    for row in client.query(query, &[]).await.unwrap() {
        let shape = match (row.get(2), row.get(4), row.get(5)) {
            (true, _, _) => Shape::Domain(row.get(3)),
            (_, true, _) => Shape::Enum,
            (_, _, true) => Shape::Array { element: row.get(6), delimiter: row.get::<_, i8>(7) as u8 },
            _ => Shape::Base,
        };
        catalog.add_type(row.get(0), row.get::<_, String>(1), shape);
    }
    catalog
}

fn decode(decoder: &mut Decoder, stream: &[Bytes]) -> Result<Batch, DecodeError> {
    let mut out = BatchBuilder::default();
    for message in stream {
        decoder.decode(message.clone(), &mut out)?;
    }
    Ok(out.take())
}

/// A value as the expressions of [`TYPES`] show it.
fn show(value: Value<'_>) -> Option<String> {
    let float = |value: f64| match value {
        _ if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ => value.to_string(),
    };
    Some(match value {
        Value::Null => return None,
        Value::Unchanged => "(unchanged)".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) | Value::Timestamp(value) | Value::Time(value) => value.to_string(),
        Value::Date(value) => value.to_string(),
        Value::Float(value) => float(value),
        Value::Bytes(value) => value.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
        Value::Vector(value) => format!("{value:?}"),
        Value::Numeric(text) | Value::Text(text) | Value::Uuid(text) | Value::Json(text) | Value::Other(text) => {
            text.to_owned()
        }
    })
}

/// Whether both say the same: JSON up to spaces, numbers up to how they are written.
fn same(found: &str, expected: &str, sql_type: &str) -> bool {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    match sql_type {
        "float4" | "float8" => found.parse::<f64>().unwrap().to_bits() == expected.parse::<f64>().unwrap().to_bits(),
        _ if sql_type.contains("vec") || sql_type.starts_with("float") => {
            json(found).is_some() && json(found).map(floats) == json(expected).map(floats)
        }
        _ if sql_type.contains('[') || sql_type == "numbers" => json(found).is_some() && json(found) == json(expected),
        _ => found == expected,
    }
}

/// `1e+20`, `1e20` and a whole number with its digits are one.
fn floats(json: serde_json::Value) -> serde_json::Value {
    match json {
        serde_json::Value::Array(items) => items.into_iter().map(floats).collect(),
        serde_json::Value::Number(number) => number.as_f64().into(),
        other => other,
    }
}

async fn values_are_what_the_server_says(cluster: &pgstream_host::demo::Cluster) {
    let database = database(cluster).await;
    let client = &database.client;
    let columns = TYPES.iter().enumerate().map(|(index, (sql_type, ..))| format!(", c{index} {sql_type}"));
    client
        .batch_execute(&format!("CREATE TABLE every (id int4 PRIMARY KEY{})", columns.collect::<String>()))
        .await
        .unwrap();
    create_slot(&database).await;
    let longest = TYPES.iter().map(|(_, _, values)| values.len()).max().unwrap();
    for row in 0..=longest {
        let literal =
            |values: &[&str]| values.get(row).map_or("NULL".to_owned(), |v| format!("'{}'", v.replace('\'', "''")));
        let values = TYPES.iter().map(|(_, _, values)| format!(", {}", literal(values))).collect::<String>();
        client.batch_execute(&format!("INSERT INTO every VALUES ({row}{values})")).await.unwrap();
    }

    for binary in [false, true] {
        let mut decoder = Decoder::new(catalog(client).await);
        let batch = decode(&mut decoder, &stream(&database, binary).await).unwrap();
        assert_eq!(batch.events().len(), longest + 1);
        for (index, (sql_type, expression, _)) in TYPES.iter().enumerate() {
            let query = format!(
                "SELECT CASE WHEN c IS NOT NULL THEN {expression} END FROM (SELECT id, c{index} AS c FROM every) every ORDER BY id"
            );
            let expected = client.query(&query, &[]).await.unwrap();
            for (event, expected) in batch.events().iter().zip(expected) {
                let found = show(batch.row(event).get(index + 1).unwrap());
                let expected: Option<String> = expected.get(0);
                let equal = match (&found, &expected) {
                    (Some(found), Some(expected)) => same(found, expected, sql_type),
                    (found, expected) => found == expected,
                };
                assert!(equal, "{sql_type} binary={binary}: found {found:?}, Postgres says {expected:?}");
            }
        }
    }
}

#[tokio::test]
async fn values_are_what_postgres_18_says() {
    values_are_what_the_server_says(postgres()).await;
}

#[tokio::test]
async fn values_are_what_postgres_16_says() {
    values_are_what_the_server_says(postgres16()).await;
}

#[tokio::test]
async fn other_types_are_text_and_say_so_in_binary() {
    let database = database(postgres()).await;
    let client = &database.client;
    create_slot(&database).await;
    for (index, (sql_type, value)) in OTHERS.iter().enumerate() {
        let statement = format!("CREATE TABLE o{index} (c {sql_type}); INSERT INTO o{index} VALUES ('{value}')");
        client.batch_execute(&statement).await.unwrap();
    }
    let catalog = catalog(client).await;
    let batch = decode(&mut Decoder::new(catalog.clone()), &stream(&database, false).await).unwrap();
    for (index, event) in batch.events().iter().enumerate() {
        let expected = client.query_one(&format!("SELECT c::text FROM o{index}"), &[]).await.unwrap();
        assert_eq!(batch.row(event).get(0), Some(Value::Other(expected.get(0))));
        let relation = batch.relation(event);
        assert!(!catalog.binary_is_readable([relation.columns[0].type_oid]), "{}", OTHERS[index].0);
    }

    let mut decoder = Decoder::new(catalog);
    let mut refused = Vec::new();
    let mut out = BatchBuilder::default();
    for message in stream(&database, true).await {
        match decoder.decode(message, &mut out) {
            Err(DecodeError::BinaryOnly { relation, .. }) => refused.push(relation),
            decoded => drop(decoded.unwrap()),
        }
    }
    assert_eq!(refused.len(), OTHERS.len(), "{refused:?}");
}

/// Needs no catalogue: what is built in has the same OID everywhere.
#[tokio::test]
async fn every_type_of_the_server_is_known_by_name() {
    for cluster in [postgres(), postgres16()] {
        let database = database(cluster).await;
        let client = &database.client;
        let query = "SELECT t.oid, CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0 AND e.typarray = t.oid
                    THEN e.typname || '[]' ELSE t.typname::text END, format_type(t.oid, NULL)
            FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem
            WHERE t.oid < 10000 AND t.typtype IN ('b', 'r', 'm') AND t.typname NOT LIKE 'pg\\_%' AND t.typname NOT LIKE '\\_pg\\_%'
                AND t.typname NOT IN ('_record', '_cstring', 'gtsvector') ORDER BY t.oid";
        let types = client.query(query, &[]).await.unwrap();
        assert!(types.len() > 100);
        let columns: Vec<_> =
            types.iter().map(|row| format!("c{} {}", row.get::<_, u32>(0), row.get::<_, &str>(2))).collect();
        client.batch_execute(&format!("CREATE TABLE t ({})", columns.join(", "))).await.unwrap();
        create_slot(&database).await;
        client.batch_execute("INSERT INTO t DEFAULT VALUES").await.unwrap();
        let batch = decode(&mut Decoder::new(Catalog::default()), &stream(&database, false).await).unwrap();
        for (column, expected) in batch.relations()[0].columns.iter().zip(&types) {
            assert_eq!(column.type_name, expected.get::<_, &str>(1));
        }
    }
}

fn lines(batch: &Batch) -> Vec<String> {
    let row =
        |row: Row<'_>| row.iter().map(|value| show(value).unwrap_or("NULL".to_owned())).collect::<Vec<_>>().join(" ");
    let line = |event| {
        let old = batch.old_row(event).map(|old| format!(" from {}", row(old))).unwrap_or_default();
        format!("{:?} {}: {}{old}", event.operation, batch.relation(event).table, row(batch.row(event)))
    };
    batch.events().iter().map(line).map(|line| line.replace(&"x".repeat(9000), "(long)")).collect()
}

#[tokio::test]
async fn changes_are_told_as_the_replica_identity_allows() {
    for cluster in [postgres(), postgres16()] {
        let database = database(cluster).await;
        let client = &database.client;
        let tables = "
            CREATE TABLE usual (id int4 PRIMARY KEY, body text, n int4);
            CREATE TABLE complete (id int4 PRIMARY KEY, body text, n int4);
            CREATE TABLE chosen (id int4 PRIMARY KEY, slug text NOT NULL UNIQUE, n int4);
            ALTER TABLE usual ALTER body SET STORAGE EXTERNAL;
            ALTER TABLE complete ALTER body SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
            ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_slug_key;";
        client.batch_execute(tables).await.unwrap();
        create_slot(&database).await;
        let changes = "
            INSERT INTO usual VALUES (1, repeat('x', 9000), 1);
            INSERT INTO complete SELECT * FROM usual;
            INSERT INTO chosen VALUES (1, 'a', 1);
            UPDATE usual SET n = 2;
            UPDATE usual SET id = 2;
            UPDATE complete SET n = 2;
            UPDATE complete SET id = 2;
            UPDATE chosen SET id = 2;
            UPDATE chosen SET slug = 'b';
            DELETE FROM usual;
            DELETE FROM complete;
            DELETE FROM chosen;
            TRUNCATE usual, chosen;";
        client.batch_execute(changes).await.unwrap();
        let oid = client.query_one("SELECT 'complete'::regclass::oid", &[]).await.unwrap();
        let mut catalog = catalog(client).await;
        catalog.set_primary_key(oid.get(0), vec!["id".to_owned()]);
        for binary in [false, true] {
            let batch = decode(&mut Decoder::new(catalog.clone()), &stream(&database, binary).await).unwrap();
            assert_eq!(
                lines(&batch),
                [
                    "Insert usual: 1 (long) 1",
                    "Insert complete: 1 (long) 1",
                    "Insert chosen: 1 a 1",
                    "Update usual: 1 (unchanged) 2",
                    "Delete usual: 1 NULL NULL",
                    "Insert usual: 2 (unchanged) 2",
                    "Update complete: 1 (long) 2 from 1 (long) 1",
                    "Delete complete: 1 (long) 2",
                    "Insert complete: 2 (long) 2",
                    "Update chosen: 2 a 1",
                    "Delete chosen: NULL a NULL",
                    "Insert chosen: 2 b 1",
                    "Delete usual: 2 NULL NULL",
                    "Delete complete: 2 (long) 2",
                    "Delete chosen: NULL b NULL",
                    "Truncate usual: ",
                    "Truncate chosen: ",
                ]
            );
            assert!(batch.events().is_sorted_by_key(|event| event.position));
            let last = batch.events().last().unwrap();
            assert!(batch.ends_at().unwrap() > last.position.lsn);
            let now: i64 =
                client.query_one("SELECT (extract(epoch FROM now()) * 1000000)::int8", &[]).await.unwrap().get(0);
            assert!((now - last.commit_time).abs() < 3_600_000_000, "{now} {}", last.commit_time);
        }
    }
}

#[tokio::test]
async fn messages_and_origins_arrive() {
    let database = database(postgres()).await;
    create_slot(&database).await;
    let origin = &database.name;
    let statements = format!(
        "CREATE TABLE t (id int4 PRIMARY KEY);
        SELECT pg_replication_origin_create('{origin}'), pg_replication_origin_session_setup('{origin}');
        BEGIN;
        SELECT pg_replication_origin_xact_setup('0/1', now());
        INSERT INTO t VALUES (1);
        SELECT pg_logical_emit_message(true, 'pgstream', 'inside');
        COMMIT;
        SELECT pg_logical_emit_message(false, 'pgstream', 'outside');
        -- A message alone is not written out at once: a commit is.
        INSERT INTO t VALUES (2);"
    );
    database.client.batch_execute(&statements).await.unwrap();
    let stream = stream(&database, true).await;
    assert!(stream.iter().any(|message| message.first() == Some(&b'O')));
    let mut decoder = Decoder::new(Catalog::default());
    let mut out = BatchBuilder::default();
    let mut messages = Vec::new();
    for message in stream {
        if let Decoded::Message(message) = decoder.decode(message, &mut out).unwrap() {
            messages.push((message.prefix, message.content, message.transactional));
        }
    }
    let expected = [("inside", true), ("outside", false)];
    let expected = expected.map(|(text, inside)| ("pgstream".to_owned(), Bytes::from(text), inside));
    assert_eq!(messages, expected);
    assert_eq!(out.len(), 2);
}
