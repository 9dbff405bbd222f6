//! The one JSON form of events: written by dead letters and `tap --record`, read by `test`.
//!
//! ```json
//! {"operation":"update","schema":"public","table":"documents","key":["id"],
//!  "types":{"id":"int8","title":"text","price":"numeric"},
//!  "row":{"id":7,"title":"Tents","price":{"numeric":"1.50"}},"old_row":null,
//!  "commit_time":1767225600000000,"xid":741,"lsn":"0/16B3748","ordinal":0}
//! ```
//!
//! JSON's null, booleans, numbers and strings stand for themselves: a number with a fraction or an
//! exponent is a float, one without an integer, a string is text. What JSON cannot say is an object
//! with the kind as its only key (`{"unchanged":true}`, `{"timestamp":1767225600000000}`), so that
//! nothing is guessed. Where `types` says what a column is, people may leave that object away when
//! they write events by hand: `"2026-01-01"` in a `date` column is a date.

mod columns;
mod read;
mod tree;
mod types;
mod value;
mod write;

pub use read::{Flaw, Reader, Step};
pub use tree::{Json, SyntaxError};
pub use write::{key, write};

#[cfg(test)]
mod tests;
