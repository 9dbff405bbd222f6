//! `Loss`: why a pipeline cannot go on from where it was, and the error that says so.

use crate::error::{Error, Fault};
use crate::lsn::Lsn;
use crate::printable::printable;

/// The advice for changes that went past us.
pub(super) const LOST: &str = "changes made meanwhile never reach the pipeline. `pgstream-host resnapshot pipeline.yaml` \
begins anew: it clears the sinks and copies all rows again; with `on_slot_lost: resnapshot` in the source that happens by itself";

/// Changes were lost to the pipeline, or are about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    what: String,
    why: Why,
}

/// The cause of a loss. `Display` is the text that the error names as its cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("it was dropped, or left behind by a failover or a restored backup")]
    SlotGone,
    #[error("the server does not keep it, though it keeps the slot")]
    PublicationGone,
    #[error("it no longer publishes just the tables of the source")]
    PublicationChanged,
    #[error("other tables may have been in it, and other rows, when what the slot still keeps was written")]
    OtherPublication { was: String },
    #[error("it was dropped and made again, or renamed and another put in its place (OID {was}, now {is})")]
    Swapped { was: u32, is: u32 },
    #[error("invalidation reason: {0}")]
    Invalidated(String),
    #[error("the slot was made on server {was}, this is server {is}: the database was copied or restored there")]
    OtherServer { was: String, is: String },
    #[error("the slot was made for the database with OID {was}, this one has {is}: it is a copy, or was restored")]
    OtherDatabase { was: u32, is: u32 },
    #[error(
        "the server was promoted or restored (timeline {was}, now {is}), and the slot is not one that the server brings along"
    )]
    OtherTimeline { slot: String, was: i64, is: i64 },
    #[error("the pipeline stopped at {left}, the slot stands at {at}: it was moved or made again by somebody else")]
    Moved { left: Lsn, at: Lsn },
    #[error(
        "the pipeline has seen the log up to {seen}, the server's ends at {end}: it was restored, or lost commits in a failover"
    )]
    Ahead { seen: Lsn, end: Lsn },
}

impl Loss {
    pub(super) fn slot_gone(slot: &str) -> Self {
        Self { what: format!("slot `{slot}` is gone"), why: Why::SlotGone }
    }

    pub(super) fn publication_gone(publication: &str) -> Self {
        Self { what: format!("publication `{publication}` is gone"), why: Why::PublicationGone }
    }

    pub(super) fn publication_changed(publication: &str) -> Self {
        let what = format!("publication `{publication}` was changed while the pipeline used it");
        Self { what, why: Why::PublicationChanged }
    }

    pub(super) fn other_publication(slot: &str, was: &str, is: &str) -> Self {
        let what = format!("slot `{slot}` was read with publication `{was}`, and now is to be with `{is}`");
        Self { what, why: Why::OtherPublication { was: was.to_owned() } }
    }

    pub(super) fn swapped(table: &str, was: u32, is: u32) -> Self {
        let what = format!("`{table}` is another table than the one that the pipeline follows");
        Self { what, why: Why::Swapped { was, is } }
    }

    pub(super) fn invalidated(slot: &str, reason: &str) -> Self {
        let what = format!("slot `{slot}` was invalidated by the server");
        Self { what, why: Why::Invalidated(reason.to_owned()) }
    }

    pub(super) fn other_server(slot: &str, was: &str, is: &str) -> Self {
        let (what, was, is) = (foreign(slot), was.to_owned(), is.to_owned());
        Self { what, why: Why::OtherServer { was, is } }
    }

    pub(super) fn other_database(slot: &str, was: u32, is: u32) -> Self {
        Self { what: foreign(slot), why: Why::OtherDatabase { was, is } }
    }

    pub(super) fn other_timeline(slot: &str, was: i64, is: i64) -> Self {
        Self { what: foreign(slot), why: Why::OtherTimeline { slot: slot.to_owned(), was, is } }
    }

    pub(super) fn moved(slot: &str, left: Lsn, at: Lsn) -> Self {
        Self { what: format!("slot `{slot}` is not where the pipeline left it"), why: Why::Moved { left, at } }
    }

    pub(super) fn ahead(seen: Lsn, end: Lsn) -> Self {
        Self { what: "the pipeline is ahead of the server".to_owned(), why: Why::Ahead { seen, end } }
    }

    /// True if the positions of the server still mean what they meant, so that a running pipeline
    /// can begin anew.
    fn is_at_home(&self) -> bool {
        matches!(
            self.why,
            Why::SlotGone
                | Why::PublicationGone
                | Why::PublicationChanged
                | Why::Swapped { .. }
                | Why::Invalidated(_)
                | Why::Moved { .. }
        )
    }

    pub(super) fn error(self) -> Error {
        let Self { what, why } = &self;
        let help = match why {
            Why::Invalidated(_) => {
                format!(
                    "{LOST}. Then raise `max_slot_wal_keep_size` or `idle_replication_slot_timeout`, whichever it was"
                )
            }
            Why::OtherTimeline { slot, .. } => format!(
                "{LOST}. If Patroni or pg_failover_slots carried the slot over: DELETE FROM pgstream.slots WHERE slot = '{slot}'; \
                 and start again. On Postgres 17 and later `failover: true` in the source lets the server do it"
            ),
            Why::OtherPublication { was } => format!(
                "write `publication: {was}` into the source, as it was, and nothing is lost. To read another one from now on: \
                 `pgstream-host resnapshot pipeline.yaml` begins anew: it clears the sinks and copies all rows again",
                was = printable(was)
            ),
            Why::Ahead { .. } => {
                format!("{LOST}. Before the next failover: list the standby's slot in `synchronized_standby_slots`")
            }
            _ => LOST.to_owned(),
        };
        Error::new(Fault::Environment, what.clone()).because(self).help(help)
    }

    /// The loss that an error tells of.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// Tells if an error tells of a loss after which a running pipeline can begin anew.
    pub(super) fn can_begin_anew(error: &Error) -> bool {
        Self::of(error).is_some_and(Self::is_at_home)
    }
}

fn foreign(slot: &str) -> String {
    format!("slot `{slot}` was made elsewhere")
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.why.fmt(f)
    }
}

impl std::error::Error for Loss {}
