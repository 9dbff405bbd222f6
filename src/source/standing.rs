//! `Standing`: how a pipeline stands at its source, whether or not anybody runs it.

use super::rows::Copied;
use crate::lsn::Lsn;
use crate::meter::SlotReading;

/// A pipeline at one moment.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The name of its slot.
    pub slot_name: String,
    /// The slot, if there is one.
    pub slot: Option<SlotStanding>,
    /// The note on it in `pgstream.slots`, if there is one.
    pub noted: Option<NotedSlot>,
    /// Copies of tables, done or not.
    pub copies: Vec<Copied>,
}

/// A slot at one moment.
#[derive(Clone, Debug)]
pub struct SlotStanding {
    /// Tells whether somebody reads it.
    pub active: bool,
    /// The one who reads it, in words.
    pub reader: Option<String>,
    /// Tells whether the server has given it up, and why.
    pub lost: Option<String>,
    /// All that the server keeps for it.
    pub reading: SlotReading,
    /// Up to where everything is durable.
    pub confirmed: Option<Lsn>,
    /// The end of the server's log.
    pub server: Lsn,
}

/// The note on a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedSlot {
    /// The number of times that a host has begun to read it.
    pub turn: i64,
    /// The position that was confirmed when the pipeline last ended in order. None while it runs,
    /// and after a crash.
    pub left_at: Option<Lsn>,
    /// The sinks are to be cleared before anything is copied.
    pub clears_sinks: bool,
}
