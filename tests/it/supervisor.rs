//! The supervisor: each pipeline has a state that can be watched, and counters that outlive its restarts.

use std::sync::Arc;

use pgstream_host::components::{PipelineSettings, REGISTRY};
use pgstream_host::config;
use pgstream_host::error::{Error, Fault};
use pgstream_host::host::{Host, Observer, Owner, Phase, PipelineHandle, PipelineSpec, Restart, Supervisor};
use pgstream_host::pipeline::Status;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::support::program::{Folder, eventually, root};
use crate::support::qdrant_server::QdrantServer;
use crate::support::{Database, fresh_database};

struct Silent;

impl Observer for Silent {
    fn opened(&self, _: Arc<Status>) -> Box<dyn Send> {
        Box::new(())
    }

    fn failed(&self, _: Option<&str>, _: &Error) {}
}

fn supervisor() -> Supervisor {
    restarting(Restart::Always)
}

fn restarting(restart: Restart) -> Supervisor {
    Supervisor::new(Host::new().unwrap(), restart, CancellationToken::new(), Arc::new(Silent))
}

/// A pipeline from the table `documents` into this sink.
fn spec(database: &Database, tables: &str, sink: &str) -> PipelineSpec {
    let component = root().join("plugins/documents-rust/documents.wasm");
    let text = format!(
        "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"{}\", tables: [{tables}], snapshot: initial }}\n\
         embedders:\n  words: {{ type: hash, dimension: 3 }}\n\
         transforms:\n  chunk: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  out: {{ {sink}, inputs: [chunk] }}\n",
        database.name.replace('_', "-"),
        database.url,
        component.display(),
    );
    let settings: PipelineSettings = config::parse(&REGISTRY, "test.yaml", &text, root(), &|_| None).unwrap();
    PipelineSpec::new(None, settings, Owner::of_everything())
}

async fn with_documents() -> Database {
    let database = fresh_database().await;
    let rows = "CREATE TABLE documents (id int PRIMARY KEY, title text, content text);
                INSERT INTO documents VALUES (1, 'Tents', 'Dry it.')";
    database.client.batch_execute(rows).await.unwrap();
    database
}

async fn comes_to(handle: &PipelineHandle, phase: Phase) {
    eventually(&format!("the pipeline is {}", phase.as_str()), async || handle.state().state == phase).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_says_how_it_gets_on_from_its_start_to_its_end() {
    let (database, folder) = (with_documents().await, Folder::new());
    let (one, other) = (supervisor(), supervisor());
    let to = |name: &str| format!("type: file, path: {}", folder.path(name).display());
    let first = one.start(spec(&database, "public.documents", &to("one.jsonl"))).unwrap();
    let mut states = first.watch();
    assert_eq!(states.borrow_and_update().state, Phase::Starting);
    let twice = one.start(spec(&database, "public.documents", &to("one.jsonl"))).unwrap_err();
    assert!(twice.to_string().contains("runs already"), "{twice}");
    comes_to(&first, Phase::Streaming).await;
    eventually("the row is counted", async || first.status().is_some_and(|status| status.events() == 1)).await;

    let second = other.start(spec(&database, "public.documents", &to("other.jsonl"))).unwrap();
    comes_to(&second, Phase::Waiting).await;
    let mut ends = first.watch();
    let draining = tokio::spawn(async move { ends.wait_for(|state| state.state == Phase::Draining).await.is_ok() });
    assert_eq!(one.list().len(), 1);
    one.stop(first.name()).await.unwrap();
    assert!(draining.await.unwrap(), "it drains before it ends");
    assert_eq!((first.state().state, first.ended_with()), (Phase::Stopped, None));
    assert!(one.list().is_empty() && one.stop(first.name()).await.is_none());
    comes_to(&second, Phase::Streaming).await;
    other.stop(second.name()).await.unwrap();
    tokio::join!(one.ended(), other.ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_outlive_a_restart_and_the_reason_stays_readable() {
    let (database, store) = (with_documents().await, QdrantServer::start(None));
    let sink = format!(
        "type: qdrant, url: \"{}\", collection: documents, create: {{ dimension: 3, distance: cosine }}",
        store.url()
    );
    let supervisor = supervisor();
    let handle = supervisor.start(spec(&database, "public.documents", &sink)).unwrap();
    let commands = || handle.status().map_or(0, |status| status.sinks[0].commands());
    eventually("the row of the copy is written", async || commands() == 1).await;
    let before = handle.status().unwrap();
    store.fail(2, Code::FailedPrecondition);
    database.client.batch_execute("INSERT INTO documents VALUES (2, 'Boots', 'Wax them.')").await.unwrap();
    let retrying = handle.watch().wait_for(|state| state.state == Phase::Retrying).await.unwrap().clone();
    let error = retrying.last_error.unwrap();
    assert!(error.fault == "environment" && error.place.contains(&"sink `out`".to_owned()), "{error:?}");
    eventually("the second row is written", async || commands() >= 2).await;
    comes_to(&handle, Phase::Streaming).await;
    let now = handle.status().unwrap();
    assert!(!Arc::ptr_eq(&before, &now) && now.events() > before.events(), "{} events", now.events());
    let state = handle.state();
    assert!(state.restarts >= 1 && state.generation == 1, "{state:?}");
    assert!(state.last_error.is_some_and(|last| last.fault == error.fault), "it can be read afterwards, too");
    supervisor.stop(handle.name()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_run_has_failed_and_says_what_to_do() {
    let (database, folder) = (with_documents().await, Folder::new());
    let sink = format!("type: file, path: {}", folder.path("out.jsonl").display());
    let supervisor = supervisor();
    let handle = supervisor.start(spec(&database, "pgstream.slots", &sink)).unwrap();
    comes_to(&handle, Phase::Failed).await;
    let error = handle.state().last_error.unwrap();
    assert!(error.fault == "config" && error.help.is_some_and(|help| help.contains("leave it out")));
    assert_eq!(supervisor.down(), [Fault::Config]);
    supervisor.ended().await;
    let again = supervisor.start(spec(&database, "public.documents", &sink)).unwrap();
    comes_to(&again, Phase::Streaming).await;
    assert!(supervisor.down().is_empty(), "what has ended can be started again");
    supervisor.stop(again.name()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_failed_has_left_its_slot_in_order() {
    let (database, store) = (with_documents().await, QdrantServer::start(None));
    let sink = format!(
        "type: qdrant, url: \"{}\", collection: documents, create: {{ dimension: 3, distance: cosine }}",
        store.url()
    );
    let supervisor = restarting(Restart::OneOfSeveral);
    let handle = supervisor.start(spec(&database, "public.documents", &sink)).unwrap();
    comes_to(&handle, Phase::Streaming).await;
    eventually("the row of the copy is written", async || {
        handle.status().is_some_and(|it| it.sinks[0].commands() == 1)
    })
    .await;
    store.fail(usize::MAX, Code::FailedPrecondition);
    database.client.batch_execute("INSERT INTO documents VALUES (2, 'Boots', 'Wax them.')").await.unwrap();
    comes_to(&handle, Phase::Failed).await;
    let left = "SELECT left_at IS NOT NULL FROM pgstream.slots";
    assert!(database.client.query_one(left, &[]).await.unwrap().get::<_, bool>(0), "where it was left is written down");
}
