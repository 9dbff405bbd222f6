//! `Reader`: a batch from events in their JSON form.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::columns::columns;
use super::tree::Json;
use super::value;
use crate::event::{Batch, BatchBuilder, Column, EventHead, Naming, Operation, Relation, ReplicaIdentity};
use crate::lsn::{Lsn, Position};

/// Versions of tables that are remembered from batch to batch.
const MAX_RELATIONS: usize = 10_000;
/// Events of one batch: as many as a pipeline file may ask for.
const MAX_EVENTS: usize = 1_000_000;
/// LSN of the first event if it states none. Any value would do but zero.
const START: Lsn = Lsn(0x0100_0000);

const FIELDS: [&str; 12] = [
    "operation",
    "schema",
    "table",
    "key",
    "types",
    "row",
    "old_row",
    "commit_time",
    "xid",
    "lsn",
    "ordinal",
    "snapshot",
];

/// Fills a batch, event by event.
#[derive(Default)]
pub struct Reader {
    builder: BatchBuilder,
    relations: Vec<Arc<Relation>>,
    last: Option<Position>,
    /// By schema and table; without it each is taken for the only one.
    naming: Option<Box<NamingFn>>,
}

type NamingFn = dyn FnMut(&str, &str) -> Naming + Send;

/// A mistake in an event, and its place. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The way from the event to what is wrong, outermost first.
    pub path: Vec<Step>,
    /// The mistake, in words.
    pub what: String,
    /// Advice on the right way to write it; may be empty.
    pub help: String,
    /// True if the last key of the path is wrong, rather than the value under it.
    pub of_key: bool,
}

/// One step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Under a key.
    Key(String),
    /// The item at an index.
    Item(usize),
}

impl Flaw {
    /// A flaw of the value that is being looked at.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path: Vec::new(), what: what.into(), help: help.into(), of_key: false }
    }

    /// A flaw of the key `key` itself.
    pub fn of_key(key: &str, what: impl Into<String>) -> Self {
        Self { path: vec![Step::Key(key.to_owned())], what: what.into(), help: String::new(), of_key: true }
    }

    /// The same flaw, seen from the object that has the value under `key`.
    pub fn within(mut self, key: &str) -> Self {
        self.path.insert(0, Step::Key(key.to_owned()));
        self
    }

    /// The same flaw, seen from the list that has the value at `index`.
    pub fn within_item(mut self, index: usize) -> Self {
        self.path.insert(0, Step::Item(index));
        self
    }
}

/// "`row.tags[2]`: expected a number"
impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.push_str(&format!(".{key}")),
                Step::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        if path.is_empty() { f.write_str(&self.what) } else { write!(f, "`{path}`: {}", self.what) }
    }
}

impl std::error::Error for Flaw {}

impl Reader {
    /// As `default`, with what `naming` says of a table that is met for the first time.
    pub fn with_naming(naming: impl FnMut(&str, &str) -> Naming + Send + 'static) -> Self {
        Self { naming: Some(Box::new(naming)), ..Self::default() }
    }

    /// Appends an event. `schema`, `key`, `types` and everything from `old_row` on may be missing:
    /// the schema is `public`, without `key` every column is of the key, types are guessed from the
    /// values, and an event stands right behind the one before it.
    ///
    /// # Errors
    /// The first mistake in the event; the batch stays as it was.
    pub fn push(&mut self, event: &Json) -> Result<(), Flaw> {
        let mark = self.builder.mark();
        let pushed = self.event(event);
        if pushed.is_err() {
            self.builder.rollback(mark);
        }
        pushed
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.builder.len()
    }

    /// Tells if there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.builder.len() == 0
    }

    /// The batch. It ends right behind its last event.
    pub fn finish(mut self) -> Batch {
        self.take()
    }

    /// As `finish`, for a batch of a stream that goes on.
    pub fn take(&mut self) -> Batch {
        if self.relations.len() > MAX_RELATIONS {
            self.relations.clear();
        }
        if let Some(last) = self.last {
            self.builder.end_at(Lsn(last.lsn.0.saturating_add(1)));
        }
        self.builder.take()
    }

    fn event(&mut self, event: &Json) -> Result<(), Flaw> {
        let Json::Object(fields) = event else {
            return Err(Flaw::new(format!("expected an event as an object, found {}", event.kind()), ""));
        };
        for (index, (name, _)) in fields.iter().enumerate() {
            if !FIELDS.contains(&name.as_str()) {
                let what = format!("an event has no `{name}`, it has {}", FIELDS.join(", "));
                return Err(Flaw::of_key(name, what));
            }
            if fields.iter().take(index).any(|(known, _)| known == name) {
                return Err(Flaw::of_key(name, format!("`{name}` stands twice")));
            }
        }
        if self.builder.len() >= MAX_EVENTS {
            return Err(Flaw::new(format!("there are more than {MAX_EVENTS} events"), "part them"));
        }
        let operation = operation(event)?;
        let position = self.position(event)?;
        let commit_time = match event.get("commit_time") {
            None | Some(Json::Null) => 0,
            Some(json) => whole_time(json).map_err(|flaw| flaw.within("commit_time"))?,
        };
        let xid = number(event, "xid", u32::MAX.into())?.unwrap_or(1) as u32;
        let snapshot = match event.get("snapshot") {
            None | Some(Json::Null) => false,
            Some(Json::Bool(snapshot)) => *snapshot,
            Some(other) => {
                let what = format!("expected true or false, found {}", other.kind());
                return Err(Flaw::new(what, "true stands for a row that a copy read").within("snapshot"));
            }
        };
        let relation = self.relation(event, operation)?;

        self.builder.push_frame(Bytes::new());
        let row = match (event.get("row"), operation) {
            (None | Some(Json::Null), Operation::Truncate) => self.nothing(),
            (Some(Json::Object(entries)), Operation::Truncate) if entries.is_empty() => self.nothing(),
            (Some(_), Operation::Truncate) => {
                return Err(Flaw::new("a truncate has no row", "remove it").within("row"));
            }
            (None | Some(Json::Null), _) => {
                return Err(Flaw::new("the event has no row", "add `row: { column: value }`").within("row"));
            }
            (Some(row), _) => {
                self.row(&relation, row, operation == Operation::Update).map_err(|flaw| flaw.within("row"))?
            }
        };
        let old_row = match event.get("old_row") {
            None | Some(Json::Null) => None,
            Some(old) => Some(self.row(&relation, old, false).map_err(|flaw| flaw.within("old_row"))?),
        };
        let head = EventHead { operation, position, commit_time, xid, snapshot, replayed: false };
        self.builder.push_event(&relation, head, row, old_row);
        self.last = Some(position);
        Ok(())
    }

    fn nothing(&mut self) -> std::ops::Range<u32> {
        self.builder.row_start()..self.builder.row_start()
    }

    fn position(&self, event: &Json) -> Result<Position, Flaw> {
        let after = |last: Position| Position { lsn: last.lsn, ordinal: last.ordinal.saturating_add(1) };
        let next = self.last.map_or(Position { lsn: START, ordinal: 0 }, after);
        let ordinal = number(event, "ordinal", u32::MAX.into())?.map(|ordinal| ordinal as u32);
        let position = match event.get("lsn") {
            None | Some(Json::Null) => Position { lsn: next.lsn, ordinal: ordinal.unwrap_or(next.ordinal) },
            Some(Json::Text(text)) => {
                let lsn: Lsn = text
                    .parse()
                    .map_err(|_| Flaw::new("expected a log sequence number such as `16/B374D848`", "").within("lsn"))?;
                let follows = if lsn == next.lsn { next.ordinal } else { 0 };
                Position { lsn, ordinal: ordinal.unwrap_or(follows) }
            }
            Some(other) => {
                let what = format!("expected a log sequence number such as `16/B374D848`, found {}", other.kind());
                return Err(Flaw::new(what, "").within("lsn"));
            }
        };
        if self.last.is_some_and(|last| position <= last) {
            let help =
                "events stand in the order of their positions; leave `lsn` and `ordinal` out to number them anew";
            return Err(Flaw::new("the event does not stand behind the one before it", help).within("lsn"));
        }
        Ok(position)
    }

    fn relation(&mut self, event: &Json, operation: Operation) -> Result<Arc<Relation>, Flaw> {
        let schema = text(event, "schema")?.unwrap_or("public");
        let table = text(event, "table")?;
        let table = table.ok_or_else(|| Flaw::new("the event names no table", "add `table`").within("table"))?;
        let key = match event.get("key") {
            None | Some(Json::Null) => None,
            Some(Json::List(names)) => Some(names),
            Some(other) => {
                let what = format!("expected the names of the key's columns as a list, found {}", other.kind());
                return Err(Flaw::new(what, "").within("key"));
            }
        };
        let is_key = |name: &str| key.is_none_or(|key| key.contains(&Json::Text(name.to_owned())));
        let types = columns(event)?;
        let columns: Vec<Column> = types
            .iter()
            .map(|(name, type_name)| Column {
                name: (*name).to_owned(),
                type_name: (*type_name).to_owned(),
                type_oid: 0,
                type_modifier: -1,
                key: is_key(name),
            })
            .collect();
        for (index, name) in key.into_iter().flatten().enumerate() {
            let known = matches!(name, Json::Text(name) if columns.iter().any(|column| column.name == *name));
            if !known && operation != Operation::Truncate {
                let flaw =
                    Flaw::new(format!("the key names a column that there is not, there are {}", names(&columns)), "");
                return Err(flaw.within_item(index).within("key"));
            }
        }
        let known = self
            .relations
            .iter()
            .rfind(|known| known.schema == schema && known.table == table && known.columns == columns);
        if let Some(known) = known {
            return Ok(Arc::clone(known));
        }
        let same = self.relations.iter().find(|known| known.schema == schema && known.table == table);
        let id = same.map_or(self.relations.len() as u32 + 1, |known| known.id);
        let naming = self.naming.as_mut().map_or(Naming::Alone, |naming| naming(schema, table));
        let relation = Arc::new(Relation {
            id,
            schema: schema.to_owned(),
            table: table.to_owned(),
            replica_identity: ReplicaIdentity::Default,
            columns,
            naming,
        });
        self.relations.push(Arc::clone(&relation));
        Ok(relation)
    }

    /// Columns that are not written are null, except in an update, where that is most likely a
    /// mistake for unchanged.
    fn row(&mut self, relation: &Relation, row: &Json, whole: bool) -> Result<std::ops::Range<u32>, Flaw> {
        let Json::Object(entries) = row else {
            return Err(Flaw::new(format!("expected a row as an object, found {}", row.kind()), ""));
        };
        for (index, (name, _)) in entries.iter().enumerate() {
            if !relation.columns.iter().any(|column| column.name == *name) {
                let what = format!("`{relation}` has no column `{name}`, it has {}", names(&relation.columns));
                return Err(Flaw::of_key(name, what));
            }
            if entries.iter().take(index).any(|(known, _)| known == name) {
                return Err(Flaw::of_key(name, format!("column `{name}` stands twice")));
            }
        }
        let start = self.builder.row_start();
        for column in &relation.columns {
            let json = row.get(&column.name);
            if json.is_none() && whole {
                let name = &column.name;
                return Err(Flaw::new(
                    format!("the update does not say what becomes of column `{name}`"),
                    format!("write its value, `{name}: null`, or `{name}: {{ unchanged: true }}` if it was not sent"),
                ));
            }
            value::push(&mut self.builder, &column.type_name, json.unwrap_or(&Json::Null))
                .map_err(|flaw| flaw.within(&column.name))?;
        }
        Ok(start..self.builder.row_start())
    }
}

fn operation(event: &Json) -> Result<Operation, Flaw> {
    let known = [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];
    let said = text(event, "operation")?;
    let found = known.into_iter().find(|operation| Some(super::write::operation(*operation)) == said);
    found.ok_or_else(|| {
        Flaw::new("expected one of insert, update, delete, truncate", "add `operation`").within("operation")
    })
}

fn text<'j>(event: &'j Json, field: &str) -> Result<Option<&'j str>, Flaw> {
    match event.get(field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(other) => Err(Flaw::new(format!("expected text, found {}", other.kind()), "").within(field)),
    }
}

fn number(event: &Json, field: &str, high: u64) -> Result<Option<u64>, Flaw> {
    let wrong = || Flaw::new(format!("expected a whole number from 0 to {high}"), "").within(field);
    match event.get(field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Number(text)) => match text.parse::<u64>() {
            Ok(number) if number <= high => Ok(Some(number)),
            _ => Err(wrong()),
        },
        Some(_) => Err(wrong()),
    }
}

fn whole_time(json: &Json) -> Result<i64, Flaw> {
    let read = match json {
        Json::Number(text) => text.parse().ok(),
        Json::Text(text) => value::timestamp(text),
        _ => None,
    };
    read.ok_or_else(|| Flaw::new("expected `2026-01-01T12:00:00Z` or µs since 1970", ""))
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(", ")
}
