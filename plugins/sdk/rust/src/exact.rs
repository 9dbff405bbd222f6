//! JSON as Postgres wrote it, on its way into a payload: integers beyond 64 bits, long decimals,
//! `1e309`, deep nesting and halves of surrogate pairs, of which `serde_json::Value` holds none.

use std::cell::Cell;

use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Json, Result};

/// What a text begins with that stands for JSON which `serde_json::Value` cannot hold. No text of
/// Postgres' has such a character.
const MARK: &str = "\0pgstream:json\0";

/// The same in JSON, with the quotation mark before it.
const MARK_IN_JSON: &str = "\"\\u0000pgstream:json\\u0000";

/// Decimal digits that a double holds, whatever they are.
const DIGITS: usize = 15;

thread_local! {
    /// Whether there can be a mark anywhere.
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

/// Serializes JSON as it stands. What is no JSON after all is text.
///
/// `json!` and `to_value` take all apart into a `Value`. What that cannot hold goes through them
/// behind a mark, in whose place [`text`] puts it back.
pub(crate) fn serialize<S: Serializer>(json: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let Ok(raw) = serde_json::from_str::<&RawValue>(json) else { return serializer.serialize_str(json) };
    if !std::any::type_name::<S>().starts_with("serde_json::value::") {
        return raw.serialize(serializer);
    }
    match held(json) {
        Some(value) => value.serialize(serializer),
        None => {
            MARKED.set(true);
            serializer.serialize_str(&format!("{MARK}{json}"))
        }
    }
}

/// What serializes as JSON, as text.
pub(crate) fn text(value: &(impl Serialize + ?Sized)) -> Result<String> {
    let text = serde_json::to_string(value)?;
    if MARKED.get() { unmarked(text) } else { Ok(text) }
}

/// The same, checked to go into another value as it is.
pub(crate) fn raw(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>> {
    if MARKED.get() { Ok(RawValue::from_string(text(value)?)?) } else { Ok(serde_json::value::to_raw_value(value)?) }
}

/// The value, if it is the same when it is written again.
fn held(json: &str) -> Option<Json> {
    if exact_numbers(json) { serde_json::from_str(json).ok() } else { None }
}

fn unmarked(text: String) -> Result<String> {
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some(at) = rest.find(MARK_IN_JSON) {
        let (before, marked) = rest.split_at(at);
        out.push_str(before);
        let mut strings = serde_json::Deserializer::from_str(marked).into_iter::<String>();
        let Some(string) = strings.next().transpose()? else { break };
        // Inside of another text it is just text.
        match string.strip_prefix(MARK) {
            Some(json) if !before.ends_with('\\') => out.push_str(json),
            _ => out.push_str(&marked[..strings.byte_offset()]),
        }
        rest = &marked[strings.byte_offset()..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether all numbers of a JSON text are 64-bit integers, or have so few digits that a double does
/// not round them.
fn exact_numbers(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(&byte) = bytes.get(at).filter(|&&byte| byte != b'"') {
                    at += if byte == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let number = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let len = bytes[at..].iter().take_while(number).count();
                if !exact(&json[at..at + len]) {
                    return false;
                }
                at += len;
            }
            _ => at += 1,
        }
    }
    true
}

fn exact(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let significant = digits.bytes().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0').count();
    let small = exponent.parse::<i32>().is_ok_and(|exponent| exponent.abs() < 200);
    significant <= DIGITS && digits.len() < 60 && small
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Value;

    const UNHELD: [&str; 7] = [
        r#"{"big":123456789012345678901234567890}"#,
        r#"{"long":0.12345678901234567890123}"#,
        r#"[1e309]"#,
        r#"["\ud800"]"#,
        r#"[1.10, -0.0000000000000000000000000000000000000000000000000000000000000001]"#,
        r#"{"a":[-9223372036854775809]}"#,
        "18446744073709551616",
    ];

    fn deep() -> String {
        format!("{}1{}", "[".repeat(500), "]".repeat(500))
    }

    #[test]
    fn json_goes_through_as_it_stands() {
        for json in UNHELD.map(str::to_owned).into_iter().chain([deep()]) {
            let value = Value::Json(json.clone());
            assert_eq!(text(&value).unwrap(), json);
            let tricky = "\"\\u0000pgstream:json\\u0000[1]\\\"";
            let nested = json!({ "a": &value, "b": [&value, tricky, "\"\0pgstream:json\0["], "c": 1 });
            let plain = serde_json::to_string(&json!([tricky, "\"\0pgstream:json\0["])).unwrap();
            let expected = format!(r#"{{"a":{json},"b":[{json},{},"c":1}}"#, &plain[1..]);
            assert_eq!(text(&nested).unwrap(), expected);
            assert_eq!(raw(&nested).unwrap().get(), expected);
        }
    }

    #[test]
    fn what_can_be_held_is_a_value_like_any_other() {
        let held = r#"{"a":[1,-2.5,1e3,true,null,18446744073709551615,-9223372036854775808,0.1],"b":"1e309"}"#;
        let value = json!({ "x": Value::Json(held.into()) });
        assert_eq!(value["x"]["a"][1], json!(-2.5));
        assert_eq!(value["x"]["b"], json!("1e309"));
        assert_eq!(json!(Value::Json("no json".into())), json!("no json"));
        assert_eq!(text(&Value::Json("no json".into())).unwrap(), "\"no json\"");
    }

    #[test]
    fn numbers_that_a_double_rounds_are_known() {
        for number in ["0", "-1", "1.5", "123456789012345", "9007199254740993", "0.000001", "1e100", "-0.0"] {
            assert!(exact(number), "{number}");
        }
        for number in ["9007199254740993.0", "1e400", "0.1234567890123456", "99999999999999999999"] {
            assert!(!exact(number), "{number}");
        }
    }
}
