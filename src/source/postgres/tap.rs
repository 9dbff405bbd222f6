//! `Tap`: a second look at what a pipeline is sent, through a slot of its own that is gone with the
//! connection.

use std::sync::Arc;

use super::PostgresSettings;
use super::broken::Broken;
use super::connection::Connection;
use super::copy::Windows;
use super::dial::sender_timeout;
use super::feedback::Progress;
use super::publication::{Publication, Wanted};
use super::settings::Settings;
use super::stream::Stream;
use super::{blockers, setup, tables};
use crate::decode::Decoder;
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Lsn;

/// A stream of what is committed from now on in the tables of a pipeline. The pipeline's own slot
/// is neither read nor moved, and whether the pipeline runs does not matter.
pub struct Tap {
    stream: Stream,
    progress: Arc<Progress>,
    tables: Vec<String>,
}

impl Tap {
    /// Opens a replication session with a temporary slot on the pipeline's publication.
    ///
    /// # Errors
    /// `Environment` if the publication does not exist or the server has no room; `Transient` if it
    /// cannot be reached.
    pub async fn open(pipeline: &str, config: &PostgresSettings) -> Result<Self> {
        let mut settings = Settings::new(pipeline, config)?;
        settings.slot = format!("pgstream_tap_{}_{:08x}", std::process::id(), rand::random::<u32>());
        settings.application_name = format!("pgstream-host tap {pipeline}");
        let client = setup::session(&settings).await?;
        let found = tables::find(&client, &settings).await?;
        let published = Publication::find(&client, &settings.publication).await?;
        let wanted = Wanted { tables: &found, generated: false };
        if !published.is_some_and(|publication| publication.fits(&settings, wanted)) {
            let what = format!("publication `{}` with the pipeline's tables does not exist", settings.publication);
            return Err(Error::new(Fault::Environment, what)
                .help("make it: `pgstream-host setup pipeline.yaml`, or run the pipeline once"));
        }
        let (catalog, _) = tables::catalog(&client, &settings.publication, &found).await?;
        let patience = sender_timeout(&client).await? * 2;
        let mut connection = Connection::open(&settings).await?;
        create(&mut connection, &settings).await?;
        // As text, which every type has: to begin anew in another format would leave a gap.
        let streaming = connection.start(&settings, Lsn::INVALID, false).await?;
        let progress = Arc::new(Progress::default());
        let stream = Stream::new(
            streaming,
            Decoder::new(catalog).with_tables(found.iter().map(|table| table.oid)),
            Windows::new(Arc::default()), // rows that a copy reads are no events of the log
            Arc::clone(&progress),
            &settings,
            (Lsn(u64::MAX), Lsn::INVALID), // it goes on as it began, however the pipeline is set up meanwhile
            patience,
        );
        Ok(Self { stream, progress, tables: found.iter().map(ToString::to_string).collect() })
    }

    /// The tables whose changes are seen, as `schema.table`.
    pub fn tables(&self) -> &[String] {
        &self.tables
    }

    /// The next batch. Safe to cancel.
    ///
    /// # Errors
    /// Any: a tap does not connect again, because what happened meanwhile would be missing.
    pub async fn next(&mut self) -> Result<Batch> {
        let batch = self.stream.next().await.map_err(|broken| match broken {
            Broken::Failed(error) => error,
            Broken::Unpublished => Error::new(Fault::Environment, "the publication was dropped")
                .help("run the pipeline again first, it makes a new one"),
            Broken::NeedsText => Error::new(Fault::Bug, "the server sent binary values though text was asked for"),
            Broken::Outdated(error) => error.into(),
        })?;
        // On the temporary slot, so that the server keeps no log for us.
        if let Some(end) = batch.ends_at() {
            self.progress.confirm(end);
        }
        Ok(batch)
    }

    /// Ends the session; the server drops the slot.
    ///
    /// # Errors
    /// If the server sends, before the end, what is no message, or a message that is too long.
    pub async fn close(self) -> Result<()> {
        self.stream.close().await
    }
}

/// Makes the slot in the session that is to read it: it belongs to that one, and the server drops
/// it with it.
async fn create(connection: &mut Connection, settings: &Settings) -> Result<()> {
    let created = blockers::wait_for(settings, connection.create_temporary_slot(settings)).await;
    created.map_err(|error| {
        error
            .within("cannot make a temporary slot to look through")
            .help("a tap takes one of `max_replication_slots` and one of `max_wal_senders` while it runs")
    })
}
