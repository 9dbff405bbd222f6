//! The `pgvector` sink against a real Postgres 18: the contract, then what only this sink promises.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pgstream_host::command::{Action, Embedding, Point};
use pgstream_host::config::Secret;
use pgstream_host::config::model::{Create, Distance, SinkBatch, VectorSpec};
use pgstream_host::error::{Code, Error, Fault, Result};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::sink::pgvector::{PgvectorSettings, PgvectorSink};
use pgstream_host::sink::{Query, Searcher, Sink, SinkKind};
use serde_json::{Map, Value};
use tokio_postgres::Client;

use super::contract::{ORIGIN, Points, Store, Stored, contract, held, write};
use crate::support::program::eventually;
use crate::support::{Database, connect, fresh_database, postgres16};

contract!(Table);

/// A table in a database of its own.
struct Table {
    database: Database,
    create: Option<Create>,
}

#[async_trait]
impl Store for Table {
    async fn make(create: Create) -> Self {
        Self { database: fresh_database().await, create: Some(create) }
    }

    fn settings(&self) -> Box<dyn SinkKind> {
        Box::new(settings(&self.database, self.create.clone()))
    }

    async fn dump(&self) -> Points {
        dump(&self.database.client).await
    }
}

fn settings(database: &Database, create: Option<Create>) -> PgvectorSettings {
    PgvectorSettings {
        inputs: Vec::new(),
        url: Secret::new(&database.url),
        password_file: None,
        trusted_owners: Vec::new(),
        folder: None,
        table: "points".into(),
        create,
        batch: SinkBatch::default(),
    }
}

pub(crate) async fn dump(client: &Client) -> Points {
    let rows =
        client.query("SELECT (to_jsonb(points) - 'words')::text AS row, words::text FROM points", &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let columns: Map<String, Value> = serde_json::from_str(row.get("row")).unwrap();
            let dense = |name: &str| -> Option<Embedding> {
                Some(Embedding::Dense(serde_json::from_str(columns[name].as_str()?).unwrap()))
            };
            let words = row.get::<_, Option<&str>>("words").map(sparse);
            let vectors = [("", dense("embedding")), ("title", dense("title")), ("words", words)];
            let vectors = vectors.into_iter().filter_map(|(name, found)| Some((name.to_owned(), found?))).collect();
            let group = columns["group_id"].as_str().map(str::to_owned);
            let payload = columns["payload"].as_object().unwrap().clone();
            (columns["id"].as_str().unwrap().to_owned(), Stored { group, vectors, payload })
        })
        .collect()
}

/// `{1:0.5,9:2}/10`, which counts from one.
fn sparse(text: &str) -> Embedding {
    let elements = text.trim_start_matches('{').split_once('}').unwrap().0;
    let (indices, values) = elements
        .split(',')
        .map(|element| element.split_once(':').unwrap())
        .map(|(index, value)| (index.parse::<u32>().unwrap() - 1, value.parse::<f32>().unwrap()))
        .unzip();
    Embedding::Sparse { indices, values }
}

/// Vectors of two numbers, compared by dot product.
fn small() -> Option<Create> {
    Some(Create { dimension: Some(2), distance: Distance::Dot, vectors: BTreeMap::new(), sparse: Vec::new() })
}

fn upsert(id: &str, payload: &str) -> Action {
    let embeddings = vec![(String::new(), Embedding::Dense(vec![1.0, 2.0]))];
    Action::Upsert(Point { id: id.into(), embeddings, payload: payload.into() })
}

fn replace(group: &str, ids: &[&str]) -> Action {
    let points =
        ids.iter().map(|id| Point { id: (*id).into(), embeddings: Vec::new(), payload: "{}".into() }).collect();
    Action::Replace { group: group.into(), points }
}

async fn open(database: &Database, create: Option<Create>) -> Result<PgvectorSink> {
    PgvectorSink::open("documents", "search", &settings(database, create)).await
}

/// A sink that has resumed and may write.
async fn ready(database: &Database, create: Option<Create>) -> PgvectorSink {
    let mut sink = open(database, create).await.unwrap();
    sink.resume(ORIGIN).await.unwrap();
    sink
}

/// Writes a delivery again for as long as the error says that it will pass.
async fn insist(sink: &mut PgvectorSink, delivery: u64, actions: &[Action]) {
    for _ in 0..10_000 {
        match write(sink, delivery, actions.to_vec()).await {
            Ok(()) => return,
            Err(error) => assert_eq!(error.fault(), Fault::Transient, "{error:?}"),
        }
    }
    panic!("delivery {delivery} never arrived");
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn terminate(client: &Client) -> u64 {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'pgstream-host sink'";
    client.execute(sql, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_position_are_one_transaction_whenever_the_connection_dies() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    write(&mut sink, 1, delivery(1)).await.unwrap();

    let killer = connect(&database.url).await;
    let killer = tokio::spawn(async move {
        let reached = "SELECT max(lsn)::text FROM pgstream.positions";
        let (mut kills, mut last) = (0, String::new());
        while !DONE.load(Ordering::Relaxed) {
            // One kill for each delivery, or a slow machine would never get one through.
            let now = text(&killer, reached).await;
            if now == last {
                tokio::task::yield_now().await;
                continue;
            }
            last = now;
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..40_000))).await;
            kills += terminate(&killer).await;
        }
        kills
    });
    let observer = connect(&database.url).await;
    let observer = tokio::spawn(async move {
        let sql = "SELECT (SELECT lsn - '0/0' FROM pgstream.positions)::text,
                          (SELECT string_agg(DISTINCT payload->>'n', ',') FROM points),
                          (SELECT count(*) FROM points)";
        while !DONE.load(Ordering::Relaxed) {
            let row = observer.query_one(sql, &[]).await.unwrap();
            let (position, seen, count): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
            assert_eq!((position, count), (seen, 50));
        }
    });
    for n in 2..=100 {
        insist(&mut sink, n, &delivery(n)).await;
    }
    DONE.store(true, Ordering::Relaxed);
    assert!(killer.await.unwrap() > 10, "the test met no danger");
    observer.await.unwrap();
    assert_eq!(
        text(&database.client, "SELECT (min(payload->>'n'), max(payload->>'n'))::text FROM points").await,
        "(100,100)"
    );
    // The last kill may only be noticed now.
    let resumed = loop {
        match sink.resume(ORIGIN).await {
            Err(error) if error.fault() == Fault::Transient => {}
            resumed => break resumed.unwrap(),
        }
    };
    assert_eq!(resumed, Some(held(Position { lsn: Lsn(100), ordinal: 50 })));
}

/// Fifty points that are all rewritten, by way of being deleted.
fn delivery(n: u64) -> Vec<Action> {
    let group = Action::DeleteGroup { group: "g".into() };
    [group].into_iter().chain((0..50).map(|id| upsert(&id.to_string(), &format!(r#"{{"n":{n}}}"#)))).collect()
}

#[tokio::test]
async fn a_payload_that_postgres_cannot_hold_is_refused_and_nothing_is_written() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    let bad = r#"{"secret":"swordfish\u0000"}"#;
    let report = "error: cannot send rows for table `public.points`\n  \
                  caused by: a value does not fit its type (SQLSTATE 22P05)\n  \
                  help: the payload is JSON that Postgres cannot hold, such as `\\u0000` in a text: make the handler leave it out\n";
    let good = || (0..1000).map(|n| upsert(&n.to_string(), "{}"));
    let error = write(&mut sink, 2, good().take(700).chain([upsert("bad", bad)]).chain(good())).await.unwrap_err();
    assert_eq!((error.misdeed(), error.report().as_str()), (Some(Code::Sink), report));
    let patch = Action::Patch { id: "a".into(), payload: bad.into() };
    let error = write(&mut sink, 2, good().take(700).chain([patch])).await.unwrap_err();
    assert_eq!((error.misdeed(), error.report()), (Some(Code::Sink), report.replace("send rows for", "write to")));
    assert_eq!(text(&database.client, "SELECT string_agg(id, ',') FROM points").await, "a");
    assert_eq!(sink.resume(ORIGIN).await.unwrap(), Some(held(Position { lsn: Lsn(1), ordinal: 0 })));
    write(&mut sink, 2, good()).await.unwrap();
}

#[tokio::test]
async fn a_constraint_of_the_users_refuses_the_delivery_without_its_values() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    database.client.batch_execute("ALTER TABLE points ADD CONSTRAINT no_fish CHECK (id <> 'swordfish')").await.unwrap();
    let error = write(&mut sink, 2, [upsert("a", "{}"), upsert("swordfish", "{}")]).await.unwrap_err();
    assert_eq!(
        (error.misdeed(), error.report().as_str()),
        (
            Some(Code::Sink),
            "error: cannot write to table `public.points`\n  \
             caused by: a constraint of the table is violated (SQLSTATE 23514)\n  \
             where: constraint `no_fish`\n"
        )
    );
    assert_eq!(text(&database.client, "SELECT count(*)::text FROM points").await, "0");
}

#[tokio::test]
async fn a_host_that_was_replaced_can_write_no_more() {
    let database = fresh_database().await;
    let mut old = ready(&database, small()).await;
    write(&mut old, 1, [upsert("a", r#"{"by":"old"}"#)]).await.unwrap();
    let mut new = open(&database, small()).await.unwrap();
    assert_eq!(new.resume(ORIGIN).await.unwrap(), Some(held(Position { lsn: Lsn(1), ordinal: 0 })));
    write(&mut new, 2, [upsert("a", r#"{"by":"new"}"#)]).await.unwrap();
    for _ in 0..2 {
        let error = write(&mut old, 2, [upsert("a", r#"{"by":"zombie"}"#)]).await.unwrap_err();
        assert_eq!(
            (error.fault(), error.report().as_str()),
            (
                Fault::Environment,
                "error: another host has taken over sink `search` of pipeline `documents`\n  \
                 where: epoch 1 in table `pgstream.positions`\n  \
                 help: run a pipeline on one host at a time; what this host had not written, the other one writes\n"
            )
        );
    }
    assert_eq!(text(&database.client, "SELECT payload->>'by' FROM points").await, "new");
    write(&mut new, 3, [upsert("b", "{}")]).await.unwrap();

    // A pipeline that began anew has another origin; who still writes under the old one is as outdated.
    let mut anew = open(&database, small()).await.unwrap();
    assert_eq!(anew.resume("begun anew").await.unwrap(), None);
    let error = write(&mut new, 4, [upsert("a", r#"{"by":"zombie"}"#)]).await.unwrap_err();
    assert!(error.to_string().starts_with("another host has taken over"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_waits_for_a_transaction_under_way_and_sees_what_it_did() {
    let database = fresh_database().await;
    let mut old = ready(&database, small()).await;
    write(&mut old, 1, [upsert("a", "{}")]).await.unwrap();
    let mut new = open(&database, None).await.unwrap();
    // Holds the old host's merge up after it has stored its position.
    let blocker = connect(&database.url).await;
    blocker.batch_execute("BEGIN; LOCK TABLE points IN EXCLUSIVE MODE").await.unwrap();
    let writing = tokio::spawn(async move { write(&mut old, 2, [upsert("b", "{}")]).await });
    wait_for_locks(&database, 1).await;
    let resuming = tokio::spawn(async move { new.resume(ORIGIN).await });
    wait_for_locks(&database, 2).await;
    blocker.batch_execute("COMMIT").await.unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(resuming.await.unwrap().unwrap(), Some(held(Position { lsn: Lsn(2), ordinal: 0 })));
}

async fn wait_for_locks(database: &Database, waiting: usize) {
    let sql =
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let counted = async || text(&database.client, sql).await == waiting.to_string();
    eventually(&format!("{waiting} sessions wait"), counted).await;
}

#[tokio::test]
async fn positions_belong_to_an_origin_and_to_the_very_table() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    write(&mut sink, 7, [upsert("a", "{}")]).await.unwrap();
    assert_eq!(sink.resume("another server").await.unwrap(), None);
    assert_eq!(sink.resume(ORIGIN).await.unwrap(), Some(held(Position { lsn: Lsn(7), ordinal: 0 })));
    database.client.batch_execute("DROP TABLE points").await.unwrap();
    assert_eq!(open(&database, small()).await.unwrap().resume(ORIGIN).await.unwrap(), None);
}

#[tokio::test]
async fn a_table_that_was_replaced_under_way_is_not_filled_with_half_the_rows() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    database.client.batch_execute("CREATE TABLE copy (LIKE points INCLUDING ALL); DROP TABLE points").await.unwrap();
    database.client.batch_execute("ALTER TABLE copy RENAME TO points").await.unwrap();
    terminate(&database.client).await;
    let mut error = write(&mut sink, 2, [upsert("b", "{}")]).await.unwrap_err();
    if error.fault() == Fault::Transient {
        error = write(&mut sink, 2, [upsert("b", "{}")]).await.unwrap_err();
    }
    assert_eq!(
        (error.fault(), error.report().as_str()),
        (
            Fault::Environment,
            "error: table \"points\" was dropped or replaced while the sink was using it\n  \
             caused by: rows that were written before count as durable, and do not come again\n  \
             help: bring them over anew: `pgstream-host resnapshot <pipeline file>`, then start the pipeline\n"
        )
    );
}

#[tokio::test]
async fn what_does_not_change_is_not_written_again() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    let versions = "SELECT string_agg(id || ' ' || ctid, ', ' ORDER BY id) FROM points";
    let full = || [upsert("a", r#"{"x":1}"#), upsert("b", r#"{"x":1}"#), replace("g", &["c", "d"])];
    write(&mut sink, 1, full()).await.unwrap();
    let before = text(&database.client, versions).await;
    write(&mut sink, 1, full()).await.unwrap();
    assert_eq!(text(&database.client, versions).await, before);
    write(&mut sink, 2, [upsert("a", r#"{"x":2}"#), replace("g", &["c"]), upsert("d", "{}")]).await.unwrap();
    let after = text(&database.client, versions).await;
    let unchanged =
        |id: &str| before.split(", ").any(|row| row.starts_with(id) && after.split(", ").any(|new| new == row));
    assert_eq!(["a", "b", "c"].map(unchanged), [false, true, true], "{before} and {after}");
}

#[tokio::test]
async fn a_table_without_statistics_is_not_read_whole_for_each_write() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    // Prepared statements settle on a plan after some calls, here while the table is next to empty.
    for n in 1..=8 {
        let few = [replace("g0", &["a", "b"]), patch_group("g0"), Action::Delete { id: "gone".into() }];
        insist(&mut sink, n, &few).await;
    }
    let many: Vec<Action> = (1..=3000).map(|n| replace(&format!("g{n}"), &[&format!("p{n}")])).collect();
    insist(&mut sink, 9, &many).await;
    let counted = async |what: &str| {
        database.client.batch_execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        let sql = format!("SELECT {what}::text FROM pg_stat_user_tables WHERE relname = 'points'");
        text(&database.client, &sql).await.parse::<u64>().unwrap()
    };
    // A session tells its counts once it has been idle for some seconds.
    eventually("inserts are told", async || counted("n_tup_ins").await >= 3000).await;
    let before = counted("seq_scan").await;

    let update = [patch_group("g7"), replace("g8", &["p8"]), Action::Delete { id: "p9".into() }];
    insist(&mut sink, 10, &update).await;
    eventually("a delete is told", async || counted("n_tup_del").await >= 1).await;
    assert_eq!(counted("seq_scan").await, before);
}

fn patch_group(group: &str) -> Action {
    Action::PatchGroup { group: group.into(), payload: r#"{"seen": true}"#.into() }
}

#[tokio::test]
async fn a_changed_payload_costs_the_vector_index_nothing() {
    // Vectors of 1000 numbers lie outside their rows, and must not be stored again either.
    for dimension in [100, 1000] {
        let database = fresh_database().await;
        let create = Create { dimension: Some(dimension), ..small().unwrap() };
        let mut sink = ready(&database, Some(create)).await;
        for version in 1..3 {
            let points = (0..20_u8).map(|n| {
                let embeddings = vec![(String::new(), Embedding::Dense(vec![f32::from(n); dimension]))];
                Action::Upsert(Point { id: n.to_string(), embeddings, payload: format!(r#"{{"version":{version}}}"#) })
            });
            write(&mut sink, version, points).await.unwrap();
        }
        terminate(&database.client).await; // a session that ends reports its counts
        let updates = "SELECT n_tup_upd || ' updates, ' || n_tup_hot_upd || ' of them in place'
                       FROM pg_stat_user_tables WHERE relname = 'points'";
        let told = async || !text(&database.client, updates).await.starts_with("0 ");
        eventually("updates are told", told).await;
        assert_eq!(text(&database.client, updates).await, "20 updates, 20 of them in place", "{dimension}");
    }
}

#[tokio::test]
async fn a_lax_server_is_told_to_make_commits_durable() {
    let database = fresh_database().await;
    drop(open(&database, small()).await.unwrap());
    let script = format!(
        "ALTER DATABASE {} SET synchronous_commit = off;
         CREATE TABLE seen (setting text);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
         CREATE TRIGGER look BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION look()",
        database.name
    );
    database.client.batch_execute(&script).await.unwrap();
    let mut sink = ready(&database, None).await;
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    assert_eq!(text(&database.client, "SELECT setting FROM seen").await, "on");

    // A function that relies on the path of whoever calls it is told apart from a table that is gone.
    let lax = "CREATE OR REPLACE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN INSERT INTO seen VALUES ('x'); RETURN NEW; END $$";
    database.client.batch_execute(lax).await.unwrap();
    let error = write(&mut ready(&database, None).await, 2, [upsert("b", "{}")]).await.unwrap_err();
    assert!(error.advice().unwrap().starts_with("a trigger's function finds names without a schema only"), "{error}");
    database.client.batch_execute("ALTER FUNCTION look() SET search_path = public").await.unwrap();
    write(&mut ready(&database, None).await, 2, [upsert("b", "{}")]).await.unwrap();
}

#[tokio::test]
async fn create_makes_an_index_for_each_distance_and_size() {
    for (distance, opclass) in [(Distance::Cosine, "cosine"), (Distance::Dot, "ip"), (Distance::Euclid, "l2")] {
        let database = fresh_database().await;
        let vectors = [("half", 2001), ("none", 4001)]
            .map(|(name, dimension)| (name.to_owned(), VectorSpec { dimension, distance }));
        let create = Create { dimension: Some(2000), distance, vectors: vectors.into(), sparse: vec!["words".into()] };
        let mut sink = ready(&database, Some(create.clone())).await;
        let indexes = "SELECT string_agg(split_part(indexdef, 'points ', 2), '; ' ORDER BY indexdef) FROM pg_indexes WHERE tablename = 'points'";
        assert_eq!(
            text(&database.client, indexes).await,
            format!(
                "USING hnsw (embedding vector_{opclass}_ops); USING btree (group_id); \
                 USING hnsw (((half)::halfvec(2001)) halfvec_{opclass}_ops); USING btree (id)"
            )
        );
        for (name, dimension) in [("", 2000), ("half", 2001), ("none", 4001)] {
            let far: Vec<f32> = (0..dimension).map(|n| if n == 0 { 1.0 } else { 0.0 }).collect();
            let near = vec![1.0; dimension];
            let points = [("far", far), ("near", near.clone())].map(|(id, vector)| {
                let embeddings = vec![(name.to_owned(), Embedding::Dense(vector))];
                Action::Upsert(Point { id: format!("{name} {id}"), embeddings, payload: "{}".into() })
            });
            write(&mut sink, 1, points).await.unwrap();
            let query = Query { vector: name, values: &near, limit: 5 };
            let hits = settings(&database, Some(create.clone())).search(&query).await.unwrap();
            let ids: Vec<&str> = hits.iter().map(|hit| hit.id.trim()).collect();
            assert_eq!(ids, [format!("{name} near").trim(), format!("{name} far").trim()], "{distance:?}");
        }
        drop(open(&database, Some(create)).await.unwrap());
        // Without `create` the distance is that of the index.
        let query = Query { vector: "half", values: &[1.0; 2001], limit: 1 };
        let hits = settings(&database, None).search(&query).await.unwrap();
        let score = match distance {
            Distance::Cosine => 1.0,
            Distance::Dot => 2001.0,
            Distance::Euclid => 0.0,
        };
        assert!((hits[0].score - score).abs() < 1e-3, "{distance:?}: {hits:?}");
    }
}

#[tokio::test]
async fn searches_use_the_index() {
    let database = fresh_database().await;
    let vectors = BTreeMap::from([("half".to_owned(), VectorSpec { dimension: 2001, distance: Distance::Dot })]);
    let mut sink = ready(&database, Some(Create { vectors, ..small().unwrap() })).await;
    let embeddings = [("", vec![1.0, 2.0]), ("half", vec![1.0; 2001])];
    let embeddings = embeddings.map(|(name, numbers)| (name.to_owned(), Embedding::Dense(numbers))).into();
    let point = Action::Upsert(Point { id: "a".into(), embeddings, payload: "{}".into() });
    write(&mut sink, 1, [point]).await.unwrap();
    let script = format!(
        "ALTER DATABASE {} SET enable_seqscan = off; ALTER DATABASE {} SET enable_sort = off;",
        database.name, database.name
    );
    database.client.batch_execute(&script).await.unwrap();
    let settings = settings(&database, None);
    settings.search(&Query { vector: "", values: &[1.0; 2], limit: 1 }).await.unwrap();
    settings.search(&Query { vector: "half", values: &[1.0; 2001], limit: 1 }).await.unwrap();
    let scans =
        "SELECT string_agg(indexrelname || ' ' || idx_scan, ', ' ORDER BY indexrelname) FROM pg_stat_user_indexes
                 WHERE indexrelname IN ('points_embedding_idx', 'points_half_idx')";
    terminate(&database.client).await; // a session that ends reports its counts
    let each = "points_embedding_idx 1, points_half_idx 1";
    eventually("each index is told to be used", async || text(&database.client, scans).await == each).await;
}

#[tokio::test]
async fn a_search_makes_neither_a_table_nor_a_record_of_a_position() {
    let database = fresh_database().await;
    let made = "SELECT coalesce(to_regclass('points')::text, '') || coalesce(to_regnamespace('pgstream')::text, '') ||
                coalesce((SELECT extname::text FROM pg_extension WHERE extname = 'vector'), '')";
    let search = async || settings(&database, small()).search(&Query { vector: "", values: &[1.0; 2], limit: 1 }).await;
    let error = search().await.unwrap_err();
    assert!(error.fault() == Fault::Environment && error.to_string().contains("points"), "{}", error.report());
    assert_eq!(text(&database.client, made).await, "", "although the settings say `create`");

    let mut sink = ready(&database, small()).await;
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    Box::new(sink).close().await.unwrap();
    database.client.batch_execute("DROP SCHEMA pgstream CASCADE").await.unwrap();
    assert_eq!(search().await.unwrap().len(), 1);
    assert_eq!(text(&database.client, made).await, "pointsvector", "nothing was noted of a reader");
}

/// An HNSW index would answer no more than it keeps candidates, and fewer of points that all lie in one place.
#[tokio::test]
async fn a_search_for_more_than_an_index_answers_finds_them_all() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    let points: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    write(&mut sink, 1, points.iter().map(|id| upsert(id, "{}"))).await.unwrap();
    database.client.batch_execute("ANALYZE points").await.unwrap();
    for limit in [1000, 1001] {
        let query = Query { vector: "", values: &[1.0; 2], limit };
        let hits = settings(&database, small()).search(&query).await.unwrap();
        assert_eq!(hits.len(), limit);
    }
}

#[tokio::test]
async fn a_table_that_is_dropped_or_altered_under_the_sink_is_an_error_with_help() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    database.client.batch_execute("ALTER TABLE points RENAME payload TO other").await.unwrap();
    let error = write(&mut sink, 2, [upsert("b", "{}")]).await.unwrap_err();
    assert!(error.advice().is_some_and(|help| help.contains("start the pipeline again")), "{}", error.report());
    let mut sink = {
        database.client.batch_execute("ALTER TABLE points RENAME other TO payload").await.unwrap();
        ready(&database, small()).await
    };
    database.client.batch_execute("DROP TABLE points").await.unwrap();
    let error = write(&mut sink, 2, [upsert("b", "{}")]).await.unwrap_err();
    assert!(error.advice().is_some_and(|help| help.contains("pgstream-host backfill")), "{}", error.report());
}

#[tokio::test]
async fn a_position_that_somebody_deleted_is_not_taken_for_another_host() {
    let database = fresh_database().await;
    let mut sink = ready(&database, small()).await;
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    database.client.batch_execute("DELETE FROM pgstream.positions").await.unwrap();
    let error = write(&mut sink, 2, [upsert("b", "{}")]).await.unwrap_err();
    assert_eq!(error.to_string(), "the position of sink `search` of pipeline `documents` is gone");
    assert_eq!(text(&database.client, "SELECT count(*)::text FROM points").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hosts_may_create_at_once() {
    let database = std::sync::Arc::new(fresh_database().await);
    let hosts: Vec<_> = (0..8)
        .map(|n| {
            let database = std::sync::Arc::clone(&database);
            tokio::spawn(async move {
                let pipeline = format!("pipeline-{n}"); // of their own, or they would take the sink from each other
                let mut sink = PgvectorSink::open(&pipeline, "search", &settings(&database, small())).await?;
                sink.resume(ORIGIN).await?;
                write(&mut sink, 1, [upsert(&n.to_string(), "{}")]).await
            })
        })
        .collect();
    for host in hosts {
        host.await.unwrap().unwrap();
    }
    assert_eq!(text(&database.client, "SELECT count(*)::text FROM points").await, "8");
}

#[tokio::test]
async fn the_python_librarys_table_is_taken_as_it_is() {
    let database = fresh_database().await;
    let script = "CREATE EXTENSION vector; CREATE TABLE points (id TEXT PRIMARY KEY, vector VECTOR(2), payload JSONB);
                  INSERT INTO points VALUES ('old', '[3,4]', NULL)";
    database.client.batch_execute(script).await.unwrap();
    let mut sink = ready(&database, None).await;
    let patch = Action::Patch { id: "old".into(), payload: r#"{"x":1}"#.into() };
    write(&mut sink, 1, [upsert("new", "{}"), patch]).await.unwrap();
    let rows = "SELECT string_agg(id || vector || payload, ' ' ORDER BY id) FROM points";
    assert_eq!(text(&database.client, rows).await, r#"new[1,2]{} old[3,4]{"x": 1}"#);

    let error = write(&mut sink, 2, [replace("g", &["a"])]).await.unwrap_err();
    assert_eq!(
        (error.fault(), error.report().as_str()),
        (
            Fault::Environment,
            "error: table `public.points` has no column for groups, and the handler uses them\n  \
             where: event 0/2#0\n  \
             help: ALTER TABLE public.points ADD COLUMN group_id text; CREATE INDEX ON public.points (group_id)\n"
        )
    );
    database.client.batch_execute(error.advice().unwrap()).await.unwrap();
    let mut sink = ready(&database, None).await;
    write(&mut sink, 2, [replace("g", &["a"]), Action::Delete { id: "old".into() }]).await.unwrap();
    assert_eq!(
        text(&database.client, "SELECT string_agg(id || coalesce(group_id, '-'), ' ' ORDER BY id) FROM points").await,
        "ag new-"
    );
}

#[tokio::test]
async fn ids_may_be_integers_and_uuids_in_one_spelling() {
    let uuid = "0b6f1c2e-5a0d-4d5c-9f5e-2f6a7b8c9d0e";
    for (kind, good, bad) in
        [("bigint", "42", "042"), ("smallint", "-1", "40000"), ("uuid", uuid, "0B6F1C2E-5A0D-4D5C-9F5E-2F6A7B8C9D0E")]
    {
        let database = fresh_database().await;
        let script = format!(
            "CREATE EXTENSION vector;
             CREATE TABLE points (id {kind} PRIMARY KEY, embedding halfvec(2), group_id text, payload jsonb, note text DEFAULT '')"
        );
        database.client.batch_execute(&script).await.unwrap();
        let mut sink = ready(&database, small()).await;
        write(&mut sink, 1, [replace("g", &[good]), upsert(good, "{}")]).await.unwrap();
        write(&mut sink, 2, [Action::Patch { id: good.into(), payload: r#"{"x":1}"#.into() }]).await.unwrap();
        let query = Query { vector: "", values: &[1.0, 0.0], limit: 5 };
        assert_eq!(settings(&database, small()).search(&query).await.unwrap()[0].id, good);
        for action in [
            upsert(bad, "{}"),
            Action::Delete { id: bad.into() },
            Action::Patch { id: bad.into(), payload: "{}".into() },
        ] {
            let error = write(&mut sink, 3, [action]).await.unwrap_err();
            assert_eq!(error.fault(), Fault::Handler);
            assert!(
                error.to_string().ends_with(&format!("of type `{kind}`")) && !error.report().contains(bad),
                "{error:?}"
            );
        }
        write(&mut sink, 3, [replace("g", &[good]), replace("g", &[])]).await.unwrap();
        assert_eq!(text(&database.client, "SELECT count(*)::text FROM points").await, "0");
    }
}

#[tokio::test]
async fn what_cannot_be_indexed_or_halved_is_refused_before_it_is_sent() {
    let database = fresh_database().await;
    let script = "CREATE EXTENSION vector; CREATE TABLE points (id text PRIMARY KEY, embedding halfvec(2), words sparsevec(10), payload jsonb)";
    database.client.batch_execute(script).await.unwrap();
    let mut sink = ready(&database, None).await;
    let with = |vector: &str, embedding: Embedding| {
        Action::Upsert(Point { id: "a".into(), embeddings: vec![(vector.into(), embedding)], payload: "{}".into() })
    };
    for (action, what) in [
        (upsert(&"x".repeat(2601), "{}"), "the handler gave an id or a group of 2601 bytes, Postgres can index 2600"),
        (
            with("", Embedding::Dense(vec![1.0, 65520.0])),
            "the handler gave a number for the default vector that a `halfvec` cannot hold",
        ),
        (
            with("", Embedding::Dense(vec![1.0])),
            "the handler gave 1 numbers for the default vector, column `embedding` takes 2",
        ),
        (
            with("words", Embedding::Sparse { indices: vec![10], values: vec![1.0] }),
            "the handler gave index 10 for vector `words`, column `words` ends at 9",
        ),
    ] {
        assert_eq!(write(&mut sink, 1, [action]).await.unwrap_err().to_string(), what);
    }
    let long: String = (0..2600).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    let largest = with("words", Embedding::Sparse { indices: vec![9], values: vec![1.0] });
    write(&mut sink, 1, [upsert(&long, "{}"), largest]).await.unwrap();
}

/// What `open` says of a table made by `sql`, with `create`.
async fn refusal(sql: &str, create: Option<Create>) -> Error {
    let database = fresh_database().await;
    database.client.batch_execute(sql).await.unwrap();
    open(&database, create).await.unwrap_err()
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_refused_with_the_line_to_type() {
    let with = |columns: &str| format!("CREATE EXTENSION vector; CREATE TABLE points ({columns})");
    let fine = "id text PRIMARY KEY, embedding vector(768), payload jsonb";
    let cosine =
        Some(Create { dimension: Some(768), distance: Distance::Cosine, vectors: BTreeMap::new(), sparse: Vec::new() });
    let titled = Create {
        vectors: BTreeMap::from([("title".to_owned(), VectorSpec { dimension: 8, distance: Distance::Dot })]),
        ..cosine.clone().unwrap()
    };
    let indexed = "; CREATE INDEX ON points USING hnsw (embedding vector_ip_ops)";
    let cases = [
        (
            String::new(),
            None,
            "error: the database does not have the extension `vector` (pgvector)\n  \
             help: as a superuser, in this database: CREATE EXTENSION vector\n",
        ),
        (
            "CREATE EXTENSION vector".to_owned(),
            None,
            "error: table \"points\" does not exist\n  \
             help: add `create: { dimension: 384, distance: cosine }` to the sink, with your model's dimension, or correct `table`\n",
        ),
        (
            with(fine),
            small(),
            "error: column `embedding` of table `public.points` holds 768 numbers, `create` asks for 2\n  \
             help: set `create.dimension` to 768, or empty the table and run: ALTER TABLE public.points ALTER COLUMN \"embedding\" TYPE vector(2)\n",
        ),
        (
            with(fine) + indexed,
            cosine.clone(),
            "error: column `embedding` of table `public.points` is indexed for distance `dot`, `create` asks for `cosine`\n  \
             help: set `create.distance` to `dot`, or drop the index and build another\n",
        ),
        (
            with(fine),
            Some(titled),
            "error: table `public.points` has no column for vector `title`, `create` asks for it\n  \
             help: ALTER TABLE public.points ADD COLUMN \"title\" vector(8), or remove it from `create`: the table has the default vector (vector of 768)\n",
        ),
        (
            with("embedding vector(2), payload jsonb"),
            None,
            "error: table `public.points` has no column `id`\n  \
             help: ALTER TABLE public.points ADD COLUMN id text PRIMARY KEY\n",
        ),
        (
            with("id text, embedding vector(2), payload jsonb"),
            None,
            "error: column `id` of table `public.points` is not unique\n  \
             help: ALTER TABLE public.points ADD PRIMARY KEY (id)\n",
        ),
        (
            with("id date PRIMARY KEY, embedding vector(2), payload jsonb"),
            None,
            "error: column `id` of table `public.points` is of type `date`, expected `text`, an integer or `uuid`\n  \
             help: ALTER TABLE public.points ALTER COLUMN id TYPE text\n",
        ),
        (
            with("id text PRIMARY KEY, embedding vector(2)"),
            None,
            "error: table `public.points` has no column `payload`\n  \
             help: ALTER TABLE public.points ADD COLUMN payload jsonb NOT NULL DEFAULT '{}'\n",
        ),
        (
            with("id text PRIMARY KEY, embedding vector(2), payload json"),
            None,
            "error: column `payload` of table `public.points` is of type `json`, expected `jsonb`\n  \
             help: ALTER TABLE public.points ALTER COLUMN payload TYPE jsonb USING payload::jsonb\n",
        ),
        (
            with("id text PRIMARY KEY, payload jsonb"),
            None,
            "error: table `public.points` has no column `embedding`\n  \
             help: ALTER TABLE public.points ADD COLUMN embedding vector(384)\n",
        ),
        (
            with("id text PRIMARY KEY, embedding vector(2), payload jsonb, \"Owner\" text NOT NULL"),
            None,
            "error: column `Owner` of table `public.points` must not be null, and no point has it\n  \
             help: ALTER TABLE public.points ALTER COLUMN \"Owner\" DROP NOT NULL\n",
        ),
        (
            with("id text PRIMARY KEY, embedding vector(2), payload jsonb, group_id int"),
            None,
            "error: column `group_id` of table `public.points` is of type `integer`, expected `text`\n  \
             help: ALTER TABLE public.points ALTER COLUMN group_id TYPE text\n",
        ),
        (
            "CREATE EXTENSION vector; CREATE VIEW points AS SELECT 1 AS id".to_owned(),
            None,
            "error: `public.points` is not a table\n  help: name a table in `table`, not a view\n",
        ),
    ];
    for (sql, create, report) in cases {
        assert_eq!(refusal(&sql, create).await.report(), report, "{sql}");
    }
}

#[tokio::test]
async fn a_user_without_rights_is_told_which() {
    let database = fresh_database().await;
    let name = &database.name;
    let script = format!("CREATE ROLE {name}_app LOGIN PASSWORD 'app'; REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    database.client.batch_execute(&script).await.unwrap();
    let (login, rest) = database.url.split_once('@').unwrap();
    let scheme = login.split_once("://").unwrap().0;
    let app = Database {
        name: name.clone(),
        url: format!("{scheme}://{name}_app:app@{rest}"),
        client: connect(&database.url).await,
    };

    let refused = async |create: Option<Create>| open(&app, create).await.unwrap_err();
    let error = refused(small()).await;
    assert_eq!(error.to_string(), "the database does not have the extension `vector` (pgvector)");
    database.client.batch_execute("CREATE EXTENSION vector").await.unwrap();
    let error = refused(small()).await;
    assert_eq!(error.to_string(), "cannot create table public.points");
    assert_eq!(error.advice(), Some(format!("GRANT CREATE ON SCHEMA public TO \"{name}_app\"").as_str()));
    drop(open(&database, small()).await.unwrap());
    database.client.batch_execute("DROP SCHEMA pgstream CASCADE").await.unwrap();
    let error = refused(None).await;
    assert_eq!(
        error.report(),
        format!(
            "error: user `{name}_app` may not write to table `public.points`\n  \
             help: GRANT SELECT, INSERT, UPDATE, DELETE ON public.points TO \"{name}_app\"\n"
        )
    );
    database.client.batch_execute(error.advice().unwrap()).await.unwrap();
    let error = refused(None).await;
    assert_eq!(
        error.report(),
        format!(
            "error: cannot create table `pgstream.positions`\n  \
             caused by: permission denied for database {name} (SQLSTATE 42501)\n  \
             help: as the database's owner: CREATE SCHEMA pgstream AUTHORIZATION \"{name}_app\";\n"
        )
    );
    let sql = error.advice().unwrap().split_once(": ").unwrap().1;
    database.client.batch_execute(sql).await.unwrap();
    let mut sink = ready(&app, None).await;
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    // All privileges, and still no row.
    database.client.batch_execute("ALTER TABLE public.points ENABLE ROW LEVEL SECURITY").await.unwrap();
    let error = refused(None).await;
    let what = format!("row-level security lets user \"{name}_app\" write no row to table `public.points`");
    assert_eq!(error.to_string(), what, "{}", error.report());
    let policy = error.advice().unwrap().split_once("owner: ").unwrap().1;
    database.client.batch_execute(policy).await.unwrap();
    let mut sink = ready(&app, None).await;
    write(&mut sink, 2, [upsert("b", "{}")]).await.unwrap();
}

#[tokio::test]
async fn schemas_and_names_that_need_quotes_work_and_the_extension_may_lie_anywhere() {
    let database = fresh_database().await;
    database
        .client
        .batch_execute("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext; CREATE SCHEMA \"My Schema\"")
        .await
        .unwrap();
    let vectors = BTreeMap::from([("Ti\"tle".to_owned(), VectorSpec { dimension: 2001, distance: Distance::Euclid })]);
    let create = Create { vectors, sparse: vec!["select".into()], ..small().unwrap() };
    let settings = PgvectorSettings { table: "My Schema.Po\"ints".into(), ..settings(&database, Some(create)) };
    for delivery in 1..3 {
        let mut sink = PgvectorSink::open("documents", "search", &settings).await.unwrap();
        sink.resume(ORIGIN).await.unwrap();
        let embeddings = vec![
            ("Ti\"tle".to_owned(), Embedding::Dense(vec![1.0; 2001])),
            ("select".to_owned(), Embedding::Sparse { indices: vec![1], values: vec![0.0] }),
        ];
        let point = Point { id: "a".into(), embeddings, payload: "{}".into() };
        let group = Action::PatchGroup { group: "g".into(), payload: format!(r#"{{"n":{delivery}}}"#) };
        write(&mut sink, delivery, [Action::Replace { group: "g".into(), points: vec![point] }, group.clone()])
            .await
            .unwrap();
        write(&mut sink, delivery, [group, Action::Delete { id: "b".into() }]).await.unwrap();
        let hits = settings.search(&Query { vector: "Ti\"tle", values: &[1.0; 2001], limit: 1 }).await.unwrap();
        assert_eq!((hits[0].score, &hits[0].payload["n"]), (0.0, &Value::from(delivery)));
    }
}

#[tokio::test]
async fn postgres_16_will_do() {
    let database = Database::create(postgres16()).await;
    let mut sink = ready(&database, small()).await;
    write(&mut sink, 1, [upsert("a", "{}"), replace("g", &["b"])]).await.unwrap();
    assert_eq!(text(&database.client, "SELECT count(*)::text FROM points").await, "2");
}
