//! Values in binary format, as Postgres' send functions write them.

use super::catalog::Codec;
use super::wire::{Field, Flaw, Reader, derived, utf8, vector};
use super::{numeric, time};
use crate::event::{Arena, Cell, Kind};

/// Reads a value that is not an array.
pub(super) fn cell(codec: Codec, field: Field<'_>, arena: &mut Arena) -> Result<Cell, Flaw> {
    let mut reader = field.reader();
    let cell = match codec {
        Codec::Text => return field.text(Kind::Text),
        Codec::Json => return field.text(Kind::Json),
        Codec::Bytes => return Ok(field.slice(Kind::Bytes, 0)),
        Codec::Jsonb => return jsonb(field),
        Codec::Numeric => {
            let start = arena.derived.len();
            numeric::write(field.bytes, &mut arena.derived)?;
            return derived(Kind::Numeric, start, arena);
        }
        Codec::Other => return Err(Flaw::BinaryOnly),
        Codec::Int4 => Cell::Int(reader.i32()?.into()),
        Codec::Int8 => Cell::Int(reader.i64()?),
        Codec::Int2 => Cell::Int(reader.i16()?.into()),
        Codec::Oid => Cell::Int(reader.u32()?.into()),
        Codec::Bool => Cell::Bool(reader.u8()? != 0),
        Codec::Float4 => Cell::Float(reader.fixed().map(f32::from_be_bytes)?.into()),
        Codec::Float8 => Cell::Float(reader.fixed().map(f64::from_be_bytes)?),
        Codec::Char => char(reader.u8()?, field, arena)?,
        Codec::Timestamp | Codec::TimestampTz => timestamp(reader.i64()?, codec == Codec::TimestampTz, arena)?,
        Codec::Date => Cell::Date(time::from_postgres_days(reader.i32()?).ok_or(Flaw::Bad("out of range"))?),
        Codec::Time => {
            let micros = reader.i64()?;
            Some(Cell::Time(micros)).filter(|_| time::is_time(micros)).ok_or(Flaw::Bad("out of range"))?
        }
        Codec::Uuid => uuid(reader.fixed()?, arena)?,
        Codec::Vector => {
            let start = dimensions(&mut reader, 4, arena)?;
            while reader.left() > 0 {
                push(reader.fixed().map(f32::from_be_bytes)?, arena)?;
            }
            vector(start, arena)?
        }
        Codec::HalfVec => {
            let start = dimensions(&mut reader, 2, arena)?;
            while reader.left() > 0 {
                push(half(reader.u16()?), arena)?;
            }
            vector(start, arena)?
        }
    };
    reader.end()?;
    Ok(cell)
}

fn jsonb(field: Field<'_>) -> Result<Cell, Flaw> {
    match field.bytes.split_first() {
        Some((1, text)) => {
            utf8(text)?;
            Ok(field.slice(Kind::Json, 1))
        }
        _ => Err(Flaw::Bad("an unknown version")),
    }
}

/// `"char"`: one byte. As text a zero is nothing, and what is not ASCII is an octal escape.
fn char(byte: u8, field: Field<'_>, arena: &mut Arena) -> Result<Cell, Flaw> {
    match byte {
        0 => Ok(field.slice(Kind::Text, 1)),
        1..=127 => Ok(field.slice(Kind::Text, 0)),
        128.. => {
            let start = arena.derived.len();
            arena.derived.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
            derived(Kind::Text, start, arena)
        }
    }
}

fn timestamp(micros: i64, zone: bool, arena: &mut Arena) -> Result<Cell, Flaw> {
    match time::from_postgres_micros(micros) {
        time::Micros::At(micros) => Ok(Cell::Timestamp(micros)),
        time::Micros::Beyond => {
            let start = arena.derived.len();
            time::write_timestamp(micros, zone, &mut arena.derived);
            derived(Kind::Other, start, arena)
        }
    }
}

fn uuid(bytes: [u8; 16], arena: &mut Arena) -> Result<Cell, Flaw> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let start = arena.derived.len();
    for (index, byte) in bytes.into_iter().enumerate() {
        if let 4 | 6 | 8 | 10 = index {
            arena.derived.push(b'-');
        }
        arena.derived.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    derived(Kind::Uuid, start, arena)
}

/// Reads the header of a vector, checks that as many numbers of `width` bytes follow, and says where they will go.
fn dimensions(reader: &mut Reader<'_>, width: usize, arena: &mut Arena) -> Result<usize, Flaw> {
    let count = usize::try_from(reader.i16()?).map_err(|_| Flaw::Bad("a negative dimension"))?;
    if reader.i16()? != 0 || reader.left() != count * width {
        return Err(Flaw::Bad("a vector with wrong lengths"));
    }
    arena.floats.reserve(count);
    Ok(arena.floats.len())
}

fn push(number: f32, arena: &mut Arena) -> Result<(), Flaw> {
    arena
        .floats
        .push(Some(number).filter(|number| number.is_finite()).ok_or(Flaw::Bad("an element that is not finite"))?);
    Ok(())
}

/// A half-precision number: 1 sign bit, 5 bits of exponent, 10 of fraction. Every one is exact in an `f32`.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3FF);
    match bits >> 10 & 0x1F {
        0 => sign * fraction * 2f32.powi(-24),
        0x1F if fraction == 0.0 => sign * f32::INFINITY,
        0x1F => f32::NAN,
        exponent => sign * (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    }
}
