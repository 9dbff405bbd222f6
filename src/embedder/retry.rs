//! How long to wait before a request is sent again.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The first pause; each one doubles, up to `LONGEST`.
const FIRST: Duration = Duration::from_millis(200);

/// Rate limits are counted per minute: a longer pause would only waste what was granted.
const LONGEST: Duration = Duration::from_secs(30);

/// How long failures may go on before the pipeline is told, which goes on trying in its own way.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// The pause after failure number `failures` (from one). `jitter` is from 0 to 1: clients that failed together must not
/// come back together. What the server asks for is the least.
pub(super) fn pause(failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let own = doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    // A little more than asked, or all who were asked the same come back in the same moment.
    asked.map_or(own, |asked| asked.saturating_add(FIRST.mul_f64(jitter.clamp(0.0, 1.0))))
}

/// `Retry-After`: seconds, or a date.
pub(super) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // `GMT` is how HTTP spells the zone that RFC 2822 spells in digits.
    let date = rfc2822::DateTimeParser::new().parse_timestamp(header.replace("GMT", "+0000")).ok()?;
    Some(Duration::from_secs(u64::try_from(date.as_second() - now.as_second()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_never_undercut_the_server() {
        let millis = |failures, jitter| pause(failures, None, jitter).as_millis();
        assert_eq!((millis(1, 0.0), millis(1, 1.0), millis(3, 1.0)), (100, 200, 800));
        assert_eq!((millis(20, 1.0), millis(u32::MAX, 1.0)), (30_000, 30_000));
        let asked = Duration::from_secs(40);
        assert!(pause(1, Some(asked), 0.0) >= asked && pause(1, Some(asked), 1.0) < asked + Duration::from_secs(1));
        assert!(pause(1, Some(Duration::MAX), 1.0) >= PATIENCE);
    }

    #[test]
    fn the_server_may_ask_in_seconds_or_by_date() {
        let now: Timestamp = "2015-10-21T07:27:50Z".parse().unwrap();
        let seconds = |header| retry_after(header, now).map(|pause| pause.as_secs());
        assert_eq!(seconds(" 120 "), Some(120));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:00 GMT"), Some(10));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        for noise in ["", "soon", "-1", "1e9", "Wed, 99 Oct"] {
            assert_eq!(seconds(noise), None, "{noise}");
        }
    }
}
