//! Values in binary format, as Postgres' send functions write them.

use super::catalog::Codec;
use super::wire::{Field, Flaw, Reader, derived, utf8, vector};
use super::{numeric, time};
use crate::event::{Arena, Cell, Kind};

/// Reads a value that is not an array.
pub(super) fn cell(codec: Codec, field: Field<'_>, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let mut reader = field.reader();
    match codec {
        Codec::Text => return field.text(Kind::Text, cell),
        Codec::Json => return field.text(Kind::Json, cell),
        Codec::Bytes => return field.slice(Kind::Bytes, 0, cell),
        Codec::Jsonb => return jsonb(field, cell),
        Codec::Numeric => {
            let start = arena.derived.len();
            numeric::write(field.bytes, &mut arena.derived)?;
            return derived(Kind::Numeric, start, arena, cell);
        }
        Codec::Other => return Err(Flaw::BinaryOnly),
        Codec::Int4 => *cell = Cell::Int(reader.i32()?.into()),
        Codec::Int8 => *cell = Cell::Int(reader.i64()?),
        Codec::Int2 => *cell = Cell::Int(reader.i16()?.into()),
        Codec::Oid => *cell = Cell::Int(reader.u32()?.into()),
        Codec::Bool => *cell = Cell::Bool(reader.u8()? != 0),
        Codec::Float4 => *cell = Cell::Float(reader.fixed().map(f32::from_be_bytes)?.into()),
        Codec::Float8 => *cell = Cell::Float(reader.fixed().map(f64::from_be_bytes)?),
        Codec::Char => char(reader.u8()?, field, arena, cell)?,
        Codec::Timestamp | Codec::TimestampTz => timestamp(reader.i64()?, codec == Codec::TimestampTz, arena, cell)?,
        Codec::Date => {
            let days = time::from_postgres_days(reader.i32()?);
            *cell = Cell::Date(days.ok_or(Flaw::Bad("out of range"))?);
        }
        Codec::Time => {
            let micros = Some(reader.i64()?).filter(|&micros| time::is_time(micros));
            *cell = Cell::Time(micros.ok_or(Flaw::Bad("out of range"))?);
        }
        Codec::Uuid => uuid(reader.fixed()?, arena, cell)?,
        Codec::Vector => {
            let start = dimensions(&mut reader, 4, arena)?;
            while reader.left() > 0 {
                push(reader.fixed().map(f32::from_be_bytes)?, arena)?;
            }
            vector(start, arena, cell)?;
        }
        Codec::HalfVec => {
            let start = dimensions(&mut reader, 2, arena)?;
            while reader.left() > 0 {
                push(half(reader.u16()?), arena)?;
            }
            vector(start, arena, cell)?;
        }
    }
    reader.end()
}

fn jsonb(field: Field<'_>, cell: &mut Cell) -> Result<(), Flaw> {
    match field.bytes.split_first() {
        Some((1, text)) => {
            utf8(text)?;
            field.slice(Kind::Json, 1, cell)
        }
        _ => Err(Flaw::Bad("an unknown version")),
    }
}

/// `"char"`: one byte. As text a zero is nothing, and what is not ASCII is an octal escape.
fn char(byte: u8, field: Field<'_>, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    match byte {
        0 => field.slice(Kind::Text, 1, cell),
        1..=127 => field.slice(Kind::Text, 0, cell),
        128.. => {
            let start = arena.derived.len();
            arena.derived.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
            derived(Kind::Text, start, arena, cell)
        }
    }
}

fn timestamp(micros: i64, zone: bool, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    match time::from_postgres_micros(micros) {
        time::Micros::At(micros) => {
            *cell = Cell::Timestamp(micros);
            Ok(())
        }
        time::Micros::Beyond => {
            let start = arena.derived.len();
            time::write_timestamp(micros, zone, &mut arena.derived);
            derived(Kind::Other, start, arena, cell)
        }
    }
}

fn uuid(bytes: [u8; 16], arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let start = arena.derived.len();
    for (index, byte) in bytes.into_iter().enumerate() {
        if let 4 | 6 | 8 | 10 = index {
            arena.derived.push(b'-');
        }
        arena.derived.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    derived(Kind::Uuid, start, arena, cell)
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
