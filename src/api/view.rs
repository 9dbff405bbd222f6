//! The form of answers: the states of pipelines as JSON, and problems.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::error::{Code, Error};
use crate::host::PipelineHandle;
use crate::lsn::Lsn;
use crate::meter::{CopyCount, FlowMeter, HistogramReading, SourceMeter, TransformMeter};

/// Longer than this no loop is busy with one step, unless it hangs.
const WEDGED: std::time::Duration = std::time::Duration::from_secs(60);

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A problem in JSON.
pub(super) fn problem(status: StatusCode, code: &str, message: &str, help: &str) -> Response {
    json(status, &json!({ "error": { "code": code, "message": message, "help": help } }))
}

/// The answer to a method that a path does not know.
pub(super) fn no_such_method() -> Response {
    let what = "the path does not know this method";
    let mut answer =
        problem(StatusCode::METHOD_NOT_ALLOWED, "method", what, "ask with GET, or with POST what changes something");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    answer
}

/// An error of the host as a problem in JSON.
pub(super) fn failure(status: StatusCode, code: &str, error: &Error) -> Response {
    problem(status, code, &error.chain(), error.advice().unwrap_or("the log of the host may say more"))
}

/// A moment as text.
pub(super) fn moment(time: SystemTime) -> Value {
    jiff::Timestamp::try_from(time).map_or(Value::Null, |time| format!("{time:.3}").into())
}

/// Tells whether the pipeline's loop has been busy with one step for so long that it hangs.
pub(super) fn is_wedged(handle: &PipelineHandle) -> bool {
    handle.meter().flow.turn.goes_on().is_some_and(|busy| busy >= WEDGED)
}

/// A pipeline in few words.
pub(super) fn pipeline(handle: &PipelineHandle) -> Map<String, Value> {
    let (state, meter, status) = (handle.state(), handle.meter(), handle.status());
    let mut shown = Map::new();
    shown.insert("name".into(), handle.name().into());
    shown.insert("tenant".into(), handle.tenant().into());
    if let Ok(Value::Object(state)) = serde_json::to_value(&state) {
        shown.extend(state);
    }
    let source = &meter.source;
    let age = status.as_ref().map(|status| status.age()).filter(|age| source.is_connected() || !age.is_zero());
    shown.insert(
        "lag".into(),
        json!({ "bytes": source.lag_bytes(), "seconds": age.map(|age| (age.as_secs_f64() * 1000.0).round() / 1000.0) }),
    );
    let confirmed = Some(Lsn(source.confirmed_lsn.get())).filter(|lsn| *lsn > Lsn::INVALID);
    shown.insert("confirmed".into(), confirmed.map(|lsn| lsn.to_string()).into());
    shown.insert("connected".into(), source.is_connected().into());
    shown.insert("events".into(), source.events.iter().map(crate::meter::Counter::get).sum::<u64>().into());
    let rejected = meter.transforms.iter().flat_map(|transform| &transform.rejected);
    shown.insert("rejected".into(), rejected.map(crate::meter::Counter::get).sum::<u64>().into());
    let letters = handle.letter_limit().map(|limit| json!({ "kept": handle.letters().kept(), "limit": limit }));
    shown.insert("letters".into(), letters.into());
    let waits = status.as_ref().filter(|status| status.stuck_since().is_some()).map(|status| status.waits_for());
    shown.insert("waits_for".into(), waits.into());
    shown.insert("slot".into(), slot(source));
    shown.insert("copies".into(), source.copy_count().map_or(Value::Null, copies));
    let sinks = meter.sinks.iter().enumerate().map(|(index, sink)| {
        let trouble = status.as_ref().and_then(|status| status.sinks.get(index)).and_then(|sink| sink.trouble_since());
        json!({
            "name": sink.name,
            "commands": sink.commands.get(),
            "waiting_commands": sink.waiting.get(),
            "retries": sink.retries.get(),
            "refused_events": sink.refused.get(),
            "trouble": trouble.map(|trouble| json!({ "message": trouble.why, "since": moment(trouble.since) })),
        })
    });
    shown.insert("sinks".into(), sinks.collect());
    shown
}

/// A pipeline with all that is known of its parts.
pub(super) fn whole(handle: &PipelineHandle) -> Map<String, Value> {
    let mut shown = pipeline(handle);
    let meter = handle.meter();
    let FlowMeter { in_flight_bytes, in_flight_limit, in_flight_batches, blocked, .. } = &*meter.flow;
    shown.insert(
        "in_flight".into(),
        json!({
            "bytes": in_flight_bytes.get(), "limit_bytes": in_flight_limit.get(), "batches": in_flight_batches.get(),
            "blocked_seconds": blocked.seconds(),
        }),
    );
    shown.insert("graph".into(), serde_json::to_value(handle.graph()).unwrap_or_default());
    let HistogramReading { bounds, counts, .. } = meter.flow.delivery.read();
    shown.insert("delivery".into(), json!({ "bounds": bounds, "counts": counts }));
    shown.insert("transforms".into(), meter.transforms.iter().map(|meter| transform(meter)).collect());
    let embedders = handle.own_embedders();
    let embedders = embedders.iter().filter_map(|embedder| {
        let meter = embedder.meter()?;
        let tokens = Some(meter.tokens.get()).filter(|tokens| *tokens > 0);
        Some(json!({
            "name": meter.name, "model": embedder.model(), "texts": meter.texts.get(), "cache_hits": meter.cache_hits.get(),
            "tokens": tokens, "in_flight": meter.in_flight.get(), "backoff_seconds": meter.backoff.get() as f64 / 1e6,
        }))
    });
    shown.insert("embedders".into(), embedders.collect());
    shown
}

fn transform(meter: &TransformMeter) -> Value {
    let rejected = Code::ALL.iter().zip(&meter.rejected).filter(|(_, counter)| counter.get() > 0);
    let rejected: Map<String, Value> =
        rejected.map(|(code, counter)| (code.as_str().to_owned(), counter.get().into())).collect();
    json!({
        "name": meter.name, "sha256": meter.hash(), "events": meter.events.get(), "commands": meter.commands.get(),
        "rejected": rejected, "cpu_seconds": meter.cpu.seconds(), "instances": meter.instances.get(),
        "memory_bytes": meter.memory.get(), "memory_peak_bytes": meter.memory_peak.get(),
        "memory_limit_bytes": meter.memory_limit.get(),
    })
}

fn slot(source: &SourceMeter) -> Value {
    let slot = source.slot().unwrap_or_default();
    let known = source.slot().is_some();
    json!({
        "active": source.slot_active(),
        "wal_status": known.then_some(slot.wal_status),
        "retained_bytes": slot.retained,
        "safe_bytes": slot.safe,
        "limit_bytes": slot.limit,
        "checked_at": source.checked_at().map(moment),
    })
}

fn copies(count: CopyCount) -> Value {
    let CopyCount { waiting, running, done, failed, rows_expected } = count;
    json!({ "waiting": waiting, "running": running, "done": done, "failed": failed, "rows_expected": rows_expected })
}
