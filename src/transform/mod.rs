//! A `Transform`: batches of events through a WebAssembly component, commands out.

use crate::command::Command;

/// What a handler made of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// In the order of the events they answer. Checked: indices, finite numbers, JSON objects, ids.
    pub commands: Vec<Command>,
    /// Events that the handler refused.
    pub rejections: Vec<Rejection>,
}

/// An event that a handler refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// Index into the batch's events; checked.
    pub event: usize,
    /// Why, in the handler's words; without control characters, of bounded length.
    pub reason: String,
}
