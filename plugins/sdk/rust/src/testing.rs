//! Tests of a handler without WebAssembly: made-up events in, commands out.
//!
//! ```
//! use pgstream_handler::testing::{Harness, Table};
//! use pgstream_handler::{Action, Event, Out, Result, row};
//!
//! fn on_event(event: &Event, out: &mut Out) -> Result<()> {
//!     out.delete(event.key()?)
//! }
//!
//! let documents = Table::new("public", "documents").key("id", "int8").column("content", "text");
//! let answer = Harness::new(on_event).run([documents.delete(row![7, ()])]).unwrap();
//! assert_eq!(answer.commands[0].action, Action::Delete("7".into()));
//! ```

use std::cell::RefCell;
use std::collections::HashMap;

use crate::bindings::pgstream::host::types as wit;
use crate::{Answers, Column, Event, Failure, Level, Operation, Out, Output, Result, Value, Vectors, run, run_batch};

/// The values of a row, in the order of the table's columns: `row![7, "text", 1.5, true]`. `()` is null, and a
/// [`Value`] is taken as it is: `row![7, Value::Unchanged]`.
#[macro_export]
macro_rules! row {
    ($($value:expr),* $(,)?) => { ::std::vec![$($crate::Value::from($value)),*] };
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Value::Null
    }
}

/// A table, to make events of.
#[derive(Clone, Debug)]
pub struct Table {
    relation: wit::Relation,
}

/// An event that has been made up.
#[derive(Clone, Debug)]
pub struct Change {
    relation: wit::Relation,
    event: wit::Event,
}

impl Table {
    /// A table without columns.
    pub fn new(schema: &str, table: &str) -> Self {
        Self { relation: wit::Relation { schema: schema.into(), table: table.into(), columns: Vec::new() } }
    }

    /// Adds a column of the key.
    pub fn key(self, name: &str, type_name: &str) -> Self {
        self.with(name, type_name, true)
    }

    /// Adds a column.
    pub fn column(self, name: &str, type_name: &str) -> Self {
        self.with(name, type_name, false)
    }

    /// A new row.
    pub fn insert(&self, row: Vec<Value>) -> Change {
        self.change(Operation::Insert, row)
    }

    /// A changed row.
    pub fn update(&self, row: Vec<Value>) -> Change {
        self.change(Operation::Update, row)
    }

    /// A row that is gone; by default only its key is known, the other values are null.
    pub fn delete(&self, row: Vec<Value>) -> Change {
        self.change(Operation::Delete, row)
    }

    /// The table was emptied.
    pub fn truncate(&self) -> Change {
        self.change(Operation::Truncate, Vec::new())
    }

    fn with(mut self, name: &str, type_name: &str, key: bool) -> Self {
        self.relation.columns.push(Column { name: name.into(), type_name: type_name.into(), key });
        self
    }

    fn change(&self, operation: Operation, row: Vec<Value>) -> Change {
        let columns = self.relation.columns.len();
        assert!(row.len() == columns || row.is_empty(), "a row of {} values for {columns} columns", row.len());
        let event = wit::Event {
            operation,
            relation: 0,
            row,
            old_row: None,
            lsn: 0x1000,
            ordinal: 0,
            commit_time: 0,
            xid: 1,
            snapshot: false,
        };
        Change { relation: self.relation.clone(), event }
    }
}

impl Change {
    /// Adds the old row, as replica identity FULL gives it.
    pub fn was(mut self, old_row: Vec<Value>) -> Self {
        self.event.old_row = Some(old_row);
        self
    }
}

/// A handler with a made-up host around it.
pub struct Harness {
    handler: Handler,
    world: World,
}

enum Handler {
    OfEvents(fn(&Event<'_>, &mut Out) -> Result<()>),
    OfBatches(fn(&[Event<'_>], &mut Answers) -> Result<()>),
}

type Model = Box<dyn Fn(&str) -> Vec<f32>>;

#[cfg(any(feature = "http", test))]
type Server = Box<dyn Fn(&crate::http::Request) -> Result<crate::http::Response>>;

#[derive(Default)]
struct World {
    config: HashMap<String, String>,
    embedders: HashMap<String, Model>,
    #[cfg(any(feature = "http", test))]
    server: Option<Server>,
    logged: Vec<(Level, String)>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

impl Harness {
    /// A host without configuration and embedders.
    pub fn new(on_event: fn(&Event<'_>, &mut Out) -> Result<()>) -> Self {
        Self { handler: Handler::OfEvents(on_event), world: World::default() }
    }

    /// As [`new`](Self::new), for the function of a [`batch_handler!`](crate::batch_handler).
    pub fn of_batches(on_batch: fn(&[Event<'_>], &mut Answers) -> Result<()>) -> Self {
        Self { handler: Handler::OfBatches(on_batch), world: World::default() }
    }

    /// Sets a value that the handler reads with [`config`](crate::config).
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.world.config.insert(key.into(), value.into());
        self
    }

    /// Has ids of the rows of a table begin with its name, as the host does where a pipeline has several tables.
    pub fn several_tables(self, schema: &str, table: &str) -> Self {
        let escaped = schema.replace('~', "~0").replace('.', "~1");
        self.config(&format!("pgstream:id/{escaped}.{table}"), &format!("{schema}.{table}"))
    }

    /// Adds an embedder that the handler reaches with [`embed`](crate::embed).
    pub fn embedder(mut self, name: &str, model: impl Fn(&str) -> Vec<f32> + 'static) -> Self {
        self.world.embedders.insert(name.into(), Box::new(model));
        self
    }

    /// Has requests answered by a function instead of the network.
    #[cfg(any(feature = "http", test))]
    pub fn http(mut self, server: impl Fn(&crate::http::Request) -> Result<crate::http::Response> + 'static) -> Self {
        self.world.server = Some(Box::new(server));
        self
    }

    /// Hands the events to the handler as one batch.
    pub fn run(self, changes: impl IntoIterator<Item = Change>) -> Result<Output, Failure> {
        self.run_logged(changes).0
    }

    /// As [`run`](Self::run), with what the handler logged.
    pub fn run_logged(
        self,
        changes: impl IntoIterator<Item = Change>,
    ) -> (Result<Output, Failure>, Vec<(Level, String)>) {
        let mut batch = wit::Batch { relations: Vec::new(), events: Vec::new() };
        for (ordinal, Change { relation, mut event }) in changes.into_iter().enumerate() {
            let known = batch.relations.iter().position(|known| *known == relation);
            let index = known.unwrap_or_else(|| {
                batch.relations.push(relation);
                batch.relations.len() - 1
            });
            (event.relation, event.ordinal) = (index as u32, ordinal as u32);
            batch.events.push(event);
        }
        WORLD.set(self.world);
        let answer = match self.handler {
            Handler::OfEvents(on_event) => run(&batch, on_event),
            Handler::OfBatches(on_batch) => run_batch(&batch, on_batch),
        };
        (answer, WORLD.take().logged)
    }
}

/// The host's side, as `host.rs` calls it.
pub(crate) mod host {
    use std::rc::Rc;

    use super::{Failure, Level, Vectors, WORLD};

    pub(crate) fn config(key: &str) -> Option<Rc<str>> {
        WORLD.with_borrow(|world| world.config.get(key).map(|value| value.as_str().into()))
    }

    pub(crate) fn asked(key: &str) -> Option<String> {
        WORLD.with_borrow(|world| world.config.get(key).cloned())
    }

    pub(crate) fn embed(embedder: &str, texts: &[String]) -> Result<Vectors, Failure> {
        WORLD.with_borrow(|world| {
            let Some(model) = world.embedders.get(embedder) else {
                return Err(Failure::Stop(format!("no embedder `{embedder}`")));
            };
            let rows: Vec<Vec<f32>> = texts.iter().map(|text| model(text)).collect();
            Ok(Vectors { dimension: rows.first().map_or(0, Vec::len), data: rows.concat() })
        })
    }

    #[cfg(any(feature = "http", test))]
    pub(crate) fn send(request: &crate::http::Request) -> crate::Result<crate::http::Response> {
        WORLD.with_borrow(|world| match &world.server {
            Some(server) => server(request),
            None => Err(crate::Error::stop("the test's harness answers no requests: see `Harness::http`")),
        })
    }

    pub(crate) fn log(level: Level, message: &str) {
        WORLD.with_borrow_mut(|world| world.logged.push((level, message.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Rejection};

    fn table() -> Table {
        Table::new("public", "things").key("id", "int8").column("what", "text")
    }

    fn on_batch(events: &[Event<'_>], answers: &mut Answers) -> Result<()> {
        for event in events.iter().rev() {
            answers.to(event).delete(event.text("what")?)?;
        }
        answers.to(&events[0]).delete("first")
    }

    #[test]
    fn of_a_batch_only_the_event_that_cannot_be_handled_is_rejected() {
        let rows = [row![1, "a"], row![2, "b"], row![3, ()], row![4, "d"], row![5, "e"]];
        let output = Harness::of_batches(on_batch).run(rows.map(|row| table().insert(row))).unwrap();
        let answered: Vec<_> = output.commands.iter().map(|command| (command.event, &command.action)).collect();
        let delete = |id: &str| Action::Delete(id.into());
        let expected = [(0, "a"), (0, "first"), (1, "b"), (3, "d"), (3, "first"), (4, "e")];
        assert_eq!(
            answered,
            expected.map(|(event, id)| (event, delete(id))).each_ref().map(|(event, action)| (*event, action))
        );
        let reason = "column `what` of `public.things` is null, not text".into();
        assert_eq!(output.rejections, [Rejection { event: 2, reason }]);
    }
}
