//! `numeric`: its binary form, digits to the base of 10,000, as exact decimal text.

use super::wire::{Flaw, Reader};

/// Appends the decimal text of a binary numeric, as Postgres writes it.
///
/// At most 4 × 2^15 digits stand before the point and 2^14 behind it, however short `bytes` are.
pub(super) fn write(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
    let mut reader = Reader::new(bytes);
    let count = reader.i16()?;
    let weight = reader.i16()?;
    let sign = reader.u16()?;
    let scale = reader.i16()?;
    if usize::try_from(count).ok().map(|count| count * 2) != Some(reader.left()) || !(0..=MAX_SCALE).contains(&scale) {
        return Err(Flaw::Bad("a numeric with wrong lengths"));
    }
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xC000 | 0xD000 | 0xF000 if count == 0 => {
            let name: &[u8] = if sign == 0xC000 { b"NaN" } else { b"Infinity" };
            out.extend_from_slice(if sign == 0xF000 { b"-" } else { b"" });
            out.extend_from_slice(name);
            return Ok(());
        }
        _ => return Err(Flaw::Bad("a numeric with an unknown sign")),
    };
    let digits = bytes.get(8..).unwrap_or_default();
    let digit = |place: i32| group(digits, i32::from(weight) - place);
    if negative {
        out.push(b'-');
    }
    match weight {
        ..0 => out.push(b'0'),
        weight => {
            write_group(digit(weight.into())?, true, out);
            for place in (0..i32::from(weight)).rev() {
                write_group(digit(place)?, false, out);
            }
        }
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + usize::from(scale.unsigned_abs());
        let mut place = -1;
        while out.len() < end {
            write_group(digit(place)?, false, out);
            place -= 1;
        }
        out.truncate(end);
    }
    Ok(())
}

/// Tells if `text` is a number as Postgres writes it.
pub(super) fn is_text(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let mut points = 0;
    let plain = digits.iter().all(|&byte| match byte {
        b'.' => {
            points += 1;
            points == 1
        }
        _ => byte.is_ascii_digit(),
    });
    let bounded = digits.first().is_some_and(u8::is_ascii_digit) && digits.last().is_some_and(u8::is_ascii_digit);
    (plain && bounded) || matches!(text, b"NaN" | b"Infinity" | b"-Infinity")
}

/// `NUMERIC_DSCALE_MASK`: what fits into the on-disk header.
const MAX_SCALE: i16 = 0x3FFF;

/// The group at `index` from the front; groups of zeros at either end are not sent.
fn group(digits: &[u8], index: i32) -> Result<u16, Flaw> {
    let at = usize::try_from(index).ok().map(|index| index * 2);
    match at.and_then(|at| digits.get(at..)).and_then(|rest| rest.first_chunk()) {
        None => Ok(0),
        Some(group) => Some(u16::from_be_bytes(*group))
            .filter(|&group| group < 10_000)
            .ok_or(Flaw::Bad("a numeric with a wrong digit")),
    }
}

fn write_group(group: u16, leading: bool, out: &mut Vec<u8>) {
    let digits = [group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|digit| b'0' + digit as u8);
    let zeros = if leading { digits.iter().take(3).take_while(|&&digit| digit == b'0').count() } else { 0 };
    out.extend(digits.into_iter().skip(zeros));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(digits: &[u16], weight: i16, sign: u16, scale: i16) -> Result<String, Flaw> {
        let mut bytes = Vec::new();
        bytes.extend((digits.len() as i16).to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
        let mut out = Vec::new();
        write(&bytes, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn numbers_keep_every_digit_and_their_scale() {
        assert_eq!(text(&[], 0, 0, 0).unwrap(), "0");
        assert_eq!(text(&[], 0, 0, 2).unwrap(), "0.00");
        assert_eq!(text(&[12, 3456, 7800], 1, 0x4000, 2).unwrap(), "-123456.78");
        assert_eq!(text(&[1], 2, 0, 0).unwrap(), "100000000");
        assert_eq!(text(&[5], -3, 0, 12).unwrap(), "0.000000000005");
        assert_eq!(text(&[1000], -1, 0, 1).unwrap(), "0.1");
        assert_eq!(text(&[], 0, 0xC000, 0).unwrap(), "NaN");
        assert_eq!(text(&[], 0, 0xD000, 0).unwrap(), "Infinity");
        assert_eq!(text(&[], 0, 0xF000, 0).unwrap(), "-Infinity");
    }

    #[test]
    fn noise_is_refused() {
        assert!(text(&[10_000], 0, 0, 0).is_err());
        assert!(text(&[1], 0, 0x1234, 0).is_err());
        assert!(text(&[1], 0, 0, -1).is_err());
        assert!(write(&[0, 9, 0, 0, 0, 0, 0, 0], &mut Vec::new()).is_err());
        for noise in ["", "-", ".5", "5.", "1e5", "1.2.3", "nan", "+1", "--1"] {
            assert!(!is_text(noise.as_bytes()), "{noise}");
        }
        for number in ["0", "-1.50", "NaN", "-Infinity"] {
            assert!(is_text(number.as_bytes()), "{number}");
        }
    }
}
