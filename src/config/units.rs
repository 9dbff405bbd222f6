//! Values with units: `64MiB`, `20ms`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// An amount of memory, written with its unit: `64MiB`, `500KB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A span of time, written with its unit: `20ms`, `1s`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Text without a number, without a unit, or with an unknown one. Never repeats the text, which may
/// be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

const SIZE: UnitError = UnitError("expected a size with its unit, such as `64MiB`, `500KB` or `4096B`");
const SPAN: UnitError = UnitError("expected a time with its unit, such as `20ms`, `1s` or `5m`");

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
            return Err(SIZE);
        }
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| SIZE)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
            return Err(SPAN);
        }
        humantime::parse_duration(text).map(Self).map_err(|_| SPAN)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let exact = UNITS.iter().find(|(_, bits)| self.0 != 0 && self.0.trailing_zeros() >= *bits);
        match exact {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("a size with its unit")).and_then(|text| text.parse().map_err(Error::custom))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("a time with its unit")).and_then(|text| text.parse().map_err(Error::custom))
    }
}

struct Text(&'static str);

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl serde::Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "size",
            "pattern": r"^[0-9]+(\.[0-9]+)? *([kKmMgGtT]i?)?[bB]$",
            "examples": ["64MiB", "500KB"],
        })
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "span",
            "pattern": r"^([0-9]+ *[a-z]+ *)+$",
            "examples": ["20ms", "1s", "5m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_need_a_known_unit() {
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("1.5 KB".parse(), Ok(Size(1500)));
        assert_eq!("20ms".parse(), Ok(Span(Duration::from_millis(20))));
        for wrong in ["", "64", "64 bananas", "MiB", "-1MiB", "1e3"] {
            assert_eq!(wrong.parse::<Size>(), Err(SIZE), "{wrong}");
        }
        for wrong in ["", "5", "5 bananas", "s", "-1s", "soon"] {
            assert_eq!(wrong.parse::<Span>(), Err(SPAN), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back(size in any::<u64>(), millis in any::<u32>()) {
            // The parser counts in floats, which are exact up to 2^53: far above any memory.
            let size = Size(size >> 11);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let span = Span(Duration::from_millis(millis.into()));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = (text.parse::<Size>(), text.parse::<Span>());
        }
    }
}
