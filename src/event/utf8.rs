//! Bytes as text. All text is checked twice, when it arrives and when it is read, so that the check
//! must cost little.

use std::ops::BitOr;

use ascii::{AsAsciiStr, AsciiStr};

/// From here on the whole machinery of `simdutf8` pays. It leaves shorter texts to std, which goes
/// byte by byte.
const LONG: usize = 64;

/// The bytes as text, if they are UTF-8. Most texts are short and ASCII, which is soon seen.
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    let ascii = if bytes.len() < LONG { bytes.as_ascii_str().ok() } else { None };
    ascii.map(AsciiStr::as_str).or_else(|| simdutf8::basic::from_utf8(bytes).ok())
}

/// Tells if the bytes are UTF-8.
#[inline]
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    is_ascii(bytes) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// In one or two words, which overlap where the length is not theirs, instead of byte by byte.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    match bytes.len() {
        0..4 => bytes.is_ascii(),
        4..8 => ends(bytes, u32::from_ne_bytes).is_some_and(|word| u64::from(word) & HIGH == 0),
        8..16 => ends(bytes, u64::from_ne_bytes).is_some_and(|word| word & HIGH == 0),
        _ => {
            let (blocks, _) = bytes.as_chunks::<16>();
            blocks.as_flattened().is_ascii() && bytes.last_chunk::<16>().is_some_and(|last| last.is_ascii())
        }
    }
}

/// Joins the first and the last word by a bitwise or. None if the bytes are fewer than a word.
fn ends<const N: usize, T: BitOr<Output = T>>(bytes: &[u8], word: impl Fn([u8; N]) -> T) -> Option<T> {
    Some(word(*bytes.first_chunk()?) | word(*bytes.last_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_std_wherever_something_else_than_ascii_stands() {
        const OTHERS: [&[u8]; 6] = [b"", b"\xC3\xA9", b"\xF0\x9F\x98\x80", b"\xC3", b"\x80", b"\xFF"];
        let mut bytes = [b'a'; 2 * LONG + 1];
        for len in 0..bytes.len() {
            for at in 0..=len {
                for other in OTHERS {
                    let end = (at + other.len()).min(len);
                    bytes[at..end].copy_from_slice(&other[..end - at]);
                    let expected = std::str::from_utf8(&bytes[..len]).ok();
                    assert_eq!(utf8(&bytes[..len]), expected, "{len} {at} {other:?}");
                    assert_eq!(is_utf8(&bytes[..len]), expected.is_some(), "{len} {at} {other:?}");
                    bytes[at..end].fill(b'a');
                }
            }
        }
    }
}
