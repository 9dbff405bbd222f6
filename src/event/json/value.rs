//! One value of a column: from JSON to a cell, by its kind where that is written, else by the
//! column's type.

use super::read::Flaw;
use super::tree::Json;
use super::types::Type;
use crate::event::{BatchBuilder, Cell, Kind, Place};

/// Bytes and numbers that a batch may point to: places in it are counted in 32 bits.
const MAX_ARENA: usize = 1 << 30;

/// The kinds that can be written as the only key of an object.
const KINDS: [&str; 14] = [
    "unchanged",
    "float",
    "numeric",
    "uuid",
    "other",
    "json",
    "json_text",
    "bytes",
    "timestamp",
    "date",
    "time",
    "vector",
    "text",
    "int",
];

/// The type of a column of which only a value is known.
pub(super) fn guess(value: &Json) -> &'static str {
    match value {
        Json::Bool(_) => "bool",
        Json::Number(text) if is_integer(text) => "int8",
        Json::Number(_) => "float8",
        Json::List(_) => "jsonb",
        Json::Object(entries) => match entries.first().map(|(kind, _)| kind.as_str()) {
            Some("float") => "float8",
            Some("numeric") => "numeric",
            Some("uuid") => "uuid",
            Some("bytes") => "bytea",
            Some("timestamp") => "timestamptz",
            Some("date") => "date",
            Some("time") => "time",
            Some("vector") => "vector",
            Some("int") => "int8",
            Some("json" | "json_text") => "jsonb",
            _ => "text",
        },
        Json::Null | Json::Text(_) => "text",
    }
}

/// Appends the cell that `json` means in a column of the type `type_name`.
pub(super) fn push(builder: &mut BatchBuilder, type_name: &str, json: &Json) -> Result<(), Flaw> {
    let arena = builder.arena();
    if arena.derived.len() > MAX_ARENA || arena.floats.len() > MAX_ARENA / 4 {
        return Err(Flaw::new("there are too many values for one batch", "part the events"));
    }
    let cell = cell(builder, type_name, json)?;
    builder.push_cell(cell);
    Ok(())
}

fn cell(builder: &mut BatchBuilder, type_name: &str, json: &Json) -> Result<Cell, Flaw> {
    let ty = Type::named(type_name);
    if *json == Json::Null {
        return Ok(Cell::Null);
    }
    if let Json::Object(entries) = json
        && let [(kind, value)] = entries.as_slice()
        && KINDS.contains(&kind.as_str())
    {
        return tagged(builder, kind, value, ty).map_err(|flaw| flaw.within(kind));
    }
    let wrong = |expected: &str, example: &str| {
        let help = if example.is_empty() { String::new() } else { format!("write {example}") };
        Flaw::new(format!("the column is `{type_name}`: expected {expected}, found {}", json.kind()), help)
    };
    match (ty, json) {
        (Type::Bool | Type::Any, Json::Bool(value)) => Ok(Cell::Bool(*value)),
        (Type::Bool, _) => Err(wrong("`true` or `false`", "")),
        (Type::Int { low, high }, Json::Number(text)) => match text.parse::<i64>() {
            Ok(value) if (low..=high).contains(&value) => Ok(Cell::Int(value)),
            _ if is_integer(text) => Err(Flaw::new(format!("`{type_name}` ends before this number"), "")),
            _ => Err(wrong("a whole number", "")),
        },
        (Type::Int { .. }, _) => Err(wrong("a whole number", "it without quotes")),
        (Type::Float, Json::Number(text)) => float(text).map(Cell::Float),
        (Type::Float, Json::Text(text)) if not_finite(text).is_some() => {
            Ok(not_finite(text).map_or(Cell::Null, Cell::Float))
        }
        (Type::Float, _) => Err(wrong("a number", "it without quotes")),
        (Type::Numeric, Json::Number(text) | Json::Text(text)) => {
            tagged(builder, "numeric", &Json::Text(text.clone()), ty)
        }
        (Type::Numeric, _) => Err(wrong("a number", "it in quotes, so that no digit is lost")),
        (Type::Text, Json::Text(text)) => Ok(slice(builder, Kind::Text, text.as_bytes())),
        (Type::Text, _) => Err(wrong("text", "it in quotes")),
        (Type::Bytes, Json::Text(_)) => tagged(builder, "bytes", json, ty),
        (Type::Bytes, _) => Err(wrong("hexadecimal digits in quotes", "\"\\\\x00ff\"")),
        (Type::Timestamp, Json::Text(_) | Json::Number(_)) => tagged(builder, "timestamp", json, ty),
        (Type::Timestamp, _) => Err(wrong("a time", "\"2026-01-01T12:00:00Z\"")),
        (Type::Date, Json::Text(_) | Json::Number(_)) => tagged(builder, "date", json, ty),
        (Type::Date, _) => Err(wrong("a date", "\"2026-01-01\"")),
        (Type::Time, Json::Text(_) | Json::Number(_)) => tagged(builder, "time", json, ty),
        (Type::Time, _) => Err(wrong("a time of day", "\"12:00:00\"")),
        (Type::Uuid, Json::Text(_)) => tagged(builder, "uuid", json, ty),
        (Type::Uuid, _) => Err(wrong("a uuid in quotes", "")),
        (Type::Vector, Json::List(_)) => tagged(builder, "vector", json, ty),
        (Type::Vector, _) => Err(wrong("a list of numbers", "")),
        (Type::Other, Json::Text(text)) => Ok(slice(builder, Kind::Other, text.as_bytes())),
        (Type::Other, _) => Err(wrong("Postgres' own text for it", "it in quotes")),
        (Type::Json | Type::Jsonb, _) => tagged(builder, "json", json, ty),
        (Type::Any, Json::Text(text)) => Ok(slice(builder, Kind::Text, text.as_bytes())),
        (Type::Any, Json::Number(text)) => match text.parse() {
            Ok(value) => Ok(Cell::Int(value)),
            Err(_) if is_integer(text) => {
                Err(Flaw::new("the number does not fit into 64 bits", "write `{\"numeric\": \"…\"}` if it is one"))
            }
            Err(_) => float(text).map(Cell::Float),
        },
        (Type::Any, Json::List(_) | Json::Object(_)) => Err(Flaw::new(
            format!(
                "expected a value or an object with one of {} as its only key, found {}",
                KINDS.join(", "),
                json.kind()
            ),
            "write `{\"json\": …}` if the column holds JSON",
        )),
        (Type::Any, Json::Null) => Ok(Cell::Null),
    }
}

/// A value whose kind is written beside it.
fn tagged(builder: &mut BatchBuilder, kind: &str, value: &Json, ty: Type) -> Result<Cell, Flaw> {
    let wrong = |expected: &str| Flaw::new(format!("expected {expected}, found {}", value.kind()), "");
    let text = || match value {
        Json::Text(text) => Ok(text.as_str()),
        _ => Err(wrong("text")),
    };
    match kind {
        "unchanged" if *value == Json::Bool(true) => Ok(Cell::Unchanged),
        "unchanged" => Err(wrong("`true`")),
        "float" => match value {
            Json::Number(text) => float(text).map(Cell::Float),
            Json::Text(text) => not_finite(text).map(Cell::Float).ok_or_else(|| wrong("`NaN`, `inf` or `-inf`")),
            _ => Err(wrong("a number")),
        },
        "int" => match value {
            Json::Number(text) => text.parse().map(Cell::Int).map_err(|_| wrong("a whole number of 64 bits")),
            _ => Err(wrong("a whole number")),
        },
        "text" => Ok(slice(builder, Kind::Text, text()?.as_bytes())),
        "other" => Ok(slice(builder, Kind::Other, text()?.as_bytes())),
        "numeric" => match value {
            Json::Text(text) | Json::Number(text) if is_numeric(text) => {
                Ok(slice(builder, Kind::Numeric, text.as_bytes()))
            }
            _ => Err(wrong("a decimal number, or `NaN`, `Infinity`, `-Infinity`")),
        },
        "uuid" => {
            let uuid = uuid::Uuid::try_parse(text()?)
                .map_err(|_| Flaw::new("that is no uuid", "write it as `00000000-0000-0000-0000-000000000000`"))?;
            Ok(slice(builder, Kind::Uuid, uuid.hyphenated().to_string().as_bytes()))
        }
        "bytes" => {
            let digits = text()?;
            let bytes = unhex(digits.strip_prefix("\\x").unwrap_or(digits));
            let bytes = bytes.ok_or_else(|| Flaw::new("expected pairs of hexadecimal digits", ""))?;
            Ok(slice(builder, Kind::Bytes, &bytes))
        }
        "json" => {
            let text = if ty == Type::Jsonb { value.spaced() } else { value.to_string() };
            Ok(slice(builder, Kind::Json, text.as_bytes()))
        }
        "json_text" => Ok(slice(builder, Kind::Json, text()?.as_bytes())),
        "timestamp" => {
            time(value, timestamp, "`2026-01-01T12:00:00Z`, `infinity` or µs since 1970").map(Cell::Timestamp)
        }
        "date" => {
            let days = time(value, date, "`2026-01-01`, `infinity` or days since 1970")?;
            i32::try_from(days).map(Cell::Date).map_err(|_| wrong("a date that Postgres knows"))
        }
        "time" => {
            let micros = time(value, time_of_day, "`12:00:00` or µs since midnight")?;
            (0..=DAY).contains(&micros).then_some(Cell::Time(micros)).ok_or_else(|| wrong("a time of one day"))
        }
        "vector" => {
            let Json::List(items) = value else { return Err(wrong("a list of numbers")) };
            let start = builder.floats().len() as u32;
            for (index, item) in items.iter().enumerate() {
                let number = match item {
                    Json::Number(text) => text.parse::<f32>().ok().filter(|number| number.is_finite()),
                    Json::Text(text) => not_finite(text).map(|number| number as f32),
                    _ => None,
                };
                let number = number.ok_or_else(|| Flaw::new("expected a number", "").within_item(index))?;
                builder.floats().push(number);
            }
            Ok(Cell::Vector { start, len: items.len() as u32 })
        }
        _ => Err(wrong("a known kind of value")),
    }
}

fn slice(builder: &mut BatchBuilder, kind: Kind, bytes: &[u8]) -> Cell {
    let derived = builder.derived();
    let start = derived.len() as u32;
    derived.extend_from_slice(bytes);
    Cell::Slice { kind, place: Place::Derived, start, len: bytes.len() as u32 }
}

fn is_integer(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

fn float(text: &str) -> Result<f64, Flaw> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| Flaw::new("the number is too large for a float", ""))
}

fn not_finite(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "inf" | "Infinity" => Some(f64::INFINITY),
        "-inf" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn is_numeric(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits.matches('.').count() <= 1;
    plain || matches!(text, "NaN" | "Infinity" | "-Infinity")
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let half = |digit: u8| (digit as char).to_digit(16);
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(half(*high)? * 16 + half(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

const DAY: i64 = 86_400_000_000;

/// A number as it stands, or what `parse` makes of text.
fn time(value: &Json, parse: fn(&str) -> Option<i64>, expected: &str) -> Result<i64, Flaw> {
    let read = match value {
        Json::Number(text) => text.parse().ok(),
        Json::Text(text) => parse(text),
        _ => None,
    };
    read.ok_or_else(|| Flaw::new(format!("expected {expected}"), ""))
}

/// µs since 1970; without an offset in UTC.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    match text {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let utc = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    zoned.or_else(|| utc().map(|zoned| zoned.timestamp())).map(|time| time.as_microsecond())
}

fn date(text: &str) -> Option<i64> {
    match text {
        "infinity" => Some(i32::MAX.into()),
        "-infinity" => Some(i32::MIN.into()),
        _ => {
            let date = text.parse::<jiff::civil::Date>().ok()?;
            let since = date.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).ok()?;
            Some(since.get_days().into())
        }
    }
}

fn time_of_day(text: &str) -> Option<i64> {
    if text == "24:00:00" {
        return Some(DAY);
    }
    let time = text.parse::<jiff::civil::Time>().ok()?;
    let seconds = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    Some(seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1000)
}
