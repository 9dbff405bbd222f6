//! `Dial`: opens one streaming session after the other on the same slot, and checks each time that
//! it still is the same.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::bond::{self, Bond, Place, SlotTurn};
use super::connection::Connection;
use super::copy::{Handover, Streamed, Windows};
use super::feedback::Progress;
use super::loss::Loss;
use super::naming;
use super::publication::{self, Published};
use super::settings::Settings;
use super::setup::{self, Ready};
use super::slot::{self, Slot};
use super::snapshot;
use super::stream::Stream;
use super::tables::{self, Table};
use crate::decode::{DecodeError, Decoder};
use crate::error::{Error, Fault, Result};
use crate::lsn::{Lsn, Position};
use crate::postgres::{ReadRow, failed, sqlstate};

/// Postgres' default, used where the server's own timeout is off: a dead connection must be noticed
/// all the same.
const SENDER_TIMEOUT: Duration = Duration::from_secs(60);

/// All that is needed to open a session.
#[derive(Clone)]
pub(super) struct Dial {
    settings: Arc<Settings>,
    tables: Arc<[Table]>,
    place: Place,
    incarnation: Arc<str>,
    progress: Arc<Progress>,
    streamed: Arc<Streamed>,
    text_only: bool,
    /// The number of our last turn at the slot.
    turn: Option<i64>,
    /// Types and keys that former sessions did not find in the catalogue of their time.
    missing: Vec<DecodeError>,
}

/// The outcome of opening a session.
pub(super) enum Opened {
    /// The slot is ours.
    Stream {
        stream: Box<Stream>,
        /// The place where copies put down rows for the stream.
        handover: Arc<Handover>,
        /// The turn in which we read the slot.
        turn: SlotTurn,
    },
    /// All is to be set up again: our knowledge of the slot is outdated, by a promotion of the
    /// server or by another process.
    Anew,
}

impl Dial {
    pub(super) fn new(settings: Arc<Settings>, tables: Arc<[Table]>, ready: Ready, progress: Arc<Progress>) -> Self {
        let Ready { place, bond, .. } = ready;
        let incarnation = bond.incarnation.into();
        Self {
            settings,
            tables,
            place,
            incarnation,
            progress,
            streamed: Arc::default(),
            text_only: false,
            turn: None,
            missing: Vec::new(),
        }
    }

    /// From now on values come as text.
    pub(super) fn use_text(&mut self) {
        self.text_only = true;
    }

    /// The slot is ours, for this turn.
    pub(super) fn took_up(&mut self, turn: i64) {
        self.turn = Some(turn);
    }

    /// From now on a catalogue is looked at that is newer than what was missing.
    ///
    /// # Errors
    /// `Environment` if a newer one has been looked at, and that did not help.
    pub(super) fn renew(&mut self, missing: DecodeError) -> Result<()> {
        if self.missing.contains(&missing) {
            return Err(Error::new(Fault::Environment, "the log tells of a table as it was before its key changed")
                .because(missing)
                .help(
                    "give the key's columns their former names until the pipeline has read what was written before",
                ));
        }
        tracing::info!(because = %missing, "the schema has changed, streaming with the new one");
        self.missing.push(missing);
        Ok(())
    }

    /// Opens a session that streams what was not confirmed yet, without the events up to
    /// `returned`.
    pub(super) async fn open(self, returned: Option<Position>) -> Result<Opened> {
        let settings = &*self.settings;
        let client = setup::session(settings).await?;
        // Before what is published is looked at: who sets up from here on tells the stream to look again.
        let place = Place::ask(&client).await?;
        // Before the bond: who takes the slot up says so there first, and moves it then.
        let slot = Slot::find(&client, &settings.slot).await?;
        settings.meter.slot_is_active(slot.as_ref().is_some_and(Slot::is_active));
        if slot.as_ref().is_some_and(Slot::is_active) {
            // To try nevertheless would cost the server a login and a line in its log each time.
            return Err(slot::in_use(&client, &settings.slot).await);
        }
        let true = self.still_bound(&client, &place, slot.as_ref(), returned).await? else {
            return Ok(Opened::Anew);
        };
        let Some(slot) = slot else { return self.without_slot(&client).await };
        self.refuse_loss(&slot)?;
        if publication::verify(&client, settings, &self.tables).await? == Published::Otherwise {
            return Ok(Opened::Anew);
        }
        // Nothing confirmed by us yet: the slot knows what was, before.
        let first = self.progress.confirmed() == Lsn::INVALID;
        let from = if first { slot.confirmed } else { self.progress.confirmed() };
        let (mut catalog, types) = tables::catalog(&client, &settings.publication, &self.tables).await?;
        naming::recall(&client, &settings.slot, &mut catalog).await?;
        for missing in &self.missing {
            // It may have been dropped again: then its name is all that is left of it.
            if let DecodeError::UnknownType { oid, name } = missing {
                catalog.learn(*oid, name);
            }
        }
        let binary = !self.text_only && catalog.binary_is_readable(types);
        let mut connection = Connection::open(settings).await?;
        let started = async {
            if settings.failover && !slot.failover {
                connection.make_failover(settings).await?;
                tracing::info!(slot = settings.slot, "a standby that is promoted now brings the slot along");
            }
            connection.start(settings, from, binary).await
        };
        if first && settings.failover {
            warn_of_standbys_behind(&client).await?;
        }
        let streaming = match started.await {
            Err(error) if sqlstate(&error) == Some("55006") => return Err(slot::in_use(&client, &settings.slot).await),
            // Dropped since we looked.
            Err(error) if sqlstate(&error) == Some("42704") => return self.without_slot(&client).await,
            result => result?,
        };
        // Only now that the slot is ours can nobody else move it.
        let slot = Slot::find(&client, &settings.slot).await?.ok_or_else(|| Loss::slot_gone(&settings.slot).error())?;
        self.refuse_loss(&slot)?;
        // The server starts at the slot's position when that lies ahead of ours, and says nothing.
        match first {
            // Whoever held the slot until now told the server his last word after we had read it.
            true => self.progress.confirm(slot.confirmed),
            false if slot.confirmed > from => return Err(Loss::moved(&settings.slot, from, slot.confirmed).error()),
            false => {}
        }
        if self.turn.is_none() {
            // Only now nobody else streams any more.
            self.streamed.begin_after(snapshot::unseen_before(&client).await?);
        }
        let turn = bond::take_up(&client, &settings.slot).await?;
        let tables = self.tables.iter().map(|table| table.oid);
        let mut decoder = Decoder::new(catalog).with_renewable_catalog().with_tables(tables);
        if let Some(position) = returned {
            decoder = decoder.resume_after(position);
        }
        let patience = sender_timeout(&client).await? * 2;
        let handover = Arc::new(Handover::new(self.streamed));
        let windows = Windows::new(Arc::clone(&handover));
        let stream = Stream::new(streaming, decoder, windows, self.progress, settings, (place.end, from), patience);
        Ok(Opened::Stream { stream: Box::new(stream), handover, turn })
    }

    /// The slot is not there. Somebody may have begun anew since the bond was looked at: then all is to be set up again.
    async fn without_slot(&self, client: &Client) -> Result<Opened> {
        let bond = Bond::find(client, &self.settings.slot).await?;
        match bond.is_some_and(|bond| *bond.incarnation != *self.incarnation) {
            true => Ok(Opened::Anew),
            false => Err(Loss::slot_gone(&self.settings.slot).error()),
        }
    }

    /// Checks that the slot still is the one that we began with. False if all is to be set up
    /// again; an error if changes were lost.
    async fn still_bound(
        &self,
        client: &Client,
        place: &Place,
        slot: Option<&Slot>,
        returned: Option<Position>,
    ) -> Result<bool> {
        let name = &self.settings.slot;
        let Some(bond) = Bond::find(client, name).await? else {
            // Somebody took the bond away, to let the slot be taken for ours as it is.
            return if slot.is_some() { Ok(false) } else { Err(Loss::slot_gone(name).error()) };
        };
        if *bond.incarnation != *self.incarnation || self.turn.is_some_and(|ours| ours != bond.turn) {
            return Ok(false);
        }
        if let Some(loss) = bond.loss(name, place, slot) {
            return Err(loss.error());
        }
        if place.timeline != self.place.timeline {
            refuse_lost_commits(&self.settings, self.place.timeline, place, returned).await?;
            tracing::info!(timeline = place.timeline, "the server was promoted, and has brought the slot along");
            return Ok(false);
        }
        let received = self.progress.received();
        if received > place.end {
            return Err(Loss::ahead(received, place.end).error());
        }
        Ok(true)
    }

    fn refuse_loss(&self, slot: &Slot) -> Result<()> {
        slot.check(&self.settings)?;
        slot.loss(&self.settings.slot).map_or(Ok(()), |loss| Err(loss.error()))
    }
}

/// A standby that was promoted too early lacks commits that we have handed on. `was` is the
/// timeline that they came from.
pub(super) async fn refuse_lost_commits(
    settings: &Settings,
    was: i64,
    place: &Place,
    returned: Option<Position>,
) -> Result<()> {
    let mut connection = Connection::open(settings).await?;
    let Some(fork) = connection.fork(was, place.timeline).await? else {
        return Err(Loss::other_timeline(&settings.slot, was, place.timeline).error());
    };
    match returned {
        Some(seen) if seen.lsn >= fork => Err(Loss::ahead(seen.lsn, fork).error()),
        _ => Ok(()),
    }
}

/// A standby that lacks what the pipeline has handed on cannot be followed.
async fn warn_of_standbys_behind(client: &Client) -> Result<()> {
    let row = client.query_one("SELECT current_setting('synchronized_standby_slots')", &[]).await;
    let waits_for: String = row.map_err(|error| failed("cannot ask the server for its settings", error))?.read(0)?;
    if waits_for.is_empty() {
        tracing::warn!(
            help = "ALTER SYSTEM SET synchronized_standby_slots = 'the standby''s slot'; SELECT pg_reload_conf();",
            "the server may send what its standby does not have yet; if that is promoted then, the pipeline stops"
        );
    }
    Ok(())
}

pub(super) async fn sender_timeout(client: &Client) -> Result<Duration> {
    let row = client.query_one("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'", &[]).await;
    let millis: i64 = row.map_err(|error| failed("cannot ask the server for its settings", error))?.read(0)?;
    Ok(match u64::try_from(millis) {
        Ok(millis @ 1..) => Duration::from_millis(millis),
        _ => SENDER_TIMEOUT,
    })
}
