//! What is counted is what happened: known events, rejections, retries and a reconnect.

use std::net::SocketAddr;

use tonic::Code;

use super::{Home, exposition::Exposition, get, listens, metrics};
use crate::guests::guest;
use crate::source::pipeline;
use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually};
use crate::support::qdrant_server::QdrantServer;

/// Waits until the metrics are as they are to be.
async fn until(address: SocketAddr, what: &str, is: impl Fn(&Exposition) -> bool) -> Exposition {
    let mut last = None;
    eventually(what, async || {
        let page = metrics(address).await;
        let is = is(&page);
        last = Some(page);
        is
    })
    .await;
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_those_of_what_happened() {
    let Some(evil) = guest("evil") else { return };
    let (database, folder, home, store) =
        (fresh_database().await, Folder::new(), Home::new(), QdrantServer::start(None));
    let sql = async |sql: &str| database.client.batch_execute(sql).await.unwrap();
    sql("CREATE TABLE documents (id int PRIMARY KEY, title text, content text);
         INSERT INTO documents SELECT n, 'payload {}', '' FROM generate_series(1, 5) n")
    .await;
    let (name, url) = (pipeline(&database), store.url());
    let file = folder.write(
        "counts.yaml",
        &format!(
            "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents], snapshot: initial, heartbeat: 1s }}\n\
             transforms:\n  evil: {{ type: wasm, inputs: [db], component: {} }}\n\
             sinks:\n  store: {{ type: qdrant, inputs: [evil], url: \"{url}\", collection: counts, create: {{ dimension: 3, distance: cosine }} }}\n  \
             parked: {{ type: dead-letters, inputs: [evil.rejected] }}\n",
            evil.display()
        ),
    );
    let mut command = home.command(["run", "--api", "127.0.0.1:0"]);
    command.arg(&file).env("DATABASE_URL", &database.url);
    let mut host = Running::spawn(command);
    let address = listens(&mut host).await;
    let of = |extra: &[(&'static str, &'static str)]| -> Vec<(&'static str, String)> {
        let own = [("pipeline", name.clone())];
        own.into_iter().chain(extra.iter().map(|(label, value)| (*label, (*value).to_owned()))).collect()
    };
    let value = |page: &Exposition, metric: &str, extra: &[(&'static str, &'static str)]| {
        let labels = of(extra);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
        page.of(metric, &labels)
    };
    let copied = until(address, "the rows are copied", |page| {
        value(page, "source_lag_seconds", &[]) == Some(0.0)
            && value(page, "copy_tables", &[("state", "done")]) == Some(1.0)
            && value(page, "sink_points_total", &[("operation", "written")]) == Some(5.0)
    })
    .await;
    assert_eq!(value(&copied, "copy_rows_total", &[]), Some(5.0));
    assert_eq!(
        value(&copied, "pipeline_delivery_latency_seconds_count", &[]),
        Some(0.0),
        "copied rows have no latency"
    );
    assert_eq!(value(&copied, "pipeline_state", &[("state", "streaming")]), Some(1.0));
    assert_eq!(value(&copied, "pipeline_state", &[]), Some(1.0), "exactly one");

    // Two calls fail; then 4 events of which 2 are refused: one crashes the handler, one is rejected in its own words.
    store.fail(2, Code::Unavailable);
    sql("INSERT INTO documents VALUES (10, 'payload {}', ''), (11, 'panic', ''), (12, 'reject no', '');
         UPDATE documents SET content = 'x' WHERE id = 1")
    .await;
    let page = until(address, "the events are durable", |page| {
        value(page, "pipeline_delivery_latency_seconds_count", &[]) == Some(4.0)
            && value(page, "source_lag_seconds", &[]) == Some(0.0)
    })
    .await;
    for (metric, labels, count) in [
        ("source_events_total", vec![("operation", "insert")], 8.0),
        ("source_events_total", vec![("operation", "update")], 1.0),
        ("source_events_total", vec![("operation", "delete")], 0.0),
        ("transform_events_total", vec![("transform", "evil")], 9.0),
        ("transform_commands_total", vec![("transform", "evil")], 7.0),
        ("transform_rejected_events_total", vec![("code", "trap")], 1.0),
        ("transform_rejected_events_total", vec![("code", "rejected")], 1.0),
        ("transform_rejected_events_total", vec![], 2.0),
        ("transform_instance_starts_total", vec![("reason", "first")], 1.0),
        ("sink_points_total", vec![("sink", "store"), ("operation", "written")], 7.0),
        ("sink_commands_total", vec![("sink", "store")], 7.0),
        ("sink_commands_total", vec![("sink", "parked")], 2.0),
        ("sink_in_trouble", vec![], 0.0),
        ("sink_in_flight", vec![], 0.0),
        ("sink_waiting_commands", vec![], 0.0),
        ("source_connected", vec![], 1.0),
        ("source_reconnects_total", vec![], 0.0),
        ("pipeline_up", vec![], 1.0),
        ("pipeline_failures_total", vec![], 0.0),
        ("pipeline_in_flight_batches", vec![], 0.0),
        ("slot_active", vec![], 1.0),
        ("slot_wal_status", vec![], 0.0),
    ] {
        assert_eq!(value(&page, metric, &labels), Some(count), "{metric} {labels:?}");
    }
    // Two calls fail, which may be one write or two: the client repeats some calls by itself.
    let retries = value(&page, "sink_retries_total", &[("sink", "store")]);
    assert!(retries.is_some_and(|retries| (1.0..=2.0).contains(&retries)), "{retries:?}");
    for positive in [
        "source_received_bytes_total",
        "source_transactions_total",
        "transform_call_duration_seconds_count",
        "transform_cpu_seconds_total",
        "transform_memory_bytes",
        "transform_memory_peak_bytes",
        "sink_write_bytes_total",
        "slot_retained_bytes",
        "slot_checked_timestamp_seconds",
        "source_confirmed_lsn",
        "pipeline_in_flight_limit_bytes",
    ] {
        assert!(value(&page, positive, &[]).is_some_and(|value| value > 0.0), "{positive}");
    }
    assert_eq!(value(&page, "slot_safe_bytes", &[]), None, "there is no limit");
    until(address, "it idles, and lags by nothing", |page| {
        value(page, "source_lag_bytes", &[]) == Some(0.0) && value(page, "source_receive_lag_seconds", &[]) == Some(0.0)
    })
    .await;

    sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()").await;
    let page = until(address, "it streams again", |page| {
        value(page, "source_reconnects_total", &[]) == Some(1.0) && value(page, "source_connected", &[]) == Some(1.0)
    })
    .await;
    assert_eq!(value(&page, "source_reconnects_total", &[("reason", "server_shutdown")]), Some(1.0));

    // A sink that stays down: the lag grows, and is told of in seconds and as trouble.
    store.fail(usize::MAX >> 1, Code::Unavailable);
    sql("INSERT INTO documents VALUES (20, 'payload {}', '')").await;
    until(address, "the sink is in trouble", |page| {
        value(page, "sink_in_trouble", &[("sink", "store")]) == Some(1.0)
            && value(page, "source_lag_seconds", &[]).is_some_and(|lag| lag > 0.0)
            && value(page, "sink_waiting_commands", &[("sink", "store")]) == Some(1.0)
    })
    .await;
    store.fail(0, Code::Unavailable);
    until(address, "it is over", |page| {
        value(page, "sink_in_trouble", &[]) == Some(0.0) && value(page, "source_lag_seconds", &[]) == Some(0.0)
    })
    .await;

    for path in ["/metrics", "/health", "/ready"] {
        let answer = get(address, path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(!answer.body.contains("payload") && !answer.body.contains("127.0.0.1"), "{path}: {}", answer.body);
    }
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
    assert!(!home.socket().exists(), "the socket goes with its host");
}
