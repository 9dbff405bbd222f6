//! The contract of a `Source`: where batches of events come from, and where confirmations go.

mod kind;

mod rows;

mod standing;

pub mod postgres;

pub mod jsonl;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Lsn;

pub use kind::{
    AdministerSlot, Capability, Claim, CopyRows, FollowCopies, OpenTap, ReadBack, SourceKind, TapStream, Written, able,
    kind,
};
pub use rows::{AskedRows, Copied, CopyRequest, SampleRow, WantedRow};
pub use standing::{NotedSlot, SlotStanding, Standing};

/// A stream of committed changes that can be confirmed, and that resends what was not.
///
/// The connection's upkeep (status updates, replies to keepalives) goes on whether or not `next` is
/// being polled: a pipeline that does not ask for batches is applying back-pressure, not going
/// away. Transient failures are retried inside; an error from any method is final for the pipeline.
#[async_trait]
pub trait Source: Send {
    /// Names what the positions belong to: they mean nothing for another server, database or slot.
    /// A sink stores positions under this text.
    fn origin(&self) -> &str;

    /// The commit of a transaction of which every sink held all events before this stream began:
    /// they were confirmed. A sink that stores positions of this origin, and holds less, has lost
    /// what was written to it. Invalid where none is known.
    fn held_before(&self) -> Lsn {
        Lsn::INVALID
    }

    /// The next batch in stream order; also a batch without events, when there is only progress to
    /// report. None when the stream has come to its end; one from a server never does. Safe to
    /// cancel.
    ///
    /// After a reconnect nothing that was returned before is returned again, unless the stream
    /// begins anew: the slot was made again, was read by another host meanwhile, or has come along
    /// to a promoted standby. Then everything comes again that does not count as confirmed there,
    /// and the first batch says so ([`Batch::begins_anew`]).
    async fn next(&mut self) -> Result<Option<Batch>>;

    /// Everything up to `lsn` is durable in every sink. Only rises, until a batch begins the stream
    /// anew: from then on it is the end of that batch or of a later one. Returns at once; the
    /// server hears of it with the next status update.
    fn confirm(&self, lsn: Lsn);

    /// Tells if transactions stand in about the order of their times: then one that stands before
    /// another and is much younger tells of another history. Nothing of the kind is known of a file
    /// that somebody put together.
    fn is_in_order_of_time(&self) -> bool;

    /// Returns how far the pipeline is behind the server, for progress lines.
    fn lag(&self) -> Lag;

    /// The state of the source, now and as it changes. A source that does not tell always streams.
    fn state(&self) -> watch::Receiver<SourceState> {
        watch::channel(SourceState::Streaming).1
    }

    /// Tells the server what was confirmed last, ends the stream in order and closes the
    /// connection. Bounded in time.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// The state of a source, as far as others can tell it from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// It connects, or sets up what it reads from.
    #[default]
    Connecting,
    /// Another process reads what this one wants to read. It takes over when that process lets go.
    Waiting,
    /// Rows that were there before join the stream.
    Copying,
    /// It streams, or waits for something to stream.
    Streaming,
    /// The stream was cut off, for this reason, and the source tries again.
    Retrying(String),
}

/// A sink that a source feeds, as it is known from start to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Its name in the pipeline file.
    pub sink: String,
    /// The marks by which its store is known; empty for one that is not there yet. None if another
    /// one in its place is none of our business.
    pub marks: Option<Vec<String>>,
    /// The models that make its vectors, the one for all that is not named otherwise first. Their
    /// names hold neither servers nor keys.
    pub models: Vec<String>,
}

impl Fed {
    /// Tells if the store is not the one that was known by one of these marks.
    pub fn is_other_than(&self, known: &[String]) -> bool {
        self.marks.as_ref().is_some_and(|marks| !known.iter().any(|mark| marks.contains(mark)))
    }

    /// Tells if vectors of models of then and those of now may stand side by side: no model went as
    /// another one came.
    pub fn goes_with(&self, models: &[String]) -> bool {
        let all_in = |some: &[String], others: &[String]| some.iter().all(|model| others.contains(model));
        let (Some(first), Some(first_now)) = (models.first(), self.models.first()) else { return true };
        // The first one makes the vectors that no other is named after.
        first == first_now && (all_in(models, &self.models) || all_in(&self.models, models))
    }

    /// The error of a sink whose vectors these models have made, without help.
    pub fn other_model(&self, models: &[String]) -> Error {
        let what = format!("the vectors in sink `{}` were made by another model", self.sink);
        let why = format!("it was {}, and is now {}", models.join(", "), self.models.join(", "));
        Error::new(Fault::Config, what).because(why)
    }
}

/// The distance of the pipeline behind the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Bytes of log between what is confirmed and what the server has.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_go_together_unless_one_took_the_place_of_another() {
        let models = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (noted, now, together) in [
            (&["a"][..], &["a"][..], true),
            (&["a"], &["b"], false),
            (&["a"], &["a", "b"], true),
            (&["a", "b"], &["a"], true),
            (&["a", "b"], &["b", "a"], false),
            (&["a", "b"], &["a", "c"], false),
            (&[], &["a"], true),
            (&["a"], &[], true),
        ] {
            let fed = Fed { sink: "sink".into(), marks: None, models: models(now) };
            assert_eq!(fed.goes_with(&models(noted)), together, "{noted:?} {now:?}");
        }
    }
}
