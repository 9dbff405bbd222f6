//! A handler's answers, in the words of a test file.

use crate::command::{Action, Embedding, Point};
use crate::error::{Error, Fault};
use crate::event::Batch;
use crate::event::json::Json;
use crate::transform::Output;

/// Commands and rejections, in the order of the events that they answer.
pub(super) fn answers(batch: &Batch, output: &Output) -> Vec<Json> {
    let mut all: Vec<(usize, Json)> = Vec::new();
    for command in &output.commands {
        let event = batch.events().partition_point(|event| event.position < command.position);
        all.push((event, action(&command.action)));
    }
    for rejection in &output.rejections {
        all.push((rejection.event, one("rejected", text(&rejection.reason))));
    }
    all.sort_by_key(|(event, _)| *event); // stable: what was done for one event stays in its order
    all.into_iter().map(|(_, answer)| answer).collect()
}

/// A failure of the whole call: what the handler says, or what the host says of it.
pub(super) fn failure(error: &Error) -> Json {
    let headline = error.to_string();
    let causes = error.chain();
    let said = causes.strip_prefix(&headline).and_then(|rest| rest.strip_prefix(": ")).unwrap_or_default();
    let said = said.strip_prefix("it says: ").unwrap_or(said);
    match error.fault() {
        Fault::Transient => one("retry", text(said)),
        Fault::Handler if headline.ends_with("stopped the pipeline") => one("stop", text(said)),
        _ => one("failed", text(&causes)),
    }
}

fn action(action: &Action) -> Json {
    match action {
        Action::Upsert(written) => one("upsert", point(written)),
        Action::Patch { id, payload } => one("patch", object([("id", text(id)), ("payload", parsed(payload))])),
        Action::Replace { group, points } => {
            let points = Json::List(points.iter().map(point).collect());
            one("replace", object([("group", text(group)), ("points", points)]))
        }
        Action::PatchGroup { group, payload } => {
            one("patch_group", object([("group", text(group)), ("payload", parsed(payload))]))
        }
        Action::Delete { id } => one("delete", text(id)),
        Action::DeleteGroup { group } => one("delete_group", text(group)),
        Action::Clear => one("clear", Json::Null),
    }
}

fn point(point: &Point) -> Json {
    let embeddings = point.embeddings.iter().map(|(name, value)| (name.clone(), embedding(value))).collect();
    object([("id", text(&point.id)), ("embeddings", Json::Object(embeddings)), ("payload", parsed(&point.payload))])
}

fn embedding(embedding: &Embedding) -> Json {
    let numbers = |values: &[f32]| Json::List(values.iter().map(|value| Json::Number(shortest(*value))).collect());
    match embedding {
        Embedding::Text(said) => text(said),
        Embedding::Dense(values) => numbers(values),
        Embedding::Sparse { indices, values } => {
            let indices = indices.iter().map(|index| Json::Number(index.to_string())).collect();
            object([("indices", Json::List(indices)), ("values", numbers(values))])
        }
    }
}

/// Finite: the host has checked that.
fn shortest(value: f32) -> String {
    serde_json::to_string(&value).unwrap_or_else(|_| value.to_string())
}

/// A payload is JSON: the host has checked that, but takes deeper ones than we do.
fn parsed(payload: &str) -> Json {
    Json::parse(payload).unwrap_or_else(|_| text(payload))
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn one(key: &str, value: Json) -> Json {
    object([(key, value)])
}

fn object<const LEN: usize>(entries: [(&str, Json); LEN]) -> Json {
    Json::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
