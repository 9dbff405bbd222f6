//! Answers of a server that speaks OpenAI's protocol: vectors, or the reason why there are none.
//! Nothing in them is taken on trust.

use std::collections::HashSet;

use serde::Deserialize;

use super::usage::Usage;
use crate::embedder::Vectors;

/// Longer explanations of a server are cut.
const MAX_REASON: usize = 300;

/// A defect of an answer that claimed success.
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
    #[serde(default)]
    usage: Usage,
}

#[derive(Deserialize)]
struct Item {
    /// Some servers leave it out and answer in order.
    #[serde(default)]
    index: Option<usize>,
    /// A server whose model overflowed answers null.
    embedding: Vec<Option<f64>>,
}

/// The vectors of an answer to `expected` texts, in the order of the texts; and how many tokens the
/// server counted, if it says so.
pub(super) fn vectors(body: &[u8], expected: usize) -> Result<(Vectors, Option<u64>), Unusable> {
    let Reply { data: mut items, usage } = serde_json::from_slice(body).map_err(|_| Unusable::NotJson)?;
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
    Ok((Vectors { dimension, data }, usage.tokens))
}

/// A server's refusal. `reason` is fit to be shown: one bounded line, without the key and without
/// the texts. `code` is as the server sent it.
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
        let words = reason.or_else(|| text(error)).into_iter().chain(code.clone());
        let reason = words.into_iter().find_map(|words| shown(&words, key).filter(|shown| !quotes(shown, texts)));
        Self { reason, code }
    }
}

fn shown(reason: &str, key: Option<&str>) -> Option<String> {
    // Servers quote a wrong key in part: `sk-ab****yz`.
    let start = key.and_then(|key| key.get(..4)).unwrap_or("sk-");
    let words = reason.split_whitespace().map(|word| if word.contains(start) { "…" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    Some(line).filter(|line| !line.is_empty())
}

/// Characters that a text has in common with what a server says before that counts as a quotation.
const QUOTED: usize = 12;

/// Tells if the words hold one of the texts, or a longer piece of one, however it is spaced, cased
/// or escaped.
fn quotes(words: &str, texts: &[&str]) -> bool {
    let spellings = [letters(words.chars()), letters(unescaped(words).into_iter())];
    let pieces: HashSet<&[char]> = spellings.iter().flat_map(|letters| letters.windows(QUOTED)).collect();
    texts.iter().any(|text| {
        let text = letters(text.chars());
        match text.len() {
            0 => false,
            short @ ..QUOTED => spellings.iter().any(|letters| letters.windows(short).any(|piece| *piece == *text)),
            _ => text.windows(QUOTED).any(|piece| pieces.contains(piece)),
        }
    })
}

/// Reduces a text to the characters that stay when it is written in another way: lower case,
/// without white space, control characters, backslashes and quotation marks.
fn letters(text: impl Iterator<Item = char>) -> Vec<char> {
    text.filter(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '\\' | '"' | '\''))
        .flat_map(char::to_lowercase)
        .collect()
}

/// With the escapes of JSON and Python undone, as far as they are some.
fn unescaped(words: &str) -> Vec<char> {
    let mut units = Vec::with_capacity(words.len());
    let mut rest = words.chars();
    while let Some(c) = rest.next() {
        let digits = match (c, rest.clone().next()) {
            ('\\', Some('u')) => 4,
            ('\\', Some('x')) => 2,
            ('\\', Some('n' | 'r' | 't' | 'b' | 'f')) => {
                rest.next();
                continue;
            }
            ('\\', Some('\\')) => {
                rest.next();
                0
            }
            _ => 0,
        };
        let code: String = rest.clone().skip(1).take(digits).collect();
        match u16::from_str_radix(&code, 16) {
            Ok(unit) if code.len() == digits => {
                units.push(unit);
                rest.nth(digits);
            }
            _ => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
        }
    }
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_put_in_order_and_checked() {
        let read = |json: &str| vectors(json.as_bytes(), 2).map(|(vectors, _)| vectors);
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

    #[test]
    fn a_refusal_that_quotes_a_text_in_any_way_is_not_shown() {
        let text = "Dear Ms Müller,\nyour \"account\" 4711 in C:\\new\\tables was closed. \u{1f600}";
        let read = |message: &str| {
            let body = serde_json::json!({ "error": { "message": message, "code": "invalid_input" } }).to_string();
            Refusal::read(body.as_bytes(), None, &["another", text, "42", " "]).reason
        };
        for quoted in [
            "cannot tokenize: Dear Ms Müller, your…",
            "cannot tokenize: dear ms müller,\u{a0}your",
            "cannot tokenize: 'ms M\\u00fcller,\\nyour'",
            "cannot tokenize: 'ms M\\xfcller,\\nyour'",
            r#"cannot tokenize: "r,\nyour \"accoun"#,
            r"cannot tokenize: in C:\\new\\tables",
            r"cannot tokenize: in C:\new\tables",
            r"s was closed. \ud83d\ude00",
        ] {
            assert_eq!(read(quoted).as_deref(), Some("invalid_input"), "{quoted}");
        }
        for own in ["your account is closed", "input 1 has 9000 tokens, at most 8192 are allowed", r"\n \ud83d \u \x \"]
        {
            assert_eq!(read(own).as_deref(), Some(own));
        }
        let short = |text| Refusal::read(br#"{"message":"bad value 0042!","code":"bad_0042"}"#, None, &[text]).reason;
        assert_eq!(short("0042"), None, "the whole of a text is never shown, however short");
        assert_eq!(short("0043").as_deref(), Some("bad value 0042!"));
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(body in any::<Vec<u8>>(), expected in 0usize..3) {
            let _ = vectors(&body, expected);
            let _ = Refusal::read(&body, Some("é"), &["a"]);
        }
    }
}
