//! Merges payloads: JSON objects as text, of which only the top-level keys are looked at.

use std::borrow::Cow;

use indexmap::IndexMap;

use crate::error::{Error, Fault, Result};

/// Lays `patches` over `base`, key by key at the top level; the last one wins.
///
/// Values are copied as they are written and never parsed into numbers: a payload says the same
/// whether it was merged here or by the store, however many digits it has.
pub(super) fn merge<'a>(base: &'a str, patches: impl IntoIterator<Item = &'a str>) -> Result<Cow<'a, str>> {
    let mut patches = patches.into_iter().peekable();
    if patches.peek().is_none() {
        return Ok(Cow::Borrowed(base));
    }
    let mut members = IndexMap::new();
    for object in std::iter::once(base).chain(patches) {
        let mut scanner = Scanner { text: object, at: 0 };
        scanner.object(&mut members).ok_or_else(|| {
            Error::new(Fault::Bug, "a payload that is not a JSON object reached a sink")
                .help("payloads are checked when the handler's answer is read; please report this")
        })?;
    }
    let mut merged = String::with_capacity(base.len() + 16);
    for (index, (key, value)) in members.iter().enumerate() {
        merged.push(if index == 0 { '{' } else { ',' });
        merged.push_str(&serde_json::Value::from(key.as_ref()).to_string());
        merged.push(':');
        merged.push_str(value);
    }
    merged.push_str(if members.is_empty() { "{}" } else { "}" });
    Ok(Cow::Owned(merged))
}

/// Walks over valid JSON; what is not valid makes it answer None, or a wrong split, but never a
/// panic.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The members of an object: decoded keys, values as they stand in the text.
    fn object(&mut self, members: &mut IndexMap<Cow<'a, str>, &'a str>) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return Some(());
        }
        loop {
            let key = self.key()?;
            self.expect(b':')?;
            members.insert(key, self.value()?);
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn key(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let start = self.at;
        self.string()?;
        let quoted = self.text.get(start..self.at)?;
        let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
        if inner.contains('\\') {
            serde_json::from_str(quoted).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    /// Everything up to the comma or bracket that ends the value.
    fn value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' if depth == 0 => {
                    let value = self.text.get(start..self.at)?.trim_end();
                    return (!value.is_empty()).then_some(value);
                }
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Passes a string, its quotes included.
    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return Some(());
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    #[test]
    fn later_keys_win_and_numbers_keep_every_digit() {
        let base = " { \"a\" : 12345678901234567890.10 , \"b\":[1,{\"c\":\"}\\\"\"}],\"\\u0061\": 1e400}\n";
        let cases: [(&[&str], &str); 5] = [
            (&[], base),
            (&["{}"], r#"{"a":1e400,"b":[1,{"c":"}\""}]}"#),
            (&[r#"{"b":null}"#], r#"{"a":1e400,"b":null}"#),
            (&[r#"{"b":{}}"#, r#"{"x\n":"é","b":""}"#], r#"{"a":1e400,"b":"","x\n":"é"}"#),
            (&["{ }", "\t{\"a\":0}"], r#"{"a":0,"b":[1,{"c":"}\""}]}"#),
        ];
        for (patches, merged) in cases {
            assert_eq!(merge(base, patches.iter().copied()).unwrap(), merged);
        }
        assert_eq!(merge("{}", ["{}"]).unwrap(), "{}");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\PC\"\\\\{}\\[\\],:\n]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c\"\\\\]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::vec(("[a-c\"\\\\\u{1f600}]{0,2}", json()), 0..4).prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        #[test]
        fn merging_text_is_merging_maps(base in object(), patches in prop::collection::vec(object(), 0..3), pretty: bool) {
            let print = |map: &Map<String, Value>| {
                if pretty { serde_json::to_string_pretty(map) } else { serde_json::to_string(map) }.unwrap()
            };
            let texts: Vec<String> = patches.iter().map(print).collect();
            let base_text = print(&base);
            let merged = merge(&base_text, texts.iter().map(String::as_str)).unwrap();
            let mut expected = base;
            patches.into_iter().for_each(|patch| expected.extend(patch));
            prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(&merged).unwrap(), expected);
        }

        #[test]
        fn arbitrary_text_never_panics(base in ".*", patch in "[{}\\[\\]\",:\\\\ a1é]*") {
            let _ = merge(&base, [patch.as_str()]);
            let _ = merge("{}", [patch.as_str(), base.as_str()]);
        }
    }
}
