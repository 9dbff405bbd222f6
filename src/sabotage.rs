//! `sabotage`: breakages of the promises of delivery, one at a time, so that the tests of the
//! promises can be tested.
//!
//! A test that cannot fail proves nothing. Each breakage here is a mistake that a program of this
//! kind is known for; with the environment variable `PGSTREAM_HOST_BREAK` set to its name the host
//! makes that mistake, and `tests/it/breakages` must notice. Only in builds with debug assertions:
//! in a release build `is_on` is the constant `false`, and nothing of this is left.

use crate::error::{Error, Fault, Result};

/// The variable that names the breakage.
pub const VARIABLE: &str = "PGSTREAM_HOST_BREAK";

/// A mistake on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// A batch counts as durable once it was received.
    EarlyConfirm,
    /// One delivery in three is reported durable without having been written.
    DroppedBatch,
    /// The handlers' results go on in another order than their batches came in.
    ReorderedResults,
    /// A keepalive of the server is confirmed on receipt, whatever is still on its way.
    KeepaliveConfirmed,
    /// A delivery that failed in passing is not tried again.
    RetrySkipped,
    /// pgvector's position is stored before the rows, in a transaction of its own.
    PositionApart,
    /// A host that was given up for dead may still write.
    FencingOff,
    /// Copied rows are taken although the stream has changed them meanwhile.
    OverlapIgnored,
    /// Copied rows are taken although their query did not see a transaction that the stream has
    /// brought.
    SnapshotBelieved,
    /// A copied row gives way to a change of it that lacks its large text.
    GapLeft,
    /// A copy is noted to have come as far as it was read, not as far as it is durable.
    CopyNotedEarly,
    /// A changed key is an insert of the new one, and no delete of the old one.
    KeyChangeWithoutDelete,
    /// A value that the server did not send is null.
    UnchangedAsNull,
    /// TRUNCATE is not passed on.
    TruncateIgnored,
    /// A group keeps the points that it had, beside those that replace them.
    GroupLeftovers,
    /// `qdrant-edge` reports a write durable before it is flushed.
    NotFlushed,
    /// A slot that is gone is made anew, as if nothing had been missed.
    SlotMadeAnew,
}

impl Breakage {
    /// All of them.
    pub const ALL: [Breakage; 17] = [
        Breakage::EarlyConfirm,
        Breakage::DroppedBatch,
        Breakage::ReorderedResults,
        Breakage::KeepaliveConfirmed,
        Breakage::RetrySkipped,
        Breakage::PositionApart,
        Breakage::FencingOff,
        Breakage::OverlapIgnored,
        Breakage::SnapshotBelieved,
        Breakage::GapLeft,
        Breakage::CopyNotedEarly,
        Breakage::KeyChangeWithoutDelete,
        Breakage::UnchangedAsNull,
        Breakage::TruncateIgnored,
        Breakage::GroupLeftovers,
        Breakage::NotFlushed,
        Breakage::SlotMadeAnew,
    ];

    /// Its name in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Breakage::EarlyConfirm => "early-confirm",
            Breakage::DroppedBatch => "dropped-batch",
            Breakage::ReorderedResults => "reordered-results",
            Breakage::KeepaliveConfirmed => "keepalive-confirmed",
            Breakage::RetrySkipped => "retry-skipped",
            Breakage::PositionApart => "position-apart",
            Breakage::FencingOff => "fencing-off",
            Breakage::OverlapIgnored => "overlap-ignored",
            Breakage::SnapshotBelieved => "snapshot-believed",
            Breakage::GapLeft => "gap-left",
            Breakage::CopyNotedEarly => "copy-noted-early",
            Breakage::KeyChangeWithoutDelete => "key-change-without-delete",
            Breakage::UnchangedAsNull => "unchanged-as-null",
            Breakage::TruncateIgnored => "truncate-ignored",
            Breakage::GroupLeftovers => "group-leftovers",
            Breakage::NotFlushed => "not-flushed",
            Breakage::SlotMadeAnew => "slot-made-anew",
        }
    }

    /// Tells if the host is to make this mistake.
    #[cfg(debug_assertions)]
    pub(crate) fn is_on(self) -> bool {
        chosen() == Some(self)
    }

    /// Never, in a release build.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub(crate) const fn is_on(self) -> bool {
        false
    }
}

#[cfg(debug_assertions)]
fn chosen() -> Option<Breakage> {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<Breakage>> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        Breakage::ALL.into_iter().find(|breakage| breakage.name() == name)
    })
}

/// Returns the breakage that the environment asks for, if any. A name that nothing goes by is an
/// error, and so is any name in a release build: otherwise a test would pass and prove nothing.
pub(crate) fn requested() -> Result<Option<Breakage>> {
    let Ok(name) = std::env::var(VARIABLE) else { return Ok(None) };
    match Breakage::ALL.into_iter().find(|breakage| breakage.name() == name) {
        Some(breakage) if breakage.is_on() => Ok(Some(breakage)),
        _ => Err(Error::new(
            Fault::Config,
            format!("`{VARIABLE}` is set to `{name}`, and nothing can be broken that way"),
        )
        .help(format!("unset {VARIABLE}: it is for tests, with the names of `src/sabotage.rs`, in debug builds only"))),
    }
}
