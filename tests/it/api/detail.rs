//! How many series there are: by detail, by tenant, and no longer than their pipeline.

use std::sync::Arc;

use pgstream_host::api::Api;
use pgstream_host::components::{PipelineSettings, REGISTRY};
use pgstream_host::config::{self, model};
use pgstream_host::host::{Host, Owner, Phase, PipelineSpec, Restart, Supervisor};
use tokio_util::sync::CancellationToken;

use super::exposition::Exposition;
use super::gate::Silent;
use super::{get, metrics};
use crate::support::program::{Folder, eventually, root};
use crate::support::{Database, documents};

fn spec(database: &Database, name: &str) -> PipelineSpec {
    let component = root().join("plugins/documents-rust/documents.wasm");
    let text = format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"{}\", tables: [public.documents], snapshot: never }}\n\
         embedders:\n  words: {{ type: hash, dimension: 3 }}\n\
         transforms:\n  chunk: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: [chunk] }}\n  other: {{ type: blackhole, inputs: [chunk] }}\n",
        database.url,
        component.display(),
    );
    let settings: PipelineSettings = config::parse(&REGISTRY, "test.yaml", &text, root(), &|_| None).unwrap();
    PipelineSpec::new(None, settings, Owner::of_everything())
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_as_fine_as_is_asked_for_and_go_with_their_pipeline() {
    let (database, folder) = (documents().await, Folder::new());
    let (host, stop) = (Host::new().unwrap(), CancellationToken::new());
    let supervisor = Supervisor::new(host.clone(), Restart::Always, stop.clone(), Arc::new(Silent));
    let settings = model::Api {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        socket: Some(folder.path("own.sock")),
        ..model::Api::default()
    };
    let api = Api::open(&settings, host, supervisor.clone(), stop.clone()).await.unwrap();
    let address = api.address().unwrap();
    let serving = api.serve();
    let empty = metrics(address).await;
    assert_eq!(empty.get("process_threads", &[]).map(|threads| threads > 0.0), Some(true));
    assert!(empty.get("process_cpu_seconds_total", &[]).is_some() && empty.values("pipeline").is_empty());

    for name in ["one", "two"] {
        let handle = supervisor.start(spec(&database, name)).unwrap();
        eventually("it streams", async || handle.state().state == Phase::Streaming).await;
    }
    database
        .client
        .batch_execute("INSERT INTO documents VALUES (1, 'Tents', 'Dry it.'), (2, 'Stoves', 'Light it.')")
        .await
        .unwrap();
    eventually("all is written", async || metrics(address).await.of("transform_events_total", &[]) == Some(4.0)).await;

    let page = async |detail: &str| {
        let open = get(
            address,
            &format!("/metrics?detail={detail}"),
            "Accept: application/openmetrics-text; version=1.0.0\r\n",
        )
        .await;
        assert!(
            open.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
            "{}",
            open.head
        );
        Exposition::read(&open.body, true)
    };
    let (component, pipeline, tenant) = (page("component").await, page("pipeline").await, page("tenant").await);
    assert!(component.series() > pipeline.series() && pipeline.series() > tenant.series());
    assert!(component.of("metrics_series", &[]).unwrap() as usize + 1 == component.series());
    // About 150 for each pipeline, which has one transform, one embedder and two sinks.
    assert!(component.series() < 2 * 250 + 50, "{}", component.series());
    assert!(pipeline.series() < 2 * 110 + 50, "{}", pipeline.series());
    for (page, labels) in [(&component, "transform"), (&pipeline, "pipeline"), (&tenant, "state")] {
        assert!(page.labels().contains(labels));
        assert_eq!(page.of("transform_events_total", &[]), Some(4.0), "the sum is the same at any detail");
        assert_eq!(page.of("pipeline_state", &[("state", "streaming")]), Some(2.0));
        assert_eq!(page.of("pipeline_up", &[]), Some(2.0));
    }
    assert!(!pipeline.labels().contains("sink") && !tenant.labels().contains("transform"));
    assert_eq!(tenant.values("pipeline").len(), 2, "of each pipeline it is said that it runs");
    assert_eq!(
        component.of("embedder_texts_total", &[("embedder", "words"), ("pipeline", "one")]).map(|texts| texts > 0.0),
        Some(true)
    );
    // What stands on the page is named in the files, never in the data.
    for label in component.labels() {
        assert!(
            component.values(&label).iter().all(|value| !value.contains("documents") || label == "sha256"),
            "{label}"
        );
    }

    supervisor.stop("one").await.unwrap();
    let left = metrics(address).await;
    assert_eq!(left.values("pipeline").into_iter().collect::<Vec<_>>(), ["two"]);
    assert_eq!(get(address, "/api/v1/pipelines/one", "").await.status, 401);
    stop.cancel();
    supervisor.ended().await;
    let ended = metrics(address).await;
    assert_eq!(ended.of("pipeline_up", &[("pipeline", "two")]), Some(0.0));
    assert_eq!(ended.of("source_lag_seconds", &[("pipeline", "two")]), None, "nobody knows");
    assert_eq!(ended.of("source_lag_bytes", &[("pipeline", "two")]), None);
    serving.close().await;
}
