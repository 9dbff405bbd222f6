//! Changes that went past the pipeline: recognised, said with what to type, and made good by beginning anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgstream_host::demo::Options;
use pgstream_host::error::{Error, Fault};
use pgstream_host::event::{Operation, Value};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, PostgresSource};
use pgstream_host::source::postgres::{OnSlotLost, PostgresSettings as Config};
use rustix::process::Signal;

use crate::schema_changes::read;
use crate::source::{config, last_word, pipeline, slot};
use crate::support::program::{Folder, Running, eventually, pgstream, root};
use crate::support::{Database, connect, fresh_database, private_cluster};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

const TABLE: &str = "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)";

/// A pipeline file called `pipeline.yaml`, as the help calls it.
fn pipeline_file(folder: &Folder, name: &str, more: &str) -> PathBuf {
    let component = root().join("plugins/documents-rust/documents.wasm");
    let text = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], \
         heartbeat: 50ms, {more} }}\nembedders:\n  words: {{ type: hash, dimension: 8 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  search: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: public.vectors, \
         create: {{ dimension: 8 }} }}\n",
        component.display()
    );
    folder.write("pipeline.yaml", &text)
}

/// Waits until the sink holds the table's rows and no other.
async fn agree(database: &Database) {
    let sql = "SELECT (SELECT array_agg((id::text, content) ORDER BY id::text) FROM documents)
                      IS NOT DISTINCT FROM
                      (SELECT array_agg((group_id, payload->>'content') ORDER BY group_id) FROM vectors)";
    eventually("table and sink agree", async || database.client.query_one(sql, &[]).await.unwrap().get(0)).await;
}

/// Runs the host until table and sink agree.
async fn bring_in_step(database: &Database, file: &Path) {
    let host = Running::start(file, &[("DATABASE_URL", database.url.as_str())]);
    eventually("the sink's table is there", async || {
        database.client.batch_execute("SELECT FROM vectors").await.is_ok()
    })
    .await;
    agree(database).await;
    host.stop().await;
}

async fn run(database: &Database, sql: &str) {
    database.client.batch_execute(sql).await.unwrap();
}

/// Drops the slot, whoever reads it.
async fn drop_slot(database: &Database, slot: &str) {
    let sql = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active;
         SELECT pg_drop_replication_slot('{slot}')"
    );
    eventually("the slot is dropped", async || database.client.batch_execute(&sql).await.is_ok()).await;
}

async fn refused(database: &Database, config: &Config) -> Error {
    PostgresSource::connect(&pipeline(database), config).await.map(drop).expect_err("a refusal")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_help_says_to_type_brings_everything_back() {
    let database = fresh_database().await;
    run(&database, TABLE).await;
    run(&database, "INSERT INTO documents SELECT i, 't', 'text ' || i FROM generate_series(1, 50) i").await;
    let folder = Folder::new();
    let file = pipeline_file(&folder, &pipeline(&database), "snapshot: initial");
    let environment = [("DATABASE_URL", database.url.as_str())];
    bring_in_step(&database, &file).await;

    drop_slot(&database, &slot(&database)).await;
    run(&database, "DELETE FROM documents WHERE id <= 10; UPDATE documents SET content = 'new' WHERE id <= 20").await;
    let (status, log) = Running::start(&file, &environment).ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains(&format!("slot `{}` is gone", slot(&database))), "{log}");

    let help = log.lines().find(|line| line.contains("help: ")).unwrap();
    let typed = help.split('`').find(|text| text.starts_with("pgstream-host ")).unwrap();
    let words: Vec<&str> = typed.split(' ').skip(1).collect();
    let output = pgstream(words).current_dir(file.parent().unwrap()).envs(environment).output().unwrap();
    assert!(output.status.success(), "{typed}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("created slot `{}`", slot(&database))), "{said}");

    let host = Running::start(&file, &environment);
    agree(&database).await;
    // Killed in the middle of the second half it would go on; and changes are followed again.
    run(&database, "INSERT INTO documents VALUES (100, 't', 'after')").await;
    agree(&database).await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_may_begins_anew_by_itself_also_under_kills() {
    let database = fresh_database().await;
    run(&database, TABLE).await;
    let folder = Folder::new();
    let name = pipeline(&database);
    let file = pipeline_file(&folder, &name, "on_slot_lost: resnapshot"); // with `snapshot: never`
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut host = Running::start(&file, &environment);
    host.said("streaming").await;
    run(&database, "INSERT INTO documents SELECT i, 't', 'text ' || i FROM generate_series(1, 9000) i").await;
    agree(&database).await;

    // Under its feet: what is deleted while nothing streams must go from the sink.
    let gone =
        "BEGIN; DELETE FROM documents WHERE id % 3 = 0; UPDATE documents SET content = 'new' WHERE id % 3 = 1; COMMIT;";
    host.signal(Signal::STOP);
    drop_slot(&database, &slot(&database)).await;
    run(&database, gone).await;
    host.signal(Signal::CONT);
    host.said("changes were lost").await;
    host.said("copying the rows of a table").await;
    host.kill();
    let mut host = Running::start(&file, &environment);
    agree(&database).await;

    host.kill();
    drop_slot(&database, &slot(&database)).await;
    run(&database, "DELETE FROM documents WHERE id > 100; INSERT INTO documents VALUES (20000, 't', 'last')").await;
    let host = Running::start(&file, &environment);
    agree(&database).await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tables_are_cleared_before_any_is_copied() {
    let database = fresh_database().await;
    run(&database, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    let config = Config { on_slot_lost: OnSlotLost::Resnapshot, ..config(&database.url, &["t", "u"]) };
    postgres::setup(&pipeline(&database), &config).await.unwrap();
    run(&database, "INSERT INTO t VALUES (1); INSERT INTO u VALUES (2)").await;
    postgres::resnapshot(&pipeline(&database), &config).await.unwrap();
    let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
    let mut seen = Vec::new();
    let reading = async {
        while seen.len() < 4 {
            let batch = source.next().await.unwrap().unwrap();
            for event in batch.events() {
                assert!(event.snapshot);
                seen.push((batch.relation(event).table.clone(), event.operation == Operation::Truncate));
            }
            if let Some(end) = batch.ends_at() {
                source.confirm(end);
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.unwrap();
    let tables = |from: usize| {
        let mut tables: Vec<&str> = seen[from..from + 2].iter().map(|(table, _)| table.as_str()).collect();
        tables.sort_unstable();
        (tables, seen[from].1 && seen[from + 1].1)
    };
    assert_eq!(tables(0), (vec!["t", "u"], true), "{seen:?}");
    assert_eq!(tables(2), (vec!["t", "u"], false), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_made_again_or_moved_behind_our_back() {
    let database = fresh_database().await;
    run(&database, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let (slot, ours) = (slot(&database), config(&database.url, &["t"]));
    let steps = [
        format!(
            "SELECT pg_drop_replication_slot('{slot}'); SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ),
        format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_insert_lsn())"),
    ];
    for (n, behind_our_back) in steps.iter().enumerate() {
        let source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
        Box::new(source).close().await.unwrap();
        let source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
        Box::new(source).close().await.unwrap();
        run(&database, &format!("INSERT INTO t VALUES ({n})")).await;
        for statement in behind_our_back.split(';') {
            run(&database, statement).await;
        }
        let error = refused(&database, &ours).await;
        assert_eq!(error.fault(), Fault::Environment);
        assert_eq!(error.to_string(), format!("slot `{slot}` is not where the pipeline left it"), "{}", error.report());
        postgres::resnapshot(&pipeline(&database), &ours).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_came_from_elsewhere() {
    let database = fresh_database().await;
    run(&database, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let ours = config(&database.url, &["t"]);
    postgres::setup(&pipeline(&database), &ours).await.unwrap();
    // What a restored dump, a copied database and a promoted standby bring along in the table.
    for (change, cause) in [
        ("system_identifier = '1'", "the slot was made on server 1, this is server "),
        ("system_identifier = DEFAULT", ""),
        ("database = 1", "the slot was made for the database with OID 1, this one has "),
        ("timeline = 7", "the server was promoted or restored (timeline 7, now 1), and the slot is not one"),
    ] {
        if cause.is_empty() {
            run(
                &database,
                "UPDATE pgstream.slots SET system_identifier = s.system_identifier::text FROM pg_control_system() s",
            )
            .await;
            continue;
        }
        run(&database, &format!("UPDATE pgstream.slots SET {change}")).await;
        let error = refused(&database, &ours).await;
        assert_eq!(error.to_string(), format!("slot `{}` was made elsewhere", slot(&database)));
        assert!(error.report().contains(cause), "{}", error.report());
        run(
            &database,
            "UPDATE pgstream.slots SET timeline = 1, database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await;
    }
    postgres::check(&pipeline(&database), &ours).await.unwrap();
}

/// The source comes from a backup, the sink does not: what the sink takes for written is another history.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_ahead_of_a_restored_source_skips_nothing_in_silence() {
    let database = fresh_database().await;
    run(&database, TABLE).await;
    run(&database, "INSERT INTO documents VALUES (1, 't', 'first')").await;
    let folder = Folder::new();
    let name = pipeline(&database);
    let file = pipeline_file(&folder, &name, "snapshot: initial");
    let environment = [("DATABASE_URL", database.url.as_str())];
    bring_in_step(&database, &file).await;
    // As the sink looks to a source that lost the last hour, and a gigabyte of log.
    run(
        &database,
        "UPDATE pgstream.positions SET lsn = pg_current_wal_insert_lsn() + 1000000000, committed_at = now() - interval '1 hour'",
    )
    .await;
    run(&database, "INSERT INTO documents VALUES (2, 't', 'second')").await;
    let (status, log) = Running::start(&file, &environment).ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("the source's history is not the one that the sink was filled from"), "{log}");

    postgres::resnapshot(&name, &config(&database.url, &["documents"])).await.unwrap();
    let host = Running::start(&file, &environment);
    agree(&database).await;
    host.stop().await;
}

/// The sink comes from a backup, the source does not: what was confirmed since then does not come again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_restored_from_a_backup_is_refused_until_somebody_decides() {
    let database = fresh_database().await;
    run(&database, TABLE).await;
    let folder = Folder::new();
    let name = pipeline(&database);
    let file = pipeline_file(&folder, &name, "snapshot: never");
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut host = Running::start(&file, &environment);
    host.said("streaming").await;
    let noted =
        "SELECT count(*) = 1 FROM pgstream.slots s JOIN pgstream.positions p ON p.lsn = s.held_at WHERE s.slot = $1";
    let is_noted = async || database.client.query_one(noted, &[&slot(&database)]).await.unwrap().get(0);
    for id in 1..=2 {
        run(&database, &format!("INSERT INTO documents VALUES ({id}, 't', 'text {id}')")).await;
        agree(&database).await;
        eventually("it is noted how far the sink has come", is_noted).await;
        if id == 1 {
            run(&database, "CREATE TABLE backup AS SELECT lsn, ordinal, committed_at FROM pgstream.positions").await;
        }
    }
    host.kill();
    let restore = "DELETE FROM vectors WHERE group_id = '2';
        UPDATE pgstream.positions p SET lsn = b.lsn, ordinal = b.ordinal, committed_at = b.committed_at FROM backup b";
    run(&database, restore).await;
    for _ in 0..2 {
        let (status, log) = Running::start(&file, &environment).ended().await;
        assert_eq!(status.code(), Some(3), "{log}");
        assert!(log.contains("the sink is older than what was confirmed of the stream"), "{log}");
    }
    let ours = config(&database.url, &["documents"]);
    postgres::accept_sinks(&name, &ours).await.unwrap();
    let mut host = Running::start(&file, &environment);
    host.said("streaming").await;
    run(&database, "INSERT INTO documents VALUES (3, 't', 'text 3')").await;
    eventually("it is followed as it is", async || {
        let sql = "SELECT count(*) = 1 FROM vectors WHERE group_id = '3'";
        database.client.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
    eventually("it is noted how far the sink has come", is_noted).await;
    // Ended in order it knows as well.
    host.stop().await;
    run(&database, restore).await;
    let (status, log) = Running::start(&file, &environment).ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    postgres::resnapshot(&name, &ours).await.unwrap();
    let host = Running::start(&file, &environment);
    agree(&database).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_taken_out_of_the_publication_is_missed_while_streaming_and_after() {
    let database = fresh_database().await;
    run(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE v (id int PRIMARY KEY)",
    )
    .await;
    let mut ours = config(&database.url, &["t", "u", "v"]);
    ours.heartbeat = pgstream_host::config::Span(Duration::from_millis(20));
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    // Harmless: a table that is gone has no changes, and a name is a name.
    run(&database, "DROP TABLE v; ALTER TABLE u RENAME TO w; INSERT INTO w VALUES (1)").await;
    let next = async |source: &mut PostgresSource| loop {
        let batch = tokio::time::timeout(DEADLINE, source.next()).await.unwrap()?.unwrap();
        if let Some(event) = batch.events().first() {
            assert_eq!(batch.row(event).get(0), Some(Value::Int(1)));
            return Ok::<_, Error>(batch.relation(event).table.clone());
        }
    };
    assert_eq!(next(&mut source).await.unwrap(), "w");
    run(&database, &format!("ALTER PUBLICATION {} DROP TABLE t", slot(&database))).await;
    let what = format!("publication `{}` was changed while the pipeline used it", slot(&database));
    assert_eq!(next(&mut source).await.unwrap_err().to_string(), what);
    drop(source);
    let ours = config(&database.url, &["t", "w"]);
    assert_eq!(refused(&database, &ours).await.to_string(), what, "also by the next start");
    postgres::resnapshot(&pipeline(&database), &ours).await.unwrap();
    postgres::check(&pipeline(&database), &ours).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_made_anew_under_an_old_slot_is_said_to_be_empty_and_filled() {
    let database = fresh_database().await;
    run(&database, TABLE).await;
    run(&database, "INSERT INTO documents SELECT i, 't', 'text ' || i FROM generate_series(1, 20) i").await;
    let folder = Folder::new();
    let file = pipeline_file(&folder, &pipeline(&database), "snapshot: initial");
    let environment = [("DATABASE_URL", database.url.as_str())];
    bring_in_step(&database, &file).await;
    run(&database, "DROP TABLE vectors").await;
    let (status, log) = Running::start(&file, &environment).ended().await;
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("is not the one that the pipeline has filled"), "{log}");
    let typed = ["backfill", "pipeline.yaml", "--detach"];
    let output = pgstream(typed).current_dir(file.parent().unwrap()).envs(environment).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let host = Running::start(&file, &environment);
    agree(&database).await;
    host.stop().await;
    // By itself, where that is wanted.
    run(&database, "DROP TABLE vectors").await;
    let file = pipeline_file(&folder, &pipeline(&database), "on_slot_lost: resnapshot");
    bring_in_step(&database, &file).await;
    let (_, log) = Running::start(&file, &environment).stop().await;
    assert!(!log.contains("made anew"), "{log}");
}

/// What puts another table in the place of `t`.
const SWAPS: [&str; 3] = [
    "BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT",
    "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY)",
    "BEGIN; ALTER TABLE t SET SCHEMA aside; CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id); ALTER TABLE t ATTACH PARTITION aside.t DEFAULT; COMMIT",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_whose_place_another_is_put_is_missed_while_streaming_and_after() {
    for swap in SWAPS {
        let database = fresh_database().await;
        run(
            &database,
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE t_new (LIKE t INCLUDING ALL); CREATE SCHEMA aside",
        )
        .await;
        let mut ours = config(&database.url, &["t"]);
        ours.heartbeat = pgstream_host::config::Span(Duration::from_millis(20));
        let what = "`public.t` is another table than the one that the pipeline follows";
        // While it is down.
        let source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
        Box::new(source).close().await.unwrap();
        run(&database, swap).await;
        let error = refused(&database, &ours).await;
        assert_eq!((error.to_string().as_str(), error.fault()), (what, Fault::Environment), "{swap}");
        assert!(error.advice().unwrap().contains("pgstream-host resnapshot"), "{}", error.report());
        postgres::resnapshot(&pipeline(&database), &ours).await.unwrap();
        postgres::teardown(&pipeline(&database), &ours).await.unwrap();
        // While it runs.
        run(&database, "CREATE TABLE IF NOT EXISTS t_new (id int PRIMARY KEY); DROP TABLE IF EXISTS t_old; DROP SCHEMA aside CASCADE; CREATE SCHEMA aside").await;
        let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
        if swap.contains("PARTITION") {
            run(&database, "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY)").await;
        } else {
            run(&database, swap).await;
        }
        assert_eq!(last_word(&mut source).await.to_string(), what, "{swap}");
        drop(source);
        assert_eq!(refused(&database, &ours).await.to_string(), what, "{swap}");
        eventually("the slot is free", async || postgres::resnapshot(&pipeline(&database), &ours).await.is_ok()).await;
        postgres::check(&pipeline(&database), &ours).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_swapped_is_copied_by_itself_where_that_is_wanted_and_names_that_change_hands_are_no_loss() {
    let database = fresh_database().await;
    run(&database, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    let mut ours = Config { on_slot_lost: OnSlotLost::Resnapshot, ..config(&database.url, &["t", "u"]) };
    ours.heartbeat = pgstream_host::config::Span(Duration::from_millis(20));
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    // Both are followed before and after.
    run(&database, "ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u; INSERT INTO t VALUES (1); INSERT INTO u VALUES (2)").await;
    assert_eq!(read(&mut source, 2).await, ["+public.t id*=1", "+public.u id*=2"]);
    run(
        &database,
        "BEGIN; ALTER TABLE t RENAME TO t_old; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (7); COMMIT",
    )
    .await;
    let mut seen = read(&mut source, 4).await;
    seen.sort();
    assert_eq!(seen, ["+public.t id*=7", "+public.u id*=2", "0public.t", "0public.u"]);
    run(&database, "INSERT INTO t VALUES (8)").await;
    assert_eq!(read(&mut source, 1).await, ["+public.t id*=8"]);
    // A view in its place is another way to the same rows.
    run(&database, "ALTER TABLE t RENAME TO t_rows; CREATE VIEW t AS SELECT * FROM t_rows; INSERT INTO t VALUES (9)")
        .await;
    assert_eq!(read(&mut source, 1).await, ["+public.t_rows id*=9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_the_server_gave_up_is_replaced_where_that_is_wanted() {
    let options = Options::fast().setting("max_slot_wal_keep_size", "1MB").setting("min_wal_size", "32MB");
    let cluster = private_cluster(18, &options.setting("max_wal_size", "32MB"));
    let database = Database::create(&cluster).await;
    run(&database, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE filler (x text)").await;
    let ours = Config { on_slot_lost: OnSlotLost::Resnapshot, ..config(&database.url, &["t"]) };
    postgres::setup(&pipeline(&database), &ours).await.unwrap();
    run(&database, "INSERT INTO t VALUES (1)").await;
    let other = connect(&database.url).await;
    eventually("the slot is given up", async || {
        let fill = "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 10000); SELECT pg_switch_wal()";
        other.batch_execute(fill).await.unwrap();
        other.batch_execute("CHECKPOINT").await.unwrap();
        other.query_one("SELECT wal_status = 'lost' FROM pg_replication_slots", &[]).await.unwrap().get(0)
    })
    .await;
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    let copied = async {
        loop {
            let batch = source.next().await.unwrap().unwrap();
            if let Some(end) = batch.ends_at() {
                source.confirm(end);
            }
            if batch.events().iter().any(|event| event.snapshot && event.operation == Operation::Insert) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, copied).await.unwrap();
}

/// Two hosts that lose and take over the slot in turns: what the other one confirmed is no loss.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_host_of_the_pipeline_has_read_is_not_lost() {
    let database = fresh_database().await;
    run(&database, "CREATE TABLE t (id int PRIMARY KEY)").await;
    let ours = config(&database.url, &["t"]);
    let mut first = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    let mut second = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    let read = async |source: &mut PostgresSource, id: i64| loop {
        let batch = tokio::time::timeout(DEADLINE, source.next()).await.unwrap().unwrap().unwrap();
        if let Some(end) = batch.ends_at() {
            source.confirm(end);
        }
        let ids = |event| batch.row(event).get(0) == Some(Value::Int(id));
        if batch.events().iter().any(ids) {
            return;
        }
    };
    run(&database, "INSERT INTO t VALUES (1)").await;
    read(&mut first, 1).await;
    // Nobody polls the first one while its connection is cut, so the second one is quicker.
    let cut = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(&database)
    );
    run(&database, &cut).await;
    run(&database, "INSERT INTO t VALUES (2)").await;
    read(&mut second, 2).await;
    Box::new(second).close().await.unwrap();
    run(&database, "INSERT INTO t VALUES (3)").await;
    read(&mut first, 3).await;
    Box::new(first).close().await.unwrap();
}

/// Who sets a running pipeline up tells its stream, which looks what is published now, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_beside_a_running_pipeline_is_followed_also_where_a_table_was_dropped_or_came_back() {
    let database = fresh_database().await;
    run(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE v (id int PRIMARY KEY)",
    )
    .await;
    let (pipeline, all) = (pipeline(&database), config(&database.url, &["public.*"]));
    let mut source = PostgresSource::connect(&pipeline, &all).await.unwrap();
    run(&database, "INSERT INTO t VALUES (1)").await;
    assert_eq!(read(&mut source, 1).await, ["+public.t id*=1"]);
    run(&database, "DROP TABLE v").await;
    postgres::setup(&pipeline, &all).await.unwrap();
    run(&database, "INSERT INTO t VALUES (2)").await;
    assert_eq!(read(&mut source, 1).await, ["+public.t id*=2"]);
    // Published otherwise, and then as before: there is nothing to look for, and two words of it are in the log.
    postgres::setup(&pipeline, &config(&database.url, &["t"])).await.unwrap();
    postgres::setup(&pipeline, &all).await.unwrap();
    run(&database, "INSERT INTO u VALUES (3)").await;
    assert_eq!(read(&mut source, 1).await, ["+public.u id*=3"]);
}

/// What makes a new beginning fail leaves the old slot, and with it what was not read yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_beginning_that_cannot_be_made_leaves_the_slot_as_it_is() {
    let database = fresh_database().await;
    run(&database, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    let ours = config(&database.url, &["t"]);
    let source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    Box::new(source).close().await.unwrap();
    // Somebody forbids it.
    run(
        &database,
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
         CREATE EVENT TRIGGER no ON ddl_command_start WHEN TAG IN ('ALTER PUBLICATION') EXECUTE FUNCTION no()",
    )
    .await;
    let error = postgres::resnapshot(&pipeline(&database), &config(&database.url, &["t", "u"])).await.unwrap_err();
    assert!(error.report().contains("cannot alter publication"), "{}", error.report());
    run(&database, "DROP EVENT TRIGGER no; INSERT INTO t VALUES (1)").await;
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    assert_eq!(read(&mut source, 1).await, ["+public.t id*=1"]);
}

/// The publication tells which rows of a transaction are sent, and so where each stands in it.
#[tokio::test(flavor = "multi_thread")]
async fn another_publication_under_a_slot_is_refused_until_all_rows_are_copied_again() {
    let database = fresh_database().await;
    run(&database, TABLE).await;
    let folder = Folder::new();
    let (name, ours) = (pipeline(&database), slot(&database));
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut host = Running::start(&pipeline_file(&folder, &name, "snapshot: never"), &environment);
    host.said("streaming").await;
    run(&database, "INSERT INTO documents VALUES (1, 't', 'one')").await;
    agree(&database).await;
    let (_, log) = host.stop().await;
    assert!(!log.contains("WARN"), "nothing is amiss: {log}");
    let second = format!("{ours}_second");
    let made = format!("CREATE PUBLICATION {second} FOR TABLE documents WITH (publish_via_partition_root = true)");
    run(&database, &made).await;
    run(&database, "INSERT INTO documents VALUES (2, 't', 'two')").await;
    let other = pipeline_file(&folder, &name, &format!("snapshot: never, publication: {second}"));
    for _ in 0..2 {
        let (status, log) = Running::start(&other, &environment).ended().await;
        assert_eq!(status.code(), Some(3), "{log}");
        assert!(
            log.contains(&format!("was read with publication `{ours}`, and now is to be with `{second}`")),
            "{log}"
        );
        assert!(log.contains(&format!("write `publication: {ours}` into the source")), "{log}");
    }
    bring_in_step(&database, &pipeline_file(&folder, &name, &format!("publication: {ours}"))).await;
    run(&database, "INSERT INTO documents VALUES (3, 't', 'three')").await;
    let other = pipeline_file(&folder, &name, &format!("publication: {second}, on_slot_lost: resnapshot"));
    let turn =
        async || -> i64 { database.client.query_one("SELECT turn FROM pgstream.slots", &[]).await.unwrap().get(0) };
    let before = turn().await;
    let done = pgstream(["resnapshot", other.to_str().unwrap()]).envs(environment).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(turn().await > before, "a host that read the slot before can note nothing of it any more");
    bring_in_step(&database, &other).await;
    let left = database.client.query_one("SELECT string_agg(pubname, ' ') FROM pg_publication", &[]).await.unwrap();
    assert_eq!(left.get::<_, &str>(0), second, "nothing of ours is left behind");
    // From now on it is the one.
    run(&database, "INSERT INTO documents VALUES (4, 't', 'four')").await;
    bring_in_step(&database, &pipeline_file(&folder, &name, &format!("publication: {second}"))).await;
}
