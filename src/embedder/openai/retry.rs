//! The time for which requests are tried again, and the pauses that a server may ask for.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::backoff::Backoff;

/// Waits between requests. Rate limits are counted per minute: a longer one would only waste what
/// was granted.
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// The longest time for which failures go on before the pipeline is told. The pipeline then goes on
/// trying in its own way.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

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
