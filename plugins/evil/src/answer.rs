//! An answer that is written out in JSON, as the cases of `plugins/sdk/breaches.json` are, and goes to the host unchecked.

use pgstream_handler::Json;
use pgstream_handler::bindings::pgstream::host::types::{
    Action, Command, Embedding, Output, Point, Rejection, SparseVector,
};

/// The commands and rejections of a list of actions, for this event if they name no other.
pub(crate) fn from(json: &str, event: u32) -> Output {
    let mut output = Output { commands: vec![], rejections: vec![] };
    for step in list(&json.parse().unwrap()) {
        let event = step["event"].as_u64().map_or(event, |event| event as u32);
        let (action, with) = step.as_object().unwrap().iter().find(|(name, _)| *name != "event").unwrap();
        match action.as_str() {
            "reject" => output.rejections.push(Rejection { event, reason: string(with) }),
            name => output.commands.push(Command { event, action: self::action(name, with) }),
        }
    }
    output
}

fn action(name: &str, with: &Json) -> Action {
    match name {
        "upsert" => Action::Upsert(point(with)),
        "patch" => Action::Patch((string(&with["id"]), payload(with))),
        "replace" => Action::Replace((string(&with["group"]), list(&with["points"]).iter().map(point).collect())),
        "patch_group" => Action::PatchGroup((string(&with["group"]), payload(with))),
        "delete" => Action::Delete(string(with)),
        "delete_group" => Action::DeleteGroup(string(with)),
        "clear" => Action::Clear,
        other => panic!("no action is called {other}"),
    }
}

fn point(json: &Json) -> Point {
    let embeddings = list(&json["vectors"]).iter().map(|pair| (string(&pair[0]), embedding(&pair[1])));
    Point { id: string(&json["id"]), embeddings: embeddings.collect(), payload: payload(json) }
}

fn embedding(json: &Json) -> Embedding {
    if let Some(text) = json["text"].as_str() {
        return Embedding::Text(text.to_owned());
    }
    if let Some(sparse) = json.get("sparse") {
        let indices = list(&sparse["indices"]).iter().map(|index| index.as_u64().unwrap() as u32).collect();
        return Embedding::Sparse(SparseVector { indices, values: numbers(&sparse["values"]) });
    }
    Embedding::Dense(numbers(&json["dense"]))
}

fn payload(json: &Json) -> String {
    match json.get("payload") {
        None => "{}".to_owned(),
        Some(payload) => payload["json"].as_str().map_or_else(|| payload.to_string(), str::to_owned),
    }
}

fn numbers(json: &Json) -> Vec<f32> {
    let number =
        |json: &Json| json.as_str().map_or_else(|| json.as_f64().unwrap() as f32, |name| name.parse().unwrap());
    list(json).iter().map(number).collect()
}

fn string(json: &Json) -> String {
    match json["times"].as_u64() {
        Some(times) => json["repeat"].as_str().unwrap().repeat(times as usize),
        None => json.as_str().unwrap().to_owned(),
    }
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}
