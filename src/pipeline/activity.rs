//! `Activity`: since when something is at work, for as long as it is. Asked rarely, noted once a
//! batch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The work that one part of a pipeline has under way.
#[derive(Debug, Default)]
pub(super) struct Activity(Mutex<Now>);

#[derive(Debug, Default)]
struct Now {
    begun: u64,
    under_way: Vec<(u64, Instant)>,
}

impl Activity {
    /// Something begins, and is over when the answer is dropped.
    pub(super) fn begin(&self) -> Busy<'_> {
        let mut now = self.now();
        now.begun += 1;
        let number = now.begun;
        now.under_way.push((number, Instant::now()));
        Busy { activity: self, number }
    }

    /// Returns the time at which the oldest work under way began.
    pub(super) fn since(&self) -> Option<Instant> {
        self.now().under_way.iter().map(|(_, since)| *since).min()
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Busy<'a> {
    activity: &'a Activity,
    number: u64,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.activity.now().under_way.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_still_under_way_counts() {
        let activity = Activity::default();
        assert_eq!(activity.since(), None);
        let first = activity.begin();
        let began = activity.since();
        let second = activity.begin();
        assert!(began.is_some() && activity.since() == began);
        drop(first);
        assert!(activity.since() > began || activity.now().under_way.len() == 1);
        drop(second);
        assert_eq!(activity.since(), None);
    }
}
