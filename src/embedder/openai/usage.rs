//! `Usage`: how many tokens a provider says that it counted. Whatever else stands there, an answer
//! is not refused for it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// All that a provider says of what it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) tokens: Option<u64>,
}

/// Reads an object with a count of tokens, or a count; anything else is passed over.
struct Lenient;

impl<'de> Visitor<'de> for Lenient {
    type Value = Usage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Usage, A::Error> {
        let (mut total, mut prompt) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "total_tokens" => total = map.next_value::<Usage>()?.tokens,
                "prompt_tokens" => prompt = map.next_value::<Usage>()?.tokens,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Usage { tokens: total.or(prompt) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Usage, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Usage::default())
    }

    fn visit_u64<E>(self, tokens: u64) -> Result<Usage, E> {
        Ok(Usage { tokens: Some(tokens) })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Usage, E> {
        Ok(Usage::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Usage, E> {
        Ok(Usage::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Usage, E> {
        Ok(Usage::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Usage, E> {
        Ok(Usage::default())
    }

    fn visit_unit<E>(self) -> Result<Usage, E> {
        Ok(Usage::default())
    }
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_as_the_provider_says_or_unknown() {
        let read = |json: &str| serde_json::from_str::<Usage>(json).unwrap().tokens;
        assert_eq!(read(r#"{"prompt_tokens":8,"total_tokens":9,"details":{"x":[1]}}"#), Some(9));
        assert_eq!(read(r#"{"prompt_tokens":8}"#), Some(8));
        for other in ["null", "-1", "1.5", r#""x""#, "[1]", "true", "{}", r#"{"total_tokens":{"a":1.5}}"#] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
