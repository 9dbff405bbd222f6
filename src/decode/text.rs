//! Values in text format, as Postgres' output functions write them under the settings the source
//! pins.

use std::str::FromStr;

use super::codec::Codec;
use super::wire::{Field, Flaw, derived, utf8, vector};
use super::{numeric, time};
use crate::event::{Arena, Cell, Kind};

/// Reads a value that is not an array.
///
/// Cells are written where they stay: handed back inside a `Result`, each would be copied twice in
/// pieces that the processor cannot forward, which is half the time of decoding.
pub(super) fn cell(codec: Codec, field: Field<'_>, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let bytes = field.bytes;
    match codec {
        Codec::Text | Codec::Char => field.text(Kind::Text, cell)?,
        Codec::Int4 => *cell = Cell::Int(parse::<i32>(bytes)?.into()),
        Codec::Int8 => *cell = Cell::Int(parse::<i64>(bytes)?),
        Codec::Int2 => *cell = Cell::Int(parse::<i16>(bytes)?.into()),
        Codec::Oid => *cell = Cell::Int(parse::<u32>(bytes)?.into()),
        Codec::Bool => match bytes {
            b"t" => *cell = Cell::Bool(true),
            b"f" => *cell = Cell::Bool(false),
            _ => return Err(Flaw::Bad("neither `t` nor `f`")),
        },
        Codec::Float4 => *cell = Cell::Float(float(bytes, |text| text.parse::<f32>().ok().map(f64::from))?),
        Codec::Float8 => *cell = Cell::Float(float(bytes, |text| text.parse().ok())?),
        Codec::Numeric if numeric::is_text(bytes) => field.slice(Kind::Numeric, 0, cell)?,
        Codec::Numeric => return Err(Flaw::Bad("not a decimal number")),
        Codec::Json | Codec::Jsonb => field.text(Kind::Json, cell)?,
        Codec::Timestamp | Codec::TimestampTz => match time::parse_timestamp(bytes, codec == Codec::TimestampTz) {
            Some(time::Micros::At(micros)) => *cell = Cell::Timestamp(micros),
            Some(time::Micros::Beyond) => field.slice(Kind::Other, 0, cell)?,
            None => return Err(Flaw::Bad("not an ISO timestamp")),
        },
        Codec::Date => *cell = Cell::Date(time::parse_date(bytes).ok_or(Flaw::Bad("not an ISO date"))?),
        Codec::Time => *cell = Cell::Time(time::parse_time(bytes).ok_or(Flaw::Bad("not an ISO time"))?),
        Codec::Uuid if is_uuid(bytes) => field.slice(Kind::Uuid, 0, cell)?,
        Codec::Uuid => return Err(Flaw::Bad("not a hyphenated UUID")),
        Codec::Bytes => bytea(bytes, arena, cell)?,
        Codec::Vector | Codec::HalfVec => floats(bytes, arena, cell)?,
        Codec::Other => field.text(Kind::Other, cell)?,
    }
    Ok(())
}

fn parse<T: FromStr>(bytes: &[u8]) -> Result<T, Flaw> {
    utf8(bytes)?.parse().map_err(|_| Flaw::Bad("not a whole number of its width"))
}

/// Postgres names what is not finite; what Rust would take for it is noise here.
fn float(bytes: &[u8], parse: impl Fn(&str) -> Option<f64>) -> Result<f64, Flaw> {
    Ok(match bytes {
        b"NaN" => f64::NAN,
        b"Infinity" => f64::INFINITY,
        b"-Infinity" => f64::NEG_INFINITY,
        _ => parse(utf8(bytes)?).filter(|number| number.is_finite()).ok_or(Flaw::Bad("not a number"))?,
    })
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// `\x` and hexadecimal digits, or the older form in which `\\` and `\ooo` stand for bytes.
fn bytea(bytes: &[u8], arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let start = arena.derived.len();
    match bytes.strip_prefix(b"\\x") {
        Some(digits) => {
            let (pairs, rest) = digits.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(Flaw::Bad("an odd number of hexadecimal digits"));
            }
            arena.derived.reserve(pairs.len());
            for &[high, low] in pairs {
                let byte = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low);
                arena.derived.push(byte.ok_or(Flaw::Bad("not hexadecimal"))?);
            }
        }
        None => escaped_bytea(bytes, &mut arena.derived)?,
    }
    derived(Kind::Bytes, start, arena, cell)
}

fn escaped_bytea(mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
    while let Some((&byte, rest)) = bytes.split_first() {
        let (byte, rest) = match (byte, rest) {
            (b'\\', [b'\\', rest @ ..]) => (b'\\', rest),
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', rest @ ..]) => {
                ((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), rest)
            }
            (b'\\', _) => return Err(Flaw::Bad("an unknown escape")),
            plain => plain,
        };
        out.push(byte);
        bytes = rest;
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// pgvector's `[1,2.5,-3e-05]`.
fn floats(bytes: &[u8], arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let start = arena.floats.len();
    let numbers = bytes.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).ok_or(Flaw::Bad("no brackets"))?;
    if !numbers.is_empty() {
        for number in utf8(numbers)?.split(',') {
            let number = number.parse::<f32>().ok().filter(|number| number.is_finite());
            arena.floats.push(number.ok_or(Flaw::Bad("an element that is not a finite number"))?);
        }
    }
    vector(start, arena, cell)
}
