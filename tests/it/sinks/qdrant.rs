//! The `qdrant` sink over the real protocol: the contract, then what only this sink promises.
//!
//! The contract runs against the server at `QDRANT_URL` (with `QDRANT_API_KEY`) if there is one, and else against
//! Qdrant's engine behind Qdrant's protocol in this process.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pgstream_host::command::{Action, Embedding, Point};
use pgstream_host::config::model::{self, Create, Distance, SinkBatch};
use pgstream_host::config::{Secret, Span};
use pgstream_host::error::Fault;
use pgstream_host::sink::qdrant::{QdrantSettings, QdrantSink};
use pgstream_host::sink::qdrant_edge::QdrantEdgeSettings;
use pgstream_host::sink::{Sink, SinkKind};
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::{
    CreateCollectionBuilder, Distance as Metric, PointStruct, ScrollPointsBuilder, UpsertPointsBuilder, VectorOutput,
    VectorParamsBuilder, vector_output, vectors_output,
};
use qdrant_client::{Payload, Qdrant};
use serde_json::{Map, Value, json};
use tonic::Code;

use super::contract::{Points, Store, Stored, contract, write};
use crate::support::qdrant_server::QdrantServer;

contract!(Collection);

/// A collection of its own on the server that the tests share.
struct Collection {
    name: String,
    create: Create,
}

#[async_trait]
impl Store for Collection {
    async fn make(create: Create) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { name, create }
    }

    fn settings(&self) -> Box<dyn SinkKind> {
        let (url, api_key) = shared();
        Box::new(QdrantSettings {
            api_key: api_key.map(Secret::new),
            collection: self.name.clone(),
            ..settings(&url, Some(self.create.clone()))
        })
    }

    async fn dump(&self) -> Points {
        dump(&shared_client(), &self.name).await
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        let name = self.name.clone();
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { shared_client().delete_collection(&name).await.unwrap() });
        };
        std::thread::spawn(remove).join().unwrap();
    }
}

fn shared() -> (String, Option<String>) {
    static SERVER: OnceLock<QdrantServer> = OnceLock::new();
    match std::env::var("QDRANT_URL") {
        Ok(url) => (url, std::env::var("QDRANT_API_KEY").ok()),
        Err(_) => (SERVER.get_or_init(|| QdrantServer::start(Some("key"))).url(), Some("key".to_owned())),
    }
}

fn shared_client() -> Qdrant {
    let (url, api_key) = shared();
    client(&url, api_key.as_deref())
}

pub(crate) fn client(url: &str, api_key: Option<&str>) -> Qdrant {
    Qdrant::from_url(url).api_key(api_key).skip_compatibility_check().build().unwrap()
}

fn settings(url: &str, create: Option<Create>) -> QdrantSettings {
    QdrantSettings {
        inputs: Vec::new(),
        url: url.to_owned(),
        api_key: None,
        collection: "docs".to_owned(),
        create,
        timeout: Span(Duration::from_secs(30)),
        batch: SinkBatch::default(),
    }
}

fn create(dimension: usize, distance: Distance) -> Option<Create> {
    Some(Create { dimension: Some(dimension), distance, vectors: BTreeMap::new(), sparse: Vec::new() })
}

/// Reads the collection with the client alone.
pub(crate) async fn dump(client: &Qdrant, collection: &str) -> Points {
    if !client.collection_exists(collection).await.unwrap() {
        return Points::new();
    }
    let scroll = ScrollPointsBuilder::new(collection).limit(1_000_000).with_payload(true).with_vectors(true);
    let points = client.scroll(scroll).await.unwrap().result;
    points
        .into_iter()
        .map(|point| {
            let mut payload: Map<String, Value> = Payload::from(point.payload).into();
            let text = |value: Value| value.as_str().unwrap().to_owned();
            let id = payload.shift_remove("_id").map(text).unwrap_or_else(|| {
                match point.id.unwrap().point_id_options.unwrap() {
                    PointIdOptions::Num(number) => number.to_string(),
                    PointIdOptions::Uuid(uuid) => uuid,
                }
            });
            let group = payload.shift_remove("_group").map(text);
            let vectors = match point.vectors.and_then(|vectors| vectors.vectors_options) {
                Some(vectors_output::VectorsOptions::Vector(vector)) => vec![(String::new(), embedding(vector))],
                Some(vectors_output::VectorsOptions::Vectors(named)) => {
                    named.vectors.into_iter().map(|(name, vector)| (name, embedding(vector))).collect()
                }
                None => Vec::new(),
            };
            (id, Stored { group, vectors: vectors.into_iter().collect(), payload })
        })
        .collect()
}

fn embedding(vector: VectorOutput) -> Embedding {
    match vector.into_vector() {
        vector_output::Vector::Dense(dense) => Embedding::Dense(dense.data),
        vector_output::Vector::Sparse(sparse) => Embedding::Sparse { indices: sparse.indices, values: sparse.values },
        vector_output::Vector::MultiDense(_) => panic!("nothing writes multivectors"),
    }
}

fn upsert(id: &str, payload: &str) -> Action {
    let embeddings = vec![(String::new(), Embedding::Dense(vec![1.0, 2.0]))];
    Action::Upsert(Point { id: id.into(), embeddings, payload: payload.into() })
}

#[tokio::test]
async fn a_collection_that_differs_is_refused_with_both_sides() {
    let server = QdrantServer::start(None);
    let url = server.url();
    let error = QdrantSink::open(&settings(&url, None)).await.err().unwrap();
    assert_eq!(error.fault(), Fault::Environment);
    assert_eq!(error.to_string(), format!("there is no collection `docs` at `{url}`"));
    assert!(error.advice().unwrap().contains("create: { dimension: 384, distance: cosine }"));

    QdrantSink::open(&settings(&url, create(2, Distance::Cosine))).await.unwrap();
    QdrantSink::open(&settings(&url, create(2, Distance::Cosine))).await.unwrap();
    QdrantSink::open(&settings(&url, None)).await.unwrap();
    for (wanted, text) in
        [(create(3, Distance::Cosine), "3 numbers, cosine"), (create(2, Distance::Dot), "2 numbers, dot")]
    {
        let error = QdrantSink::open(&settings(&url, wanted)).await.err().unwrap();
        assert_eq!(error.fault(), Fault::Config);
        assert_eq!(
            error.report(),
            format!(
                "error: the default vector of collection `docs` is 2 numbers, cosine, `create` asks for {text}\n  \
                 help: set `create` to `dimension: 2, distance: cosine`, \
                 or write to a new collection: `collection: docs-2`\n"
            )
        );
    }
    let mut named = create(2, Distance::Cosine).unwrap();
    named.vectors.insert("title".into(), model::VectorSpec { dimension: 3, distance: Distance::Dot });
    let error = QdrantSink::open(&settings(&url, Some(named))).await.err().unwrap();
    assert_eq!(error.to_string(), "collection `docs` has no vector `title`, `create` asks for 3 numbers, dot");
}

#[tokio::test]
async fn a_server_that_fails_for_a_while_is_worth_another_try() {
    let server = QdrantServer::start(None);
    let mut sink = QdrantSink::open(&settings(&server.url(), create(2, Distance::Dot))).await.unwrap();
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded, Code::Aborted, Code::Internal] {
        server.fail(2, code); // the client tries twice by itself
        let error = write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Transient, "{code:?}: {error:?}");
        server.fail(0, code);
        write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
    }
    assert_eq!(dump(&client(&server.url(), None), "docs").await.len(), 1);
}

#[tokio::test]
async fn a_slow_server_runs_into_the_timeout() {
    let server = QdrantServer::start(None);
    let timeout = Span(Duration::from_millis(300));
    let settings = QdrantSettings { timeout, ..settings(&server.url(), create(2, Distance::Dot)) };
    let mut sink = QdrantSink::open(&settings).await.unwrap();
    server.slow_down(Duration::from_secs(60));
    let error = write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Transient, "{error:?}");
    server.slow_down(Duration::ZERO);
    write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_is_the_configuration_s_fault() {
    let server = QdrantServer::start(Some("swordfish"));
    let settings = settings(&server.url(), create(2, Distance::Dot));
    for api_key in [None, Some(Secret::new("wrong"))] {
        let error = QdrantSink::open(&QdrantSettings { api_key, ..settings.clone() }).await.err().unwrap();
        assert_eq!(error.fault(), Fault::Config);
        assert_eq!(error.to_string(), format!("Qdrant at `{}` refuses the API key", server.url()));
        assert!(error.advice().unwrap().contains("api_key: ${QDRANT_API_KEY}"));
        assert!(!format!("{error:?}").contains("wrong"));
    }
    let api_key = Some(Secret::new("swordfish"));
    let mut sink = QdrantSink::open(&QdrantSettings { api_key, ..settings }).await.unwrap();
    server.fail(2, Code::PermissionDenied);
    let error = write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Config);
}

#[tokio::test]
async fn nobody_at_the_address_is_worth_another_try_and_says_what_to_check() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = QdrantSink::open(&settings(&format!("http://{free}"), None)).await.err().unwrap();
    assert_eq!(error.fault(), Fault::Transient);
    assert_eq!(
        error.report(),
        format!(
            "error: no connection to Qdrant at `http://{free}`\n  \
             caused by: Connection refused\n  \
             help: check `url`: it is the gRPC address, port 6334 by default, and `https` only if the server has TLS\n"
        )
    );
}

#[tokio::test]
async fn a_collection_that_goes_while_the_pipeline_runs_stops_it() {
    let server = QdrantServer::start(None);
    let mut sink = QdrantSink::open(&settings(&server.url(), create(2, Distance::Dot))).await.unwrap();
    client(&server.url(), None).delete_collection("docs").await.unwrap();
    let error = write(&mut sink, 1, [upsert("a", "{}")]).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Environment);
    assert_eq!(error.to_string(), format!("there is no collection `docs` at `{}`", server.url()));
}

#[tokio::test]
async fn a_delivery_larger_than_a_message_is_split() {
    let server = QdrantServer::start(None);
    let mut sink = QdrantSink::open(&settings(&server.url(), create(2, Distance::Dot))).await.unwrap();
    let payload = json!({ "text": "x".repeat(1 << 20) }).to_string();
    write(&mut sink, 1, (0..40).map(|n| upsert(&n.to_string(), &payload))).await.unwrap();
    assert_eq!(dump(&client(&server.url(), None), "docs").await.len(), 40);

    let payload = json!({ "text": "x".repeat(33 << 20) }).to_string();
    let error = write(&mut sink, 2, [upsert("a", &payload)]).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Data, "{error:?}");
}

#[tokio::test]
async fn what_is_read_to_be_merged_may_be_larger_than_one_answer() {
    let server = QdrantServer::start(None);
    let mut sink = QdrantSink::open(&settings(&server.url(), create(2, Distance::Dot))).await.unwrap();
    let payload = json!({ "text": "x".repeat(2 << 20), "old": 1 }).to_string();
    let point = |n: u32| {
        let embeddings = vec![(String::new(), Embedding::Dense(vec![1.0, 2.0]))];
        Point { id: n.to_string(), embeddings, payload: payload.clone() }
    };
    let points = (0..20).map(point).collect();
    let group = || "g".to_owned();
    let replace = Action::Replace { group: group(), points };
    write(&mut sink, 1, [replace, Action::PatchGroup { group: group(), payload: r#"{"old":null}"#.to_owned() }])
        .await
        .unwrap();
    let points = dump(&client(&server.url(), None), "docs").await;
    assert_eq!(points.len(), 20);
    assert!(points.values().all(|stored| stored.payload["old"].is_null() && stored.payload.contains_key("text")));
}

#[tokio::test]
async fn several_requests_are_in_flight_but_never_many() {
    let server = QdrantServer::start(None);
    let mut sink = QdrantSink::open(&settings(&server.url(), create(2, Distance::Dot))).await.unwrap();
    server.slow_down(Duration::from_millis(20));
    write(&mut sink, 1, (0..5000).map(|n| upsert(&n.to_string(), "{}"))).await.unwrap();
    assert_eq!(server.most_at_once(), 4);
}

#[tokio::test]
async fn a_payload_may_nest_as_deep_as_the_protocol_carries() {
    let server = QdrantServer::start(None);
    let mut sink = QdrantSink::open(&settings(&server.url(), create(2, Distance::Dot))).await.unwrap();
    let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "{\"b\":".repeat(levels), "}".repeat(levels));
    write(&mut sink, 1, [upsert("a", &nested(30))]).await.unwrap();
    write(&mut sink, 2, [Action::Patch { id: "a".into(), payload: nested(30) }]).await.unwrap();
    let patch = Action::Patch { id: "a".into(), payload: nested(31) };
    for action in [upsert("a", &nested(31)), patch] {
        let error = write(&mut sink, 3, [action]).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Handler);
        assert_eq!(error.to_string(), "a payload nests deeper than the 30 levels that Qdrant reads");
    }
}

#[tokio::test]
#[ignore = "measures: points per second, the sinks against the client alone"]
async fn ten_thousand_points_of_384_numbers() {
    let values = |n: u32| (0..384).map(|i| ((n * 31 + i * 17) % 97) as f32).collect::<Vec<f32>>();
    let action = |n: u32| {
        let embeddings = vec![(String::new(), Embedding::Dense(values(n)))];
        Action::Upsert(Point {
            id: n.to_string(),
            embeddings,
            payload: json!({ "n": n, "text": "some words" }).to_string(),
        })
    };
    let per_second = |start: Instant| (10_000.0 / start.elapsed().as_secs_f64()) as u64;
    let server = QdrantServer::start(None);

    let bare = client(&server.url(), None);
    let vectors = VectorParamsBuilder::new(384, Metric::Cosine);
    bare.create_collection(CreateCollectionBuilder::new("bare").vectors_config(vectors)).await.unwrap();
    let points: Vec<PointStruct> = (0..10_000)
        .map(|n| {
            PointStruct::new(
                u64::from(n),
                values(n),
                Payload::try_from(json!({ "n": n, "text": "some words" })).unwrap(),
            )
        })
        .collect();
    let start = Instant::now();
    for points in points.chunks(1000) {
        bare.upsert_points(UpsertPointsBuilder::new("bare", points).wait(true)).await.unwrap();
    }
    println!("client alone: {} points/s", per_second(start));

    let mut sink = QdrantSink::open(&settings(&server.url(), create(384, Distance::Cosine))).await.unwrap();
    let start = Instant::now();
    for delivery in 0..10 {
        write(&mut sink, 1, (delivery * 1000..(delivery + 1) * 1000).map(action)).await.unwrap();
    }
    println!("qdrant: {} points/s", per_second(start));

    let folder = tempfile::tempdir().unwrap();
    let settings = QdrantEdgeSettings {
        inputs: Vec::new(),
        path: folder.path().to_owned(),
        folder: None,
        create: create(384, Distance::Cosine).unwrap(),
        batch: SinkBatch::default(),
    };
    let mut sink = pgstream_host::sink::qdrant_edge::QdrantEdge::open(&settings).await.unwrap();
    let start = Instant::now();
    for delivery in 0..10 {
        write(&mut sink, 1, (delivery * 1000..(delivery + 1) * 1000).map(action)).await.unwrap();
    }
    println!("qdrant-edge: {} points/s", per_second(start));
    Box::new(sink).close().await.unwrap();
}
