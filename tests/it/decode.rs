//! Decoding what real servers send, compared with what the same servers say the values are.

use bytes::Bytes;
use pgstream_host::decode::{Catalog, DecodeError, Decoded, Decoder};
use pgstream_host::event::{Batch, BatchBuilder, Row, Value};

use crate::support::{Database, postgres, versions};

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
    ("pair", "(1,\"b c\")"),
];

async fn database(cluster: &pgstream_host::demo::Cluster) -> Database {
    let database = Database::create(cluster).await;
    let set_up = "SET TimeZone = 'UTC';
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

fn decode(decoder: &mut Decoder, stream: &[Bytes]) -> Result<Batch, DecodeError> {
    let mut out = BatchBuilder::default();
    for message in stream {
        decoder.decode(message.clone(), &mut out)?;
    }
    Ok(out.take())
}

/// A value of the tables here as text.
fn show(value: Value<'_>) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Unchanged => "(unchanged)".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Text(text) => text.to_owned(),
        other => panic!("{other:?}"),
    })
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
    let catalog = Catalog::default();
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
    for cluster in versions() {
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
    for cluster in versions() {
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
        let mut catalog = Catalog::default();
        catalog.set_primary_key(oid.get(0), vec!["id".to_owned()], Vec::new());
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
