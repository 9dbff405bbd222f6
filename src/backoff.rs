//! `Backoff`: how long to wait before the next try of what may pass.

use std::time::Duration;

/// Doubling waits with jitter, so that clients that failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
    longest: Duration,
}

impl Backoff {
    /// Starts with waits of at most `first`; they never exceed `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { ceiling: first, longest }
    }

    /// The next wait: at random between half the ceiling and the ceiling, which then doubles.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(rand::random_range(0.5..=1.0));
        self.ceiling = self.ceiling.saturating_mul(2).min(self.longest);
        wait
    }
}

/// A time as logs have it: in seconds, to the millisecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(first, longest);
        let mut ceiling = first;
        for _ in 0..100 {
            let wait = backoff.next_wait();
            assert!(wait <= ceiling && wait >= ceiling / 2, "{wait:?} within half of {ceiling:?}");
            ceiling = (ceiling * 2).min(longest);
        }
    }
}
