//! The tests of the tests: with one promise broken on purpose (`src/sabotage.rs`), what must notice it notices it.
//!
//! Each scenario is a short story with the real program in which a broken promise shows: told as it is, the sink is right at
//! the end; told with a host that makes the mistake, it must not be.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use pgstream_host::lsn::Lsn;
use pgstream_host::sabotage::{Breakage, VARIABLE};

use crate::sinks::contract::Points;
use crate::sinks::qdrant_edge;
use crate::support::oracle::{DIMENSION, Differences, Oracle, TABLE, pgvector_points, transform};
use crate::support::program::{Folder, Running, eventually, pgstream};
use crate::support::proxy::{Proxy, Way};
use crate::support::{Database, cluster_without_its_standby, connect, fresh_database, postgres, standby_arrives};

/// Makes a test of every scenario with a host that keeps its promises.
macro_rules! hold {
    ($($scenario:ident)+) => {
        mod hold {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                let noticed = super::$scenario(None).await;
                assert!(noticed.is_empty(), "{noticed:?}");
            })+
        }
    };
}

/// Makes a test of every breakage, which must be noticed by its scenario.
macro_rules! caught {
    ($($test:ident: $breakage:ident by $scenario:ident;)+) => {
        mod caught {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let noticed = super::$scenario(Some(super::Breakage::$breakage)).await;
                assert!(!noticed.is_empty(), "nothing was noticed of a broken promise");
                println!("{noticed:?}");
            })+
        }

        #[test]
        fn every_breakage_has_its_test() {
            assert_eq!([$(Breakage::$breakage),+], Breakage::ALL);
        }
    };
}

hold! { changes order outage overlap unseen_commit copy_in_an_outage two_hosts killed_after_a_confirmation lost_slot }

caught! {
    a_confirmation_before_all_is_durable: EarlyConfirm by outage;
    a_batch_that_is_dropped: DroppedBatch by changes;
    results_in_another_order: ReorderedResults by order;
    a_keepalive_confirmed_on_receipt: KeepaliveConfirmed by outage;
    a_delivery_that_is_not_repeated: RetrySkipped by outage;
    a_position_stored_apart_from_the_rows: PositionApart by outage;
    two_hosts_that_write: FencingOff by two_hosts;
    a_copy_that_wins_over_changes: OverlapIgnored by overlap;
    a_snapshot_that_is_believed: SnapshotBelieved by unseen_commit;
    a_copy_that_gives_way_to_a_gap: GapLeft by overlap;
    a_copy_noted_before_it_is_durable: CopyNotedEarly by copy_in_an_outage;
    a_changed_key_without_its_delete: KeyChangeWithoutDelete by changes;
    unchanged_as_null: UnchangedAsNull by changes;
    a_truncate_that_is_ignored: TruncateIgnored by changes;
    chunks_that_stay_behind: GroupLeftovers by changes;
    a_write_that_is_not_flushed: NotFlushed by killed_after_a_confirmation;
    a_slot_that_is_made_anew: SlotMadeAnew by lost_slot;
}

/// What a scenario noticed: one text for each way in which a sink differs from its table.
type Noticed = Vec<String>;

/// Every kind of change, one transaction after the other.
async fn changes(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    let mut host = stage.run(&stage.pipeline("", PGVECTOR)).await;
    for change in [
        "INSERT INTO documents SELECT i, 'before', 'soon gone ' || i FROM generate_series(900, 910) i",
        "TRUNCATE documents",
        "INSERT INTO documents VALUES (1, 'moves', 'a row whose key changes')",
        "INSERT INTO documents SELECT 2, 'large', string_agg(md5(i::text), ' ') FROM generate_series(1, 200) i",
        "INSERT INTO documents VALUES (3, 'shrinks', repeat('many words in many chunks ', 40))",
        "INSERT INTO documents VALUES (4, 'goes', 'deleted later')",
        "UPDATE documents SET views = 7 WHERE id = 2",
        "UPDATE documents SET id = 101 WHERE id = 1",
        "UPDATE documents SET content = 'one chunk' WHERE id = 3",
        "DELETE FROM documents WHERE id = 4",
    ] {
        stage.sql(change).await;
        stage.settle(&mut host).await;
    }
    stage.noticed().await
}

/// Many versions of one row that wait for a sink together.
async fn order(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    let mut host = stage.run(&stage.pipeline("batch: { max_events: 1 }", PGVECTOR)).await;
    stage.sql("INSERT INTO documents VALUES (1, 'v', 'version 0')").await;
    stage.settle(&mut host).await;
    stage.sql(REFUSE).await;
    for version in 1..=30 {
        stage.sql(&format!("UPDATE documents SET content = 'version {version}' WHERE id = 1")).await;
    }
    host.said("SQLSTATE 53100").await;
    stage.told(stage.end().await).await;
    stage.sql(TAKE_AGAIN).await;
    stage.settle(&mut host).await;
    stage.noticed().await
}

/// A sink that takes nothing for a while, and a kill before it takes something again.
async fn outage(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    let pipeline = stage.pipeline("", PGVECTOR);
    let mut host = stage.run(&pipeline).await;
    stage.sql("INSERT INTO documents VALUES (1, 'first', 'before the outage')").await;
    stage.settle(&mut host).await;
    stage.sql(REFUSE).await;
    stage.sql("INSERT INTO documents VALUES (2, 'second', 'during the outage')").await;
    host.said("SQLSTATE 53100").await;
    // Log that has nothing for the pipeline: the server says so with a keepalive.
    stage.sql("CREATE TABLE elsewhere AS SELECT 1").await;
    stage.told(stage.end().await).await;
    host.kill();
    stage.sql(TAKE_AGAIN).await;
    let mut host = stage.run(&pipeline).await;
    stage.settle(&mut host).await;
    stage.noticed().await
}

/// Rows that change, and go, while a copy reads them.
async fn overlap(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    stage.sql("INSERT INTO documents SELECT i, 'old', 'old text ' || i FROM generate_series(1, 5) i").await;
    stage
        .sql("INSERT INTO documents SELECT 6, 'large', string_agg(md5(i::text), ' ') FROM generate_series(1, 200) i")
        .await;
    stage
        .sql(
            "CREATE FUNCTION held(bigint) RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN true; END $$;
             SELECT pg_advisory_lock(77)",
        )
        .await;
    let pipeline = stage.pipeline("", PGVECTOR);
    let mut host = stage.run(&pipeline).await;
    let mut copy = quiet(["backfill", "--where", "public.held(id)"]).arg(&pipeline).spawn().unwrap();
    // Its snapshot is taken.
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("the copy reads", async || stage.ask::<bool>(waits).await).await;
    stage.sql("UPDATE documents SET content = 'new text' WHERE id = 1; DELETE FROM documents WHERE id = 2").await;
    // Its text is not in the log, and not in the sink.
    stage.sql("UPDATE documents SET views = 7 WHERE id = 6").await;
    stage.confirmed(&mut host, stage.end().await).await;
    stage.sql("SELECT pg_advisory_unlock(77)").await;
    stage.settle(&mut host).await;
    copy.wait().unwrap();
    stage.noticed().await
}

/// A commit that is in the log, and in the sinks, while no query sees it yet: a synchronous standby is waited for.
async fn unseen_commit(broken: Option<Breakage>) -> Noticed {
    let cluster = cluster_without_its_standby();
    let stage = Stage::set(Database::create(&cluster).await, broken).await;
    stage.sql("INSERT INTO documents VALUES (1, 'old', 'old text')").await;
    let pipeline = stage.pipeline("", PGVECTOR);
    let mut host = stage.run(&pipeline).await;
    let writer = connect(&stage.database.url).await;
    let update = "SET synchronous_commit = on; UPDATE documents SET content = 'new text' WHERE id = 1";
    let writing = tokio::spawn(async move { writer.batch_execute(update).await });
    eventually("the commit has been streamed", async || {
        stage.ask::<bool>("SELECT EXISTS (SELECT FROM points WHERE payload->>'content' = 'new text')").await
    })
    .await;
    let mut copy = quiet(["backfill"]).arg(&pipeline).spawn().unwrap();
    eventually("the copy was read again and again, or taken", async || {
        host.log().matches("is read again").count() > 1
            || stage.ledger("SELECT count(*) FROM pgstream.copies WHERE done_at IS NOT NULL").await > 0
    })
    .await;
    standby_arrives(&cluster);
    writing.await.unwrap().unwrap();
    stage.settle(&mut host).await;
    copy.wait().unwrap();
    stage.noticed().await
}

/// A copy that has been read but not written when the host is killed.
async fn copy_in_an_outage(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    stage.sql("INSERT INTO documents SELECT i, 'old', 'old text ' || i FROM generate_series(1, 600) i").await;
    let pipeline = stage.pipeline("", PGVECTOR);
    let mut host = stage.run(&pipeline).await;
    stage.sql(REFUSE).await;
    let mut copy = quiet(["backfill", "--rate", "200"]).arg(&pipeline).spawn().unwrap();
    eventually("the sink has refused it often enough, or it was noted", async || {
        host.log().matches("SQLSTATE 53100").count() > 4
            || stage.ledger("SELECT coalesce(max(rows), 0)::bigint FROM pgstream.copies").await > 0
    })
    .await;
    host.kill();
    stage.sql(TAKE_AGAIN).await;
    let mut host = stage.run(&pipeline).await;
    stage.settle(&mut host).await;
    copy.wait().unwrap();
    stage.noticed().await
}

/// A host that was cut off, given up for dead and replaced, and that comes back with a delivery in its hands.
async fn two_hosts(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    let server = ([127, 0, 0, 1], postgres().port()).into();
    let (source, sink) = (Proxy::start(server).await, Proxy::start(server).await);
    let at = |port: u16| format!(":{port}/");
    let direct = stage.database.url.clone();
    let cut_off = stage.write("cut-off.yaml", "", PGVECTOR, |role| {
        let port = if role == "source" { source.port() } else { sink.port() };
        direct.replace(&at(postgres().port()), &at(port))
    });
    let mut zombie = stage.run(&cut_off).await;
    stage.sql("INSERT INTO documents VALUES (1, 'v', 'version 1')").await;
    stage.settle(&mut zombie).await;

    let before = sink.touched();
    sink.set(Way::Blackhole);
    stage.sql("UPDATE documents SET content = 'version 2' WHERE id = 1").await;
    eventually("a delivery is on its way", async || sink.touched() > before).await;
    source.set(Way::Blackhole);
    stage
        .sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()")
        .await;
    let mut heir = stage.run(&stage.pipeline("", PGVECTOR)).await;
    stage.sql("UPDATE documents SET content = 'version 3' WHERE id = 1").await;
    stage.settle(&mut heir).await;

    sink.set(Way::Open);
    eventually("the zombie has written, or was refused", async || {
        zombie.log().contains("another host has taken over sink")
            || stage.ask::<bool>("SELECT EXISTS (SELECT FROM points WHERE payload->>'content' = 'version 2')").await
    })
    .await;
    stage.noticed().await
}

/// A kill after everything was confirmed, with a sink that lies in this machine's files.
async fn killed_after_a_confirmation(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    let pipeline = stage.pipeline("", QDRANT_EDGE);
    let mut host = stage.run(&pipeline).await;
    stage.sql("INSERT INTO documents SELECT i, 'row', 'some text ' || i FROM generate_series(1, 50) i").await;
    stage.confirmed(&mut host, stage.end().await).await;
    host.kill();
    let points = qdrant_edge::dump(&stage.folder.path("store"));
    stage.noticed_of(&points).await
}

/// A slot that somebody dropped while rows were written.
async fn lost_slot(broken: Option<Breakage>) -> Noticed {
    let stage = Stage::set(fresh_database().await, broken).await;
    let pipeline = stage.pipeline("", PGVECTOR);
    let mut host = stage.run(&pipeline).await;
    stage.sql("INSERT INTO documents VALUES (1, 'row', 'before')").await;
    stage.settle(&mut host).await;
    host.stop().await;
    stage
        .sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
        .await;
    stage.sql("INSERT INTO documents VALUES (2, 'row', 'in the gap')").await;
    let mut host = stage.start(&pipeline);
    eventually("the host runs, or refuses to", async || host.exit().is_some() || host.log().contains("running")).await;
    match host.exit() {
        Some(exit) if exit.code() == Some(3) && host.log().contains("is gone") => Vec::new(),
        _ => vec![format!("it goes on without its slot: {}", host.log())],
    }
}

/// How the sinks of the scenarios are written in a pipeline.
const PGVECTOR: &str = "type: pgvector, url: \"URL\", table: public.points";
const QDRANT_EDGE: &str = "type: qdrant-edge, path: FOLDER/store";

/// The sink's disk is full, for its rows.
const REFUSE: &str = "
    CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
    END $$;
    CREATE TRIGGER no_room BEFORE INSERT OR UPDATE OR DELETE ON points FOR EACH ROW EXECUTE FUNCTION no_room()";
const TAKE_AGAIN: &str = "DROP TRIGGER no_room ON points";

/// A command of the program whose words nobody needs.
fn quiet<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = pgstream(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A database with the table, and pipelines from it, whose hosts are broken or not.
struct Stage {
    database: Database,
    folder: Folder,
    broken: Option<Breakage>,
}

impl Stage {
    async fn set(database: Database, broken: Option<Breakage>) -> Self {
        database.client.batch_execute(TABLE).await.unwrap();
        Self { database, folder: Folder::new(), broken }
    }

    /// A pipeline to `sink`, with `more` in the settings of its source.
    fn pipeline(&self, more: &str, sink: &str) -> PathBuf {
        self.write("pipeline.yaml", more, sink, |_| self.database.url.clone())
    }

    fn write(&self, file: &str, more: &str, sink: &str, url: impl Fn(&str) -> String) -> PathBuf {
        let sink = sink.replace("URL", &url("sink")).replace("FOLDER", &self.folder.path("").display().to_string());
        let name = self.database.name.replace('_', "-");
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let pipeline = format!(
            "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"{}\", tables: [public.documents], heartbeat: 1s{more} }}\n{}\
             sinks:\n  points: {{ {sink}, inputs: [embed], create: {{ dimension: {DIMENSION}, distance: dot }} }}\n",
            url("source"),
            transform(),
        );
        self.folder.write(file, &pipeline)
    }

    fn start(&self, pipeline: &PathBuf) -> Running {
        let mut command = pgstream(["run"]);
        command.arg(pipeline).env("PGSTREAM_LOG", "warn,qdrant_edge=error,pgstream_host=debug");
        if let Some(breakage) = self.broken {
            command.env(VARIABLE, breakage.name());
        }
        Running::spawn(command)
    }

    async fn run(&self, pipeline: &PathBuf) -> Running {
        let mut host = self.start(pipeline);
        host.said("running").await;
        host
    }

    async fn sql(&self, sql: &str) {
        self.database.client.batch_execute(sql).await.unwrap();
    }

    async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        self.database.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// A number of the ledger of copies; zero before there is one.
    async fn ledger(&self, sql: &str) -> i64 {
        match self.ask::<bool>("SELECT to_regclass('pgstream.copies') IS NOT NULL").await {
            true => self.ask(sql).await,
            false => 0,
        }
    }

    /// Where the log ends.
    async fn end(&self) -> Lsn {
        self.ask::<String>("SELECT pg_current_wal_insert_lsn()::text").await.parse().unwrap()
    }

    /// Waits until the host has told the server twice that it has received all up to `end`: whatever it confirms has been said.
    async fn told(&self, end: Lsn) {
        let sql = "SELECT coalesce(write_lsn, '0/0')::text, reply_time::text FROM pg_stat_replication
                   JOIN pg_replication_slots ON active_pid = pid WHERE database = current_database()";
        let mut replies = Vec::new();
        eventually("the server has heard of it", async || {
            let row = self.database.client.query_one(sql, &[]).await.unwrap();
            let (received, reply): (String, Option<String>) = (row.get(0), row.get(1));
            if received.parse::<Lsn>().unwrap() >= end && replies.last() != Some(&reply) {
                replies.push(reply);
            }
            replies.len() > 2
        })
        .await;
    }

    /// Waits until the server has been told that everything up to `end` is durable.
    async fn confirmed(&self, host: &mut Running, end: Lsn) {
        let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()";
        eventually("everything is confirmed", async || {
            assert!(host.exit().is_none(), "{}", host.log());
            self.ask::<String>(sql).await.parse::<Lsn>().unwrap() >= end
        })
        .await;
    }

    /// Waits until every copy is done, and then until everything is confirmed.
    async fn settle(&self, host: &mut Running) {
        eventually("every copy is done", async || {
            assert!(host.exit().is_none(), "{}", host.log());
            self.ledger("SELECT count(*) FROM pgstream.copies WHERE done_at IS NULL").await == 0
        })
        .await;
        self.confirmed(host, self.end().await).await;
    }

    async fn noticed(&self) -> Noticed {
        self.noticed_of(&pgvector_points(&self.database.client, "points").await).await
    }

    async fn noticed_of(&self, points: &Points) -> Noticed {
        let (_, expected) = Oracle::new().expected(&self.database.client).await;
        let differences = Differences::between(&expected, points);
        if differences.is_empty() { Vec::new() } else { vec![differences.to_string()] }
    }
}
