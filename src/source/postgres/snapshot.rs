//! `Snapshot`: which transactions a query sees. The stream may be ahead of it: a commit stands in the log, and is streamed,
//! before other sessions see it; with a synchronous standby long before.

use std::collections::HashSet;

use bytes::Bytes;

use crate::decode::texts;

/// What `SELECT pg_current_snapshot()` answered, `xmin:xmax:xid,xid…`, with the 32 bits of ids that the stream knows.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The first id that was not given out, or not known to have ended: this one and all after it are not seen.
    end: u32,
    /// Transactions before that which were at work.
    at_work: HashSet<u32>,
}

impl Snapshot {
    /// Reads the row that the server answered.
    pub(super) fn read(row: &Bytes) -> Option<Self> {
        let id = |id: &str| Some(id.parse::<u64>().ok()? as u32);
        let text = texts(row, &[0])?.pop()?;
        let (end, at_work) = text.split_once(':')?.1.split_once(':')?;
        let at_work = at_work.split(',').filter(|text| !text.is_empty()).map(id).collect::<Option<_>>()?;
        Some(Self { end: id(end)?, at_work })
    }

    /// Whether the query saw what this transaction, which has committed, did.
    pub(super) fn sees(&self, xid: u32) -> bool {
        let before_the_end = (xid.wrapping_sub(self.end) as i32) < 0; // ids go round in a circle
        before_the_end && !self.at_work.contains(&xid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Option<Snapshot> {
        let mut row = vec![0, 1];
        row.extend((text.len() as u32).to_be_bytes());
        row.extend(text.as_bytes());
        Snapshot::read(&row.into())
    }

    #[test]
    fn what_was_at_work_or_came_later_is_not_seen() {
        let snapshot = snapshot("10:20:10,14,15").unwrap();
        for xid in [9, 11, 13, 19, 4_000_000_000] {
            assert!(snapshot.sees(xid), "{xid}");
        }
        for xid in [10, 14, 15, 20, 21, 2_000_000_000] {
            assert!(!snapshot.sees(xid), "{xid}");
        }
    }

    #[test]
    fn the_epoch_is_not_in_the_stream() {
        let snapshot = snapshot("4294967294:4294967300:4294967295,4294967298").unwrap();
        assert!(snapshot.sees(4_294_967_294) && snapshot.sees(3));
        assert!(!snapshot.sees(4_294_967_295) && !snapshot.sees(2) && !snapshot.sees(4));
    }

    #[test]
    fn nonsense_is_no_snapshot() {
        assert!(snapshot("10:10:").is_some());
        for text in ["", "10", "10:11", "a:b:c", "1:2:x"] {
            assert!(snapshot(text).is_none(), "{text}");
        }
    }
}
