//! Places in the stream of a source: `Lsn`, and `Position`, the place of one event.
//!
//! To everybody but the source they are an order that can be stored, and a token that is given back
//! to it. Only the source knows what they are: of Postgres a byte offset in the write-ahead log.
//! All are written as Postgres writes its own, in handlers, in stored positions and in dead
//! letters.

use std::fmt;
use std::str::FromStr;

/// A place between transactions of a stream; written `16/B374D848` (high and low half in
/// hexadecimal). Of Postgres it is a byte offset in the write-ahead log.
///
/// Zero is no place (Postgres' "invalid"): it stands for "from the beginning" and is never
/// confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Postgres' `InvalidXLogRecPtr`.
    pub const INVALID: Lsn = Lsn(0);

    /// Bytes from `earlier` to `self`; zero if `earlier` lies ahead.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text was not of the form `16/B374D848`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log sequence number, expected hexadecimal `high/low` such as `16/B374D848`")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (high, low) = text.split_once('/')?;
            let half = |digits: &str| {
                let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
                plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
            };
            Some(Lsn(half(high)? << 32 | half(low)?))
        };
        parse().ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

/// Place of an event in the stream: its transaction, then its place in that transaction.
///
/// Of Postgres, `lsn` is the LSN of the commit record (`final_lsn` of Begin). It is unique per
/// transaction and rises in stream order, which an event's own LSN does not: rows of one COPY share
/// an LSN and transactions interleave. The commit's *end* LSN orders transactions the same way, but
/// is known only when the commit arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The transaction's place: of Postgres the LSN of its commit record.
    pub lsn: Lsn,
    /// Place of the event within its transaction, from zero and rising. It is the same whenever the
    /// transaction is sent, with gaps where rows of other tables stand.
    pub ordinal: u32,
}

impl Position {
    /// The last position that lies before this one.
    pub fn before(self) -> Self {
        match self.ordinal.checked_sub(1) {
            Some(ordinal) => Self { lsn: self.lsn, ordinal },
            None => Self { lsn: Lsn(self.lsn.0.saturating_sub(1)), ordinal: u32::MAX },
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.lsn, self.ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_display(lsn in any::<u64>()) {
            prop_assert_eq!(Lsn(lsn).to_string().parse(), Ok(Lsn(lsn)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<Lsn>();
        }
    }

    #[test]
    fn nothing_lies_between_a_position_and_the_one_before() {
        let at = |lsn, ordinal| Position { lsn: Lsn(lsn), ordinal };
        assert_eq!(at(7, 3).before(), at(7, 2));
        assert_eq!(at(7, 0).before(), at(6, u32::MAX));
        assert!(at(6, u32::MAX) < at(7, 0));
    }

    #[test]
    fn padded_halves_are_accepted_and_noise_is_not() {
        assert_eq!("16/0374D848".parse(), Ok(Lsn(0x16_0374_D848)));
        for noise in ["", "/", "16", "16/", "+1/2", "1/123456789", "g/1", "1/2/3"] {
            assert!(noise.parse::<Lsn>().is_err(), "{noise}");
        }
    }
}
