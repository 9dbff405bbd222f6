//! `Event` and `Row`: what happened, with columns by name.

use std::cell::OnceCell;
use std::fmt::Display;
use std::ops::Index;

use serde_json::Map;

use crate::bindings::pgstream::host::types as wit;
use crate::{Column, Error, Operation, Payload, Result, Value, host};

/// One committed change of a row.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    table: &'a Table<'a>,
    event: &'a wit::Event,
    index: u32,
}

/// A relation with its columns sorted by name: made once per batch, so that an event only searches.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    relation: &'a wit::Relation,
    by_name: Vec<u32>,
    /// What ids begin with, once it was asked for.
    prefix: OnceCell<Option<String>>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(relation: &'a wit::Relation) -> Self {
        let mut by_name: Vec<u32> = (0..relation.columns.len() as u32).collect();
        by_name.sort_by_key(|&index| &relation.columns[index as usize].name);
        Self { relation, by_name, prefix: OnceCell::new() }
    }

    fn prefix(&self) -> Option<&str> {
        let ask = || {
            let schema = self.relation.schema.replace('~', "~0").replace('.', "~1");
            host::asked(&format!("pgstream:id/{schema}.{}", self.relation.table))
        };
        self.prefix.get_or_init(ask).as_deref()
    }

    fn index(&self, name: &str) -> Option<usize> {
        let columns = &self.relation.columns;
        let found = self.by_name.binary_search_by(|&index| columns[index as usize].name.as_str().cmp(name));
        found.ok().map(|at| self.by_name[at] as usize)
    }
}

impl<'a> Event<'a> {
    pub(crate) fn new(table: &'a Table<'a>, event: &'a wit::Event, index: u32) -> Self {
        Self { table, event, index }
    }

    /// Its place in the batch.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// What happened.
    pub fn operation(&self) -> Operation {
        self.event.operation
    }

    /// The table's schema, such as `public`.
    pub fn schema(&self) -> &'a str {
        &self.table.relation.schema
    }

    /// The table's name.
    pub fn table(&self) -> &'a str {
        &self.table.relation.table
    }

    /// The table's columns, in the order of a row's values.
    pub fn columns(&self) -> &'a [Column] {
        &self.table.relation.columns
    }

    /// The new row; for a delete what the replica identity gives of the old one, which by default is the key. Empty for
    /// a truncate.
    pub fn row(&self) -> Row<'a> {
        Row { table: self.table, values: &self.event.row }
    }

    /// The old row as far as the replica identity gives it.
    pub fn old_row(&self) -> Option<Row<'a>> {
        let values = self.event.old_row.as_ref()?;
        Some(Row { table: self.table, values })
    }

    /// The id of the row's point, or group of points: its [`key`](Self::key). Where the pipeline has several tables, the table's
    /// name stands before it, `public.documents:7`, so that rows of two tables with equal keys have points of their own. The
    /// host tells for each table which it is, and never changes it: ids that are stored stay what they are.
    pub fn id(&self) -> Result<String> {
        let key = self.key()?;
        Ok(match self.table.prefix() {
            Some(prefix) => format!("{prefix}:{key}"),
            None => key,
        })
    }

    /// The row's key as text: the primary key's value, or a JSON array of them if it has several columns. Rejects the event if
    /// the table has none. Rows of several tables may have the same: see [`id`](Self::id).
    pub fn key(&self) -> Result<String> {
        let mut keys = self.row().iter().filter(|(column, _)| column.key);
        let Some((_, first)) = keys.next() else {
            let (schema, table) = (self.schema(), self.table());
            return Err(Error::reject(format!(
                "`{schema}.{table}` has no key: `ALTER TABLE {schema}.{table} ADD PRIMARY KEY (…)`"
            )));
        };
        let rest: Vec<_> = keys.map(|(_, value)| value.to_json()).collect();
        if rest.is_empty() {
            return Ok(match first {
                Value::Int(value) => value.to_string(),
                other => match other.to_json() {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                },
            });
        }
        let all = std::iter::once(first.to_json()).chain(rest).collect();
        Ok(serde_json::Value::Array(all).to_string())
    }

    /// Whether the UPDATE left this large column alone, so that Postgres did not send it. Not the same as null. False if
    /// there is no such column.
    pub fn unchanged(&self, column: &str) -> bool {
        self.row().get(column) == Some(&Value::Unchanged)
    }

    /// The text of a column; see [`Row::text`].
    pub fn text(&self, column: &str) -> Result<&'a str> {
        self.row().text(column)
    }

    /// The number in a column; see [`Row::int`].
    pub fn int(&self, column: &str) -> Result<i64> {
        self.row().int(column)
    }

    /// The number in a column; see [`Row::float`].
    pub fn float(&self, column: &str) -> Result<f64> {
        self.row().float(column)
    }

    /// The truth value of a column; see [`Row::boolean`].
    pub fn boolean(&self, column: &str) -> Result<bool> {
        self.row().boolean(column)
    }

    /// LSN of the transaction's commit: unique per transaction and rising.
    pub fn lsn(&self) -> u64 {
        self.event.lsn
    }

    /// Index of the event within its transaction.
    pub fn ordinal(&self) -> u32 {
        self.event.ordinal
    }

    /// When the transaction committed, in µs since 1970-01-01 UTC.
    pub fn commit_time(&self) -> i64 {
        self.event.commit_time
    }

    /// The transaction's id.
    pub fn xid(&self) -> u32 {
        self.event.xid
    }

    /// Whether the row was read by a backfill rather than streamed.
    pub fn snapshot(&self) -> bool {
        self.event.snapshot
    }
}

/// The values of one row, by the names of their columns.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    table: &'a Table<'a>,
    values: &'a [Value],
}

impl<'a> Row<'a> {
    /// The value of a column; None if there is no such column.
    pub fn get(&self, column: &str) -> Option<&'a Value> {
        self.values.get(self.table.index(column)?)
    }

    /// The value of a column, or an error that names those that there are.
    pub fn value(&self, column: &str) -> Result<&'a Value> {
        self.get(column).ok_or_else(|| self.missing(column))
    }

    /// The text of a column: of `text` and its kin, and of every type that travels as text. An error if it is null,
    /// unchanged or something else.
    pub fn text(&self, column: &str) -> Result<&'a str> {
        self.value(column)?.as_text().ok_or_else(|| self.not(column, "text"))
    }

    /// The integer in a column. An error if it is null, unchanged or something else.
    pub fn int(&self, column: &str) -> Result<i64> {
        self.value(column)?.as_int().ok_or_else(|| self.not(column, "an integer"))
    }

    /// The number in a column: integers and numerics too, as near as a float gets. An error if it is null, unchanged or
    /// something else.
    pub fn float(&self, column: &str) -> Result<f64> {
        self.value(column)?.as_float().ok_or_else(|| self.not(column, "a number"))
    }

    /// The truth value in a column. An error if it is null, unchanged or something else.
    pub fn boolean(&self, column: &str) -> Result<bool> {
        self.value(column)?.as_boolean().ok_or_else(|| self.not(column, "a truth value"))
    }

    /// The columns with their values, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Column, &'a Value)> + use<'a> {
        self.table.relation.columns.iter().zip(self.values)
    }

    /// The row as a payload: every column but the unchanged ones, as [`Value::to_json`] writes them, but JSON as Postgres wrote
    /// it.
    pub fn payload(self) -> Result<Payload> {
        let mut payload = Payload::new();
        for (column, value) in self.iter().filter(|(_, value)| **value != Value::Unchanged) {
            payload.insert(column.name.as_str(), value)?;
        }
        Ok(payload)
    }

    /// The row as a map, to be looked at: every column but the unchanged ones, as [`Value::to_json`] writes them. For a payload
    /// rather [`payload`](Self::payload), which keeps JSON as it is.
    pub fn to_json(self) -> Map<String, serde_json::Value> {
        let sent = self.iter().filter(|(_, value)| **value != Value::Unchanged);
        sent.map(|(column, value)| (column.name.clone(), value.to_json())).collect()
    }

    fn missing(&self, column: &str) -> Error {
        Error::reject(format!("{} has no column `{column}`, it has {}", self.name(), self.names()))
    }

    fn not(&self, column: &str, wanted: &str) -> Error {
        let found = self.get(column).map_or("nothing", Value::kind);
        Error::reject(format!("column `{column}` of {} is {found}, not {wanted}", self.name()))
    }

    fn name(&self) -> impl Display {
        format!("`{}.{}`", self.table.relation.schema, self.table.relation.table)
    }

    fn names(&self) -> String {
        let names: Vec<String> =
            self.table.relation.columns.iter().map(|column| format!("`{}`", column.name)).collect();
        names.join(", ")
    }
}

impl Index<&str> for Row<'_> {
    type Output = Value;

    /// The value of a column.
    ///
    /// # Panics
    ///
    /// If there is no such column; [`Row::value`] gives an error instead, which is much cheaper for the host.
    fn index(&self, column: &str) -> &Value {
        match self.get(column) {
            Some(value) => value,
            None => panic!("{}", self.missing(column)),
        }
    }
}
