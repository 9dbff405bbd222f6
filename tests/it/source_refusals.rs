//! What the source refuses, in the words in which it does: who must act, and the SQL to run.

use std::time::Duration;

use pgstream_host::demo::{Options, Stop};
use pgstream_host::error::{Error, Fault};
use pgstream_host::source::Source;
use pgstream_host::source::postgres::{self, PostgresSettings, PostgresSource, Snapshot};

use crate::source::{config, pipeline, slot};
use crate::support::program::root;
use crate::support::{Database, connect, fresh_database, private_cluster, versions};

const LOST: &str = "changes made meanwhile never reach the pipeline. `pgstream-host resnapshot pipeline.yaml` begins anew: \
                    it clears the sinks and copies all rows again; with `on_slot_lost: resnapshot` in the source that \
                    happens by itself";

async fn with_table() -> Database {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    database
}

/// What `check` says; `connect` says the same.
async fn refusal(database: &Database, config: &PostgresSettings) -> Error {
    let name = pipeline(database);
    let error = postgres::check(&name, config).await.expect_err("a refusal");
    let again = PostgresSource::connect(&name, config).await.map(|_| ()).expect_err("a refusal");
    assert_eq!(error.report(), again.report());
    error
}

fn assert_refused(error: &Error, fault: Fault, report: &str) {
    assert_eq!((error.report().as_str(), error.fault()), (report, fault));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_logical_wal_or_without_room_or_in_recovery() {
    let mut cluster =
        private_cluster(18, &Options::fast().setting("max_replication_slots", "1").setting("max_wal_senders", "1"));
    let database = Database::create(&cluster).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let ours = config(&database.url, &["t"]);

    database.client.execute("SELECT pg_create_physical_replication_slot('theirs')", &[]).await.unwrap();
    let error = refusal(&database, &ours).await;
    assert_refused(
        &error,
        Fault::Environment,
        &format!(
            "error: the server has no room for slot `{}`\n  caused by: all 1 replication slots are taken\n  \
             help: drop one that nobody needs (SELECT slot_name, active FROM pg_replication_slots), or raise \
             `max_replication_slots` and restart the server\n",
            slot(&database)
        ),
    );
    database.client.execute("SELECT pg_drop_replication_slot('theirs')", &[]).await.unwrap();

    let name = pipeline(&database);
    let source = PostgresSource::connect(&name, &ours).await.unwrap();
    let mut other = ours.clone();
    other.slot = Some("other".into());
    assert!(refusal(&database, &other).await.to_string().starts_with("the server has no room for slot `other`"));
    Box::new(source).close().await.unwrap();

    cluster.set("wal_level", "replica").unwrap();
    postgres::teardown(&name, &ours).await.unwrap();
    cluster.stop(Stop::Fast).unwrap();
    cluster.start_again().unwrap();
    assert_refused(
        &refusal(&database, &ours).await,
        Fault::Environment,
        "error: `wal_level` of the server is `replica`, not `logical`\n  \
         help: ALTER SYSTEM SET wal_level = logical; then restart the server (Amazon RDS: `rds.logical_replication = 1`, \
         Cloud SQL: `cloudsql.logical_decoding = on`)\n",
    );

    cluster.set("wal_level", "logical").unwrap();
    cluster.stop(Stop::Fast).unwrap();
    cluster.write("standby.signal", "").unwrap();
    cluster.start_again().unwrap();
    assert_refused(
        &refusal(&database, &ours).await,
        Fault::Environment,
        "error: the server is a standby\n  \
         caused by: the pipeline keeps its publication, its state (`pgstream.slots`) and the marks of its copies in the database, \
         which only the primary can write\n  help: name the primary in `url`\n",
    );

    cluster.stop(Stop::Fast).unwrap();
    let error = refusal(&database, &ours).await;
    assert_eq!(error.fault(), Fault::Transient, "the server may come back");
    assert_eq!(error.to_string(), format!("cannot reach the database server at `127.0.0.1:{}`", cluster.port()));
    assert_eq!(error.advice(), Some("check host and port in `url`, and that the server runs and listens there"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_privileges() {
    let database = with_table().await;
    let (role, slot) = (format!("user_{}", database.name), slot(&database));
    database.client.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'p'")).await.unwrap();
    let url = format!("postgres://{role}:p@{}", database.url.split_once('@').unwrap().1);
    let ours = config(&url, &["t"]);
    assert_refused(
        &refusal(&database, &ours).await,
        Fault::Environment,
        &format!("error: user `{role}` lacks the privilege REPLICATION\n  help: ALTER ROLE \"{role}\" REPLICATION;\n"),
    );
    database.client.batch_execute(&format!("ALTER ROLE {role} REPLICATION")).await.unwrap();
    let create = format!(
        "CREATE PUBLICATION \"{slot}\" FOR TABLE ONLY \"public\".\"t\" WITH (publish = 'insert, update, delete, truncate', \
         publish_via_partition_root = true);"
    );
    assert_refused(
        &refusal(&database, &ours).await,
        Fault::Environment,
        &format!(
            "error: user `{role}` may not create publication `{slot}`\n  \
             caused by: it takes the right CREATE on the database, and to own every table of it\n  \
             help: let the tables' owner run, before the slot is made:\n        {create}\n"
        ),
    );
    database.client.batch_execute(&create).await.unwrap();
    let schema = format!("CREATE SCHEMA pgstream AUTHORIZATION \"{role}\";");
    assert_refused(
        &refusal(&database, &ours).await,
        Fault::Environment,
        &format!(
            "error: user `{role}` may not keep the pipeline's state in the database\n  \
             caused by: it takes a schema `pgstream` that the user may create tables in\n  \
             help: as the database's owner: {schema}\n"
        ),
    );
    // The advice works, and the user needs no more than REPLICATION then.
    database.client.batch_execute(&schema).await.unwrap();
    let source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    Box::new(source).close().await.unwrap();
    let torn = postgres::teardown(&pipeline(&database), &ours).await.unwrap();
    assert_eq!(
        torn,
        [format!("dropped slot `{slot}`"), format!("left publication `{slot}`, which pgstream-host did not make")]
    );
}

/// What docs/postgres.md says to run, and no more: rows are copied, changes streamed, and the pipeline ends in order.
#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_role_of_the_manual_is_enough() {
    let database = fresh_database().await;
    database
        .client
        .batch_execute("CREATE TABLE documents (id int PRIMARY KEY); INSERT INTO documents VALUES (1)")
        .await
        .unwrap();
    let role = format!("role_{}", database.name);
    let manual = std::fs::read_to_string(root().join("docs/postgres.md")).unwrap();
    let sql = manual.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    let sql = sql.replace(" pipeline ", &format!(" {role} ")).replace(" pipeline;", &format!(" {role};"));
    database.client.batch_execute(&sql.replace('…', "p")).await.unwrap();
    let url = format!("postgres://{role}:p@{}", database.url.split_once('@').unwrap().1);
    let ours = PostgresSettings {
        publication: Some("pgstream_documents".into()),
        snapshot: Snapshot::Initial,
        ..config(&url, &["documents"])
    };
    let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
    let mut rows = 0;
    let reading = async {
        while rows < 2 {
            let batch = source.next().await.unwrap().unwrap();
            if rows == 0 && !batch.events().is_empty() {
                database.client.batch_execute("INSERT INTO documents VALUES (2)").await.unwrap();
            }
            rows += batch.events().len();
            if let Some(end) = batch.ends_at() {
                source.confirm(end);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
    Box::new(source).close().await.unwrap();
    postgres::resnapshot(&pipeline(&database), &ours).await.unwrap();
    postgres::teardown(&pipeline(&database), &ours).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_missing_or_cannot_be_followed() {
    let database = with_table().await;
    database
        .client
        .batch_execute(
            "CREATE TABLE documents (id int PRIMARY KEY); CREATE VIEW v AS SELECT 1 AS x; CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
             CREATE TABLE keyless (id int); CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
             CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
             CREATE TABLE \"full\" (id int); ALTER TABLE \"full\" REPLICA IDENTITY FULL;
             CREATE TABLE by_index (id int NOT NULL UNIQUE); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id_key",
        )
        .await
        .unwrap();
    for (table, fault, report) in [
        (
            "public.document",
            Fault::Environment,
            "error: table `public.document` does not exist\n  help: did you mean `public.documents`?\n",
        ),
        ("other.t", Fault::Environment, "error: table `other.t` does not exist\n  help: did you mean `public.t`?\n"),
        (
            "public.chunk_*",
            Fault::Environment,
            "error: no table matches `public.chunk_*`\n  help: correct `tables` in the source, or create the table first\n",
        ),
        (
            "v",
            Fault::Config,
            "error: `public.v` is a view, whose changes Postgres does not publish\n  help: name ordinary tables in `tables`\n",
        ),
        (
            "unlogged",
            Fault::Config,
            "error: `public.unlogged` is an unlogged table, whose changes Postgres does not publish\n  help: name ordinary tables in `tables`\n",
        ),
        (
            "keyless",
            Fault::Environment,
            "error: table `public.keyless` has no primary key, so updates and deletes cannot be followed\n  \
             help: ALTER TABLE \"public\".\"keyless\" ADD PRIMARY KEY (\"id\");\n        \
             or, for small tables: ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL;\n",
        ),
        (
            "nothing",
            Fault::Environment,
            "error: table `public.nothing` publishes no key of changed rows (its replica identity), so updates and deletes cannot be followed\n  \
             help: ALTER TABLE \"public\".\"nothing\" REPLICA IDENTITY DEFAULT;\n",
        ),
        (
            "deferred",
            Fault::Environment,
            "error: table `public.deferred` has no primary key, so updates and deletes cannot be followed\n  \
             help: ALTER TABLE \"public\".\"deferred\" DROP CONSTRAINT \"deferred_pkey\", ADD PRIMARY KEY (\"id\");\n        \
             or, for small tables: ALTER TABLE \"public\".\"deferred\" REPLICA IDENTITY FULL;\n",
        ),
    ] {
        assert_refused(&refusal(&database, &config(&database.url, &["t", table])).await, fault, report);
    }
    let followed = config(&database.url, &["full", "by_index", "documents"]);
    postgres::check(&pipeline(&database), &followed).await.unwrap();
    // Rows are copied by their key.
    let copied = |tables: &[&str]| PostgresSettings { snapshot: Snapshot::Initial, ..config(&database.url, tables) };
    for (table, report) in [
        (
            "full",
            "error: table `public.full` has no primary key, so its rows cannot be copied in parts\n  \
             help: ALTER TABLE \"public\".\"full\" ADD PRIMARY KEY (\"id\");\n        ALTER TABLE \"public\".\"full\" REPLICA IDENTITY DEFAULT;\n        \
             or leave out the rows that are there already: `snapshot: never` in the source\n",
        ),
        (
            "keyless",
            "error: table `public.keyless` has no primary key, so updates and deletes cannot be followed\n  \
             help: ALTER TABLE \"public\".\"keyless\" ADD PRIMARY KEY (\"id\");\n",
        ),
    ] {
        assert_refused(&refusal(&database, &copied(&["t", table])).await, Fault::Environment, report);
    }
    postgres::check(&pipeline(&database), &copied(&["by_index", "documents"])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_somebody_else_made_for_other_tables() {
    let database = with_table().await;
    let slot = slot(&database);
    database
        .client
        .batch_execute(&format!("CREATE TABLE u (id int PRIMARY KEY); CREATE PUBLICATION {slot} FOR TABLE u"))
        .await
        .unwrap();
    assert_refused(
        &refusal(&database, &config(&database.url, &["t"])).await,
        Fault::Config,
        &format!(
            "error: publication `{slot}` does not publish all that the source needs, and was not made by pgstream-host\n  \
             help: ALTER PUBLICATION \"{slot}\" ADD TABLE ONLY \"public\".\"t\";\n        \
             ALTER PUBLICATION \"{slot}\" SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);\n        \
             or name another `publication` in the source\n"
        ),
    );
}

/// What the help says is accepted, whatever the publication was made for.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_of_somebody_else_s_is_mended_by_what_the_help_says() {
    for cluster in versions() {
        for of in
            ["TABLE other", "TABLE public.part", "ALL TABLES", "TABLES IN SCHEMA aside", "TABLES IN SCHEMA public"]
        {
            let database = Database::create(cluster).await;
            let slot = slot(&database);
            database
                .client
                .batch_execute(&format!(
                    "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY); CREATE SCHEMA aside;
                     CREATE TABLE part (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE leaf PARTITION OF part DEFAULT;
                     CREATE PUBLICATION {slot} FOR {of}"
                ))
                .await
                .unwrap();
            let ours = config(&database.url, &["t", "part"]);
            let error = postgres::check(&pipeline(&database), &ours).await.expect_err(of);
            let sql = error.advice().unwrap().split("\nor name").next().unwrap();
            database.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{of}: {sql}: {error:?}"));
            postgres::check(&pipeline(&database), &ours)
                .await
                .unwrap_or_else(|error| panic!("{of}: {}", error.report()));
        }
    }
}

/// Their names differ, and those of their slots and publications do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_another_pipeline_s() {
    let database = with_table().await;
    let (first, second, slot) = (pipeline(&database), database.name.clone(), slot(&database));
    let ours = config(&database.url, &["t"]);
    postgres::setup(&first, &ours).await.unwrap();
    let report = format!(
        "error: publication `{slot}` is that of pipeline `{first}`\n  \
         help: give the pipeline another `name`, or name another `slot` and `publication` in the source; if `{first}` was \
         the name of this pipeline before: COMMENT ON PUBLICATION \"{slot}\" IS 'pgstream-host: pipeline {second}';\n"
    );
    for error in [
        postgres::setup(&second, &ours).await.unwrap_err(),
        postgres::resnapshot(&second, &ours).await.unwrap_err(),
        postgres::teardown(&second, &ours).await.unwrap_err(),
        PostgresSource::connect(&second, &ours).await.map(drop).unwrap_err(),
    ] {
        assert_refused(&error, Fault::Config, &report);
    }
    let rename = format!("COMMENT ON PUBLICATION \"{slot}\" IS 'pgstream-host: pipeline {second}'");
    database.client.batch_execute(&rename).await.unwrap();
    postgres::setup(&second, &ours).await.unwrap();
    assert_eq!(postgres::teardown(&second, &ours).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_not_ours_to_read() {
    let database = with_table().await;
    let (slot, ours) = (slot(&database), config(&database.url, &["t"]));
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    let help = format!("  help: name another `slot` in the source; if nobody needs this one: {drop}\n");

    database.client.execute(&format!("SELECT pg_create_physical_replication_slot('{slot}')"), &[]).await.unwrap();
    let what = format!("error: slot `{slot}` is a physical slot, not a logical one\n{help}");
    assert_refused(&refusal(&database, &ours).await, Fault::Config, &what);
    assert_eq!(
        postgres::teardown(&pipeline(&database), &ours).await.unwrap()[0],
        format!("left slot `{slot}`, which pgstream-host did not make")
    );
    database.client.execute(&drop, &[]).await.unwrap();

    let other = fresh_database().await;
    other
        .client
        .execute(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"), &[])
        .await
        .unwrap();
    let what = format!("error: slot `{slot}` belongs to database `{}`, not `{}`\n{help}", other.name, database.name);
    assert_refused(&refusal(&database, &ours).await, Fault::Config, &what);
    other.client.execute(&drop, &[]).await.unwrap();

    let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', true)");
    database.client.execute(&create, &[]).await.unwrap();
    assert_refused(
        &refusal(&database, &ours).await,
        Fault::Config,
        &format!("error: slot `{slot}` is temporary\n{help}"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_the_server_gave_up() {
    let cluster = private_cluster(
        18,
        &Options::fast()
            .setting("max_slot_wal_keep_size", "1MB")
            .setting("min_wal_size", "32MB")
            .setting("max_wal_size", "32MB"),
    );
    let database = Database::create(&cluster).await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE filler (x text)").await.unwrap();
    let ours = config(&database.url, &["t"]);
    postgres::setup(&pipeline(&database), &ours).await.unwrap();
    for _ in 0..6 {
        database.client.batch_execute("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 10000); SELECT pg_switch_wal(); CHECKPOINT").await.unwrap();
    }
    assert_refused(
        &refusal(&database, &ours).await,
        Fault::Environment,
        &format!(
            "error: slot `{}` was invalidated by the server\n  caused by: invalidation reason: wal_removed\n  help: {LOST}. \
             Then raise `max_slot_wal_keep_size` or `idle_replication_slot_timeout`, whichever it was\n",
            slot(&database)
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_or_a_publication_that_vanished() {
    let database = with_table().await;
    let (slot, ours) = (slot(&database), config(&database.url, &["t"]));
    postgres::setup(&pipeline(&database), &ours).await.unwrap();
    database.client.batch_execute(&format!("DROP PUBLICATION {slot}")).await.unwrap();
    let what = format!(
        "error: publication `{slot}` is gone\n  caused by: the server does not keep it, though it keeps the slot\n  help: {LOST}\n"
    );
    assert_refused(&refusal(&database, &ours).await, Fault::Environment, &what);

    postgres::teardown(&pipeline(&database), &ours).await.unwrap();
    postgres::setup(&pipeline(&database), &ours).await.unwrap();
    database.client.execute(&format!("SELECT pg_drop_replication_slot('{slot}')"), &[]).await.unwrap();
    let what = format!(
        "error: slot `{slot}` is gone\n  caused by: it was dropped, or left behind by a failover or a restored backup\n  \
         help: {LOST}\n"
    );
    assert_refused(&refusal(&database, &ours).await, Fault::Environment, &what);
    postgres::teardown(&pipeline(&database), &ours).await.unwrap();
    postgres::setup(&pipeline(&database), &ours).await.unwrap();
}

/// Reads on until the source gives up.
async fn last_word(source: &mut PostgresSource) -> Error {
    let reading = async {
        loop {
            match source.next().await {
                Ok(batch) => assert!(batch.unwrap().events().is_empty(), "rows went past a missing publication"),
                Err(error) => return error,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("an error in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_dropped_while_its_changes_are_streamed() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
        let ours = config(&database.url, &["t"]);
        let mut source = PostgresSource::connect(&pipeline(&database), &ours).await.unwrap();
        database.client.batch_execute(&format!("DROP PUBLICATION {}", slot(&database))).await.unwrap();
        database.client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        let error = last_word(&mut source).await;
        assert_eq!(error.fault(), Fault::Environment, "{}", error.report());
        assert!(error.report().contains("publication"), "{}", error.report());
        assert!(error.advice().unwrap().starts_with(LOST), "{}", error.report());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_somebody_moved_ahead_while_we_were_cut_off() {
    let database = with_table().await;
    let slot = slot(&database);
    let mut source = PostgresSource::connect(&pipeline(&database), &config(&database.url, &["t"])).await.unwrap();
    // Nobody polls the source, so it does not come back in between.
    let other = connect(&database.url).await;
    let stolen = async {
        let cut = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
        );
        other.execute(&cut, &[]).await.unwrap();
        other.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        while other
            .execute(&format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_insert_lsn())"), &[])
            .await
            .is_err()
        {}
    };
    tokio::time::timeout(Duration::from_secs(60), stolen).await.unwrap();
    let error = last_word(&mut source).await;
    assert_eq!(error.to_string(), format!("slot `{slot}` is not where the pipeline left it"), "{}", error.report());
    assert_eq!((error.fault(), error.advice()), (Fault::Environment, Some(LOST)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tearing_down_what_is_in_use_says_who_uses_it() {
    let database = with_table().await;
    let (name, slot, ours) = (pipeline(&database), slot(&database), config(&database.url, &["t"]));
    let source = PostgresSource::connect(&name, &ours).await.unwrap();
    let error = postgres::teardown(&name, &ours).await.unwrap_err();
    assert_eq!((error.fault(), error.to_string()), (Fault::Transient, format!("slot `{slot}` is in use")));
    assert!(
        error.report().contains(&format!(
            " of the server serves it to `pgstream-host {name}` at 127.0.0.1\n  help: stop the pipeline that uses it first\n"
        )),
        "{}",
        error.report()
    );
    Box::new(source).close().await.unwrap();
    postgres::teardown(&name, &ours).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be() {
    let database = with_table().await;
    let good = config(&database.url, &["t"]);
    let with = |change: fn(&mut PostgresSettings)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    for (config, what) in [
        (with(|config| config.slot = Some("Docs".into())), "`Docs` cannot be the name of a replication slot"),
        (with(|config| config.publication = Some(String::new())), "the publication's name must have 1 to 63 bytes"),
        (with(|config| config.tables.clear()), "the source names no tables"),
        (with(|config| config.tables = vec!["a.b.c".into()]), "`a.b.c` does not name tables"),
    ] {
        let error = refusal(&database, &config).await;
        assert_eq!((error.fault(), error.to_string().as_str()), (Fault::Config, what));
        assert!(error.advice().is_some());
    }
}
