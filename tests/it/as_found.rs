//! Databases as people have them: without an encoding, with names of all kinds, with settings on
//! the role.

use std::time::Duration;

use pgstream_host::event::{Batch, Value, json};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, CopyRequest, PostgresSource, WantedRow};
use pgstream_host::source::postgres::{PostgresSettings as Config, Snapshot};

use crate::source::{config, pipeline, slot};
use crate::support::program::{Folder, Running, eventually, pgstream, root};
use crate::support::{Database, connect, fresh_database, versions};
use crate::writes::major;

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(90);

/// The next batch with events; all before it is confirmed.
async fn events(source: &mut PostgresSource) -> Batch {
    let reading = async {
        loop {
            let batch = source.next().await.unwrap().unwrap();
            if let Some(end) = batch.ends_at() {
                source.confirm(end);
            }
            if !batch.events().is_empty() {
                return batch;
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("events in time")
}

/// What the second columns of the batch's rows are.
fn seconds(batch: &Batch) -> Vec<String> {
    batch.events().iter().map(|event| format!("{:?}", batch.row(event).get(1).unwrap_or(Value::Null))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_no_text_comes_as_a_byte_and_holds_nothing_up() {
    for cluster in versions() {
        let plain = Database::create(cluster).await;
        let name = format!("{}_ascii", plain.name);
        let create =
            format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        plain.client.batch_execute(&create).await.unwrap();
        let url = cluster.url(&name);
        let client = connect(&url).await;
        client
            .batch_execute(
                "CREATE TABLE t (id int PRIMARY KEY, body text);
                 INSERT INTO t VALUES (1, convert_from('\\xff41', 'SQL_ASCII')), (2, 'größe')",
            )
            .await
            .unwrap();
        let config = Config { snapshot: Snapshot::Initial, ..config(&url, &["t"]) };
        let mut source = PostgresSource::connect(&pipeline(&plain), &config).await.unwrap();
        let expected = ["Bytes([255, 65])", "Text(\"größe\")"];
        assert_eq!(seconds(&events(&mut source).await), expected, "copied");
        client.batch_execute("UPDATE t SET body = body || '' WHERE id = 1").await.unwrap();
        client.batch_execute("UPDATE t SET body = body || '' WHERE id = 2").await.unwrap();
        let mut streamed = Vec::new();
        while streamed.len() < 2 {
            streamed.extend(seconds(&events(&mut source).await));
        }
        assert_eq!(streamed, expected, "streamed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_dots_and_blanks_are_written_in_quotes() {
    let database = fresh_database().await;
    database
        .client
        .batch_execute(
            "CREATE SCHEMA \"a.b\"; CREATE TABLE \"a.b\".\"my.table\" (id int PRIMARY KEY, body text);
             INSERT INTO \"a.b\".\"my.table\" VALUES (1, 'dots');
             CREATE TABLE public.\"my table\" (id int PRIMARY KEY, body text); INSERT INTO public.\"my table\" VALUES (2, 'blanks')",
        )
        .await
        .unwrap();
    let tables = ["\"a.b\".\"my.table\"", "public.my table"];
    let folder = Folder::new();
    let file = written(&folder, &pipeline(&database), "'\"a.b\".\"my.table\"', 'public.my table'");
    let output = pgstream(["validate", "--connect"]).arg(&file).env("DATABASE_URL", &database.url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config = Config { snapshot: Snapshot::Initial, ..config(&database.url, &tables) };
    let name = pipeline(&database);
    let mut source = PostgresSource::connect(&name, &config).await.unwrap();
    let mut copied = Vec::new();
    while copied.len() < 2 {
        copied.extend(seconds(&events(&mut source).await));
    }
    copied.sort();
    assert_eq!(copied, ["Text(\"blanks\")", "Text(\"dots\")"]);
    // As people write it, and as we show it.
    for table in ["\"a.b\".\"my.table\"", "a.b.my.table"] {
        let request = CopyRequest { tables: vec![table.to_owned()], ..CopyRequest::default() };
        let (numbers, _) = postgres::ask_copy(&name, &config, &request).await.unwrap();
        assert_eq!(numbers.len(), 1);
        assert_eq!(seconds(&events(&mut source).await), ["Text(\"dots\")"]);
    }
    let rows = [WantedRow { table: "a.b.my.table", key: "{\"id\":1}" }];
    let asked = postgres::ask_rows(&name, &config, &rows).await.unwrap();
    assert_eq!((asked.copies.len(), asked.refused.len()), (1, 0));
    let batch = events(&mut source).await;
    let event = batch.events().first().unwrap();
    assert_eq!((json::key(&batch, event).as_str(), event.replayed), ("{\"id\":1}", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_table_s_row_type_is_streamed_in_one_session() {
    let (database, folder) = (fresh_database().await, Folder::new());
    let client = &database.client;
    client
        .batch_execute(
            "CREATE TABLE part (a int, b text); CREATE DOMAIN parts AS part[];
             CREATE TABLE documents (id int PRIMARY KEY, title text, content text, whole part, list parts)",
        )
        .await
        .unwrap();
    let name = pipeline(&database);
    let text = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  none: {{ type: blackhole, inputs: [embed] }}\n",
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    let file = folder.write("pipeline.yaml", &text);
    let mut program = Running::start(&file, &[("DATABASE_URL", &database.url)]);
    program.said("streaming").await;
    client
        .batch_execute("INSERT INTO documents VALUES (1, 't', 'c', ROW(1, 'x'), ARRAY[ROW(2, 'y')]::parts)")
        .await
        .unwrap();
    let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let confirmed = format!(
        "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(&database)
    );
    eventually("the row is durable", async || client.query_one(&confirmed, &[]).await.unwrap().get(0)).await;
    let (_, log) = program.stop().await;
    assert!(!log.contains("the schema has changed") && !log.contains("cannot be read in binary"), "{log}");
    assert_eq!(log.matches("streaming slot=").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_role_are_not_taken_for_a_standby_or_a_missing_privilege() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let (role, group) = (format!("{}_app", database.name), format!("{}_group", database.name));
        database
            .client
            .batch_execute(&format!(
                "CREATE ROLE {group}; CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'pw' IN ROLE {group};
                 GRANT CREATE ON DATABASE {} TO {role};
                 CREATE TABLE t (id int PRIMARY KEY, body text); ALTER TABLE t OWNER TO {role}; INSERT INTO t VALUES (1, 'x');
                 ALTER ROLE {role} SET role = {group}; ALTER ROLE {role} SET default_transaction_read_only = on;
                 ALTER ROLE {role} SET idle_session_timeout = '1s'{}",
                database.name,
                // Of Postgres 17.
                if major(cluster) >= 17 { format!("; ALTER ROLE {role} SET transaction_timeout = '100ms'") } else { String::new() }
            ))
            .await
            .unwrap();
        let url = format!("postgres://{role}:pw@{}", database.url.split_once('@').unwrap().1);
        let config = Config { snapshot: Snapshot::Initial, ..config(&url, &["t"]) };
        postgres::check(&pipeline(&database), &config).await.unwrap();
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        assert_eq!(seconds(&events(&mut source).await), ["Text(\"x\")"]);
        // Nor in the sessions of sinks: the group has no rights in `pgstream`.
        let folder = Folder::new();
        let file = written(&folder, &format!("{}_too", pipeline(&database)), "public.t");
        for command in ["validate", "setup"] {
            let connect = (command == "validate").then_some("--connect");
            let output = pgstream([command]).args(connect).arg(&file).env("DATABASE_URL", &url).output().unwrap();
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut host = Running::start(&file, &[("DATABASE_URL", &url)]);
        host.said("streaming").await;
        let idle = "SELECT count(*) > 0 FROM pg_stat_activity
                    WHERE usename = $1 AND state = 'idle' AND state_change < clock_timestamp() - interval '1200 ms'";
        eventually("a session outlives what the role's settings allow for", async || {
            database.client.query_one(idle, &[&role]).await.unwrap().get(0)
        })
        .await;
        host.stop().await;
        pgstream(["teardown"]).arg(&file).env("DATABASE_URL", &url).output().unwrap();
    }
}

/// A pipeline file for these tables.
fn written(folder: &Folder, name: &str, tables: &str) -> std::path::PathBuf {
    let text = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [{tables}] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words], config: {{ text_column: body }} }}\n\
         sinks:\n  none: {{ type: blackhole, inputs: [embed] }}\n  letters: {{ type: dead-letters, inputs: [embed.rejected] }}\n",
        root().join("plugins/documents-rust/documents.wasm").display()
    );
    folder.write("pipeline.yaml", &text)
}

#[tokio::test(flavor = "multi_thread")]
async fn about_how_many_rows_a_copy_has_is_known_before_the_first_analyze() {
    let database = fresh_database().await;
    database
        .client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, body text) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT g, 'a body of some length' FROM generate_series(1, 9000) g",
        )
        .await
        .unwrap();
    let config = config(&database.url, &["t"]);
    let name = pipeline(&database);
    let _source = PostgresSource::connect(&name, &config).await.unwrap();
    let (all, _) = postgres::ask_copy(&name, &config, &CopyRequest::default()).await.unwrap();
    let chosen = CopyRequest { filter: Some("id = 1".to_owned()), ..CopyRequest::default() };
    let (chosen, _) = postgres::ask_copy(&name, &config, &chosen).await.unwrap();
    let about = |copies: Vec<postgres::Copied>| copies.first().and_then(|copy| copy.expected);
    let all = about(postgres::copied(&name, &config, Some(&all)).await.unwrap());
    assert!(all.is_some_and(|rows| (4_000..20_000).contains(&rows)), "{all:?}");
    assert_eq!(about(postgres::copied(&name, &config, Some(&chosen)).await.unwrap()), None, "nobody knows");
}
