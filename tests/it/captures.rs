//! What a real server says on a replication connection, byte by byte: the seeds of the fuzzers, and that they are still true.
//!
//! `BLESS=1 cargo test --test it -- captures::` writes the corpora of `tests/fuzz` anew.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use pgstream_host::demo::{Cluster, Options};
use postgres_protocol::message::frontend;

use crate::support::program::eventually;
use crate::support::{Database, private_cluster};

/// All kinds of messages: rows of many types, a large value left alone, changed keys, both identities, partitions, TRUNCATE
/// with CASCADE, messages in and out of transactions, a change of the table, savepoints.
const STORY: &[&str] = &[
    "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN score AS numeric(6, 2);
     CREATE TABLE t (id int PRIMARY KEY, body text, score score, at timestamptz, tags text[], doc jsonb, mood mood, f float8, raw bytea);
     ALTER TABLE t ALTER COLUMN body SET STORAGE EXTERNAL;
     CREATE TABLE u (id int PRIMARY KEY REFERENCES t, note text); ALTER TABLE u REPLICA IDENTITY FULL;
     CREATE TABLE p (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
     CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (100); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);
     CREATE PUBLICATION captured FOR TABLE t, u, p WITH (publish_via_partition_root = true)",
    "SELECT pg_create_logical_replication_slot('captured', 'pgoutput')",
    "INSERT INTO t VALUES (1, 'ü', -12.5, '2000-01-01 00:00:00.5+00', '{a,\"b c\",NULL}', '{\"k\": [1, 2.5]}', 'sad', 'NaN', '\\x00ff'),
     (2, NULL, NULL, 'infinity', '{}', 'null', NULL, '-0', '')",
    "INSERT INTO t (id, body) VALUES (3, repeat('large ', 500))",
    "UPDATE t SET mood = 'happy' WHERE id = 3",
    "UPDATE t SET id = 4 WHERE id = 1",
    "BEGIN; INSERT INTO u VALUES (2, 'a'), (3, 'b'); SAVEPOINT s; DELETE FROM u; ROLLBACK TO s;
     SELECT pg_logical_emit_message(true, 'pgstream', 'low 0000000000000001 1'); UPDATE u SET note = NULL; COMMIT",
    "SELECT pg_logical_emit_message(false, 'other', '\\x00ff'::bytea)",
    "INSERT INTO p VALUES (1, 'first'), (150, 'second'); UPDATE p SET id = 160 WHERE id = 1; DELETE FROM p WHERE id = 150",
    "ALTER TABLE t ADD COLUMN more int; INSERT INTO t (id, more) VALUES (5, 7); ALTER TABLE t RENAME COLUMN more TO less; DELETE FROM t WHERE id = 5",
    "TRUNCATE t CASCADE",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_of_the_fuzzers_are_what_a_server_says() {
    let cluster = private_cluster(18, &Options::fast());
    let database = Database::create(&cluster).await;
    for sql in STORY {
        database.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    let end: String = database.client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
    let end = end.parse::<pgstream_host::lsn::Lsn>().unwrap().0;
    for format in ["text", "binary"] {
        let free = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'captured'";
        eventually("nobody reads the slot", async || database.client.query_one(free, &[]).await.unwrap().get(0)).await;
        let stream = tokio::task::block_in_place(|| capture(&cluster, &database.name, format == "binary", end));
        let payloads = payloads(&stream);
        let tags: String = payloads.iter().map(|payload| char::from(payload[0])).collect();
        assert!("RYBCIUDTM".chars().all(|tag| tags.contains(tag)), "{tags}");

        let (replication, decode) = (corpus("replication", format), corpus("decode", &format!("story-{format}")));
        if std::env::var_os("BLESS").is_some() {
            // The fuzzer's first byte says how the bytes arrive.
            std::fs::create_dir_all(replication.parent().unwrap()).unwrap();
            std::fs::write(&replication, [&[6][..], &stream].concat()).unwrap();
            let framed =
                payloads.iter().flat_map(|payload| [&(payload.len() as u16).to_be_bytes(), &payload[..]].concat());
            std::fs::write(&decode, framed.collect::<Vec<u8>>()).unwrap();
        }
        // Positions, times and numbers differ each time; what is said, and in which order, does not.
        let seed = std::fs::read(&replication).unwrap();
        let known: String = self::payloads(&seed[1..]).iter().map(|payload| char::from(payload[0])).collect();
        assert_eq!(tags, known, "BLESS=1 writes the seeds anew");
    }
}

fn corpus(target: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target).join(format!("postgres-18-{name}"))
}

/// What the server streams up to `end`, from behind its CopyBothResponse. Its socket asks for no password.
fn capture(cluster: &Cluster, database: &str, binary: bool, end: u64) -> Vec<u8> {
    let socket = cluster.socket_folder().join(format!(".s.PGSQL.{}", cluster.port()));
    let mut socket = UnixStream::connect(socket).unwrap();
    let mut out = BytesMut::new();
    let parameters = [("user", "postgres"), ("database", database), ("replication", "database")];
    frontend::startup_message(parameters, &mut out).unwrap();
    let options = if binary { ", binary 'true'" } else { "" };
    let start = format!(
        "START_REPLICATION SLOT captured LOGICAL 0/0 (proto_version '1', publication_names 'captured', messages 'true'{options})"
    );
    frontend::query(&start, &mut out).unwrap();
    socket.write_all(&out).unwrap();
    let (mut stream, mut streaming) = (Vec::new(), false);
    loop {
        let (tag, message) = message(&mut socket);
        assert_ne!(tag, b'E', "{}", String::from_utf8_lossy(&message));
        if streaming {
            stream.extend_from_slice(&message);
            // A keepalive says how far the server has come.
            if message[5] == b'k' && u64::from_be_bytes(message[6..14].try_into().unwrap()) >= end {
                return stream;
            }
        }
        streaming |= tag == b'W';
    }
}

/// One message, whole.
fn message(socket: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut message = vec![0; 5];
    socket.read_exact(&mut message).unwrap();
    let length = u32::from_be_bytes(message[1..].try_into().unwrap()) as usize + 1;
    message.resize(length, 0);
    socket.read_exact(&mut message[5..]).unwrap();
    (message[0], message)
}

/// What the output plugin said in a stream.
fn payloads(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let [_, a, b, c, d, ..] = *stream {
        let (message, rest) = stream.split_at(u32::from_be_bytes([a, b, c, d]) as usize + 1);
        if let [b'd', _, _, _, _, b'w', content @ ..] = message {
            payloads.push(&content[24..]);
        }
        stream = rest;
    }
    payloads
}
