//! Dead letters over the API: listed without the values of their rows, shown with them, replayed
//! and dropped.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::acting::Acting;
use super::caller::Caller;
use super::shared::{Shared, find};
use super::view;
use crate::config::model::ApiRight;
use crate::error::{Error, Fault, Result};
use crate::host::{AskedReplay, Letter, LetterBox, LetterFilter, PipelineHandle, Settled};

/// Letters of one answer, unless another number is asked for.
const USUAL: u32 = 100;
/// Letters of one answer at most.
const MOST: u32 = 1000;
/// The time that a database may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/pipelines/{name}/letters", get(list))
        .route("/api/v1/pipelines/{name}/letters/{id}", get(show))
        .route("/api/v1/pipelines/{name}/letters/replay", post(replay))
        .route("/api/v1/pipelines/{name}/letters/drop", post(discard))
}

/// Letters by number, by what they have in common, or all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Chosen {
    ids: Option<Vec<i64>>,
    all: bool,
    table: Option<String>,
    code: Option<String>,
    transform: Option<String>,
    since: Option<String>,
    sink: Option<String>,
}

impl Chosen {
    /// The filter, and the sink that keeps the letters. None if no letter is named.
    fn filter(self) -> Option<(LetterFilter, Option<String>)> {
        let Self { ids, all, table, code, transform, since, sink } = self;
        let named = ids.is_some() || [&table, &code, &transform, &since].into_iter().any(Option::is_some);
        let filter = LetterFilter { ids, table, code, transform, since, ..LetterFilter::default() };
        (named || all).then_some((filter, sink))
    }
}

async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response {
    let handle = match asked(&shared, &caller, ApiRight::Read, &name) {
        Ok(handle) => handle,
        Err(refused) => return *refused,
    };
    let Some((filter, sink)) = wanted(request.uri().query().unwrap_or_default()) else {
        let help = "`after`, `limit`, `code`, `table`, `transform`, `since` and `sink` can be asked for";
        return view::problem(StatusCode::BAD_REQUEST, "query", "the query is not known", help);
    };
    let limit = filter.limit;
    let listed = at_box(&shared, &handle, sink, async |kept: &mut LetterBox| {
        let Settled { gone, refused_again } = kept.settle().await?;
        handle.letters().settled(gone, refused_again.len() as u64);
        kept.letters().find(&filter).await
    });
    match listed.await {
        Ok(letters) => {
            let more = limit.is_some_and(|limit| letters.len() as u64 >= u64::from(limit));
            let letters: Vec<Value> = letters.iter().map(Letter::to_json).collect();
            view::json(StatusCode::OK, &json!({ "letters": letters, "more": more }))
        }
        Err(refused) => *refused,
    }
}

/// The letters that a query names.
fn wanted(query: &str) -> Option<(LetterFilter, Option<String>)> {
    let (mut filter, mut sink) = (LetterFilter { limit: Some(USUAL), ..LetterFilter::default() }, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let text = || Some(value.to_string());
        match &*key {
            "after" => filter.after = Some(value.parse().ok()?),
            "limit" => filter.limit = Some(value.parse::<u32>().ok()?.clamp(1, MOST)),
            "code" => filter.code = text(),
            "table" => filter.table = text(),
            "transform" => filter.transform = text(),
            "since" => filter.since = text(),
            "sink" => sink = text(),
            _ => return None,
        }
    }
    Some((filter, sink))
}

async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, id)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    let handle = match asked(&shared, &caller, ApiRight::Values, &name) {
        Ok(handle) => handle,
        Err(refused) => return *refused,
    };
    let sink = wanted(request.uri().query().unwrap_or_default()).and_then(|(_, sink)| sink);
    let Ok(number) = id.parse::<i64>() else { return no_letter() };
    let shown = at_box(&shared, &handle, sink, async |kept: &mut LetterBox| {
        let filter = LetterFilter { ids: Some(vec![number]), ..LetterFilter::default() };
        match kept.letters().find(&filter).await?.is_empty() {
            true => Ok(None),
            false => kept.letters().get(number).await.map(Some),
        }
    });
    match shown.await {
        Ok(Some(letter)) => {
            tracing::info!(
                pipeline = handle.name(),
                by = caller.who(),
                letter = number,
                "a dead letter was shown with its values"
            );
            let mut response = Response::new(Body::from(letter.to_json()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Ok(None) => no_letter(),
        Err(refused) => *refused,
    }
}

async fn replay(State(shared): State<Arc<Shared>>, Acting { handle, by, asked }: Acting<Chosen>) -> Response {
    let Some((filter, sink)) = asked.filter() else { return none_named() };
    match at_box(&shared, &handle, sink, async |kept: &mut LetterBox| kept.ask(&filter).await).await {
        Ok(AskedReplay { letters, not_asked, .. }) => {
            tracing::info!(pipeline = handle.name(), by, letters = letters.len(), "dead letters are replayed");
            let not_asked: Vec<Value> = not_asked
                .iter()
                .map(|(id, why)| json!({ "id": id, "reason": why.chain(), "help": why.advice() }))
                .collect();
            let body = json!({ "under_way": letters, "not_replayed": not_asked });
            view::json(StatusCode::ACCEPTED, &body)
        }
        Err(refused) => *refused,
    }
}

async fn discard(State(shared): State<Arc<Shared>>, Acting { handle, by, asked }: Acting<Chosen>) -> Response {
    let Some((filter, sink)) = asked.filter() else { return none_named() };
    match at_box(&shared, &handle, sink, async |kept: &mut LetterBox| kept.letters().drop(&filter).await).await {
        Ok(dropped) => {
            tracing::info!(pipeline = handle.name(), by, letters = dropped, "dead letters were dropped");
            view::json(StatusCode::OK, &json!({ "dropped": dropped }))
        }
        Err(refused) => *refused,
    }
}

fn asked(shared: &Shared, caller: &Caller, right: ApiRight, name: &str) -> Result<PipelineHandle, Box<Response>> {
    shared.gate.demand(caller, right)?;
    find(shared, caller, name)
}

fn none_named() -> Response {
    let help = "send `{\"ids\": [17]}`, a filter such as `{\"table\": \"public.documents\"}`, or `{\"all\": true}`";
    view::problem(StatusCode::BAD_REQUEST, "letters", "no letter is named", help)
}

/// Does something about the letters of a pipeline, which takes a database of its own.
async fn at_box<T>(
    shared: &Shared,
    handle: &PipelineHandle,
    sink: Option<String>,
    work: impl AsyncFnOnce(&mut LetterBox) -> Result<T>,
) -> Result<T, Box<Response>> {
    let Ok(_place) = shared.asking.try_acquire() else {
        let what = "others ask databases for dead letters just now";
        return Err(Box::new(view::problem(StatusCode::SERVICE_UNAVAILABLE, "busy", what, "ask again in a second")));
    };
    let settings = handle.spec().settings;
    let done = tokio::time::timeout(PATIENCE, async {
        let mut kept = LetterBox::open(settings, sink.as_deref()).await?;
        let done = work(&mut kept).await?;
        // Whoever looks at the metrics next finds what was just done.
        handle.letters().counted(kept.count().await?);
        Ok(done)
    });
    let late = |_| {
        let what = format!("the database of the dead letters gave no answer for {} s", PATIENCE.as_secs());
        Err(Error::new(Fault::Environment, what).help("ask again later"))
    };
    done.await.unwrap_or_else(late).map_err(|error| {
        let status = match error.fault() {
            Fault::Config => StatusCode::BAD_REQUEST,
            Fault::Transient | Fault::Environment => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Box::new(view::failure(status, error.fault().as_str(), &error))
    })
}

fn no_letter() -> Response {
    let what = "the pipeline has no dead letter of that number";
    view::problem(StatusCode::NOT_FOUND, "letter", what, "`…/letters` lists those that there are")
}
