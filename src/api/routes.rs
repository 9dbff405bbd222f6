//! All that can be asked, and what is answered.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};

use super::caller::Caller;
use super::gate::Way;
use super::shared::{Shared, find, seen};
use super::{actions, letters, metrics, ui, view};
use crate::config::model::{ApiRight, MetricsDetail};
use crate::host::{Phase, PipelineHandle};

/// Says that nothing of the answer may be kept, guessed at, or shown inside another page.
const HEADERS: [(header::HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(page))
        .route("/api/v1/status", get(status))
        .route("/api/v1/pipelines/{name}", get(pipeline))
        .merge(actions::router())
        .merge(letters::router())
        .merge(ui::router())
        .fallback(nothing)
        .method_not_allowed_fallback(async || view::no_such_method())
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

/// Lets in who may come in, and tells those behind it who that is.
async fn admit(
    State(shared): State<Arc<Shared>>,
    Extension(way): Extension<Way>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let mut response = match shared.gate.pass(&request, way) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refused) => *refused,
    };
    for (name, value) in HEADERS {
        // The page has a policy of its own.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Tells whether the process is alive. No server is asked: to start a host again mends no database.
async fn health(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>) -> Response {
    let pipelines = seen(&shared, &caller);
    let hang: Vec<&str> = pipelines.iter().filter(|handle| view::is_wedged(handle)).map(PipelineHandle::name).collect();
    let code = if hang.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({ "ok": hang.is_empty() });
    if caller.may(ApiRight::Read) {
        body["hang"] = hang.into();
    }
    view::json(code, &body)
}

/// Tells whether each pipeline had its first start, however that went, and the process is not to
/// end.
async fn ready(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>) -> Response {
    let pipelines = seen(&shared, &caller);
    let begins = |handle: &PipelineHandle| {
        let state = handle.state();
        state.state == Phase::Starting && state.last_error.is_none() && handle.status().is_none()
    };
    let draining = shared.stop.is_cancelled();
    let is_ready = !draining && !pipelines.iter().any(begins);
    let mut body = json!({ "ready": is_ready });
    if caller.may(ApiRight::Read) {
        body["draining"] = draining.into();
        let states = pipelines.iter().map(|handle| (handle.name().to_owned(), handle.state().state.as_str().into()));
        body["pipelines"] = Value::Object(states.collect());
    }
    view::json(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

async fn page(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Response {
    if let Err(refused) = shared.gate.demand(&caller, ApiRight::Metrics) {
        return *refused;
    }
    let mut wanted = match asked(request.uri().query().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(refused) => return *refused,
    };
    wanted.detail = wanted.detail.or(shared.detail);
    if let Some(tenant) = caller.tenant() {
        wanted.tenant = Some(tenant.to_owned());
    }
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    wanted.open_metrics = accepts.contains("application/openmetrics-text");
    let Ok(turn) = Arc::clone(&shared.rendering).try_acquire_owned() else {
        let what = "somebody else asks for metrics just now";
        let mut busy = view::problem(StatusCode::SERVICE_UNAVAILABLE, "busy", what, "ask again in a second");
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return busy;
    };
    let kind = metrics::content_type(wanted.open_metrics);
    let (host, supervisor) = (shared.host.clone(), shared.supervisor.clone());
    let rendered = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        metrics::render(&host, &supervisor, &wanted)
    });
    match rendered.await {
        Ok(Ok(text)) => {
            let mut response = Response::new(Body::from(text));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        _ => {
            let what = "the metrics could not be written down";
            view::problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "bug",
                what,
                "this is a mistake in pgstream-host: please report it",
            )
        }
    }
}

/// All that the query of a page of metrics asks for.
fn asked(query: &str) -> Result<metrics::Wanted, Box<Response>> {
    let mut wanted = metrics::Wanted::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let detail = MetricsDetail::ALL.iter().find(|(_, word)| *word == value);
        match (key, detail) {
            ("tenant", _) => wanted.tenant = Some(value.to_owned()),
            ("detail", Some((detail, _))) => wanted.detail = Some(*detail),
            _ => {
                let help = "`?detail=component`, `pipeline` or `tenant`, and `tenant=NAME` can be asked for";
                let what = "the query is not known";
                return Err(Box::new(view::problem(StatusCode::BAD_REQUEST, "query", what, help)));
            }
        }
    }
    Ok(wanted)
}

async fn status(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>) -> Response {
    if let Err(refused) = shared.gate.demand(&caller, ApiRight::Read) {
        return *refused;
    }
    shared.supervisor.want_letter_counts();
    let pipelines: Vec<Value> =
        seen(&shared, &caller).iter().map(|handle| Value::Object(view::pipeline(handle))).collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "since": view::moment(shared.began),
        "now": view::moment(SystemTime::now()),
        "draining": shared.stop.is_cancelled(),
        "pipelines": pipelines,
    });
    view::json(StatusCode::OK, &body)
}

async fn pipeline(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Response {
    if let Err(refused) = shared.gate.demand(&caller, ApiRight::Read) {
        return *refused;
    }
    match find(&shared, &caller, &name) {
        Ok(handle) => view::json(StatusCode::OK, &Value::Object(view::whole(&handle))),
        Err(refused) => *refused,
    }
}

async fn nothing() -> Response {
    let help =
        "there are /health, /ready, /metrics, /api/v1/status and /api/v1/pipelines/NAME; docs/operating.md has all";
    view::problem(StatusCode::NOT_FOUND, "path", "nothing is here", help)
}
