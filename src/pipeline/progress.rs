//! `Progress`: which batches are durable, and so how far the log may be confirmed. Pure; owns
//! invariant 1.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::lsn::Lsn;
use crate::sabotage::Breakage;

/// The place of a batch in the queue of its pipeline, from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The batches on their way, in stream order, each with the sinks that have not yet made it
/// durable.
///
/// The log may be confirmed up to the end of the longest prefix of batches that every sink holds;
/// no more, whatever later batches have done. A marker (a batch without events) waits for nobody,
/// but it stands in the same queue, so that it counts only once everything before it is durable.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    first: u64,
    pending: VecDeque<Pending>,
    confirmable: Lsn,
    bytes: usize,
    /// All that became durable since it was last asked.
    delivered: Vec<Since>,
}

/// Since when a batch with events waits to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// Time at which its first event was committed, in µs since 1970-01-01 UTC.
    pub(crate) committed: i64,
    /// Time at which it was received.
    pub(crate) received: Instant,
    /// The number of its events that were streamed, and not copied from a table.
    pub(crate) streamed: u64,
}

#[derive(Debug)]
struct Pending {
    ends_at: Option<Lsn>,
    since: Option<Since>,
    undurable_sinks: usize,
    bytes: usize,
}

impl Progress {
    /// Enters a batch that `sinks` sinks have to make durable, and that ends at `ends_at`.
    pub(crate) fn enter(&mut self, ends_at: Option<Lsn>, sinks: usize, bytes: usize) -> Ticket {
        let ticket = Ticket(self.first + self.pending.len() as u64);
        let sinks = if Breakage::EarlyConfirm.is_on() { 0 } else { sinks };
        self.bytes += bytes;
        self.pending.push_back(Pending { ends_at, since: None, undurable_sinks: sinks, bytes });
        self.pop_durable();
        ticket
    }

    /// The batch waits since then.
    pub(crate) fn waits(&mut self, ticket: Ticket, since: Since) {
        if let Some(pending) = self.find(ticket) {
            pending.since = Some(since);
        }
    }

    /// Since when the oldest batch waits that is not durable; none if all are.
    pub(crate) fn oldest(&self) -> Option<Since> {
        self.pending.front().and_then(|pending| pending.since)
    }

    /// The batch holds `bytes` more than it did, for instance the commands made of it.
    pub(crate) fn grow(&mut self, ticket: Ticket, bytes: usize) {
        if let Some(pending) = self.find(ticket) {
            pending.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// One more sink holds the batch.
    pub(crate) fn durable(&mut self, ticket: Ticket) {
        if let Some(pending) = self.find(ticket) {
            pending.undurable_sinks = pending.undurable_sinks.saturating_sub(1);
            self.pop_durable();
        }
    }

    /// The stream begins anew with what is entered next. What is on its way comes again, from a
    /// slot that may stand before it and perhaps in another history of the log: its ends say
    /// nothing any more. It is still waited for.
    pub(crate) fn begin_anew(&mut self) {
        self.confirmable = Lsn::INVALID;
        self.pending.iter_mut().for_each(|pending| pending.ends_at = None);
    }

    /// Returns the LSN up to which the log may be confirmed: the end of the last batch of the
    /// durable prefix. The one place that decides what Postgres may forget.
    pub(crate) fn confirmable(&self) -> Lsn {
        self.confirmable
    }

    /// Since when those batches waited that became durable since the last call of this.
    pub(crate) fn delivered(&mut self) -> impl Iterator<Item = Since> {
        self.delivered.drain(..)
    }

    /// Tells if every batch that was entered is durable in every sink.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Batches that are not yet durable.
    pub(crate) fn batches(&self) -> usize {
        self.pending.len()
    }

    /// Memory held by batches that are not yet durable, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        let index = ticket.0.checked_sub(self.first)?;
        self.pending.get_mut(usize::try_from(index).ok()?)
    }

    fn pop_durable(&mut self) {
        while self.pending.front().is_some_and(|pending| pending.undurable_sinks == 0) {
            if let Some(pending) = self.pending.pop_front() {
                self.first += 1;
                self.bytes -= pending.bytes;
                self.delivered.extend(pending.since.filter(|since| since.streamed > 0));
                self.confirmable = self.confirmable.max(pending.ends_at.unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A step in the life of a pipeline, with indices taken modulo what there is.
    #[derive(Clone, Debug)]
    enum Step {
        Batch { advance: u64, ends: bool },
        Marker { advance: u64 },
        BeginAnew { back: u64 },
        Durable { sink: usize, batch: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..1000u64, any::<bool>()).prop_map(|(advance, ends)| Step::Batch { advance, ends }),
            1 => (1..1000u64).prop_map(|advance| Step::Marker { advance }),
            1 => (0..5000u64).prop_map(|back| Step::BeginAnew { back }),
            6 => (any::<usize>(), any::<usize>()).prop_map(|(sink, batch)| Step::Durable { sink, batch }),
        ]
    }

    /// A batch as the test remembers it.
    struct Known {
        ticket: Ticket,
        ends_at: Option<Lsn>,
        missing: Vec<usize>,
    }

    proptest! {
        /// Whatever the order in which sinks finish, what is confirmable is below every undurable
        /// batch, is the most that it can be, and never falls while the stream goes on.
        #[test]
        fn confirms_the_durable_prefix_and_nothing_beyond(sinks in 1..4usize, steps in prop::collection::vec(step(), 0..200)) {
            let mut progress = Progress::default();
            let mut known: Vec<Known> = Vec::new();
            let (mut end, mut last) = (0, Lsn::INVALID);
            for step in steps {
                match step {
                    Step::Batch { advance, ends } => {
                        end += advance;
                        let ends_at = ends.then_some(Lsn(end));
                        let ticket = progress.enter(ends_at, sinks, 10);
                        known.push(Known { ticket, ends_at, missing: (0..sinks).collect() });
                    }
                    Step::Marker { advance } => {
                        end += advance;
                        let ticket = progress.enter(Some(Lsn(end)), 0, 0);
                        known.push(Known { ticket, ends_at: Some(Lsn(end)), missing: vec![] });
                    }
                    Step::BeginAnew { back } => {
                        (end, last) = (end.saturating_sub(back), Lsn::INVALID);
                        progress.begin_anew();
                        known.iter_mut().for_each(|batch| batch.ends_at = None);
                    }
                    Step::Durable { sink, batch } => {
                        let open: Vec<usize> = (0..known.len()).filter(|&i| !known[i].missing.is_empty()).collect();
                        if let Some(&i) = open.get(batch % open.len().max(1)) {
                            let sink = sink % known[i].missing.len();
                            known[i].missing.swap_remove(sink);
                            progress.durable(known[i].ticket);
                        }
                    }
                }
                let prefix = known.iter().take_while(|batch| batch.missing.is_empty());
                let expected = prefix.filter_map(|batch| batch.ends_at).max().unwrap_or_default();
                prop_assert_eq!(progress.confirmable(), expected);
                prop_assert!(progress.confirmable() >= last, "confirmed positions only rise");
                let undurable = known.iter().skip_while(|batch| batch.missing.is_empty()).count();
                prop_assert_eq!(progress.batches(), undurable);
                prop_assert_eq!(progress.is_idle(), undurable == 0);
                last = progress.confirmable();
            }
        }

        #[test]
        fn memory_is_given_back(sizes in prop::collection::vec((0..1000usize, 0..1000usize), 0..50)) {
            let mut progress = Progress::default();
            let tickets: Vec<Ticket> = sizes.iter().map(|(bytes, more)| {
                let ticket = progress.enter(None, 1, *bytes);
                progress.grow(ticket, *more);
                ticket
            }).collect();
            prop_assert_eq!(progress.bytes(), sizes.iter().map(|(bytes, more)| bytes + more).sum::<usize>());
            for ticket in tickets.into_iter().rev() {
                progress.durable(ticket);
            }
            prop_assert_eq!(progress.bytes(), 0);
        }
    }

    #[test]
    fn a_keepalive_behind_undurable_rows_is_not_confirmed() {
        let mut progress = Progress::default();
        let rows = progress.enter(Some(Lsn(100)), 1, 0);
        progress.enter(Some(Lsn(500)), 0, 0);
        assert_eq!(progress.confirmable(), Lsn::INVALID);
        progress.durable(rows);
        assert_eq!(progress.confirmable(), Lsn(500));
    }

    #[test]
    fn what_is_on_its_way_when_the_stream_begins_anew_confirms_nothing() {
        let mut progress = Progress::default();
        progress.enter(Some(Lsn(50)), 0, 0);
        let old = progress.enter(Some(Lsn(100)), 1, 0);
        progress.enter(Some(Lsn(500)), 0, 0);
        progress.begin_anew();
        let again = progress.enter(Some(Lsn(100)), 1, 0);
        progress.durable(old);
        assert_eq!(progress.confirmable(), Lsn::INVALID);
        progress.durable(again);
        assert_eq!(progress.confirmable(), Lsn(100), "500 may be in another history");
    }

    #[test]
    fn a_transaction_over_several_batches_counts_with_its_last() {
        let mut progress = Progress::default();
        let first = progress.enter(None, 1, 0);
        let last = progress.enter(Some(Lsn(100)), 1, 0);
        progress.durable(first);
        assert_eq!(progress.confirmable(), Lsn::INVALID);
        progress.durable(last);
        assert_eq!(progress.confirmable(), Lsn(100));
    }
}
