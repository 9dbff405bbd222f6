//! Write [pgstream-host](https://github.com/pgstream-host/pgstream-host) handlers in Rust.
//!
//! A handler is a function that is called with one event at a time and says what is to become of the vector store:
//!
//! ```
//! use pgstream_handler::{Event, Operation, Out, Result, handler, json, text};
//!
//! fn on_event(event: &Event, out: &mut Out) -> Result<()> {
//!     match event.operation() {
//!         Operation::Insert | Operation::Update if event.unchanged("content") => {
//!             out.patch(event.id()?, json!({ "title": event.row()["title"] }))
//!         }
//!         Operation::Insert | Operation::Update => out.upsert(
//!             event.id()?,
//!             text(event.text("content")?), // the host embeds it
//!             json!({ "title": event.row()["title"] }),
//!         ),
//!         Operation::Delete => out.delete(event.id()?),
//!         Operation::Truncate => out.clear(),
//!     }
//! }
//!
//! handler!(on_event);
//! ```
//!
//! An `Err` rejects that one event, with its reason, and leaves the rest of the batch alone; [`Error::retry`] and
//! [`Error::stop`] are for what concerns the whole batch. A panic ends the call: the host looks for the event that causes
//! it, and rejects that one with the panic's message. An `Err` is much cheaper.
//!
//! A handler that gains from seeing several events at once, say to [`embed`] all their texts in one go, takes
//! [`batch_handler!`] instead.
//!
//! A large column that an UPDATE left alone is *unchanged*: Postgres did not send it. That is not null. [`Event::unchanged`]
//! tells it, and [`Out::patch`] updates the payload while the vectors stay.
//!
//! With the crate's feature `http` a handler can send requests to hosts that its pipeline grants: see `http`.
//!
//! A component's allocator is this crate's: what a batch takes is given back as a whole. A handler with a
//! `#[global_allocator]` of its own takes the crate without its feature `arena`.
//!
//! The crate of a handler has `crate-type = ["cdylib", "rlib"]` and is built with
//! `cargo build --release --target wasm32-wasip2`. Its functions can be tested without WebAssembly: see [`testing`].

#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "handler",
        pub_export_macro: true,
        default_bindings_module: "pgstream_handler::bindings",
        additional_derives: [PartialEq],
    });
}

#[cfg(any(target_family = "wasm", test))]
mod arena;
mod chunk;
mod error;
mod event;
mod exact;
mod host;
#[cfg(any(feature = "http", test))]
pub mod http;
mod out;
mod payload;
mod run;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;
mod value;

#[doc(inline)]
pub use bindings::pgstream::host::types::{
    Action, Column, Command, Embedding, Failure, Operation, Output, Point, Rejection, SparseVector, Value,
};
pub use chunk::chunks;
pub use error::{Error, Result};
pub use event::{Event, Row};
pub use host::{Level, Vectors, config, embed, log};
pub use out::{Answers, Embeddings, Out, text};
pub use payload::Payload;
#[doc(hidden)]
pub use run::{answered, run, run_batch};
pub use serde_json::{Value as Json, json};

/// Makes a function of the form `fn(&Event, &mut Out) -> Result<()>` the handler of this component.
#[macro_export]
macro_rules! handler {
    ($on_event:path) => {
        $crate::component!($crate::run, $on_event);
    };
}

/// Makes a function of the form `fn(&[Event], &mut Answers) -> Result<()>` the handler of this component. It is called with
/// the events of a whole batch, and answers each with `answers.to(&event)`.
///
/// If it fails with a rejection, what it answered is forgotten and it is called again with each half of the events, until
/// those that cannot be handled are found; only they are rejected.
///
/// ```
/// use pgstream_handler::{Answers, Event, Operation, Result, batch_handler, embed, json};
///
/// fn on_batch(events: &[Event], answers: &mut Answers) -> Result<()> {
///     let (gone, kept): (Vec<&Event>, Vec<_>) = events.iter().partition(|event| event.operation() == Operation::Delete);
///     let texts: Vec<String> = kept.iter().map(|event| event.text("content").map(Into::into)).collect::<Result<_>>()?;
///     let vectors = embed("words", &texts)?;
///     for (event, vector) in kept.into_iter().zip(vectors.rows()) {
///         answers.to(event).upsert(event.id()?, vector.to_vec(), json!({}))?;
///     }
///     for event in gone {
///         answers.to(event).delete(event.id()?)?;
///     }
///     Ok(())
/// }
///
/// batch_handler!(on_batch);
/// ```
#[macro_export]
macro_rules! batch_handler {
    ($on_batch:path) => {
        $crate::component!($crate::run_batch, $on_batch);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! component {
    ($run:path, $function:path) => {
        const _: () = {
            struct Handler;

            impl $crate::bindings::Guest for Handler {
                fn handle(
                    batch: $crate::bindings::pgstream::host::types::Batch,
                ) -> ::core::result::Result<$crate::Output, $crate::Failure> {
                    $crate::answered(batch, |batch| $run(batch, $function))
                }
            }

            #[cfg(target_family = "wasm")]
    $crate::bindings::export!(Handler with_types_in $crate::bindings);
        };
    };
}

/// Logs a line that is only of use when a handler is being debugged closely. Takes what `format!` takes.
#[macro_export]
macro_rules! trace {
    ($($format:tt)+) => { $crate::log($crate::Level::Trace, &::std::format!($($format)+)) };
}

/// Logs a line that is of use when a handler is being debugged. Takes what `format!` takes.
#[macro_export]
macro_rules! debug {
    ($($format:tt)+) => { $crate::log($crate::Level::Debug, &::std::format!($($format)+)) };
}

/// Logs something that happened. Takes what `format!` takes.
#[macro_export]
macro_rules! info {
    ($($format:tt)+) => { $crate::log($crate::Level::Info, &::std::format!($($format)+)) };
}

/// Logs something that a person should look at some time. Takes what `format!` takes.
#[macro_export]
macro_rules! warn {
    ($($format:tt)+) => { $crate::log($crate::Level::Warn, &::std::format!($($format)+)) };
}

/// Logs something that went wrong. It is repeated in the pipeline's error if the call fails. Takes what `format!` takes.
#[macro_export]
macro_rules! error {
    ($($format:tt)+) => { $crate::log($crate::Level::Error, &::std::format!($($format)+)) };
}
