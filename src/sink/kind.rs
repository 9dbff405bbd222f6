//! The contract of a `SinkKind`: settings that a sink can be opened, looked at and searched with.

use std::path::Path;

use async_trait::async_trait;

use super::{Look, Searcher, Sink};
use crate::config::model::{Create, SinkBatch};
use crate::config::{
    Accepts, ComponentKind, ComponentSettings, KindEntry, Problems, SinkComponent, SourceDatabase, section_of_kinds,
};
use crate::error::Result;
use crate::postgres::Url;

/// Settings of a sink. A kind of sink is a struct that implements this and [`ComponentKind`], and a
/// line in the list of kinds.
#[async_trait]
pub trait SinkKind: ComponentSettings {
    /// Outputs of a transform that the kind takes.
    fn accepts() -> Accepts
    where
        Self: Sized;

    /// Names of the transforms, or of their `.rejected` outputs, that feed the sink.
    fn inputs(&self) -> &[String];

    /// Opens the sink `name` of `pipeline`: connects, and makes or checks the table, collection,
    /// folder or file.
    ///
    /// # Errors
    /// `Config` or `Environment` if it cannot work until somebody acts, `Transient` if its server
    /// cannot be reached now.
    async fn open(&self, pipeline: &str, name: &str) -> Result<Box<dyn Sink>>;

    /// As [`open`](Self::open), but makes nothing, also where `create` would: answers what is
    /// there, or what would be. Files and folders that a running pipeline has open are left to it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    async fn look(&self) -> Result<Look>;

    /// Store that the sink leaves behind when its pipeline is given up, for the person who wants it
    /// gone. `purged` says that [`purge`](Self::purge) has run.
    fn leftover(&self, purged: bool) -> Option<Leftover>;

    /// Reads settings that have a syntax of their own, such as URLs, without asking any server.
    ///
    /// # Errors
    /// `Config` if one of them cannot be read.
    fn parse(&self) -> Result<()> {
        Ok(())
    }

    /// Limits of one write.
    fn batch(&self) -> SinkBatch {
        SinkBatch::default()
    }

    /// Vectors that the store is to be made with, if it is missing.
    fn create(&self) -> Option<&Create> {
        None
    }

    /// Place that the sink writes and that a source might read back. None for other stores, and if
    /// the settings cannot be read.
    fn writes(&self) -> Option<WrittenPlace<'_>> {
        None
    }

    /// Fills in what the sink takes from the source's database unless it says otherwise. None for a
    /// source that reads none.
    fn complete(&mut self, _source: Option<&SourceDatabase>, _problems: &mut Problems<'_, '_>) {}

    /// Tells if something is kept of the pipeline beside what the sink holds, which
    /// [`purge`](Self::purge) removes.
    fn keeps_records(&self) -> bool {
        false
    }

    /// Removes what is kept of the sink `name` of `pipeline` beside what it holds: its position,
    /// its dead letters. Answers what that was, line by line.
    ///
    /// # Errors
    /// Those of the server and of the connection; `Config` if the settings cannot be used.
    async fn purge(&self, _pipeline: &str, _name: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Searches of the store, for kinds that can be searched.
    fn searcher(&self) -> Option<&dyn Searcher> {
        None
    }
}

/// A place that is written, as a source might name it.
pub enum WrittenPlace<'a> {
    /// A table, as `table` or `schema.table`.
    Table {
        /// Its database.
        database: Box<Url>,
        /// Its name.
        name: &'a str,
    },
    /// A file.
    File(&'a Path),
}

/// A store that a sink leaves behind.
pub struct Leftover {
    /// The store, in a few words.
    pub what: String,
    /// A command that removes it.
    pub how: String,
}

section_of_kinds!(SinkKind, "sinks", "sink");

impl SinkComponent for Box<dyn SinkKind> {
    fn complete(&mut self, source: Option<&SourceDatabase>, problems: &mut Problems<'_, '_>) {
        (**self).complete(source, problems);
    }
}

/// The line of a kind of sink in the list of kinds.
pub const fn kind<T: ComponentKind + SinkKind>() -> KindEntry<Box<dyn SinkKind>> {
    KindEntry::new::<T>().accepting(T::accepts)
}
