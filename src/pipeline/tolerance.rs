//! `Tolerance`: how many rejected events are bad rows, and how many are a broken handler.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::config::model::Rejections;
use crate::error::{Error, Fault};

/// Counts the events of a handler that ended among the rejected, over the last so many that it was
/// given.
#[derive(Debug)]
pub struct Tolerance {
    limits: Rejections,
    counted: Mutex<Window>,
}

/// Numbers of the events that were rejected, in stream order; none that is too old to count.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<u64>);

/// There were more than are tolerated.
#[derive(Debug)]
pub(super) struct TooMany;

impl Tolerance {
    /// Nothing counted yet.
    pub fn new(limits: &Rejections) -> Self {
        Self { limits: limits.clone(), counted: Mutex::default() }
    }

    /// Counts the rejected events of a batch, by their numbers in the stream. To be called in
    /// stream order.
    pub(super) fn count(&self, mut rejected: impl Iterator<Item = u64>) -> Result<(), TooMany> {
        let mut window = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.try_for_each(|event| window.reject(event, &self.limits))
    }

    /// Counts a rejected event in another window: of a batch, because what is too much by itself
    /// need not be tried to its end; of a sink, which comes to an event later than the handler.
    pub(super) fn allows(&self, window: &mut Window, event: u64) -> Result<(), TooMany> {
        window.reject(event, &self.limits)
    }

    /// The error that ends the pipeline; `last` is why the last event was rejected.
    pub(super) fn exceeded(&self, handler: &str, last: Error) -> Error {
        let Rejections { max, per } = self.limits;
        let what = format!("more than {max} of the last {per} events of handler `{handler}` were rejected");
        Error::new(Fault::Handler, what).because(last).help(format!(
            "this looks like a broken handler, not like broken rows: fix it and start again, what was not confirmed is \
             replayed. If so many are to be expected, raise `transforms.{handler}.rejections`"
        ))
    }
}

impl Window {
    fn reject(&mut self, event: u64, limits: &Rejections) -> Result<(), TooMany> {
        // No more than all events of the window can be rejected: whoever allows so many wants no limit.
        if limits.max >= limits.per {
            return Ok(());
        }
        self.0.push_back(event);
        while self.0.front().is_some_and(|&first| first + limits.per as u64 <= event) {
            self.0.pop_front();
        }
        if self.0.len() > limits.max { Err(TooMany) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tolerance(max: usize, per: usize) -> Tolerance {
        Tolerance::new(&Rejections { max, per })
    }

    #[test]
    fn so_many_in_so_many_are_tolerated_and_one_more_is_not() {
        let tolerance = tolerance(2, 10);
        assert!(tolerance.count([0, 5].into_iter()).is_ok());
        assert!(tolerance.count([10].into_iter()).is_ok(), "the first has left the window");
        assert!(tolerance.count([11].into_iter()).is_err());
    }

    #[test]
    fn a_batch_that_is_longer_than_the_window_is_looked_at_piece_by_piece() {
        assert!(tolerance(1, 10).count([0, 10, 20, 99].into_iter()).is_ok());
        assert!(tolerance(1, 10).count([0, 10, 19].into_iter()).is_err());
        let (tolerance, mut window) = (tolerance(1, 10), Window::default());
        assert!([0, 10, 20].into_iter().all(|event| tolerance.allows(&mut window, event).is_ok()));
        assert!(tolerance.allows(&mut window, 29).is_err());
    }

    #[test]
    fn as_many_as_the_window_is_long_is_no_limit() {
        let tolerance = tolerance(10, 10);
        assert!(tolerance.count(0..1000).is_ok());
        assert!(tolerance.counted.lock().unwrap().0.is_empty(), "and costs no memory");
    }

    #[test]
    fn none_at_all_can_be_asked_for() {
        let tolerance = tolerance(0, 1000);
        assert!(tolerance.count(std::iter::empty()).is_ok());
        assert!(tolerance.count([5000].into_iter()).is_err());
    }
}
