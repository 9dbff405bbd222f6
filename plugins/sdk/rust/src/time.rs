//! Dates and times as text, from the numbers in which they travel.

const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// RFC 3339 in UTC: `2026-05-01T12:00:00.5Z`; `infinity` and `-infinity` as Postgres writes them.
pub(crate) fn timestamp(micros: i64) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        _ => {
            let day = micros.div_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND);
            let rest = micros.rem_euclid(SECONDS_PER_DAY * MICROS_PER_SECOND);
            format!("{}T{}Z", day_text(day), time(rest))
        }
    }
}

/// `2026-05-01`; years beyond 9999 with a plus, before year 0 with a minus, as ISO 8601 has it.
pub(crate) fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        _ => day_text(days.into()),
    }
}

/// `12:00:00`, with as many digits of a second as are not zero.
pub(crate) fn time(micros: i64) -> String {
    let (seconds, micros) = (micros.div_euclid(MICROS_PER_SECOND), micros.rem_euclid(MICROS_PER_SECOND));
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros == 0 { text } else { format!("{text}.{}", format!("{micros:06}").trim_end_matches('0')) }
}

fn day_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    }
}

/// Year, month and day of the proleptic Gregorian calendar. Years are counted from March, so that the day that some years
/// have more is the last, and months have a length that a line through 153/5 gives.
fn civil(days: i64) -> (i64, i64, i64) {
    const PER_400_YEARS: i64 = 146_097;
    let since_march_0 = days + 719_468;
    let (era, day) = (since_march_0.div_euclid(PER_400_YEARS), since_march_0.rem_euclid(PER_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / (PER_400_YEARS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_as_the_calendar_does() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (i32::MAX, "infinity"),
        ] {
            assert_eq!(date(days), text);
        }
        let mut previous = civil(-800_000);
        for days in -799_999..800_000 {
            let next = civil(days);
            let (year, month, day) = previous;
            assert!(
                next == (year, month, day + 1) || next == (year, month + 1, 1) || next == (year + 1, 1, 1),
                "{previous:?} is followed by {next:?}"
            );
            previous = next;
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(timestamp(1_714_564_800_500_000), "2024-05-01T12:00:00.5Z");
        assert_eq!(timestamp(i64::MIN), "-infinity");
        assert_eq!(time(86_400_000_000), "24:00:00");
    }
}
