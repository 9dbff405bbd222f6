//! Values in binary format, as Postgres' send functions write them.

use super::codec::Codec;
use super::wire::{Field, Flaw, derived, utf8, vector};
use super::{numeric, time};
use crate::event::{Arena, Cell, Kind};

/// Reads a value that is not an array.
///
/// Part of the loop over a row's columns, which stays small: what takes more than a few
/// instructions has a function of its own.
#[inline(always)]
pub(super) fn cell(codec: Codec, field: Field<'_>, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    *cell = match codec {
        Codec::Text => return field.text(Kind::Text, cell),
        Codec::Json => return field.text(Kind::Json, cell),
        Codec::Bytes => return field.slice(Kind::Bytes, 0, cell),
        Codec::Jsonb => return jsonb(field, cell),
        Codec::Numeric => return numeric(field, arena, cell),
        Codec::Char => return char(field, arena, cell),
        Codec::Timestamp | Codec::TimestampTz => return timestamp(field, codec == Codec::TimestampTz, arena, cell),
        Codec::Uuid => return uuid(field, arena, cell),
        Codec::Vector => return floats(field, f32::from_be_bytes, arena, cell),
        Codec::HalfVec => return floats(field, half, arena, cell),
        Codec::Other => return Err(Flaw::BinaryOnly),
        Codec::Bool => Cell::Bool(field.fixed()? != [0]),
        Codec::Int2 => Cell::Int(i16::from_be_bytes(field.fixed()?).into()),
        Codec::Int4 => Cell::Int(i32::from_be_bytes(field.fixed()?).into()),
        Codec::Int8 => Cell::Int(i64::from_be_bytes(field.fixed()?)),
        Codec::Oid => Cell::Int(u32::from_be_bytes(field.fixed()?).into()),
        Codec::Float4 => Cell::Float(f32::from_be_bytes(field.fixed()?).into()),
        Codec::Float8 => Cell::Float(f64::from_be_bytes(field.fixed()?)),
        Codec::Date => {
            let days = time::from_postgres_days(i32::from_be_bytes(field.fixed()?));
            Cell::Date(days.ok_or(Flaw::Bad("out of range"))?)
        }
        Codec::Time => {
            let micros = Some(i64::from_be_bytes(field.fixed()?)).filter(|&micros| time::is_time(micros));
            Cell::Time(micros.ok_or(Flaw::Bad("out of range"))?)
        }
    };
    Ok(())
}

#[inline(never)]
fn numeric(field: Field<'_>, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let start = arena.derived.len();
    numeric::write(field.bytes, &mut arena.derived)?;
    derived(Kind::Numeric, start, arena, cell)
}

#[inline(never)]
fn jsonb(field: Field<'_>, cell: &mut Cell) -> Result<(), Flaw> {
    match field.bytes.split_first() {
        Some((1, text)) => {
            utf8(text)?;
            field.slice(Kind::Json, 1, cell)
        }
        _ => Err(Flaw::Bad("an unknown version")),
    }
}

#[inline(never)]
/// `"char"`: one byte. As text a zero is nothing, and what is not ASCII is an octal escape.
fn char(field: Field<'_>, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let [byte] = field.fixed()?;
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

fn timestamp(field: Field<'_>, zone: bool, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    let micros = i64::from_be_bytes(field.fixed()?);
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

#[inline(never)]
fn uuid(field: Field<'_>, arena: &mut Arena, cell: &mut Cell) -> Result<(), Flaw> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let start = arena.derived.len();
    for (index, byte) in field.fixed::<16>()?.into_iter().enumerate() {
        if let 4 | 6 | 8 | 10 = index {
            arena.derived.push(b'-');
        }
        arena.derived.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    derived(Kind::Uuid, start, arena, cell)
}

#[inline(never)]
/// A vector: its dimension, an unused field, and as many numbers of `N` bytes.
fn floats<const N: usize>(
    field: Field<'_>,
    number: impl Fn([u8; N]) -> f32,
    arena: &mut Arena,
    cell: &mut Cell,
) -> Result<(), Flaw> {
    let mut reader = field.reader();
    let count = usize::try_from(reader.i16()?).map_err(|_| Flaw::Bad("a negative dimension"))?;
    if reader.i16()? != 0 || reader.left() != count * N {
        return Err(Flaw::Bad("a vector with wrong lengths"));
    }
    let start = arena.floats.len();
    arena.floats.reserve(count);
    while reader.left() > 0 {
        let number = Some(number(reader.fixed()?)).filter(|number| number.is_finite());
        arena.floats.push(number.ok_or(Flaw::Bad("an element that is not finite"))?);
    }
    vector(start, arena, cell)
}

/// A half-precision number: 1 sign bit, 5 bits of exponent, 10 of fraction. Every one is exact in
/// an `f32`.
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_be_bytes(bytes);
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3FF);
    match bits >> 10 & 0x1F {
        0 => sign * fraction * 2f32.powi(-24),
        0x1F if fraction == 0.0 => sign * f32::INFINITY,
        0x1F => f32::NAN,
        exponent => sign * (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    }
}
