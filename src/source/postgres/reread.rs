//! `Reread`: large values that an UPDATE left alone, and that the server therefore did not send, read from the table.
//!
//! What is read may be newer than the event. Then the event that made it so follows, and the sinks are right after that;
//! they never go back, because the stream does not. A row that is gone by now keeps its gaps in an update, and an insert of
//! it (the second half of a changed key) becomes a delete: the event that took it away follows, too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::connection::Connection;
use super::copy::texts;
use super::settings::{Settings, literal, quoted};
use super::tables::{self, Table};
use super::{BACKOFF, setup};
use crate::decode::{Catalog, Reading};
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Operation, Relation, Value};
use crate::postgres::sqlstate;

/// Rows of one query.
const AT_ONCE: usize = 100;

/// Fills the gaps of batches, in a session of its own.
pub(super) struct Reread {
    settings: Arc<Settings>,
    tables: Arc<[Table]>,
    session: Option<(Connection, Catalog)>,
}

impl Reread {
    pub(super) fn new(settings: Arc<Settings>, tables: Arc<[Table]>) -> Self {
        Self { settings, tables, session: None }
    }

    /// Fills the gaps of `batch`. Waits while the server cannot be reached.
    pub(super) async fn complete(mut self, mut batch: Batch) -> (Self, Result<Batch>) {
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
        let mut by_relation: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for index in batch.incomplete() {
            if let Some(event) = batch.events().get(index) {
                by_relation.entry(event.relation).or_default().push(index);
            }
        }
        for (relation, events) in by_relation {
            let Some(relation) = batch.relations().get(relation as usize).map(Arc::clone) else { continue };
            for events in events.chunks(AT_ONCE) {
                self.fill_some(batch, &relation, events).await?;
            }
        }
        Ok(())
    }

    async fn fill_some(&mut self, batch: &mut Batch, relation: &Arc<Relation>, events: &[usize]) -> Result<()> {
        let Some(sql) = select(batch, relation, events) else { return Ok(()) };
        let (session, catalog) = match &mut self.session {
            Some(session) => session,
            None => {
                let client = setup::session(&self.settings).await?;
                let (catalog, _) = tables::catalog(&client, &self.tables).await?;
                self.session.insert((Connection::open_sql(&self.settings).await?, catalog))
            }
        };
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
        let reading = Reading::of(relation, catalog);
        let mut found = vec![false; events.len()];
        for row in rows {
            let Some((number, event)) = numbered(&row, events) else { continue };
            reading.fill(&row, 1, batch, event).map_err(Error::from)?;
            if let Some(found) = found.get_mut(number) {
                *found = true;
            }
        }
        for (&event, _) in events.iter().zip(found).filter(|(_, found)| !found) {
            if batch.events().get(event).is_some_and(|event| event.operation == Operation::Insert) {
                batch.set_operation(event, Operation::Delete);
            }
        }
        Ok(())
    }
}

/// The number that a row begins with, and the event that it stands for.
fn numbered(row: &Bytes, events: &[usize]) -> Option<(usize, usize)> {
    let number: usize = texts(row, &[0])?.pop()?.parse().ok()?;
    Some((number, *events.get(number)?))
}

/// The rows of these events as they are now, each after its number. None if none of them can be looked for.
fn select(batch: &Batch, relation: &Relation, events: &[usize]) -> Option<String> {
    let columns: Vec<String> = relation.columns.iter().map(|column| quoted(&column.name)).collect();
    let table = format!("{}.{}", quoted(&relation.schema), quoted(&relation.table));
    let mut selects = Vec::new();
    for (number, &index) in events.iter().enumerate() {
        let Some(event) = batch.events().get(index) else { continue };
        let key = relation.columns.iter().zip(batch.row(event).iter()).filter(|(column, _)| column.key);
        let conditions: Option<Vec<String>> =
            key.map(|(column, value)| Some(format!("{} = {}", quoted(&column.name), sql(value)?))).collect();
        let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) else { continue };
        selects.push(format!(
            "SELECT {number}, {} FROM {table} WHERE {}",
            columns.join(", "),
            conditions.join(" AND ")
        ));
    }
    (!selects.is_empty()).then(|| selects.join(" UNION ALL "))
}

/// A value of a key as SQL, without a type: it takes that of the column it is compared with.
fn sql(value: Value<'_>) -> Option<String> {
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
