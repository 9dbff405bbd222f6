//! What a server that speaks OpenAI's protocol answers: vectors, or why not. Nothing in it is taken on trust.

use serde::Deserialize;

use super::Vectors;

/// Longer explanations of a server are cut.
const MAX_REASON: usize = 300;

/// What is wrong with an answer that said it was fine.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Unusable {
    /// Cut off on its way, perhaps: worth another try.
    #[error("the answer is not the JSON of embeddings")]
    NotJson,
    #[error("{expected} texts were sent and {found} vectors came back")]
    Count { expected: usize, found: usize },
    #[error("the answer's `index` values are not those of the texts sent")]
    Index,
    #[error("vectors of {one} and of {other} numbers came back")]
    Lengths { one: usize, other: usize },
    #[error("an empty vector came back")]
    Empty,
    #[error("a vector with a number that is not finite came back")]
    NotFinite,
}

#[derive(Deserialize)]
struct Reply {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// Some servers leave it out and answer in order.
    #[serde(default)]
    index: Option<usize>,
    /// A server whose model overflowed answers null.
    embedding: Vec<Option<f64>>,
}

/// The vectors of an answer to `expected` texts, in the order of the texts.
pub(super) fn vectors(body: &[u8], expected: usize) -> Result<Vectors, Unusable> {
    let Reply { data: mut items } = serde_json::from_slice(body).map_err(|_| Unusable::NotJson)?;
    if items.len() != expected {
        return Err(Unusable::Count { expected, found: items.len() });
    }
    if items.iter().any(|item| item.index.is_some()) {
        items.sort_by_key(|item| item.index);
        if items.iter().enumerate().any(|(place, item)| item.index != Some(place)) {
            return Err(Unusable::Index);
        }
    }
    let dimension = items.first().map_or(0, |item| item.embedding.len());
    let mut data = Vec::with_capacity(dimension.saturating_mul(items.len()));
    for item in items {
        if item.embedding.len() != dimension {
            return Err(Unusable::Lengths { one: dimension, other: item.embedding.len() });
        }
        data.extend(item.embedding.iter().map(|number| number.map_or(f32::NAN, |number| number as f32)));
    }
    if dimension == 0 && expected > 0 {
        return Err(Unusable::Empty);
    }
    if !data.iter().all(|number| number.is_finite()) {
        return Err(Unusable::NotFinite);
    }
    Ok(Vectors { dimension, data })
}

/// What a refusal says, as far as it may be shown: without the key, without the texts, in one bounded line.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Refusal {
    pub(super) reason: Option<String>,
    /// `insufficient_quota` comes with the status of a rate limit, but does not pass.
    pub(super) code: Option<String>,
}

impl Refusal {
    pub(super) fn read(body: &[u8], key: Option<&str>, texts: &[&str]) -> Self {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let error = json.get("error").unwrap_or(&json);
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let reason = ["message", "error", "detail"].iter().find_map(|key| error.get(key).and_then(text));
        let code = error.get("code").or_else(|| error.get("type")).and_then(text);
        Self { reason: reason.or_else(|| text(error)).and_then(|reason| shown(&reason, key, texts)), code }
    }
}

fn shown(reason: &str, key: Option<&str>, texts: &[&str]) -> Option<String> {
    if texts.iter().any(|text| !text.trim().is_empty() && reason.contains(text.trim())) {
        return None;
    }
    // Servers quote a wrong key in part: `sk-ab****yz`.
    let start = key.and_then(|key| key.get(..4)).unwrap_or("sk-");
    let words = reason.split_whitespace().map(|word| if word.contains(start) { "…" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    Some(line).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_put_in_order_and_checked() {
        let read = |json: &str| vectors(json.as_bytes(), 2);
        let good = Ok(Vectors { dimension: 2, data: vec![1.0, 2.0, 3.0, 4.0] });
        assert_eq!(read(r#"{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":[1,2]}],"usage":{}}"#), good);
        assert_eq!(read(r#"{"data":[{"embedding":[1,2]},{"embedding":[3,4]}]}"#), good);
        for (json, problem) in [
            (r#"{"data":[{"embedding":[1]}]}"#, Unusable::Count { expected: 2, found: 1 }),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, Unusable::Index),
            (r#"{"data":[{"index":0,"embedding":[1]},{"embedding":[1]}]}"#, Unusable::Index),
            (r#"{"data":[{"embedding":[1]},{"embedding":[1,2]}]}"#, Unusable::Lengths { one: 1, other: 2 }),
            (r#"{"data":[{"embedding":[]},{"embedding":[]}]}"#, Unusable::Empty),
            (r#"{"data":[{"embedding":[null]},{"embedding":[1]}]}"#, Unusable::NotFinite),
            (r#"{"data":[{"embedding":[1e39]},{"embedding":[1]}]}"#, Unusable::NotFinite),
            (r#"{"data":[{"embedding":[NaN]},{"embedding":[1]}]}"#, Unusable::NotJson),
            (r#"{"data":[{"embedding":[1]},{"embe"#, Unusable::NotJson),
        ] {
            assert_eq!(read(json), Err(problem), "{json}");
        }
    }

    #[test]
    fn a_refusal_tells_neither_key_nor_text() {
        let read = |json: &str| Refusal::read(json.as_bytes(), Some("key-1234567"), &["a row's value", " "]).reason;
        let wrong_key = r#"{"error":{"message":"Incorrect\u001b[31m API key provided: key-1***567.\nSee the site."}}"#;
        assert_eq!(read(wrong_key).as_deref(), Some("Incorrect[31m API key provided: … See the site."));
        assert_eq!(read(r#"{"error":{"message":"cannot tokenize: a row's value"}}"#), None);
        assert_eq!(read(r#"{"error":"model not found","error_type":"x"}"#).as_deref(), Some("model not found"));
        assert_eq!(read(r#"{"detail":"busy"}"#).as_deref(), Some("busy"));
        assert_eq!(read("<html>"), None);
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(5000));
        assert_eq!(read(&long).unwrap().len(), MAX_REASON);
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(body in any::<Vec<u8>>(), expected in 0usize..3) {
            let _ = vectors(&body, expected);
            let _ = Refusal::read(&body, Some("é"), &["a"]);
        }
    }
}
