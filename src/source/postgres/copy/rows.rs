//! Single rows that are asked for by their keys, because earlier events of them were set aside:
//! each as it is now, or a delete if it is gone. They join the stream as chunks of a table do, so
//! what changes meanwhile wins over them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::reread;
use super::ledger::{self, Job};
use super::portion::Portion;
use super::reader::{AGAIN, CHUNK_BYTES, Reader, Window};
use super::select::Select;
use super::window::Chunk;
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Event};
use crate::lsn::Lsn;
use crate::printable::printable;
use crate::retry::Retry;

/// Rows of one copy.
pub(super) const AT_ONCE: usize = 500;

/// The key of a row: SQL of each column's value, by the column's name. Its text is JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Key(BTreeMap<String, String>);

impl Key {
    /// The key of the row that an event is about. None if it cannot be asked for: a truncate, a key
    /// with nulls.
    pub(in super::super) fn of(batch: &Batch, event: &Event) -> Option<Self> {
        let cells = batch.relation(event).columns.iter().zip(batch.row(event).iter()).filter(|(column, _)| column.key);
        let columns: Option<BTreeMap<_, _>> =
            cells.map(|(column, value)| Some((column.name.clone(), reread::sql(column, value)?))).collect();
        columns.filter(|columns| !columns.is_empty()).map(Self)
    }

    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// The values of these columns, if they are the key.
    pub(super) fn values<'k>(&'k self, names: &[&str]) -> Option<Vec<&'k str>> {
        let values: Option<Vec<&str>> = names.iter().map(|name| self.0.get(*name).map(String::as_str)).collect();
        values.filter(|values| values.len() == self.0.len())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

impl Reader {
    /// Brings the rows with these keys into the stream. Returns once they are durable.
    pub(super) async fn bring_back(&self, select: &Select, job: &Job, keys: &[String]) -> Result<()> {
        let changed = || {
            Error::new(Fault::Environment, format!("the key of table `{}` has changed since", job.table)).help(format!(
                "bring its rows over again: `pgstream-host backfill <file> --table {}`",
                printable(&job.table)
            ))
        };
        let keys: Option<Vec<Key>> = keys.iter().map(|key| Key::parse(key)).collect();
        let keys = keys.ok_or_else(changed)?;
        let mut session = self.session().await?;
        let (mut again, mut portion) = (Retry::new(AGAIN), Portion::default());
        let (mut end, mut count, mut rest) = (Lsn::INVALID, 0, keys.as_slice());
        while !rest.is_empty() {
            let (asked, others) = rest.split_at(portion.next(CHUNK_BYTES).min(rest.len()));
            let sql = select.rows_sql(asked).ok_or_else(changed)?;
            let window = Window::open(self, &mut session, job.relation).await?;
            let snapshot = self.begin(&mut session, select, job, "").await?;
            let (mut rows, mut gone) = (Vec::new(), Vec::new());
            let there = session.query_within(&sql.there, &mut rows, CHUNK_BYTES).await?;
            session.query(&sql.gone, &mut gone).await?;
            session.query("COMMIT", &mut Vec::new()).await?;
            if there.dropped > 0 {
                portion.came(there.rows, there.bytes);
                continue; // with fewer rows
            }
            portion.came(asked.len(), there.bytes);
            let came = (rows.len() + gone.len()) as u64;
            let (joined, answer) = oneshot::channel();
            let reading = Arc::clone(&select.reading);
            window.close(&mut session, Chunk { reading, rows, gone, replayed: true, snapshot, joined }).await?;
            match answer.await {
                Ok(joined) => {
                    (end, count, rest) = (joined, count + came, others);
                    again.succeeded();
                }
                Err(_) => again.not_yet().over().await,
            }
        }
        self.durable(end).await?;
        let mut own = self.own().await?;
        own.as_mut()
            .unwrap_or(&mut session)
            .query(&ledger::finish(&Job { rows: count, ..job.clone() }), &mut Vec::new())
            .await
    }
}
