//! `isolate`: the search for what is to blame when something fails as a whole: halves are tried in
//! the order of the stream, down to the items that fail alone. Handlers, embedders and sinks are
//! all searched so.

use std::ops::Range;

use crate::error::{Error, Result};

/// The outcome of trying several items together.
pub(super) enum Attempt {
    /// All of them are done.
    Passed,
    /// None of them is done, and one of them may be to blame.
    Suspect(Error),
}

/// Items that failed together, and that can be tried in parts.
pub(super) trait Suspects: Send {
    /// Tries some of them together.
    ///
    /// # Errors
    /// Those for which no item is to blame; they end the search.
    fn attempt(&mut self, part: Range<usize>) -> impl Future<Output = Result<Attempt>> + Send;

    /// Lets an item go that failed alone.
    ///
    /// # Errors
    /// If it may not be let go; this ends the search.
    fn set_aside(&mut self, item: usize, error: Error) -> impl Future<Output = Result<()>> + Send;
}

/// Finds the items to blame among `all`, which failed together with `error`, and sets them aside.
/// All others are done after it, in their order. A half that passes is taken as it is, also when
/// both halves pass and only the whole was too much.
pub(super) async fn isolate(suspects: &mut impl Suspects, all: Range<usize>, error: Error) -> Result<()> {
    let mut todo = Vec::new();
    let mut failed = Some((all, error));
    loop {
        match failed.take() {
            Some((part, _)) if part.len() > 1 => {
                // The front half on top, so that the next part in the order of the stream always is.
                let middle = part.start + part.len() / 2;
                todo.push(middle..part.end);
                todo.push(part.start..middle);
            }
            Some((part, error)) => suspects.set_aside(part.start, error).await?,
            None => {}
        }
        let Some(part) = todo.pop() else { return Ok(()) };
        if let Attempt::Suspect(error) = suspects.attempt(part.clone()).await? {
            failed = Some((part, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    /// Items of which some are bad, and how they were tried.
    #[derive(Default)]
    struct Items {
        bad: Vec<usize>,
        most: usize,
        done: Vec<usize>,
        aside: Vec<usize>,
        tries: usize,
    }

    fn refused() -> Error {
        Error::new(Fault::Data, "refused")
    }

    impl Suspects for Items {
        async fn attempt(&mut self, part: Range<usize>) -> Result<Attempt> {
            self.tries += 1;
            if part.len() > self.most || part.clone().any(|item| self.bad.contains(&item)) {
                return Ok(Attempt::Suspect(refused()));
            }
            self.done.extend(part);
            Ok(Attempt::Passed)
        }

        async fn set_aside(&mut self, item: usize, error: Error) -> Result<()> {
            if item == 99 {
                return Err(error);
            }
            let before = self.done.iter().chain(&self.aside).copied().max();
            assert!(before.is_none_or(|before| before < item), "in the order of the stream");
            self.aside.push(item);
            Ok(())
        }
    }

    async fn search(bad: &[usize], most: usize, all: Range<usize>) -> (Items, Result<()>) {
        let mut items = Items { bad: bad.to_vec(), most, ..Items::default() };
        let ended = isolate(&mut items, all, refused()).await;
        (items, ended)
    }

    #[tokio::test]
    async fn only_those_to_blame_are_set_aside_and_all_others_are_done_in_order() {
        for bad in [&[][..], &[0], &[6], &[3, 4], &[0, 1, 2, 3, 4, 5, 6]] {
            let (items, ended) = search(bad, 7, 0..7).await;
            let good: Vec<usize> = (0..7).filter(|item| !bad.contains(item)).collect();
            assert!(ended.is_ok() && items.aside == bad && items.done == good, "{bad:?}: {:?}", items.aside);
        }
    }

    #[tokio::test]
    async fn what_is_only_too_much_together_blames_nobody() {
        let (items, _) = search(&[], 2, 0..8).await;
        assert_eq!((items.aside.len(), items.done.len(), items.tries), (0, 8, 6));
    }

    #[tokio::test]
    async fn one_alone_is_not_tried_again_and_costs_stay_small() {
        let (items, _) = search(&[5], 8, 5..6).await;
        assert_eq!((items.aside, items.tries), (vec![5], 0));
        let (items, _) = search(&[700], 1024, 0..1024).await;
        assert_eq!((items.aside, items.tries), (vec![700], 20), "two calls per halving");
    }

    #[tokio::test]
    async fn the_search_ends_when_one_may_not_be_set_aside() {
        let (items, ended) = search(&[99], 200, 0..200).await;
        assert!(ended.is_err() && items.done.iter().all(|item| *item < 99), "{:?}", items.done);
    }
}
