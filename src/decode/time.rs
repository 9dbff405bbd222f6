//! Dates and times: Postgres' text and its count from 2000-01-01 into counts from 1970-01-01.

/// From 1970-01-01 to 2000-01-01, the day Postgres counts from.
const EPOCH_DAYS: i64 = 10_957;
const DAY: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = EPOCH_DAYS * DAY;

/// A point in time, in µs since 1970-01-01; the infinities are the ends of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Micros {
    At(i64),
    /// Postgres' years reach to 294276, µs since 1970 in an `i64` end a few decades before that.
    Beyond,
}

/// From µs since 2000-01-01.
pub(super) fn from_postgres_micros(micros: i64) -> Micros {
    match micros {
        i64::MAX | i64::MIN => Micros::At(micros),
        _ => match micros.checked_add(EPOCH_MICROS) {
            None | Some(i64::MAX) => Micros::Beyond,
            Some(micros) => Micros::At(micros),
        },
    }
}

/// From days since 2000-01-01. None for what is no date in Postgres either.
pub(super) fn from_postgres_days(days: i32) -> Option<i32> {
    match days {
        i32::MAX | i32::MIN => Some(days),
        _ => days.checked_add(EPOCH_DAYS as i32).filter(|&days| days != i32::MAX),
    }
}

/// Of `2024-05-17 08:30:00.25`, with ` BC` behind years before the first; with `zone`, `+00` stands
/// before that.
pub(super) fn parse_timestamp(text: &[u8], zone: bool) -> Option<Micros> {
    match text {
        b"infinity" => return Some(Micros::At(i64::MAX)),
        b"-infinity" => return Some(Micros::At(i64::MIN)),
        _ => {}
    }
    let (mut text, before_christ) = split_era(text);
    let days = date(&mut text, before_christ)?;
    literal(&mut text, b' ')?;
    let micros = clock(&mut text)?;
    let offset = if zone { offset(&mut text)? } else { 0 };
    if !text.is_empty() {
        return None;
    }
    let total = i128::from(days) * i128::from(DAY) + i128::from(micros - offset);
    match i64::try_from(total) {
        Ok(i64::MIN) | Err(_) if total < 0 => None,
        Ok(i64::MAX) | Err(_) => Some(Micros::Beyond),
        Ok(micros) => Some(Micros::At(micros)),
    }
}

/// Of `2024-05-17`, with ` BC` behind years before the first: days since 1970-01-01.
pub(super) fn parse_date(text: &[u8]) -> Option<i32> {
    match text {
        b"infinity" => return Some(i32::MAX),
        b"-infinity" => return Some(i32::MIN),
        _ => {}
    }
    let (mut text, before_christ) = split_era(text);
    let days = i32::try_from(date(&mut text, before_christ)?).ok()?;
    (text.is_empty() && days != i32::MAX && days != i32::MIN).then_some(days)
}

/// Of `08:30:00.25`: µs since midnight.
pub(super) fn parse_time(mut text: &[u8]) -> Option<i64> {
    let micros = clock(&mut text)?;
    text.is_empty().then_some(micros)
}

/// Tells if µs since midnight are a time of day; `24:00` is one.
pub(super) fn is_time(micros: i64) -> bool {
    (0..=DAY).contains(&micros)
}

/// Appends µs since 2000-01-01 as Postgres writes them with `DateStyle = ISO` and `TimeZone = UTC`,
/// after the year 1.
pub(super) fn write_timestamp(micros: i64, zone: bool, out: &mut Vec<u8>) {
    use std::io::Write;
    let (year, month, day) = civil(micros.div_euclid(DAY) + EPOCH_DAYS);
    let clock = micros.rem_euclid(DAY);
    let (seconds, fraction) = (clock / 1_000_000, clock % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to memory cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        let _ = write!(out, ".{fraction:06}");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    if zone {
        out.extend_from_slice(b"+00");
    }
}

fn split_era(text: &[u8]) -> (&[u8], bool) {
    match text.strip_suffix(b" BC") {
        Some(text) => (text, true),
        None => (text, false),
    }
}

/// Days since 1970-01-01.
fn date(text: &mut &[u8], before_christ: bool) -> Option<i64> {
    // Dates reach to the year 5874897.
    let year = number(text, 4, 7)?;
    literal(text, b'-')?;
    let month = number(text, 2, 2)?;
    literal(text, b'-')?;
    let day = number(text, 2, 2)?;
    if year == 0 {
        return None;
    }
    // The year before the year 1 is 1 BC.
    let year = if before_christ { 1 - year } else { year };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=length).contains(&day).then(|| days(year, month, day))
}

/// µs since midnight of `08:30:00.25`.
fn clock(text: &mut &[u8]) -> Option<i64> {
    let hour = number(text, 2, 2)?;
    literal(text, b':')?;
    let minute = number(text, 2, 2)?;
    literal(text, b':')?;
    let second = number(text, 2, 2)?;
    let mut fraction = 0;
    if literal(text, b'.').is_some() {
        let before = text.len();
        fraction = number(text, 1, 6)?;
        for _ in before - text.len()..6 {
            fraction *= 10;
        }
    }
    let micros = (hour * 3600 + minute * 60 + second) * 1_000_000 + fraction;
    (minute < 60 && second < 60 && is_time(micros)).then_some(micros)
}

/// µs east of Greenwich of `+05:30:15`, in which minutes and seconds may be missing.
fn offset(text: &mut &[u8]) -> Option<i64> {
    let sign = match literal(text, b'+') {
        Some(()) => 1,
        None => literal(text, b'-').map(|()| -1)?,
    };
    let mut seconds = number(text, 2, 2)? * 3600;
    for unit in [60, 1] {
        if literal(text, b':').is_some() {
            let part = number(text, 2, 2).filter(|&part| part < 60)?;
            seconds += part * unit;
        }
    }
    Some(sign * seconds * 1_000_000)
}

fn number(text: &mut &[u8], least: usize, most: usize) -> Option<i64> {
    let digits = text.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    let (head, rest) = text.split_at_checked(digits).filter(|_| digits >= least)?;
    *text = rest;
    Some(head.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

fn literal(text: &mut &[u8], byte: u8) -> Option<()> {
    *text = text.strip_prefix(&[byte])?;
    Some(())
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. Years begin in March here,
/// so that the leap day is a year's last and 153 days are always five months.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = ((month + 9) % 12 * 153 + 2) / 5 + day - 1;
    cycle * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (year * 365 + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Option<Micros> {
        parse_timestamp(text.as_bytes(), text.contains('+') || text.matches('-').count() > 2)
    }

    #[test]
    fn timestamps_of_all_forms_are_read() {
        // Expected values: `extract(epoch from ...) * 1000000` in Postgres.
        for (text, micros) in [
            ("1970-01-01 00:00:00", 0),
            ("2024-05-17 08:30:00.25+00", 1_715_934_600_250_000),
            ("2024-05-17 08:30:00.25+05:30", 1_715_914_800_250_000),
            ("1890-01-01 00:00:00-00:44:30", -2_524_518_930_000_000),
            ("0044-03-15 12:00:00+00 BC", -63_517_780_800_000_000),
            ("12024-01-01 00:00:00", 317_273_587_200_000_000),
            ("infinity", i64::MAX),
            ("-infinity", i64::MIN),
        ] {
            assert_eq!(at(text), Some(Micros::At(micros)), "{text}");
        }
        assert_eq!(at("294276-12-31 23:59:59.999999"), Some(Micros::Beyond));
    }

    #[test]
    fn noise_is_refused() {
        for text in [
            "",
            "2024-02-30 00:00:00",
            "2024-13-01 00:00:00",
            "2024-01-01",
            "2024-01-01 24:00:01",
            "0000-01-01 00:00:00",
            "2024-01-01 00:00:00 AC",
            "24-01-01 00:00:00",
            "2024-01-01 00:00:00.",
            "2024-01-01 00:00:00.1234567",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
        assert_eq!(parse_time(b"24:00:00"), Some(DAY));
        assert_eq!(parse_time(b"24:00:00.1"), None);
        assert_eq!(parse_date(b"5874897-12-31"), Some(2_145_042_905));
        assert_eq!(parse_date(b"4714-11-24 BC"), Some(-2_440_588));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(micros in 0..=9_223_371_331_199_999_999_i64, zone: bool) {
            let mut text = Vec::new();
            write_timestamp(micros, zone, &mut text);
            prop_assert_eq!(parse_timestamp(&text, zone), Some(from_postgres_micros(micros)));
        }

        #[test]
        fn every_day_has_one_date(day in -800_000_000_i64..2_000_000_000) {
            let (year, month, of_month) = civil(day);
            prop_assert_eq!(days(year, month, of_month), day);
        }

        #[test]
        fn noise_never_panics(text: Vec<u8>, almost in "-?[0-9]{1,8}-[0-9]{2}-[0-9]{2} [0-9:.+]{0,20}( BC)?") {
            for text in [&text, almost.as_bytes()] {
                let _ = (parse_timestamp(text, true), parse_timestamp(text, false), parse_date(text), parse_time(text));
            }
        }
    }
}
