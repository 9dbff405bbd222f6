//! `Reread`: large values that an UPDATE left alone, and that the server therefore did not send,
//! read from the table.
//!
//! A value may be newer than the event. Then the event that made it so follows, and the sinks are
//! right after that. They never go back, because the stream does not, and a value older than the
//! event is read again. A row that is gone by now keeps its gaps in an update; an insert of it (the
//! second half of a changed key) becomes a delete. The event that took the row away follows, too.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::bond::Place;
use super::connection::Connection;
use super::footing::{self, Footing};
use super::settings::{Settings, literal, quoted};
use super::snapshot::Snapshot;
use super::tables::{self, Table};
use super::{BACKOFF, dial, setup};
use crate::backoff::Backoff;
use crate::decode::{Catalog, Reading, texts};
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Column, Event, Operation, Relation, Value};
use crate::postgres::sqlstate;
use crate::retry::{Retry, Wait};

/// Rows of one query.
const AT_ONCE: usize = 100;
/// Between looks for a commit that is streamed before it is seen.
const UNSEEN: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
/// A commit that is not seen for so long is worth a word, and may never be seen.
const UNSEEN_FOR_LONG: Duration = Duration::from_secs(5);

/// The filling of gaps: if all gaps are filled, and if a batch is being completed.
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
    /// For batches from the log of this timeline.
    pub(super) fn new(settings: &Arc<Settings>, tables: &Arc<[Table]>, timeline: i64) -> Self {
        let reread = Reread::new(Arc::clone(settings), Arc::clone(tables), timeline);
        Self { always: settings.rereads, state: State::Idle(Box::new(reread)) }
    }

    /// The batch, if it has no gaps that would be filled. `wanted` if they must be, whatever the
    /// settings say.
    pub(super) fn begin(&mut self, batch: Batch, wanted: bool) -> Option<Batch> {
        if !(self.always || wanted) || batch.incomplete().is_empty() {
            return Some(batch);
        }
        let State::Idle(reread) = std::mem::replace(&mut self.state, State::Busy(JoinSet::new())) else {
            return Some(batch); // nobody asks for a batch before the one at hand is finished
        };
        if let State::Busy(task) = &mut self.state {
            task.spawn(reread.complete(batch).in_current_span());
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
    /// Of the log from which the batches come.
    timeline: i64,
    session: Option<Session>,
}

/// A session that reads, and what is known of the database.
struct Session {
    connection: Connection,
    catalog: Catalog,
    /// The tables that have been read, by OID.
    tables: BTreeMap<u32, Footing>,
}

/// The key of a row: its columns, with their values as SQL.
type RowKey = Vec<(String, String)>;

impl Reread {
    fn new(settings: Arc<Settings>, tables: Arc<[Table]>, timeline: i64) -> Self {
        Self { settings, tables, timeline, session: None }
    }

    /// Fills the gaps of `batch`. Waits while the server cannot be reached.
    async fn complete(mut self, mut batch: Batch) -> (Self, Result<Batch>) {
        let mut retry = Retry::new(BACKOFF);
        loop {
            let Err(error) = self.fill(&mut batch).await else { return (self, Ok(batch)) };
            let tell = |error: &Error, wait: Wait| {
                let (cause, wait_seconds) = (error.chain(), wait.seconds());
                tracing::warn!(cause, wait_seconds, "large values are read again later");
            };
            if let Err(error) = retry.wait_out(error, tell).await {
                return (self, Err(error.within("large values cannot be read from the table")));
            }
            self.session = None;
        }
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<()> {
        let mut by_relation: BTreeMap<u32, Vec<(usize, RowKey)>> = BTreeMap::new();
        for index in batch.incomplete() {
            let Some(event) = batch.events().get(index) else { continue };
            // A key that cannot be asked for leaves the gap as it is.
            if let Some(key) = key(batch, event) {
                by_relation.entry(event.relation).or_default().push((index, key));
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

    /// Fills the gaps of some events of one relation. Each has the key of its row.
    async fn fill_some(
        &mut self,
        batch: &mut Batch,
        relation: &Arc<Relation>,
        asked: &[(usize, RowKey)],
    ) -> Result<()> {
        let events: Vec<&Event> = asked.iter().filter_map(|(index, _)| batch.events().get(*index)).collect();
        let xids: Vec<u32> = events.iter().map(|event| event.xid).collect();
        let last = events.last().map(|event| event.position);
        let (mut retry, mut told) = (Retry::new(UNSEEN), false);
        let rows = loop {
            let Some(mut rows) = self.read(relation, asked).await? else { return Ok(()) };
            let snapshot = rows.first().and_then(Snapshot::read).ok_or_else(|| unreadable("a snapshot"))?;
            if xids.iter().all(|xid| snapshot.sees(*xid)) {
                break rows.split_off(1);
            }
            // What is older than the event would undo it, and its row would seem to be gone.
            let wait = retry.not_yet();
            if !told && wait.since.elapsed() >= UNSEEN_FOR_LONG {
                told = true;
                let place = Place::ask(&setup::session(&self.settings).await?).await?;
                if place.timeline != self.timeline {
                    dial::refuse_lost_commits(&self.settings, self.timeline, &place, last).await?;
                }
                tracing::warn!(
                    table = %relation,
                    help = "SELECT application_name, sync_state, state FROM pg_stat_replication",
                    "a commit has been streamed and is not seen on the server yet, as with a synchronous standby that is away; \
                     the pipeline waits for it"
                );
            }
            wait.over().await;
        };
        let Some(session) = &self.session else { return Ok(()) };
        let reading = Reading::of(relation, &session.catalog);
        let mut gone: BTreeSet<usize> = asked.iter().map(|(index, _)| *index).collect();
        for row in rows {
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

    /// Returns the server's answer: a snapshot, and each row that is there, behind its number in
    /// `asked`. None if the table, or a column of it, is gone: what the events say of it is history
    /// then, and stays as it is.
    async fn read(&mut self, relation: &Relation, asked: &[(usize, RowKey)]) -> Result<Option<Vec<Bytes>>> {
        let settings = self.settings.reading();
        loop {
            let Session { connection, tables, .. } = self.session().await?;
            // It may have been renamed since, and another table may have its name.
            let table = match tables.entry(relation.id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let client = setup::session(&settings).await?;
                    let Some(table) = Footing::look(&client, relation.id).await? else { return Ok(None) };
                    place.insert(table)
                }
            };
            if table.hidden {
                return Err(tables::hidden(&relation.to_string(), &settings.url.user));
            }
            let Some(selects) = selects(table, relation, asked)? else { return Ok(None) };
            let mut rows = Vec::new();
            match connection.query(&table.transaction(relation.id, &selects), &mut rows).await {
                Ok(()) => return Ok(Some(rows)),
                Err(error) => {
                    // The session waits for more of the answer.
                    self.session = None;
                    if !matches!(sqlstate(&error), Some(footing::FAILED | "42P01" | "42703")) {
                        return Err(footing::hidden_since(&settings, relation.id, error).await?);
                    }
                }
            }
        }
    }

    async fn session(&mut self) -> Result<&mut Session> {
        if self.session.is_none() {
            let client = setup::session(&self.settings).await?;
            let (catalog, _) = tables::catalog(&client, &self.settings.publication, &self.tables).await?;
            let connection = Connection::open_sql(&self.settings.reading()).await?;
            self.session = Some(Session { connection, catalog, tables: BTreeMap::new() });
        }
        self.session.as_mut().ok_or_else(|| Error::new(Fault::Bug, "a session that was opened is gone"))
    }
}

/// SQL that answers the rows, each behind its number. None if the table no longer has one of the
/// columns.
fn selects(table: &Footing, relation: &Relation, asked: &[(usize, RowKey)]) -> Result<Option<String>> {
    const ROW: &str = "\"pgstream-host row\"";
    let column = |name: &str| format!("{ROW}.{}", quoted(name));
    if relation.columns.iter().any(|column| table.operand(&column.name).is_none()) {
        return Ok(None);
    }
    let columns: Vec<String> = relation.columns.iter().map(|known| column(&known.name)).collect();
    let columns = columns.join(", ");
    let mut selects = Vec::with_capacity(asked.len());
    for (number, (_, key)) in asked.iter().enumerate() {
        let mut same = Vec::with_capacity(key.len());
        for (name, value) in key {
            let Some(operand) = table.operand(name) else { return Ok(None) };
            if !operand.is_comparable() {
                return Err(footing::incomparable(&relation.to_string(), name));
            }
            same.push(operand.is(&column(name), &operand.value(value)));
        }
        selects.push(format!("SELECT {number}, {columns} FROM {} AS {ROW} WHERE {}", table.from, same.join(" AND ")));
    }
    Ok(Some(selects.join(" UNION ALL ")))
}

/// The key of the row of an event. None if it cannot be asked for.
fn key(batch: &Batch, event: &Event) -> Option<RowKey> {
    let columns = batch.relation(event).columns.iter().zip(batch.row(event).iter()).filter(|(column, _)| column.key);
    let key: Option<RowKey> = columns.map(|(column, value)| Some((column.name.clone(), sql(column, value)?))).collect();
    key.filter(|key| !key.is_empty())
}

fn unreadable(what: &str) -> Error {
    Error::new(Fault::Environment, format!("the server answered {what} that cannot be read"))
        .help("check that `url` leads to a Postgres server")
}

/// Types whose values are text.
const TEXTS: [&str; 6] = ["text", "varchar", "bpchar", "char", "name", "citext"];

/// A value of a key as SQL, to be cast to the type that it is compared with.
pub(super) fn sql(column: &Column, value: Value<'_>) -> Option<String> {
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
        // Text of no encoding, which cannot be said.
        Value::Bytes(_) if TEXTS.contains(&column.type_name.as_str()) => return None,
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
