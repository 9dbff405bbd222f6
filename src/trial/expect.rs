//! The answers that a case expects: read from the file, checked, in the form that answers have,
//! too.

use super::tree::{along, json};
use crate::config::{Mistakes, Part, Shape};
use crate::event::json::{Flaw, Json};

/// The kinds of answers that can be expected, each with its fields; no fields if it is one text, or
/// nothing.
const ANSWERS: [(&str, &[&str]); 11] = [
    ("upsert", &["id", "embeddings", "payload"]),
    ("patch", &["id", "payload"]),
    ("replace", &["group", "points"]),
    ("patch_group", &["group", "payload"]),
    ("delete", &[]),
    ("delete_group", &[]),
    ("clear", &[]),
    ("rejected", &[]),
    ("stop", &[]),
    ("retry", &[]),
    ("failed", &[]),
];

/// Reads `expect` of a case.
pub(super) fn expected(part: Part<'_>, mistakes: &mut Mistakes<'_>) -> Option<Vec<Json>> {
    let items = match part.shape() {
        Shape::Null => return Some(Vec::new()),
        Shape::List(items) => items,
        _ => {
            let what = format!("expected a list of answers, found {}", part.kind());
            mistakes.at(part, what, "write `expect: []` if the handler is to do nothing");
            return None;
        }
    };
    let read: Vec<Option<Json>> = items.into_iter().map(|item| answer(item, mistakes)).collect();
    read.into_iter().collect()
}

fn answer(part: Part<'_>, mistakes: &mut Mistakes<'_>) -> Option<Json> {
    let value = match part.shape() {
        Shape::Text("clear") => Json::Object(vec![("clear".to_owned(), Json::Null)]),
        _ => json(part),
    };
    match checked(&value) {
        Ok(answer) => Some(answer),
        Err(flaw) => {
            let at = along(part, &flaw.path);
            match flaw.of_key {
                true => mistakes.at_key(at, flaw.what, flaw.help),
                false => mistakes.at(at, flaw.what, flaw.help),
            }
            None
        }
    }
}

/// The answer if it is one, with ids as text.
fn checked(json: &Json) -> Result<Json, Flaw> {
    let names = ANSWERS.map(|(name, _)| format!("`{name}`")).join(", ");
    let one = || {
        Flaw::new(
            format!("expected one of {names}"),
            "write `- upsert: { id: \"1\", … }`, `- delete: \"1\"`, `- rejected: \"part of the reason\"`",
        )
    };
    let Json::Object(entries) = json else { return Err(one()) };
    let [(name, value)] = entries.as_slice() else { return Err(one()) };
    let Some((_, fields)) = ANSWERS.iter().find(|(known, _)| known == name) else { return Err(one().within(name)) };
    let value = match name.as_str() {
        "clear" => match value {
            Json::Null => Ok(Json::Null),
            Json::Object(entries) if entries.is_empty() => Ok(Json::Null),
            _ => Err(Flaw::new("`clear` has nothing beside it", "write `- clear`")),
        },
        _ if fields.is_empty() => text(value),
        _ => members(value, fields),
    };
    value.map(|value| Json::Object(vec![(name.clone(), value)])).map_err(|flaw| flaw.within(name))
}

fn members(value: &Json, fields: &[&str]) -> Result<Json, Flaw> {
    let Json::Object(entries) = value else {
        let known = fields.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(Flaw::new(format!("expected a map with {known}, found {}", value.kind()), ""));
    };
    let mut read = Vec::new();
    for (name, value) in entries {
        if !fields.contains(&name.as_str()) {
            let known = fields.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(Flaw::of_key(name, format!("unknown field `{name}`, expected one of {known}")));
        }
        let member = match name.as_str() {
            "id" | "group" => text(value),
            "payload" => match value {
                Json::Object(_) => Ok(value.clone()),
                other => Err(Flaw::new(format!("a payload is a map, found {}", other.kind()), "")),
            },
            "embeddings" => embeddings(value),
            _ => points(value),
        };
        read.push((name.clone(), member.map_err(|flaw| flaw.within(name))?));
    }
    Ok(Json::Object(read))
}

fn text(value: &Json) -> Result<Json, Flaw> {
    match value {
        Json::Text(text) | Json::Number(text) => Ok(Json::Text(text.clone())),
        other => Err(Flaw::new(format!("expected text, found {}", other.kind()), "")),
    }
}

fn points(value: &Json) -> Result<Json, Flaw> {
    let Json::List(items) = value else {
        return Err(Flaw::new(
            format!("expected a list of points, found {}", value.kind()),
            "write `points: [{ id: … }]`",
        ));
    };
    let read = items
        .iter()
        .enumerate()
        .map(|(index, item)| members(item, &["id", "embeddings", "payload"]).map_err(|flaw| flaw.within_item(index)));
    read.collect::<Result<_, _>>().map(Json::List)
}

fn embeddings(value: &Json) -> Result<Json, Flaw> {
    // One vector without a name is what most points have.
    let unnamed = |value: &Json| Json::Object(vec![(String::new(), value.clone())]);
    let entries = match value {
        Json::Object(entries) if value.get("indices").is_none() => entries,
        Json::Text(_) | Json::List(_) => return embeddings(&unnamed(value)),
        other => {
            let help = "write `embeddings: { \"\": \"the text\" }`, the default vector has the name \"\"";
            return Err(Flaw::new(format!("expected embeddings by name, found {}", other.kind()), help));
        }
    };
    for (name, value) in entries {
        let numbers =
            |json: &Json| matches!(json, Json::List(items) if items.iter().all(|item| matches!(item, Json::Number(_))));
        let fits = match value {
            Json::Text(_) => true,
            Json::Object(_) => ["indices", "values"].iter().all(|field| value.get(field).is_some_and(numbers)),
            other => numbers(other),
        };
        if !fits {
            let what = "expected the text that the host embeds, a list of numbers, or `{ indices: […], values: […] }`";
            return Err(Flaw::new(what, "").within(name));
        }
    }
    Ok(value.clone())
}
