//! The breaches that all SDKs refuse, from `plugins/sdk/breaches.json`.

use pgstream_handler::testing::{Harness, Table};
use pgstream_handler::{Embedding, Event, Json, Out, Output, Point, Rejection, Result, SparseVector, row, text};

fn table() -> Json {
    serde_json::from_str(include_str!("../../breaches.json")).unwrap()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn string(json: &Json) -> String {
    match json["times"].as_u64() {
        Some(times) => json["repeat"].as_str().unwrap().repeat(times as usize),
        None => json.as_str().unwrap().to_owned(),
    }
}

fn numbers(json: &Json) -> Vec<f32> {
    let number =
        |json: &Json| json.as_str().map_or_else(|| json.as_f64().unwrap() as f32, |name| name.parse().unwrap());
    list(json).iter().map(number).collect()
}

fn embedding(json: &Json) -> Embedding {
    if let Some(content) = json["text"].as_str() {
        return text(content);
    }
    if let Some(sparse) = json.get("sparse") {
        let indices = list(&sparse["indices"]).iter().map(|index| index.as_u64().unwrap() as u32).collect();
        return Embedding::Sparse(SparseVector { indices, values: numbers(&sparse["values"]) });
    }
    Embedding::Dense(numbers(&json["dense"]))
}

fn vectors(json: &Json) -> Vec<(String, Embedding)> {
    list(&json["vectors"]).iter().map(|pair| (string(&pair[0]), embedding(&pair[1]))).collect()
}

fn payload(json: &Json) -> Json {
    json.get("payload").cloned().unwrap_or_else(|| Json::Object(Default::default()))
}

fn say(out: &mut Out, json: &Json) -> Result<()> {
    let (action, with) = json.as_object().unwrap().iter().next().unwrap();
    match action.as_str() {
        "upsert" => out.upsert(string(&with["id"]), vectors(with), payload(with)),
        "patch" => out.patch(string(&with["id"]), payload(with)),
        "replace" => {
            // Points by hand, as an author can make them, so that `replace` itself must look.
            let point = |json: &Json| Point {
                id: string(&json["id"]),
                embeddings: vectors(json),
                payload: payload(json).to_string(),
            };
            out.replace(string(&with["group"]), list(&with["points"]).iter().map(point).collect())
        }
        "patch_group" => out.patch_group(string(&with["group"]), payload(with)),
        "delete" => out.delete(string(with)),
        "delete_group" => out.delete_group(string(with)),
        "clear" => out.clear(),
        "reject" => out.reject(string(with)),
        other => panic!("{other}"),
    }
}

/// Answers the middle one of three events with the case that its text names.
fn on_event(event: &Event<'_>, out: &mut Out) -> Result<()> {
    let answer: Json = serde_json::from_str(event.text("what")?)?;
    list(&answer).iter().try_for_each(|json| say(out, json))
}

fn answered(case: &Json) -> Output {
    let table = Table::new("public", "things").key("id", "int8").column("what", "text");
    let fine = r#"[{"delete": "fine"}]"#;
    let answer = case["answer"].to_string();
    let rows = [row![1, fine], row![2, &*answer], row![3, fine]].map(|row| table.insert(row));
    Harness::new(on_event).run(rows).unwrap()
}

#[test]
fn what_the_host_would_stop_for_rejects_the_one_event() {
    let table = table();
    let said = |case: &&Json| case["raw"] != true;
    for case in list(&table["breaches"]).iter().filter(said) {
        let output = answered(case);
        let reason = format!("{}: {}", case["what"].as_str().unwrap(), case["do"].as_str().unwrap());
        assert_eq!(output.rejections, [Rejection { event: 1, reason }], "{}", case["name"]);
        assert_eq!(output.commands.iter().map(|command| command.event).collect::<Vec<_>>(), [0, 2], "{}", case["name"]);
    }
    for case in list(&table["allowed"]) {
        let output = answered(case);
        let counts = (output.commands.len() as u64 - 2, output.rejections.len() as u64);
        let expected = (case["commands"].as_u64().unwrap(), case["rejections"].as_u64().unwrap_or(0));
        assert_eq!(counts, expected, "{}: {:?}", case["name"], output.rejections);
    }
}
