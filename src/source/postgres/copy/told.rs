//! `Told`: how a copy gets on, said now and then, as far as that can be known.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines about a copy.
const EVERY: Duration = Duration::from_secs(15);

/// The time when a copy's progress may be said next, and the figures by which it is measured.
pub(super) struct Told {
    /// Rows that the table has, about.
    about: Option<u64>,
    began: Instant,
    /// Rows that were copied before.
    before: u64,
    next: Instant,
}

/// The progress of a copy, in figures.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Of about 100.
    pub(super) percent: Option<u64>,
    /// Until the end, if it goes on as it went so far.
    pub(super) left: Option<Duration>,
    /// Durable rows a second.
    pub(super) rate: u64,
}

impl Told {
    pub(super) fn new(about: Option<u64>, before: u64, now: Instant) -> Self {
        Self { about, began: now, before, next: now + EVERY }
    }

    /// Returns the line to be said once so many rows are durable. None if one was said a moment
    /// ago.
    pub(super) fn line(&mut self, rows: u64, now: Instant) -> Option<Line> {
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        let took = (now - self.began).as_secs_f64().max(f64::EPSILON);
        let rate = rows.saturating_sub(self.before) as f64 / took;
        // An estimate that was reached was wrong: nothing is known then.
        let about = self.about.filter(|about| *about > rows);
        let left = about.filter(|_| rate > 0.0).map(|about| (about - rows) as f64 / rate);
        Some(Line {
            percent: about.map(|about| rows * 100 / about),
            left: left.and_then(|left| Duration::try_from_secs_f64(left.ceil()).ok()),
            rate: rate as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_the_rows_so_far() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut told = Told::new(Some(1_000), 100, began);
        assert_eq!(told.line(150, at(1)), None, "too early");
        let line = Line { percent: Some(40), left: Some(Duration::from_secs(40)), rate: 15 };
        assert_eq!(told.line(400, at(20)), Some(line), "300 rows in 20 s, 600 are left");
        assert_eq!(told.line(500, at(21)), None, "said a moment ago");
        let beyond = Line { percent: None, left: None, rate: 24 };
        assert_eq!(told.line(1_100, at(41)), Some(beyond), "there are more than about 1,000");
        let unknown = Line { percent: None, left: None, rate: 0 };
        assert_eq!(Told::new(None, 0, began).line(0, at(60)), Some(unknown));
        let stands = Line { percent: Some(10), left: None, rate: 0 };
        assert_eq!(Told::new(Some(1_000), 100, began).line(100, at(60)), Some(stands));
    }
}
