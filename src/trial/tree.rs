//! Parts of a YAML file as JSON, and the way back from a place in the JSON to the line in the file.

use crate::config::{Part, Shape};
use crate::event::json::{Json, Step};

/// The value of `part` as JSON. Numbers keep their digits.
pub(super) fn json(part: Part<'_>) -> Json {
    match part.shape() {
        Shape::Null => Json::Null,
        Shape::Text(text) => Json::Text(text.to_owned()),
        Shape::Bare(text) => bare(text),
        Shape::List(items) => Json::List(items.into_iter().map(json).collect()),
        Shape::Map(entries) => {
            Json::Object(entries.into_iter().map(|(key, part)| (key.to_owned(), json(part))).collect())
        }
    }
}

/// YAML has more ways to write a number than JSON.
fn bare(text: &str) -> Json {
    if let Ok(json @ (Json::Number(_) | Json::Bool(_))) = Json::parse(&text.to_lowercase()) {
        return json;
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let based = [("0x", 16), ("0o", 8), ("0b", 2)]
        .into_iter()
        .find_map(|(prefix, base)| u64::from_str_radix(digits.strip_prefix(prefix)?, base).ok());
    let sign = if negative { "-" } else { "" };
    match (based, digits.to_lowercase().as_str()) {
        (Some(number), _) => Json::Number(format!("{sign}{number}")),
        (None, ".inf") => Json::Text(format!("{sign}Infinity")),
        (None, ".nan") => Json::Text("NaN".to_owned()),
        (None, _) => match digits.parse::<f64>() {
            Ok(number) if number.is_finite() => Json::Number(format!("{sign}{number:?}")),
            _ => Json::Text(text.to_owned()),
        },
    }
}

/// The part that `path` leads to from `part`, or as far along as the file goes.
pub(super) fn along<'d>(part: Part<'d>, path: &[Step]) -> Part<'d> {
    let mut at = part;
    for step in path {
        let next = match step {
            Step::Key(key) => at.get(key),
            Step::Item(index) => at.items().nth(*index),
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}
