//! `Dial`: opens one streaming session after the other on the same slot, and checks each time that it still is the same.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::connection::Connection;
use super::copy::{Handover, Windows};
use super::feedback::Progress;
use super::publication::{self, LOST};
use super::settings::Settings;
use super::setup;
use super::slot::{self, Slot};
use super::stream::Stream;
use super::tables::{self, Table};
use crate::decode::Decoder;
use crate::error::{Error, Fault, Result};
use crate::lsn::{Lsn, Position};
use crate::postgres::{failed, sqlstate};

/// Postgres' default, used where the server's own timeout is off: a dead connection must be noticed all the same.
const SENDER_TIMEOUT: Duration = Duration::from_secs(60);

/// What it takes to open a session.
#[derive(Clone)]
pub(super) struct Dial {
    settings: Arc<Settings>,
    tables: Arc<[Table]>,
    system: String,
    progress: Arc<Progress>,
    handover: Arc<Handover>,
    text_only: bool,
}

impl Dial {
    pub(super) fn new(
        settings: Arc<Settings>,
        tables: Arc<[Table]>,
        system: String,
        progress: Arc<Progress>,
        handover: Arc<Handover>,
    ) -> Self {
        Self { settings, tables, system, progress, handover, text_only: false }
    }

    /// From now on values come as text.
    pub(super) fn use_text(&mut self) {
        self.text_only = true;
    }

    pub(super) fn slot(&self) -> &str {
        &self.settings.slot
    }

    /// Opens a session that streams what was not confirmed yet, without the events up to `returned`.
    pub(super) async fn open(self, returned: Option<Position>) -> Result<Stream> {
        let settings = &*self.settings;
        let client = setup::session(settings).await?;
        if system_identifier(&client).await? != self.system {
            return Err(Error::new(Fault::Environment, "the database URL leads to another server than before")
                .help("positions of one server mean nothing on another: let `url` lead to the server on which the slot was made"));
        }
        let slot = self.slot_now(&client).await?;
        publication::verify(&client, settings, &self.tables).await?;
        // Nothing confirmed by us yet: the slot knows what was, before.
        let first = self.progress.confirmed() == Lsn::INVALID;
        if first {
            self.progress.confirm(slot.confirmed);
        }
        let from = self.progress.confirmed();
        let (catalog, types) = tables::catalog(&client, &self.tables).await?;
        let binary = !self.text_only && catalog.binary_is_readable(types);
        let connection = Connection::open(settings).await?;
        let streaming = match connection.start(settings, from, binary).await {
            Err(error) if sqlstate(&error) == Some("55006") => return Err(slot::in_use(&client, &settings.slot).await),
            result => result?,
        };
        // Only now that the slot is ours can nobody else move it.
        let confirmed = self.slot_now(&client).await?.confirmed;
        if confirmed > from {
            self.refuse_gap(first, from, confirmed)?;
        }
        let mut decoder = Decoder::new(catalog);
        if let Some(position) = returned {
            decoder = decoder.resume_after(position);
        }
        let patience = sender_timeout(&client).await? * 2;
        let windows = Windows::new(self.handover);
        Ok(Stream::new(streaming, decoder, windows, self.progress, settings.limits, from, patience))
    }

    async fn slot_now(&self, client: &Client) -> Result<Slot> {
        let slot = Slot::find(client, &self.settings.slot).await?.ok_or_else(|| slot::gone(&self.settings))?;
        slot.check(&self.settings)?;
        Ok(slot)
    }

    /// The server starts at the slot's position when that lies ahead of ours, and says nothing.
    fn refuse_gap(&self, first: bool, from: Lsn, confirmed: Lsn) -> Result<()> {
        if first {
            // Whoever held the slot until now told the server his last word after we had read it.
            self.progress.confirm(confirmed);
            return Ok(());
        }
        let slot = &self.settings.slot;
        Err(Error::new(Fault::Environment, format!("slot `{slot}` was moved ahead by somebody else"))
            .because(format!("the pipeline confirmed {from}, the slot stands at {confirmed}"))
            .help(LOST))
    }
}

/// What tells one server from another.
pub(super) async fn system_identifier(client: &Client) -> Result<String> {
    let row = client.query_one("SELECT system_identifier::text FROM pg_control_system()", &[]).await;
    Ok(row.map_err(|error| failed("cannot read the server's identity", error))?.get(0))
}

pub(super) async fn sender_timeout(client: &Client) -> Result<Duration> {
    let row = client.query_one("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'", &[]).await;
    let millis: i64 = row.map_err(|error| failed("cannot ask the server for its settings", error))?.get(0);
    Ok(match u64::try_from(millis) {
        Ok(millis @ 1..) => Duration::from_millis(millis),
        _ => SENDER_TIMEOUT,
    })
}
