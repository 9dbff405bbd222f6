//! `Bond`: what a slot is bound to, in `pgstream.slots`: the server, its timeline, the database,
//! and where the pipeline left it.
//!
//! A slot knows neither when it was made nor by whom, and positions of one history of the log mean
//! nothing in another. What is written down here when the slot is made is compared before each
//! stream.

use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::loss::Loss;
use super::schema;
use super::settings::Settings;
use super::slot::Slot;
use super::tables::Table;
use crate::error::{Error, Fault, Result};
use crate::lsn::Lsn;
use crate::postgres::{ReadRow, failed};
use crate::sabotage::Breakage;

/// The table in which bonds are written down.
const TABLE: &str = "pgstream.slots";

const CREATE: &str = "
    CREATE TABLE pgstream.slots (
        slot text PRIMARY KEY,
        incarnation text NOT NULL,
        system_identifier text NOT NULL,
        timeline bigint NOT NULL,
        database oid NOT NULL,
        tables oid[] NOT NULL,
        names text[],
        publication text,
        made boolean NOT NULL,
        clear_sinks boolean NOT NULL,
        left_at pg_lsn,
        held_at pg_lsn,
        turn bigint NOT NULL DEFAULT 0,
        changed_at timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE pgstream.slots IS 'pgstream-host: what the slots of pipelines are bound to'";

/// The columns that tables of earlier versions lack, and their types.
const ADDED: &[(&str, &str)] = &[("names", "text[]"), ("held_at", "pg_lsn"), ("publication", "text")];

/// The server, timeline and database that we are connected to: one history of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) system: String,
    pub(super) timeline: i64,
    database: u32,
    /// The end of the log.
    pub(super) end: Lsn,
}

impl Place {
    /// # Errors
    /// `Transient` if the server is a standby: it may be about to be promoted.
    pub(super) async fn ask(client: &Client) -> Result<Self> {
        let row = client
            .query_one(
                "SELECT system_identifier::text, (SELECT oid FROM pg_database WHERE datname = current_database()),
                        CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END,
                        CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END
                 FROM pg_control_system()",
                &[],
            )
            .await
            .map_err(|error| failed("cannot read the server's identity", error))?;
        let (timeline, end): (Option<&str>, Option<PgLsn>) = (row.read(2)?, row.read(3)?);
        let timeline = timeline.and_then(|digits| i64::from_str_radix(digits, 16).ok());
        let Some((timeline, end)) = timeline.zip(end) else {
            return Err(Error::new(Fault::Transient, "the server is a standby now").help("name the primary in `url`"));
        };
        Ok(Self { system: row.read(0)?, timeline, database: row.read(1)?, end: Lsn(end.into()) })
    }
}

/// A slot as it was written down.
#[derive(Clone, Debug)]
pub(super) struct Bond {
    /// New with each slot that is made.
    pub(super) incarnation: String,
    system: String,
    timeline: i64,
    database: u32,
    /// The tables that were published for it, by their OIDs.
    pub(super) tables: Vec<u32>,
    /// Their names at that time, in the same order. Unknown where an earlier version noted them.
    names: Option<Vec<String>>,
    /// The publication that the slot is read with. Unknown where an earlier version noted the rest.
    publication: Option<String>,
    /// The slot was made; otherwise it was only about to be.
    made: bool,
    /// The sinks hold what may be gone: they are to be cleared before anything is copied.
    pub(super) clear_sinks: bool,
    /// The number of times that a host has begun to read the slot.
    pub(super) turn: i64,
    /// The position that was confirmed when the pipeline ended in order; None if a host has begun
    /// to read the slot since, or it never ended so.
    left_at: Option<Lsn>,
}

impl Bond {
    pub(super) async fn find(client: &Client, slot: &str) -> Result<Option<Self>> {
        if !schema::is_there(client, TABLE).await? {
            return Ok(None);
        }
        let row = client
            .query_opt(
                "SELECT incarnation, system_identifier, timeline, database, tables, made, clear_sinks, left_at, turn,
                        CASE WHEN jsonb_typeof(to_jsonb(s) -> 'names') = 'array'
                             THEN ARRAY(SELECT jsonb_array_elements_text(to_jsonb(s) -> 'names')) END,
                        to_jsonb(s) ->> 'publication'
                 FROM pgstream.slots s WHERE slot = $1",
                &[&slot],
            )
            .await
            .map_err(|error| failed(format!("cannot read `{TABLE}`"), error))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Self {
            incarnation: row.read(0)?,
            system: row.read(1)?,
            timeline: row.read(2)?,
            database: row.read(3)?,
            tables: row.read(4)?,
            made: row.read(5)?,
            clear_sinks: row.read(6)?,
            turn: row.read(8)?,
            names: row.read(9)?,
            publication: row.read(10)?,
            left_at: row.read::<_, Option<PgLsn>>(7)?.map(|lsn| Lsn(lsn.into())),
        }))
    }

    /// The position that was confirmed when the pipeline ended in order, if it has.
    pub(super) fn left(&self) -> Option<Lsn> {
        self.left_at
    }

    /// The tables that we published for the slot, if it was made.
    pub(super) fn published(&self) -> Option<&[u32]> {
        self.made.then_some(&self.tables)
    }

    /// Returns a loss if one of `tables`, as the source names them now, was not published, but has
    /// the name of one that was. Its changes were not sent.
    pub(super) fn swapped(&self, tables: &[Table]) -> Option<Loss> {
        let published = self.published()?.iter().zip(self.names.iter().flatten());
        let is_published = |oid: u32| self.tables.contains(&oid);
        published.into_iter().find_map(|(&was, name)| {
            let now = tables.iter().find(|table| table.to_string() == *name && !is_published(table.oid))?;
            Some(Loss::swapped(name, was, now.oid))
        })
    }

    /// The loss that is possible if the slot was read with another publication until now. That one
    /// told which rows of a transaction were sent, and so where each of them stands in it: a
    /// position of then names another row of now, and rows would be skipped.
    pub(super) fn other_publication(&self, settings: &Settings) -> Option<Loss> {
        let was = self.former_publication(settings).filter(|_| self.made)?;
        Some(Loss::other_publication(&settings.slot, was, &settings.publication))
    }

    /// The publication that was noted, if it is not the one that the settings name.
    pub(super) fn former_publication(&self, settings: &Settings) -> Option<&str> {
        self.publication.as_deref().filter(|was| *was != settings.publication)
    }

    /// Tells if other tables than these were published for the slot. False if the slot was not
    /// made.
    pub(super) fn has_other_tables(&self, tables: &[Table]) -> bool {
        self.published().is_some_and(|published| {
            published.len() != tables.len() || tables.iter().any(|table| !published.contains(&table.oid))
        })
    }

    /// Returns the reason why the pipeline cannot go on with `slot` at this place; None if it can,
    /// or if the slot was never made. `slot` is None if it is not there.
    pub(super) fn loss(&self, name: &str, place: &Place, slot: Option<&Slot>) -> Option<Loss> {
        if !self.made {
            return None;
        }
        if self.system != place.system {
            return Some(Loss::other_server(name, &self.system, &place.system));
        }
        if self.database != place.database {
            return Some(Loss::other_database(name, self.database, place.database));
        }
        let Some(slot) = slot else { return (!Breakage::SlotMadeAnew.is_on()).then(|| Loss::slot_gone(name)) };
        if self.timeline != place.timeline && !slot.failover {
            return Some(Loss::other_timeline(name, self.timeline, place.timeline));
        }
        match self.left_at {
            Some(left) if slot.confirmed > left => Some(Loss::moved(name, left, slot.confirmed)),
            _ => None,
        }
    }
}

/// Makes the table if it is missing.
pub(super) async fn ensure(client: &Client, settings: &Settings) -> Result<()> {
    schema::ensure(client, settings, TABLE, CREATE).await?;
    let names: Vec<&str> = ADDED.iter().map(|(name, _)| *name).collect();
    let columns: Vec<String> =
        ADDED.iter().map(|(name, kind)| format!("ADD COLUMN IF NOT EXISTS {name} {kind}")).collect();
    let alter = format!("ALTER TABLE {TABLE} {};", columns.join(", "));
    schema::give_columns(client, settings, TABLE, &names, &alter).await
}

/// Writes down that the slot is about to be made, or that one is there that nothing was known of.
/// Answers the bond.
pub(super) async fn tie(
    client: &Client,
    settings: &Settings,
    place: &Place,
    tables: &[Table],
    made: bool,
) -> Result<Bond> {
    let incarnation = fresh();
    let Place { system, timeline, database, .. } = place;
    let names: Vec<String> = tables.iter().map(Table::to_string).collect();
    let tables: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    client
        .execute(
            "INSERT INTO pgstream.slots (slot, incarnation, system_identifier, timeline, database, tables, names, made, clear_sinks,
                                          publication)
             VALUES ($1, $2, $3, $4, $5, $6, $8, $7, false, $9)
             ON CONFLICT (slot) DO UPDATE SET system_identifier = excluded.system_identifier, timeline = excluded.timeline,
                 database = excluded.database, tables = excluded.tables, names = excluded.names,
                 publication = excluded.publication, made = excluded.made OR slots.made, changed_at = now()",
            &[&settings.slot, &incarnation, system, timeline, database, &tables, &made, &names, &settings.publication],
        )
        .await
        .map_err(unwritable)?;
    Bond::find(client, &settings.slot).await?.ok_or_else(gone)
}

/// Writes down that the slot was made. Which tables are published for it was, before; another
/// process may have changed that since.
pub(super) async fn made(client: &Client, settings: &Settings) -> Result<Bond> {
    let sql = "UPDATE pgstream.slots SET made = true, changed_at = now() WHERE slot = $1";
    client.execute(sql, &[&settings.slot]).await.map_err(unwritable)?;
    Bond::find(client, &settings.slot).await?.ok_or_else(gone)
}

/// Unties the slot after a loss: the next one is a new one, whose sinks are cleared first. Whoever
/// read the old one notes nothing any more.
pub(super) async fn cut(client: &Client, settings: &Settings, place: &Place) -> Result<()> {
    let incarnation = fresh();
    let Place { system, timeline, database, .. } = place;
    let cut = client
        .execute(
            "INSERT INTO pgstream.slots (slot, incarnation, system_identifier, timeline, database, tables, made, clear_sinks)
             VALUES ($1, $2, $3, $4, $5, '{}', false, true)
             ON CONFLICT (slot) DO UPDATE SET incarnation = excluded.incarnation, made = false, clear_sinks = true,
                 system_identifier = excluded.system_identifier, timeline = excluded.timeline, database = excluded.database,
                 left_at = NULL, held_at = NULL, turn = slots.turn + 1, changed_at = now()",
            &[&settings.slot, &incarnation, system, timeline, database],
        )
        .await;
    cut.map(drop).map_err(unwritable)
}

/// A turn at reading a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotTurn {
    /// Its number.
    pub(super) number: i64,
    /// The position that earlier turns have noted with [`hold`]; invalid if none is noted.
    pub(super) held_before: Lsn,
}

/// From now on the slot moves: where it was left says nothing any more. Answers the turn that
/// begins. To be asked by who holds the slot, before it moves.
pub(super) async fn take_up(client: &Client, slot: &str) -> Result<SlotTurn> {
    let sql = "UPDATE pgstream.slots SET left_at = NULL, turn = turn + 1, changed_at = now() WHERE slot = $1
               RETURNING turn, coalesce(held_at, '0/0')";
    let row = client.query_opt(sql, &[&slot]).await.map_err(unwritable)?;
    let row = row.ok_or_else(|| Loss::slot_gone(slot).error())?;
    let held: PgLsn = row.read(1)?;
    Ok(SlotTurn { number: row.read(0)?, held_before: Lsn(held.into()) })
}

/// Notes that all sinks hold all events of the transaction that commits at `held`, unless somebody
/// else has taken the slot up meanwhile.
pub(super) async fn hold(client: &Client, slot: &str, turn: i64, held: Lsn) -> Result<()> {
    let sql = "UPDATE pgstream.slots SET held_at = greatest(held_at, $3) WHERE slot = $1 AND turn = $2";
    client.execute(sql, &[&slot, &turn, &PgLsn::from(held.0)]).await.map(drop).map_err(unwritable)
}

/// Takes the sinks as they are, whatever they held before.
pub(super) async fn accept(client: &Client, slot: &str) -> Result<()> {
    if !schema::is_there(client, TABLE).await? {
        return Ok(());
    }
    let sql = "UPDATE pgstream.slots SET held_at = NULL, changed_at = now() WHERE slot = $1";
    client.execute(sql, &[&slot]).await.map(drop).map_err(unwritable)
}

/// Notes where the pipeline leaves the slot, unless somebody else has taken it up meanwhile.
pub(super) async fn leave(client: &Client, slot: &str, turn: i64, at: Lsn) -> Result<()> {
    let sql = "UPDATE pgstream.slots SET left_at = $3, changed_at = now() WHERE slot = $1 AND turn = $2";
    client.execute(sql, &[&slot, &turn, &PgLsn::from(at.0)]).await.map(drop).map_err(unwritable)
}

/// The sinks are cleared.
pub(super) async fn cleared(client: &Client, slot: &str) -> Result<()> {
    let sql = "UPDATE pgstream.slots SET clear_sinks = false, changed_at = now() WHERE slot = $1";
    client.execute(sql, &[&slot]).await.map(drop).map_err(unwritable)
}

/// Forgets a slot that is gone for good.
pub(super) async fn forget(client: &Client, slot: &str) -> Result<()> {
    if !schema::is_there(client, TABLE).await? {
        return Ok(());
    }
    client.execute("DELETE FROM pgstream.slots WHERE slot = $1", &[&slot]).await.map(drop).map_err(unwritable)
}

fn gone() -> Error {
    Error::new(Fault::Environment, format!("what was written to `{TABLE}` is gone"))
        .help("let only pgstream-host write to it")
}

fn fresh() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn unwritable(error: tokio_postgres::Error) -> Error {
    failed(format!("cannot write to `{TABLE}`"), error)
}
