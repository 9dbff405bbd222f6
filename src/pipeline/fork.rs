//! Recognises a source whose history is not the one that a sink was filled from: restored from a
//! backup, or short of commits after a failover. Its new transactions may stand where the sink
//! takes everything for written, and would be skipped. And a sink that came from a backup itself:
//! what was confirmed since then does not come again.

use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Event};
use crate::lsn::Lsn;
use crate::sink::Held;

/// Commits stand in the log in about the order of their times: a session takes the time, then its
/// place.
const OUT_OF_ORDER: i64 = 10_000_000; // µs

/// A transaction of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    lsn: Lsn,
    /// In µs since 1970-01-01 UTC.
    time: i64,
}

/// The transactions that a batch has events of, in order.
pub(super) fn commits(batch: &Batch) -> Vec<Commit> {
    let transactions = batch.events().chunk_by(|event, next| event.position.lsn == next.position.lsn);
    let first = transactions.filter_map(<[Event]>::first);
    first.map(|event| Commit { lsn: event.position.lsn, time: event.commit_time }).collect()
}

/// Refuses transactions that stand before what the sink holds although they were committed after
/// it.
pub(super) fn refuse(held: Option<Held>, commits: &[Commit]) -> Result<()> {
    let Some(held) = held else { return Ok(()) };
    let skipped = commits.iter().take_while(|commit| commit.lsn <= held.position.lsn);
    let Some(younger) = skipped.into_iter().find(|commit| commit.time > held.committed + OUT_OF_ORDER) else {
        return Ok(());
    };
    Err(Error::new(Fault::Environment, "the source's history is not the one that the sink was filled from")
        .because(format!(
            "the sink holds everything up to {}, but the transaction at {} was committed {} s later",
            held.position,
            younger.lsn,
            (younger.time - held.committed) / 1_000_000
        ))
        .help(
            "the source was restored from a backup, or lost commits in a failover: `pgstream-host resnapshot pipeline.yaml` \
             begins anew, clears the sinks and copies all rows again",
        ))
}

/// Refuses a sink that holds less of the stream than was confirmed because it had held that.
pub(super) fn refuse_older(held: Option<Held>, before: Lsn) -> Result<()> {
    let Some(held) = held.filter(|held| held.position.lsn < before) else { return Ok(()) };
    Err(Error::new(Fault::Environment, "the sink is older than what was confirmed of the stream")
        .because(format!(
            "it holds everything up to {}, and had held the transaction at {before}: what came since does not come again",
            held.position
        ))
        .help(
            "its database was restored from a backup, or lost commits in a failover: `pgstream-host resnapshot <pipeline file>` \
             begins anew, clears the sinks and copies all rows again. If all rows are in it: `pgstream-host setup <pipeline \
             file> --accept-sinks`",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Position;

    const HOUR: i64 = 3_600_000_000;

    fn refused(commits: &[(u64, i64)]) -> bool {
        let held = Held { position: Position { lsn: Lsn(100), ordinal: 3 }, committed: HOUR };
        let commits: Vec<Commit> = commits.iter().map(|(lsn, time)| Commit { lsn: Lsn(*lsn), time: *time }).collect();
        refuse(Some(held), &commits).is_err()
    }

    #[test]
    fn a_sink_may_be_ahead_of_what_was_confirmed_and_never_behind() {
        let held = |lsn| Some(Held { position: Position { lsn: Lsn(lsn), ordinal: 7 }, committed: HOUR });
        assert!(refuse_older(held(100), Lsn(101)).is_err());
        for (held, before) in [(held(100), 100), (held(101), 100), (held(0), 0), (None, 100)] {
            assert!(refuse_older(held, Lsn(before)).is_ok());
        }
    }

    #[test]
    fn what_was_committed_later_cannot_have_been_written_before() {
        assert!(!refused(&[(40, HOUR - 9), (90, HOUR + 5), (100, HOUR)]), "the same history, a little out of order");
        assert!(refused(&[(40, HOUR - 9), (90, 2 * HOUR), (200, 2 * HOUR)]), "another history");
        assert!(refused(&[(100, 2 * HOUR)]));
        assert!(!refused(&[(101, 2 * HOUR)]), "new");
        assert!(refuse(None, &[Commit { lsn: Lsn(1), time: 0 }]).is_ok());
    }
}
