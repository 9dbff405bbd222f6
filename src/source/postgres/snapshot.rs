//! `Snapshot`: which transactions a query sees. The stream may be ahead of it: a commit stands in
//! the log, and is streamed, before other sessions see it; with a synchronous standby long before.

use std::collections::HashSet;

use bytes::Bytes;
use tokio_postgres::Client;

use crate::decode::texts;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed};

/// The answer to `SELECT pg_current_snapshot()`, `xmin:xmax:xid,xid…`, with only the 32 bits of
/// each id that the stream knows.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// All ids before this one have ended.
    begin: u32,
    /// The first id that was not given out, or not known to have ended: this one and all after it
    /// are not seen.
    end: u32,
    /// Transactions before that which were at work.
    at_work: HashSet<u32>,
}

impl Snapshot {
    /// Reads the row that the server answered.
    pub(super) fn read(row: &Bytes) -> Option<Self> {
        let id = |id: &str| Some(id.parse::<u64>().ok()? as u32);
        let text = texts(row, &[0])?.pop()?;
        let (begin, rest) = text.split_once(':')?;
        let (end, at_work) = rest.split_once(':')?;
        let at_work = at_work.split(',').filter(|text| !text.is_empty()).map(id).collect::<Option<_>>()?;
        Some(Self { begin: id(begin)?, end: id(end)?, at_work })
    }

    /// Tells if all transactions with ids before this one have ended, and are seen if they have
    /// committed.
    pub(super) fn sees_all_before(&self, xid: u32) -> bool {
        (xid.wrapping_sub(self.begin) as i32) <= 0
    }

    /// Tells if the query saw the changes of this transaction, which has committed.
    pub(super) fn sees(&self, xid: u32) -> bool {
        let before_the_end = (xid.wrapping_sub(self.end) as i32) < 0; // ids go round in a circle
        before_the_end && !self.at_work.contains(&xid)
    }
}

/// With a synchronous standby: an id before which transactions may have been streamed, and
/// confirmed, that nobody sees yet. Without one a commit is seen before a process could have ended
/// and begun again.
pub(super) async fn unseen_before(client: &Client) -> Result<Option<u32>> {
    let unreadable = |error| failed("cannot read the server's transactions", error);
    let standbys = "SELECT current_setting('synchronous_standby_names') <> ''";
    if !client.query_one(standbys, &[]).await.map_err(unreadable)?.read::<_, bool>(0)? {
        return Ok(None);
    }
    let row = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.map_err(unreadable)?;
    let id = row.read::<_, &str>(0)?.parse::<u64>();
    let id = id.map_err(|error| Error::new(Fault::Bug, "the server's transaction id").because(error))?;
    Ok(Some(id as u32))
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
        assert!(snapshot.sees_all_before(10) && snapshot.sees_all_before(4_000_000_000));
        assert!(!snapshot.sees_all_before(11));
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
