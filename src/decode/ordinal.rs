//! `Span`: where the events of a transaction stand in it. A position names the same row whenever
//! the transaction is sent.

use std::ops::Range;

use super::DecodeError;
use super::message::Begin;
use super::table::{Table, malformed};
use super::wire::{Flaw, Reader};
use crate::event::{BatchBuilder, EventHead, Operation};
use crate::lsn::Position;

pub(super) const OUTSIDE: &str = "outside of a transaction";

/// The transaction that is being decoded.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) begin: Begin,
    /// Of the next event.
    ordinal: u32,
}

impl Transaction {
    pub(super) fn new(begin: Begin) -> Self {
        Self { begin, ordinal: 0 }
    }
}

/// The outcome of a message about rows: [`Decoded::Rows`](super::Decoded::Rows).
pub(super) struct Rows {
    pub(super) events: u32,
    pub(super) incomplete: bool,
}

/// The ordinals that a message about rows takes within its transaction.
///
/// A position must name the same row each time that a transaction is sent: sinks store positions,
/// and skip what lies before them. So how far a message moves the ordinal is told by the server's
/// bytes alone, and never by our settings, by what we know of the table, or by what becomes of the
/// row. Rows of tables that nobody wants count, and an UPDATE that could be a change of the key
/// counts as the two events of one. A version that counts otherwise may only count more: then what
/// a former version has stored lies further back, and rows come twice instead of not at all.
pub(super) struct Span {
    message: &'static str,
    /// The first ordinal behind the message; none if there are not so many.
    end: Option<u32>,
}

impl Span {
    pub(super) fn of(tag: u8, payload: &[u8], transaction: Option<&Transaction>) -> Self {
        let (message, events) = match tag {
            b'I' => ("Insert", 1),
            // With an old row, behind the OID, it may be a delete and an insert.
            b'U' => ("Update", if payload.get(5) == Some(&b'N') { 1 } else { 2 }),
            b'D' => ("Delete", 1),
            _ => ("Truncate", Reader::after_tag(payload).u32().unwrap_or(u32::MAX)),
        };
        Self { message, end: transaction.and_then(|transaction| transaction.ordinal.checked_add(events)) }
    }

    /// Moves the transaction's ordinal behind the message.
    pub(super) fn pass(self, transaction: Option<&mut Transaction>) -> Result<(), DecodeError> {
        let Some(transaction) = transaction else {
            return Err(DecodeError::OutOfPlace { message: self.message, place: OUTSIDE });
        };
        let too_many = || malformed(self.message, Flaw::Bad(TOO_MANY));
        transaction.ordinal = self.end.ok_or_else(too_many)?;
        Ok(())
    }
}

const TOO_MANY: &str = "too many events in a transaction";

/// Numbers the events of a message and adds those that are new.
pub(super) struct Events<'a> {
    message: &'static str,
    transaction: &'a mut Transaction,
    resume_after: Option<Position>,
    pub(super) snapshot: bool,
    pub(super) replayed: bool,
    pub(super) added: u32,
}

impl<'a> Events<'a> {
    pub(super) fn of(
        message: &'static str,
        transaction: &'a mut Option<Transaction>,
        resume_after: Option<Position>,
    ) -> Result<Self, DecodeError> {
        let Some(transaction) = transaction.as_mut() else {
            return Err(DecodeError::OutOfPlace { message, place: OUTSIDE });
        };
        Ok(Self { message, transaction, resume_after, snapshot: false, replayed: false, added: 0 })
    }

    /// Passes the place of an event over.
    pub(super) fn leave_out(&mut self) -> Result<(), DecodeError> {
        let too_many = || malformed(self.message, Flaw::Bad(TOO_MANY));
        self.transaction.ordinal = self.transaction.ordinal.checked_add(1).ok_or_else(too_many)?;
        Ok(())
    }

    pub(super) fn push(
        &mut self,
        operation: Operation,
        table: &Table,
        row: Range<u32>,
        old_row: Option<Range<u32>>,
        out: &mut BatchBuilder,
    ) -> Result<(), DecodeError> {
        let position = Position { lsn: self.transaction.begin.final_lsn, ordinal: self.transaction.ordinal };
        self.leave_out()?;
        if self.resume_after.is_none_or(|seen| position > seen) {
            let Begin { commit_time, xid, .. } = self.transaction.begin;
            let snapshot = self.snapshot;
            let head = EventHead { operation, position, commit_time, xid, snapshot, replayed: self.replayed };
            out.push_event(&table.relation, head, row, old_row);
            self.added += 1;
        }
        Ok(())
    }

    pub(super) fn added(self, incomplete: bool) -> Rows {
        Rows { events: self.added, incomplete: incomplete && self.added > 0 }
    }
}
