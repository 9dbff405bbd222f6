//! `Retry`: the tries of one thing that fails in passing: how long to wait before the next, and
//! since when it fails.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, seconds};
use crate::error::{Error, Fault, Result};

/// The longest pause that a server or a handler is believed when it asks for one.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// The most that a wait is longer than was asked for.
const MOST_BEYOND: Duration = Duration::from_secs(1);

/// The tries of one thing, with waits that grow from failure to failure.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    fresh: Backoff,
    backoff: Backoff,
    since: Option<Instant>,
    failures: u32,
}

/// The wait before another try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Its length.
    pub(crate) time: Duration,
    /// The first failure in a row.
    pub(crate) since: Instant,
    /// Failures in a row.
    pub(crate) failures: u32,
}

impl Retry {
    /// No failure yet.
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self { fresh: backoff, backoff, since: None, failures: 0 }
    }

    /// Counts a failure. The wait is never less than the error asks for, and a little more, or all
    /// who were asked the same would come back in the same moment.
    pub(crate) fn failed(&mut self, error: &Error) -> Wait {
        self.next(error.pause())
    }

    /// Counts a look at something that is not there yet.
    pub(crate) fn not_yet(&mut self) -> Wait {
        self.next(None)
    }

    /// Forgets the failures: the next one is the first again.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.fresh);
    }

    /// Waits before another try if the error is one that passes, and has `tell` say so before.
    ///
    /// # Errors
    /// `error`, if it is any other.
    pub(crate) async fn wait_out(&mut self, error: Error, tell: impl FnOnce(&Error, Wait)) -> Result<()> {
        if error.fault() != Fault::Transient {
            return Err(error);
        }
        let wait = self.failed(&error);
        tell(&error, wait);
        wait.over().await;
        Ok(())
    }

    fn next(&mut self, asked: Option<Duration>) -> Wait {
        let own = self.backoff.next_wait();
        let time = asked.map_or(own, |asked| asked.min(LONGEST_ASKED) + own.min(MOST_BEYOND));
        self.failures = self.failures.saturating_add(1);
        Wait { time, since: *self.since.get_or_insert_with(Instant::now), failures: self.failures }
    }
}

impl Wait {
    /// Its length as logs have it.
    pub(crate) fn seconds(self) -> f64 {
        seconds(self.time)
    }

    /// Waits.
    pub(crate) async fn over(self) {
        tokio::time::sleep(self.time).await;
    }

    /// Waits, unless `stop` comes first. Answers whether it waited to the end.
    pub(crate) async fn over_unless(self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(self.over()).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));

    const NONE: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));

    fn transient() -> Error {
        Error::new(Fault::Transient, "the server answered 429 Too Many Requests")
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_up_to_an_hour_and_a_little_longer() {
        let wait = |error: &Error| Retry::new(SHORT).failed(error).time;
        assert!(wait(&transient()) <= Duration::from_millis(100));
        let after =
            |seconds| transient().after(Duration::from_secs(seconds)).within("handler `embed` asks for a retry");
        let long = wait(&after(600));
        assert!(long >= Duration::from_secs(600) && long <= Duration::from_secs(601), "{long:?}");
        assert_eq!(wait(&after(u64::MAX)).as_secs(), LONGEST_ASKED.as_secs());
    }

    #[test]
    fn failures_are_counted_from_the_first_in_a_row() {
        let mut retry = Retry::new(SHORT);
        let (first, second) = (retry.failed(&transient()), retry.not_yet());
        assert_eq!((first.failures, second.failures, first.since), (1, 2, second.since));
        for _ in 0..20 {
            retry.not_yet();
        }
        assert!(retry.not_yet().time > Duration::from_secs(7), "waits grow");
        retry.succeeded();
        let again = retry.not_yet();
        assert!(again.failures == 1 && again.since >= second.since && again.time <= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn only_what_passes_is_waited_out_and_said() {
        let (mut retry, mut said) = (Retry::new(NONE), Vec::new());
        retry.wait_out(transient(), |_, wait| said.push(wait.failures)).await.unwrap();
        let definite = retry.wait_out(Error::new(Fault::Config, "wrong"), |_, wait| said.push(wait.failures)).await;
        assert_eq!((definite.unwrap_err().fault(), said), (Fault::Config, vec![1]));
    }

    #[tokio::test]
    async fn a_wait_ends_with_what_it_is_for() {
        let stop = CancellationToken::new();
        assert!(Retry::new(NONE).not_yet().over_unless(&stop).await);
        stop.cancel();
        assert!(!Retry::new(NONE).not_yet().over_unless(&stop).await);
    }
}
