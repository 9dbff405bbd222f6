//! All that changes what runs: pause, resume, restart, and reload.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::{Extension, Router, routing::post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::acting::Acting;
use super::caller::Caller;
use super::reload::{ReloadAnswer, ReloadOrder};
use super::shared::Shared;
use super::{body, view};
use crate::config::model::ApiRight;
use crate::error::{Error, Fault, Result};
use crate::host::{Pause, PipelineHandle, PlannedStep};

/// Characters of a reason that are kept.
const REASON: usize = 200;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/pipelines/{name}/pause", post(pause))
        .route("/api/v1/pipelines/{name}/resume", post(resume))
        .route("/api/v1/pipelines/{name}/restart", post(restart))
        .route("/api/v1/reload", post(reload))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedPause {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedReload {
    /// Says what would be done, and does nothing.
    #[serde(default)]
    plan: bool,
    /// Does only what was planned under this hash.
    #[serde(default)]
    hash: Option<String>,
}

async fn pause(State(shared): State<Arc<Shared>>, Acting { handle, by, asked }: Acting<AskedPause>) -> Response {
    let reason = asked.reason.map(|reason| reason.chars().take(REASON).collect());
    let supervisor = shared.supervisor.clone();
    done(async move { supervisor.pause(handle.name(), Pause { by, reason }).await }).await
}

async fn resume(State(shared): State<Arc<Shared>>, Acting { handle, by, .. }: Acting<Nothing>) -> Response {
    let supervisor = shared.supervisor.clone();
    done(async move { supervisor.resume(handle.name(), &by).await }).await
}

async fn restart(State(shared): State<Arc<Shared>>, Acting { handle, by, .. }: Acting<Nothing>) -> Response {
    let supervisor = shared.supervisor.clone();
    done(async move { supervisor.restart(handle.name(), &by).await }).await
}

/// Answers with the state that a pipeline has come to. The work goes on if whoever asked has gone
/// away.
async fn done(work: impl Future<Output = Result<PipelineHandle>> + Send + 'static) -> Response {
    let ended = tokio::spawn(work).await;
    match ended.unwrap_or_else(|panic| Err(Error::new(Fault::Bug, "it could not be done").because(panic))) {
        Ok(handle) => view::json(StatusCode::OK, &Value::Object(view::pipeline(&handle))),
        Err(error) if error.fault() == Fault::Config => view::failure(StatusCode::CONFLICT, "state", &error),
        Err(error) => view::failure(StatusCode::INTERNAL_SERVER_ERROR, error.fault().as_str(), &error),
    }
}

async fn reload(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Response {
    if let Err(refused) = shared.gate.demand(&caller, ApiRight::Act) {
        return *refused;
    }
    if caller.tenant().is_some() {
        let what = "a reload is about the files of all tenants";
        return view::problem(StatusCode::FORBIDDEN, "right", what, "ask with a token that names no tenant");
    }
    let AskedReload { plan, hash } = match body::read(request).await {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    let unheard = || {
        let what = "this host does not reload just now: it starts, ends, or has no files";
        view::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            what,
            "ask again in a second; `/ready` says how it is doing",
        )
    };
    let Some(orders) = &shared.reloads else { return unheard() };
    let (order, answered) = ReloadOrder::new(plan, hash, caller.who());
    if orders.try_send(order).is_err() {
        return unheard();
    }
    match answered.await {
        Ok(ReloadAnswer::Planned(plan)) => {
            let steps: Vec<Value> = plan.steps.iter().map(planned).collect();
            view::json(StatusCode::OK, &json!({ "planned": true, "hash": plan.hash, "pipelines": steps }))
        }
        Ok(ReloadAnswer::Done { hash, done }) => {
            view::json(StatusCode::OK, &json!({ "planned": false, "hash": hash, "pipelines": done }))
        }
        Ok(ReloadAnswer::Stale { hash }) => {
            let what = format!("the files or what runs have changed since the plan: its hash is {hash} now");
            view::problem(StatusCode::CONFLICT, "stale", &what, "look at the plan again: `pgstream-host reload --plan`")
        }
        Ok(ReloadAnswer::Refused(problems)) => {
            let message = problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ");
            let help =
                problems.into_iter().find_map(|problem| problem.help).unwrap_or_else(|| "mend the file".to_owned());
            view::problem(StatusCode::UNPROCESSABLE_ENTITY, "config", &message, &help)
        }
        Err(_) => unheard(),
    }
}

fn planned(step: &PlannedStep) -> Value {
    json!({
        "pipeline": step.pipeline, "file": step.file, "action": step.intention.as_str(), "changes": step.changes,
        "problems": step.problems,
    })
}
