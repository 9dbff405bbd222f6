//! The contract of a kind of source: what can be asked of one beside its stream, and what it cannot
//! do.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::rows::{AskedRows, Copied, CopyRequest, SampleRow, WantedRow};
use super::standing::Standing;
use super::{Fed, Source};
use crate::config::{ComponentKind, ComponentSettings, KindEntry, SourceComponent, SourceDatabase, section_of_kinds};
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::meter::SourceMeter;
use crate::postgres::Url;

/// Settings of a source. A kind of source is a struct that implements this and [`ComponentKind`],
/// and a line in the list of kinds. The methods take the pipeline's name, under which the source
/// keeps what it keeps.
#[async_trait]
pub trait SourceKind: ComponentSettings {
    /// Returns what no second pipeline may read beside this one; None if any number may.
    ///
    /// # Errors
    /// `Config` if the settings are wrong, as far as they tell without a look at anything.
    fn claim(&self, pipeline: &str) -> Result<Option<Claim>>;

    /// The setting by which the source reads what a sink of its own pipeline writes; None if it
    /// does not.
    fn reads_back(&self, written: &Written<'_>) -> Option<ReadBack>;

    /// The setting by which the source reads what this program keeps its own state in; None if it
    /// does not.
    fn reads_state(&self) -> Option<ReadBack>;

    /// Opens the stream, as far as it takes with what it needs at its origin. It counts with
    /// `meter`.
    ///
    /// # Errors
    /// `Config` or `Environment` with what to type; `Transient` if it may pass.
    async fn open(&self, pipeline: &str, sinks: Vec<Fed>, meter: Arc<SourceMeter>) -> Result<Box<dyn Source>>;

    /// Tries everything that `open` needs, and makes nothing.
    ///
    /// # Errors
    /// As for `open`.
    async fn check(&self, pipeline: &str, sinks: Vec<Fed>) -> Result<()>;

    /// A row of each table, as far as there is any, to try handlers with. Changes nothing.
    ///
    /// # Errors
    /// As for `open`.
    async fn samples(&self, pipeline: &str) -> Result<Vec<SampleRow>>;

    /// The Postgres database that it reads, which sinks use unless they say otherwise. None if it
    /// reads none.
    fn database(&self) -> Option<SourceDatabase>;

    /// The place in the stream, which can be set up, begun anew and removed.
    fn slot(&self) -> Capability<'_, dyn AdministerSlot>;

    /// The rows behind the events, which can be copied once more.
    fn rows(&self) -> Capability<'_, dyn CopyRows>;

    /// A second look at the stream.
    fn tap(&self) -> Capability<'_, dyn OpenTap>;
}

section_of_kinds!(SourceKind, "sources", "source");

impl SourceComponent for Box<dyn SourceKind> {
    fn database(&self) -> Option<SourceDatabase> {
        (**self).database()
    }
}

/// The line of a kind of source in the list of kinds.
pub const fn kind<T: ComponentKind + SourceKind>() -> KindEntry<Box<dyn SourceKind>> {
    KindEntry::new::<T>()
}

/// Something that a kind of source can do; or the sentence why it cannot, for people.
pub type Capability<'a, T> = std::result::Result<&'a T, &'static str>;

/// Something that only one pipeline may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name, as in "both would read …".
    pub what: String,
    /// The text that somebody writes instead.
    pub help: &'static str,
}

/// Something that a sink writes.
pub enum Written<'a> {
    /// A table, as `schema.table`.
    Table {
        /// Its database.
        database: &'a Url,
        /// Its name.
        name: &'a str,
    },
    /// A file.
    File(&'a Path),
}

/// A setting by which a pipeline would read what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// The setting, as `tables`.
    pub setting: &'static str,
    /// The part of its value that does it.
    pub value: String,
    /// The text that somebody writes instead.
    pub help: &'static str,
}

/// The upkeep of the place that a pipeline has in the stream of its source.
#[async_trait]
pub trait AdministerSlot: Send + Sync {
    /// Makes what is missing of it. Answers what it did, line by line.
    async fn set_up(&self, pipeline: &str) -> Result<Vec<String>>;

    /// Takes the sinks as they are at the next start, also those that were made anew or hold the
    /// vectors of another model.
    async fn accept_sinks(&self, pipeline: &str) -> Result<()>;

    /// Has the stream begin anew with the next start. Answers what it did and what comes next, line
    /// by line.
    async fn begin_anew(&self, pipeline: &str) -> Result<Vec<String>>;

    /// Looks how the pipeline stands there, whether or not anybody runs it. Changes nothing.
    ///
    /// # Errors
    /// `Config` if nothing is known of a pipeline that does not run.
    async fn standing(&self, _pipeline: &str) -> Result<Standing> {
        Err(Error::new(Fault::Config, "its source tells nothing of a pipeline that does not run")
            .help("`pgstream-host status` without a file asks the hosts that run"))
    }

    /// Removes it: changes from now on are lost to the pipeline. Answers what it did, line by line.
    async fn tear_down(&self, pipeline: &str) -> Result<Vec<String>>;
}

/// Copies of rows as they are now, made by whoever runs the pipeline, now or later.
#[async_trait]
pub trait CopyRows: Send + Sync {
    /// Asks for rows of whole tables. Answers the numbers of the copies, and whether somebody runs
    /// the pipeline.
    ///
    /// # Errors
    /// `Config` if a table is not one of the source, or the pipeline never ran.
    async fn ask_copy(&self, pipeline: &str, request: &CopyRequest) -> Result<(Vec<i64>, bool)>;

    /// Asks for single rows, by their keys.
    ///
    /// # Errors
    /// `Config` if the pipeline never ran.
    async fn ask_rows(&self, pipeline: &str, wanted: &[WantedRow<'_>]) -> Result<AskedRows>;

    /// Opens a look at copies that were asked for.
    async fn follow(&self, pipeline: &str) -> Result<Box<dyn FollowCopies>>;
}

/// A look at copies, again and again.
#[async_trait]
pub trait FollowCopies: Send {
    /// Returns the progress of the copies with these numbers, or of all copies of the pipeline.
    async fn look(&mut self, numbers: Option<&[i64]>) -> Result<Vec<Copied>>;
}

/// A way to see what a pipeline is sent, whether it runs or not.
#[async_trait]
pub trait OpenTap: Send + Sync {
    /// Opens a stream of what is committed from now on.
    ///
    /// # Errors
    /// `Environment` if the pipeline was never set up; `Transient` if it may pass.
    async fn open_tap(&self, pipeline: &str) -> Result<Box<dyn TapStream>>;
}

/// Events beside a pipeline, which it does not miss.
#[async_trait]
pub trait TapStream: Send {
    /// The tables whose changes are seen, as `schema.table`.
    fn tables(&self) -> &[String];

    /// The next batch. Safe to cancel.
    ///
    /// # Errors
    /// Any: a tap does not connect again, because what happened meanwhile would be missing.
    async fn next(&mut self) -> Result<Batch>;

    /// Ends the look, and removes what it needed.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// The capability, or an error that says in a sentence why the source `name` lacks it.
///
/// # Errors
/// `Config` if the kind of source cannot do it.
pub fn able<'k, T: ?Sized>(name: &str, kind: &dyn SourceKind, asked: Capability<'k, T>) -> Result<&'k T> {
    asked.map_err(|why| Error::new(Fault::Config, why).at(format!("source `{name}`, of type `{}`", kind.kind())))
}
