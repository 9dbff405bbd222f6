//! `Backoff`: how long to wait before the next try.

use std::time::Duration;

/// Doubling waits with full jitter, so that many pipelines do not return to a server in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// Short enough that a blip goes unnoticed.
    const FIRST: Duration = Duration::from_millis(100);
    /// Long enough to leave a struggling server alone, short enough that recovery is prompt.
    const LONGEST: Duration = Duration::from_secs(15);

    /// Starts with the shortest wait.
    pub(crate) fn new() -> Self {
        Self { ceiling: Self::FIRST }
    }

    /// The next wait: at random between half the ceiling and the ceiling, which then doubles.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(rand::random_range(0.5..=1.0));
        self.ceiling = (self.ceiling * 2).min(Self::LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_ceiling() {
        let mut backoff = Backoff::new();
        let mut ceiling = Backoff::FIRST;
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!(wait <= ceiling && wait >= ceiling / 2, "{wait:?} within half of {ceiling:?}");
            ceiling = (ceiling * 2).min(Backoff::LONGEST);
        }
    }
}
