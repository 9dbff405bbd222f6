//! The contract of a `Sink`: where commands become durable.

mod kind;

mod coalesce;
mod payload;

pub mod pgvector;

mod chunks;
mod point_id;
mod spaces;
mod stored;

pub mod qdrant;

mod blocking;

pub mod qdrant_edge;

pub mod lines;

pub mod blackhole;

pub mod dead_letters;

pub use coalesce::{GroupDelete, Patch, PatchRun, Payload, Upsert, WriteSet};
pub use kind::{Leftover, SinkKind, WrittenPlace, kind};

use std::sync::Arc;

use async_trait::async_trait;

use crate::command::{Command, Point};
use crate::error::{Code, Error, Fault, Result};
use crate::lsn::Position;

/// Makes commands durable.
///
/// One task owns a sink and makes one call at a time, in stream order, unless there is
/// [`another`](Sink::another); so two commands for one id are never in flight together unless the
/// sink itself sends them so, which it must not: inside a call it may send requests for different
/// ids at once, after coalescing (`WriteSet`).
#[async_trait]
pub trait Sink: Send {
    /// Up to which position the sink already holds everything that came from `origin`. Only sinks
    /// that store the position in the same transaction as the points answer Some; the caller then
    /// skips what lies before. Called once, before the first `write` and not before the source
    /// streams.
    async fn resume(&mut self, origin: &str) -> Result<Option<Held>>;

    /// Writes everything that `delivery` holds. `Ok` promises that it would survive a crash of the
    /// sink's server and of the host. After a `Transient` error the same delivery comes again, so a
    /// write must be repeatable: the same delivery twice leaves the same state. An error with a
    /// [`Code`] may be the fault of single commands: the same commands come again in smaller
    /// deliveries, in order, until the event is found that is to blame. After any other error the
    /// pipeline stops.
    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()>;

    /// Another hand at the same store, for a write that begins while one of this is still under
    /// way. No point and no group is in both; but points that one writes may be in the store under
    /// a group that the other removes. None where writes follow one another, as they must where a
    /// position is stored.
    fn another(&self) -> Option<Box<dyn Sink>> {
        None
    }

    /// Returns the marks by which this store is known, so that it is noticed if another one is in
    /// its place, or another model makes its vectors.
    fn marks(&self) -> StoreMarks {
        StoreMarks::None
    }

    /// Returns the check that tells if a point would fit, before it is delivered. None if anything
    /// fits.
    fn admission(&self) -> Option<Admission> {
        None
    }

    /// Closes connections and files. Everything that was written is durable already.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// Refuses with `Handler` a point that a sink has no place for: a vector of another length, of
/// another name.
pub type Admission = Arc<dyn Fn(&Point, Position) -> Result<()> + Send + Sync>;

/// The marks by which a store is known from start to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreMarks {
    /// Nothing is kept in it.
    #[default]
    None,
    /// Its place alone: others may take it away at any time, as they rotate files.
    Place,
    /// A word that it was given when it was made; several where several processes gave it one at
    /// once. Empty for one that is not there yet.
    Words(Vec<String>),
}

/// The result of a look at a store that makes nothing there.
#[derive(Default)]
pub struct Look {
    /// As [`Sink::marks`].
    pub marks: StoreMarks,
    /// As [`Sink::admission`].
    pub admission: Option<Admission>,
}

/// Content of one write: commands, or rejected events, or neither. An empty delivery only moves a
/// stored position on.
#[derive(Debug, Default)]
pub struct Delivery<'a> {
    /// In stream order.
    pub commands: Vec<&'a Command>,
    /// Only ever given to sinks that keep dead letters or nothing. In stream order, but for events
    /// that another sink refused: those come alone, when they are found.
    pub rejected: Vec<&'a DeadLetter>,
    /// The last event that the delivery covers.
    pub through: Held,
}

/// The last event up to which a sink holds a stream. The event itself is held, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The event's position in the stream.
    pub position: Position,
    /// The time at which its transaction committed, in µs since 1970-01-01 UTC.
    pub committed: i64,
}

impl Delivery<'_> {
    /// For sinks that have no place for rejected events.
    fn only_commands(&self) -> Result<()> {
        if self.rejected.is_empty() {
            return Ok(());
        }
        Err(Error::new(Fault::Bug, "rejected events were given to a sink that only takes commands"))
    }
}

/// An event that a handler refused, that broke it, or of which a sink refused what the handler
/// made; with all that is needed to look into it and to bring it back.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The event's position in the stream.
    pub position: Position,
    /// The time at which it was set aside, in µs since 1970-01-01 UTC.
    pub at: i64,
    /// The transform among whose rejected events it is.
    pub transform: String,
    /// SHA-256 of the handler's component, in hexadecimal.
    pub handler: String,
    /// The sink that refused it, if it was not the handler.
    pub sink: Option<String>,
    /// The kind of failure, for machines.
    pub code: Code,
    /// The reason: the handler's words, what the host says about the call and what the guest said
    /// before, or the sink's error.
    pub reason: String,
    /// The table, as `schema.table`.
    pub table: String,
    /// The key's columns with their values, as a JSON object; empty for a truncate.
    pub key: String,
    /// It came of a replay: an earlier event of the row was set aside before, and this is what
    /// became of bringing it back.
    pub replayed: bool,
    /// The event in its JSON form, see [`crate::event::json`].
    pub event: String,
}

/// Finds points in a store, for people at a prompt and not for serving. Works beside a running
/// pipeline.
#[async_trait]
pub trait Searcher: Send + Sync {
    /// The nearest points to a query, best first. Opens the store to read it, makes nothing, and
    /// lets it go.
    ///
    /// # Errors
    /// As [`SinkKind::open`]; `Environment` if there is no such store; and `Config` if it cannot be
    /// searched by this vector.
    async fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>>;
}

/// A vector to look for, in the vector space named `vector` (`""` is the default one).
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Name of the vector.
    pub vector: &'a str,
    /// The vector to look for.
    pub values: &'a [f32],
    /// The largest number of points to answer.
    pub limit: usize,
}

/// A point that a search found.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Hit {
    /// The id that the handler gave the point.
    pub id: String,
    /// Similarity, higher is nearer, whatever the distance: cosine or dot product as they are,
    /// Euclidean negated.
    pub score: f32,
    /// The point's payload, without keys that a sink keeps for itself.
    pub payload: serde_json::Map<String, serde_json::Value>,
}
