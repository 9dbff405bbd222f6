//! One value of a Debezium message, by the type that the message's schema gives its column.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::event::json::{Flaw, Json};

/// The text that Debezium writes where Postgres did not send a large value.
const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// Bytes of a decimal number; Postgres' numbers of practical length have a few dozen.
const MAX_DECIMAL: usize = 4096;

/// A column as the schema describes it.
#[derive(Debug)]
pub(super) struct Field<'m> {
    pub(super) name: String,
    /// Postgres' name for what it most likely is.
    pub(super) type_name: &'static str,
    form: Form,
    schema: &'m Json,
}

/// The form in which values of a column are written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// As JSON writes it.
    Plain,
    Json,
    Bytes,
    Decimal,
    VariableDecimal,
    /// Days since 1970.
    Date,
    /// A time in so many of these in a µs, or so many µs each.
    Time(Unit),
    Timestamp(Unit),
    Vector,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl<'m> Field<'m> {
    /// None for what describes no column.
    pub(super) fn read(schema: &'m Json) -> Option<Self> {
        let text = |field: &str| match schema.get(field) {
            Some(Json::Text(text)) => text.as_str(),
            _ => "",
        };
        let (type_name, form) = match (text("name"), text("type")) {
            ("io.debezium.data.Json", _) => ("jsonb", Form::Json),
            ("io.debezium.data.Uuid", _) => ("uuid", Form::Plain),
            ("io.debezium.data.VariableScaleDecimal", _) => ("numeric", Form::VariableDecimal),
            ("org.apache.kafka.connect.data.Decimal", _) => ("numeric", Form::Decimal),
            ("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date", _) => ("date", Form::Date),
            ("io.debezium.time.Time" | "org.apache.kafka.connect.data.Time", _) => ("time", Form::Time(Unit::Millis)),
            ("io.debezium.time.MicroTime", _) => ("time", Form::Time(Unit::Micros)),
            ("io.debezium.time.NanoTime", _) => ("time", Form::Time(Unit::Nanos)),
            ("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp", _) => {
                ("timestamp", Form::Timestamp(Unit::Millis))
            }
            ("io.debezium.time.MicroTimestamp", _) => ("timestamp", Form::Timestamp(Unit::Micros)),
            ("io.debezium.time.NanoTimestamp", _) => ("timestamp", Form::Timestamp(Unit::Nanos)),
            ("io.debezium.time.ZonedTimestamp", _) => ("timestamptz", Form::Plain),
            ("io.debezium.time.ZonedTime", _) => ("timetz", Form::Plain),
            ("io.debezium.time.Interval", _) => ("interval", Form::Plain),
            ("io.debezium.data.DoubleVector" | "io.debezium.data.FloatVector", _) => ("vector", Form::Vector),
            (_, "int8" | "int16") => ("int2", Form::Plain),
            (_, "int32") => ("int4", Form::Plain),
            (_, "int64") => ("int8", Form::Plain),
            (_, "float" | "float32") => ("float4", Form::Plain),
            (_, "double" | "float64") => ("float8", Form::Plain),
            (_, "boolean") => ("bool", Form::Plain),
            (_, "bytes") => ("bytea", Form::Bytes),
            (_, "array" | "map" | "struct") => ("jsonb", Form::Json),
            _ => ("text", Form::Plain),
        };
        let Some(Json::Text(name)) = schema.get("field") else { return None };
        Some(Self { name: name.clone(), type_name, form, schema })
    }
}

/// The value as this host's own JSON form has it. Without a schema it is taken for what it looks
/// like.
///
/// # Errors
/// A flaw that says what is wrong with the value; never the value.
pub(super) fn value(field: Option<&Field<'_>>, json: &Json) -> Result<Json, Flaw> {
    let form = field.map_or(Form::Plain, |field| field.form);
    match json {
        Json::Null => return Ok(Json::Null),
        Json::Text(text) if is_unavailable(text) => return Ok(tagged("unchanged", Json::Bool(true))),
        _ => {}
    }
    match (form, json) {
        (Form::Plain, Json::List(_) | Json::Object(_)) => Ok(tagged("json", json.clone())),
        (Form::Plain, _) => Ok(json.clone()),
        (Form::Json, Json::Text(text)) => match Json::parse(text) {
            Ok(json) => Ok(tagged("json", json)),
            Err(_) => Ok(tagged("json_text", Json::Text(text.clone()))),
        },
        (Form::Json, _) => Ok(tagged("json", json.clone())),
        (Form::Bytes, Json::Text(text)) => {
            let hex: String = decoded(text)?.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(tagged("bytes", Json::Text(hex)))
        }
        (Form::Decimal, Json::Text(text)) => {
            let parameters = field.and_then(|field| field.schema.get("parameters"));
            decimal(text, parameters.and_then(|parameters| parameters.get("scale")))
        }
        (Form::VariableDecimal, Json::Object(_)) => match json.get("value") {
            Some(Json::Text(text)) => decimal(text, json.get("scale")),
            _ => Err(Flaw::new("expected a decimal number with its scale", "")),
        },
        (Form::Date, Json::Number(_)) => Ok(tagged("date", json.clone())),
        (Form::Time(unit), Json::Number(number)) => Ok(tagged("time", micros(number, unit)?)),
        (Form::Timestamp(unit), Json::Number(number)) => Ok(tagged("timestamp", micros(number, unit)?)),
        (Form::Vector, Json::List(_)) => Ok(tagged("vector", json.clone())),
        (_, other) => Err(Flaw::new(format!("expected a value as its schema says, found {}", other.kind()), "")),
    }
}

fn tagged(kind: &str, value: Json) -> Json {
    Json::Object(vec![(kind.to_owned(), value)])
}

/// Also as the bytes that a binary column has.
fn is_unavailable(text: &str) -> bool {
    text == UNAVAILABLE || text == "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
}

fn decoded(text: &str) -> Result<Vec<u8>, Flaw> {
    STANDARD.decode(text).map_err(|_| Flaw::new("expected bytes in base64", ""))
}

fn micros(number: &str, unit: Unit) -> Result<Json, Flaw> {
    let number: Option<i64> = number.parse().ok();
    let micros = number.and_then(|number| match unit {
        Unit::Millis => number.checked_mul(1000),
        Unit::Micros => Some(number),
        Unit::Nanos => Some(number.div_euclid(1000)),
    });
    let micros = micros.ok_or_else(|| Flaw::new("expected a time as a whole number", ""))?;
    Ok(Json::Number(micros.to_string()))
}

/// An unscaled number, in two's complement with the highest byte first, and how many of its digits
/// are a fraction.
fn decimal(text: &str, scale: Option<&Json>) -> Result<Json, Flaw> {
    let scale: Option<i32> = match scale {
        Some(Json::Text(text) | Json::Number(text)) => text.parse().ok(),
        _ => None,
    };
    let bytes = decoded(text)?;
    let scale = scale.filter(|scale| scale.unsigned_abs() as usize <= MAX_DECIMAL * 4);
    let (Some(scale), true) = (scale, bytes.len() <= MAX_DECIMAL) else {
        return Err(Flaw::new("expected a decimal number with its scale", ""));
    };
    let (negative, mut digits) = digits(bytes);
    if let Ok(fraction) = usize::try_from(scale) {
        while digits.len() <= fraction {
            digits.insert(0, '0');
        }
        if fraction > 0 {
            digits.insert(digits.len() - fraction, '.');
        }
    } else if digits != "0" {
        digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
    }
    let sign = if negative { "-" } else { "" };
    Ok(tagged("numeric", Json::Text(format!("{sign}{digits}"))))
}

/// The decimal digits of a number in two's complement, and whether it is negative.
fn digits(mut bytes: Vec<u8>) -> (bool, String) {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, over);
        }
    }
    let mut digits = Vec::new();
    while bytes.iter().any(|byte| *byte != 0) {
        let mut rest = 0u16;
        for byte in &mut bytes {
            let number = rest << 8 | u16::from(*byte);
            (*byte, rest) = (u8::try_from(number / 10).unwrap_or(u8::MAX), number % 10);
        }
        digits.push(char::from(b'0' + u8::try_from(rest).unwrap_or_default()));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    (negative, digits.into_iter().rev().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_decimal_number_is_what_its_bytes_say(number in any::<i64>(), scale in 0usize..6) {
            let text = STANDARD.encode(number.to_be_bytes());
            let read = decimal(&text, Some(&Json::Number(scale.to_string()))).unwrap().to_string();
            let unsigned = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = unsigned.split_at(unsigned.len() - scale);
            let point = if scale > 0 { "." } else { "" };
            let sign = if number < 0 { "-" } else { "" };
            prop_assert_eq!(read, format!("{{\"numeric\":\"{sign}{whole}{point}{fraction}\"}}"));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*", scale in any::<i32>()) {
            let _ = decimal(&text, Some(&Json::Number(scale.to_string())));
            let _ = decimal(&STANDARD.encode(&text), Some(&Json::Number((scale % 99).to_string())));
        }
    }
}
