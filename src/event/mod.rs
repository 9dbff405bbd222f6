//! Changes of rows: `Event`s in a `Batch`, the `Relation` they belong to, and the `Value`s of their
//! columns.

pub mod json;

mod arena;
mod batch;
mod head;
mod relation;
mod utf8;
mod value;

pub use arena::Arena;
pub use batch::{Batch, BatchBuilder, Event, Mark, Row};
pub use head::{BadLine, EventHead, Operation};
pub use relation::{Column, Naming, Relation, ReplicaIdentity};
pub(crate) use utf8::{is_utf8, utf8};
pub use value::{Cell, Kind, Place, Value};
