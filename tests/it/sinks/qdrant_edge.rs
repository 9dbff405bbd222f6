//! The `qdrant-edge` sink: the contract, then what only this sink promises.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ::qdrant_edge::{
    EdgeShard, PointId, ScrollRequest, VectorInternal, VectorStructInternal, WithPayloadInterface, WithVector,
};
use async_trait::async_trait;
use pgstream_host::command::{Action, Embedding, Point};
use pgstream_host::config::model::{Create, Distance, SinkBatch};
use pgstream_host::error::{Fault, Result};
use pgstream_host::sink::qdrant_edge::{self, QdrantEdge, QdrantEdgeSettings};
use pgstream_host::sink::{Query, Searcher, Sink, SinkKind};
use serde_json::Value;
use tempfile::TempDir;

use super::contract::{Points, Store, Stored, contract, obey, point, write};

contract!(Folder);

/// A folder of its own.
struct Folder {
    folder: TempDir,
    create: Create,
}

#[async_trait]
impl Store for Folder {
    async fn make(create: Create) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), create }
    }

    fn settings(&self) -> Box<dyn SinkKind> {
        Box::new(settings(self.folder.path(), self.create.clone()))
    }

    async fn dump(&self) -> Points {
        dump(self.folder.path())
    }
}

fn settings(path: &Path, create: Create) -> QdrantEdgeSettings {
    QdrantEdgeSettings { inputs: Vec::new(), path: path.to_owned(), folder: None, create, batch: SinkBatch::default() }
}

fn create(dimension: usize) -> Create {
    Create { dimension: Some(dimension), distance: Distance::Dot, vectors: BTreeMap::new(), sparse: Vec::new() }
}

/// Reads the folder with the engine alone.
pub(crate) fn dump(path: &Path) -> Points {
    if !path.join("edge_config.json").exists() {
        return Points::new();
    }
    let shard = EdgeShard::load(path, None).unwrap();
    let request = ScrollRequest {
        limit: Some(1_000_000),
        with_payload: Some(WithPayloadInterface::Bool(true)),
        with_vector: WithVector::Bool(true),
        ..ScrollRequest::default()
    };
    let (records, rest) = shard.scroll(request).unwrap();
    assert!(rest.is_none());
    records
        .into_iter()
        .map(|record| {
            let mut payload = record.payload.unwrap_or_default().0;
            let text = |value: Value| value.as_str().unwrap().to_owned();
            let id = payload.shift_remove("_id").map(text).unwrap_or_else(|| match record.id {
                PointId::NumId(number) => number.to_string(),
                PointId::Uuid(uuid) => uuid.to_string(),
            });
            let group = payload.shift_remove("_group").map(text);
            let vectors = match record.vector {
                Some(VectorStructInternal::Single(values)) => {
                    BTreeMap::from([(String::new(), Embedding::Dense(values))])
                }
                Some(VectorStructInternal::Named(vectors)) => {
                    vectors.into_iter().map(|(name, vector)| (name, embedding(vector))).collect()
                }
                other => panic!("{other:?}"),
            };
            (id, Stored { group, vectors, payload })
        })
        .collect()
}

fn embedding(vector: VectorInternal) -> Embedding {
    match vector {
        VectorInternal::Dense(values) => Embedding::Dense(values),
        VectorInternal::Sparse(sparse) => Embedding::Sparse { indices: sparse.indices, values: sparse.values },
        VectorInternal::MultiDense(_) => panic!("nothing writes multivectors"),
    }
}

#[tokio::test]
async fn what_was_answered_ok_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected;
    let mut done = 0;
    for round in 1..=4 {
        let mut child = Writer::start(folder.path(), done);
        while done < round * 15 {
            done = child.next_ok();
        }
        child.kill();
        done = child.oks().last().unwrap_or(done); // what it said before it died
        expected = Points::new();
        (1..=done).flat_map(delivery).for_each(|action| obey::<Folder>(&mut expected, &action));
        let found = dump(folder.path());
        for (id, stored) in &expected {
            // The delivery that was under way may have got as far as its deletes and writes.
            if !touched(done + 1).contains(id) {
                assert_eq!(found.get(id), Some(stored), "{id} after {done} deliveries");
            }
        }
        let mut sink = QdrantEdge::open(&settings(folder.path(), create(4))).await.unwrap();
        done += 1;
        write(&mut sink, done, delivery(done)).await.unwrap();
        Box::new(sink).close().await.unwrap();
        delivery(done).iter().for_each(|action| obey::<Folder>(&mut expected, action));
        assert_eq!(dump(folder.path()), expected, "after {done} deliveries, the last one again");
    }
}

#[tokio::test]
async fn a_killed_optimizer_leaves_everything_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Writer::start_bulk(folder.path());
    assert_eq!(child.next_ok(), 1);
    let half_built = folder.path().join("temp_segments");
    wait_for(|| std::fs::read_dir(&half_built).is_ok_and(|entries| entries.count() > 0));
    child.kill();
    let sink = QdrantEdge::open(&settings(folder.path(), create(384))).await.unwrap();
    let mut values = vec![0.0; 384];
    values[0] = 1.0;
    let query = Query { vector: "", values: &values, limit: 10_000 };
    let hits = settings(folder.path(), create(384)).search(&query).await.unwrap();
    assert_eq!(hits.len(), 8000);
    assert_eq!(hits[0].id, "7999");
    Box::new(sink).close().await.unwrap();
    assert_eq!(dump(folder.path()).len(), 8000);
}

#[tokio::test]
async fn a_second_pipeline_is_refused_while_searches_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let query = Query { vector: "", values: &[1.0, 0.0, 0.0, 0.0], limit: 1 };
    let mut child = Writer::start(folder.path(), 0);
    child.next_ok();
    let error = QdrantEdge::open(&settings(folder.path(), create(4))).await.err().unwrap();
    assert_eq!(error.fault(), Fault::Environment);
    assert!(error.report().contains(&format!("kill {}", child.process.id())), "{error:?}");
    assert_eq!(
        qdrant_edge::search(&settings(folder.path(), create(4)), &query).await.unwrap().len(),
        1,
        "from the running pipeline"
    );

    child.kill();
    assert!(folder.path().join("search.sock").exists(), "the killed pipeline left its socket");
    assert_eq!(
        qdrant_edge::search(&settings(folder.path(), create(4)), &query).await.unwrap().len(),
        1,
        "from the files"
    );
    let sink = QdrantEdge::open(&settings(folder.path(), create(4))).await.unwrap();
    assert_eq!(
        qdrant_edge::search(&settings(folder.path(), create(4)), &query).await.unwrap().len(),
        1,
        "from the next pipeline"
    );
    Box::new(sink).close().await.unwrap();
    assert!(!folder.path().join("search.sock").exists());
}

#[tokio::test]
async fn a_search_needs_a_folder_with_points_and_a_fitting_vector() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("points");
    let search = async |values: &[f32]| {
        let query = Query { vector: "", values, limit: 1 };
        qdrant_edge::search(&settings(&path, create(4)), &query).await
    };
    let error = search(&[1.0; 4]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("there are no points in folder `{}`", path.display()));
    assert!(!path.exists(), "a search makes nothing");

    let sink = QdrantEdge::open(&settings(&path, create(4))).await.unwrap();
    let asked = search(&[1.0; 3]).await.unwrap_err();
    Box::new(sink).close().await.unwrap();
    let read = search(&[1.0; 3]).await.unwrap_err();
    for error in [asked, read] {
        assert_eq!(error.fault(), Fault::Config);
        assert_eq!(
            error.report(),
            "error: the query has 3 numbers, the default vector takes 4\n  \
             help: search with the embedder that made the stored vectors\n"
        );
    }
}

#[tokio::test]
async fn the_socket_is_private_and_works_in_a_folder_with_a_long_name() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("x".repeat(120))] {
        let mut sink = QdrantEdge::open(&settings(&path, create(4))).await.unwrap();
        write(&mut sink, 1, [Action::Upsert(point("a", 1, "{}"))]).await.unwrap();
        let socket = match std::fs::read_to_string(path.join("search.addr")) {
            Ok(elsewhere) => PathBuf::from(elsewhere),
            Err(_) => path.join("search.sock"),
        };
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let query = Query { vector: "", values: &[1.0, 0.0, 0.0, 0.0], limit: 5 };
        let hits = qdrant_edge::search(&settings(&path, create(4)), &query).await.unwrap();
        assert_eq!(hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["a"]);
        Box::new(sink).close().await.unwrap();
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn another_dimension_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    Box::new(QdrantEdge::open(&settings(folder.path(), create(4))).await.unwrap()).close().await.unwrap();
    let error = QdrantEdge::open(&settings(folder.path(), create(5))).await.err().unwrap();
    let path = folder.path().display();
    assert_eq!(error.fault(), Fault::Config);
    assert_eq!(
        error.report(),
        format!(
            "error: the default vector of folder `{path}` is 4 numbers, dot, `create` asks for 5 numbers, dot\n  \
             help: set `create` to `dimension: 4, distance: dot`, or write to a new folder: `path: {path}-2`\n"
        )
    );
}

#[tokio::test]
async fn a_payload_cannot_claim_the_keys_of_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = QdrantEdge::open(&settings(folder.path(), create(4))).await.unwrap();
    let patch = Action::Patch { id: "a".into(), payload: r#"{"_group":"swordfish"}"#.into() };
    for (action, key) in [(Action::Upsert(point("a", 1, r#"{"_id":"swordfish"}"#)), "_id"), (patch, "_group")] {
        let error = write(&mut sink, 7, [action]).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Handler);
        assert_eq!(
            error.report(),
            format!(
                "error: a payload uses the key `{key}`, which the sink keeps for itself\n  \
                 where: event 0/7#0\n  \
                 help: rename the key in the handler, for instance to `{}`\n",
                &key[1..]
            )
        );
    }
    Box::new(sink).close().await.unwrap();
}

/// The delivery that the writer makes as its `n`th: new points, a group that moves on, a delete and a patch.
fn delivery(n: u64) -> Vec<Action> {
    let payload = format!(r#"{{"n":{n}}}"#);
    let mut actions: Vec<Action> =
        (0..20).map(|i| Action::Upsert(flat(&format!("p{n}-{i}"), n as f32, &payload))).collect();
    let chunks = (0..n % 4).map(|i| flat(&format!("g{n}-{i}"), n as f32, &payload)).collect();
    actions.push(Action::Replace { group: "g".into(), points: chunks });
    actions.push(Action::Delete { id: format!("p{}-0", n.saturating_sub(5)) });
    actions.push(Action::Patch { id: format!("p{}-1", n.saturating_sub(1)), payload });
    actions
}

/// The ids of earlier points that the `n`th delivery changes.
fn touched(n: u64) -> Vec<String> {
    let mut ids = vec![format!("p{}-0", n.saturating_sub(5)), format!("p{}-1", n.saturating_sub(1))];
    ids.extend((0..4).map(|i| format!("g{}-{i}", n - 1)));
    ids
}

fn flat(id: &str, number: f32, payload: &str) -> Point {
    let embeddings = vec![(String::new(), Embedding::Dense(vec![number, 1.0, 2.0, 3.0]))];
    Point { id: id.into(), embeddings, payload: payload.into() }
}

/// A process that writes deliveries until it is killed, and says each time that it was answered Ok.
struct Writer {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(folder: &Path, after: u64) -> Self {
        Self::spawn(folder, &after.to_string())
    }

    /// Writes one delivery of 8000 points of 384 numbers, then waits.
    fn start_bulk(folder: &Path) -> Self {
        Self::spawn(folder, "bulk")
    }

    fn spawn(folder: &Path, what: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sinks::qdrant_edge::writer", "--ignored", "--nocapture", "--test-threads=1"])
            .env("PGSTREAM_TEST_WRITER", what)
            .env("PGSTREAM_TEST_FOLDER", folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    fn next_ok(&mut self) -> u64 {
        self.oks().next().expect("the writer ended")
    }

    fn oks(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.lines.by_ref().map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse().ok())
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
#[ignore = "the process that other tests kill"]
async fn writer() {
    let Ok(what) = std::env::var("PGSTREAM_TEST_WRITER") else { return };
    let folder = PathBuf::from(std::env::var_os("PGSTREAM_TEST_FOLDER").unwrap());
    let bulk = what == "bulk";
    let mut sink = QdrantEdge::open(&settings(&folder, create(if bulk { 384 } else { 4 }))).await.unwrap();
    let mut number = what.parse().unwrap_or(0);
    println!(); // the harness' own line ends here
    loop {
        number += 1;
        let actions = if bulk { (0..8000).map(bulky).collect() } else { delivery(number) };
        write(&mut sink, number, actions).await.unwrap();
        println!("written {number}");
        if bulk {
            std::future::pending::<()>().await; // until killed
        }
    }
}

fn bulky(n: u32) -> Action {
    let mut values: Vec<f32> = (0..384).map(|i| ((n * 31 + i * 17) % 97) as f32).collect();
    values[0] = 1000.0 + n as f32;
    let embeddings = vec![(String::new(), Embedding::Dense(values))];
    Action::Upsert(Point { id: n.to_string(), embeddings, payload: "{}".into() })
}

fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "nothing happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}
