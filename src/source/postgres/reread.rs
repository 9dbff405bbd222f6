//! `Reread`: large values that an UPDATE left alone, and that the server therefore did not send, read from the table.
//!
//! What is read may be newer than the event. Then the event that made it so follows, and the sinks are right after that;
//! they never go back, because the stream does not, and what is older than the event is read again. A row that is gone by now keeps its gaps in an update, and an insert of
//! it (the second half of a changed key) becomes a delete: the event that took it away follows, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::connection::Connection;
use super::settings::{Settings, literal, quoted};
use super::snapshot::Snapshot;
use super::tables::{self, Table};
use super::{BACKOFF, setup};
use crate::backoff::Backoff;
use crate::decode::{Catalog, Reading, texts};
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Event, Operation, Relation, Value};
use crate::postgres::sqlstate;

/// Rows of one query.
const AT_ONCE: usize = 100;
/// Between looks for a commit that is streamed before it is seen.
const UNSEEN: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));

/// Whether gaps of batches are filled, and whether one is being filled.
pub(super) struct Rereading {
    /// Every gap is filled, not only those that a copy would leave.
    always: bool,
    state: State,
}

enum State {
    Idle(Box<Reread>),
    /// A task, so that a cancelled `next` loses nothing.
    Busy(JoinSet<(Reread, Result<Batch>)>),
}

impl Rereading {
    pub(super) fn new(settings: &Arc<Settings>, tables: &Arc<[Table]>) -> Self {
        let reread = Reread::new(Arc::clone(settings), Arc::clone(tables));
        Self { always: settings.rereads, state: State::Idle(Box::new(reread)) }
    }

    /// The batch, if it has no gaps that would be filled. `wanted` if they must be, whatever the settings say.
    pub(super) fn begin(&mut self, batch: Batch, wanted: bool) -> Option<Batch> {
        if !(self.always || wanted) || batch.incomplete().is_empty() {
            return Some(batch);
        }
        let State::Idle(reread) = std::mem::replace(&mut self.state, State::Busy(JoinSet::new())) else {
            return Some(batch); // nobody asks for a batch before the one at hand is finished
        };
        if let State::Busy(task) = &mut self.state {
            task.spawn(reread.complete(batch));
        }
        None
    }

    /// The batch whose gaps are being filled, once they are. Safe to cancel.
    pub(super) async fn finish(&mut self) -> Result<Option<Batch>> {
        let State::Busy(task) = &mut self.state else { return Ok(None) };
        match task.join_next().await {
            Some(Ok((reread, batch))) => {
                self.state = State::Idle(Box::new(reread));
                batch.map(Some)
            }
            _ => Err(Error::new(Fault::Bug, "the task that reads large values ended without a result")),
        }
    }
}

/// Fills the gaps of batches, in a session of its own.
pub(super) struct Reread {
    settings: Arc<Settings>,
    tables: Arc<[Table]>,
    session: Option<(Connection, Catalog)>,
}

impl Reread {
    fn new(settings: Arc<Settings>, tables: Arc<[Table]>) -> Self {
        Self { settings, tables, session: None }
    }

    /// Fills the gaps of `batch`. Waits while the server cannot be reached.
    async fn complete(mut self, mut batch: Batch) -> (Self, Result<Batch>) {
        let mut backoff = BACKOFF;
        loop {
            match self.fill(&mut batch).await {
                Ok(()) => return (self, Ok(batch)),
                Err(error) if error.fault() == Fault::Transient => {
                    self.session = None;
                    let wait: Duration = backoff.next_wait();
                    tracing::warn!(cause = error.chain(), ?wait, "large values are read again later");
                    tokio::time::sleep(wait).await;
                }
                Err(error) => return (self, Err(error.within("large values cannot be read from the table"))),
            }
        }
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<()> {
        let mut by_relation: BTreeMap<u32, Vec<(usize, String)>> = BTreeMap::new();
        for index in batch.incomplete() {
            let Some(event) = batch.events().get(index) else { continue };
            // A key that cannot be asked for leaves the gap as it is.
            if let Some(select) = select(batch, event) {
                by_relation.entry(event.relation).or_default().push((index, select));
            }
        }
        for (relation, asked) in by_relation {
            let Some(relation) = batch.relations().get(relation as usize).map(Arc::clone) else { continue };
            for asked in asked.chunks(AT_ONCE) {
                self.fill_some(batch, &relation, asked).await?;
            }
        }
        Ok(())
    }

    /// Fills the gaps of some events of one relation. Each has the SQL that answers its row.
    async fn fill_some(
        &mut self,
        batch: &mut Batch,
        relation: &Arc<Relation>,
        asked: &[(usize, String)],
    ) -> Result<()> {
        let (session, catalog) = match &mut self.session {
            Some(session) => session,
            None => {
                let client = setup::session(&self.settings).await?;
                let (catalog, _) = tables::catalog(&client, &self.tables).await?;
                self.session.insert((Connection::open_sql(&self.settings).await?, catalog))
            }
        };
        let selects: Vec<String> =
            asked.iter().enumerate().map(|(number, (_, select))| format!("SELECT {number}, {select}")).collect();
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_current_snapshot(); {}; COMMIT",
            selects.join(" UNION ALL ")
        );
        let mut backoff = UNSEEN;
        let mut rows = loop {
            let mut rows = Vec::new();
            match session.query(&sql, &mut rows).await {
                Ok(()) => {}
                // A column or the table is no more: what the events say of it is history, and stays as it is.
                Err(error) if matches!(sqlstate(&error), Some("42703" | "42P01")) => {
                    self.session = None; // the session waits for more of the answer
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            let snapshot = rows.first().and_then(Snapshot::read).ok_or_else(|| {
                Error::new(Fault::Environment, "the server answered a snapshot that cannot be read")
                    .help("check that `url` leads to a Postgres server")
            })?;
            let events = asked.iter().filter_map(|(index, _)| batch.events().get(*index));
            if events.map(|event| event.xid).all(|xid| snapshot.sees(xid)) {
                break rows.into_iter().skip(1);
            }
            // What is older than the event would undo it, and its row would seem to be gone.
            tokio::time::sleep(backoff.next_wait()).await;
        };
        let reading = Reading::of(relation, catalog);
        let mut gone: BTreeSet<usize> = asked.iter().map(|(index, _)| *index).collect();
        for row in &mut rows {
            let Some(index) =
                texts(&row, &[0]).and_then(|number| Some(asked.get(number.first()?.parse::<usize>().ok()?)?.0))
            else {
                continue;
            };
            reading.fill(&row, 1, batch, index).map_err(Error::from)?;
            gone.remove(&index);
        }
        for index in gone {
            if batch.events().get(index).is_some_and(|event| event.operation == Operation::Insert) {
                batch.set_operation(index, Operation::Delete);
            }
        }
        Ok(())
    }
}

/// The columns of an event's row as the table has them now, after a SELECT. None if its key cannot be asked for.
fn select(batch: &Batch, event: &Event) -> Option<String> {
    let relation = batch.relation(event);
    let key = relation.columns.iter().zip(batch.row(event).iter()).filter(|(column, _)| column.key);
    let key: Option<Vec<String>> =
        key.map(|(column, value)| Some(format!("{} = {}", quoted(&column.name), sql(value)?))).collect();
    let key = key.filter(|key| !key.is_empty())?;
    let columns: Vec<String> = relation.columns.iter().map(|column| quoted(&column.name)).collect();
    let table = format!("{}.{}", quoted(&relation.schema), quoted(&relation.table));
    Some(format!("{} FROM {table} WHERE {}", columns.join(", "), key.join(" AND ")))
}

/// A value of a key as SQL, without a type: it takes that of the column it is compared with.
pub(super) fn sql(value: Value<'_>) -> Option<String> {
    let since = |unit: &str, zero: &str, count: i64| format!("({zero} + {count} * interval '1 {unit}')");
    Some(match value {
        Value::Null | Value::Unchanged | Value::Vector(_) => return None,
        Value::Bool(value) => literal(if value { "t" } else { "f" }),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_finite() => literal(&format!("{value:?}")),
        Value::Float(value) if value.is_nan() => literal("NaN"),
        Value::Float(value) => literal(if value > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Timestamp(i64::MAX) | Value::Date(i32::MAX) => literal("infinity"),
        Value::Timestamp(i64::MIN) | Value::Date(i32::MIN) => literal("-infinity"),
        Value::Timestamp(micros) => since("microsecond", "timestamp '1970-01-01'", micros),
        Value::Time(micros) => since("microsecond", "time '00:00'", micros),
        Value::Date(days) => format!("(date '1970-01-01' + {days})"),
        Value::Numeric(text) | Value::Text(text) | Value::Uuid(text) | Value::Json(text) | Value::Other(text) => {
            literal(text)
        }
        Value::Bytes(bytes) => {
            let mut hex = String::with_capacity(2 * bytes.len() + 2);
            hex.push_str("\\x");
            for byte in bytes {
                let _ = write!(hex, "{byte:02x}"); // writing to a string cannot fail
            }
            literal(&hex)
        }
    })
}
