//! `SlotLook`: how a slot stands at one moment: what the server keeps for it, how much room is
//! left, and what is wrong with it.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::Client;

use super::blockers;
use super::settings::Settings;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::meter::{SlotReading, SourceMeter};
use crate::postgres::{ReadRow, failed};

/// Log that is kept although it was confirmed: more than transactions of everyday size hold back.
const HELD_BACK: i64 = 1 << 30;
/// The part of the room for log that is left, in percent, below which it is time to act.
const ROOM_LEFT: i64 = 25;

/// All that is wrong with a slot, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) what: &'static str,
    pub(super) help: String,
}

/// A slot, all of it read at once.
pub(super) struct SlotLook {
    active: bool,
    wal_status: Option<String>,
    safe: Option<i64>,
    /// Log that is kept although it was confirmed.
    held_back: Option<i64>,
    kept: Option<i64>,
    room: Option<i64>,
    /// The end of the server's log.
    pub(super) end: Lsn,
    /// Up to where the server was told that everything is durable.
    pub(super) confirmed: Option<Lsn>,
    /// In µs: the server's clock minus ours.
    clock_offset: i64,
}

impl SlotLook {
    /// Looks at the slot. None if it is not there.
    pub(super) async fn take(client: &Client, settings: &Settings) -> Result<Option<Self>> {
        let asked = now();
        let row = client
            .query_opt(
                "SELECT active, wal_status, safe_wal_size, pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn)::bigint,
                        pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
                        (SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
                        pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
                        pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint,
                        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
                 FROM pg_replication_slots WHERE slot_name = $1",
                &[&settings.slot],
            )
            .await
            .map_err(|error| failed("cannot read the replication slots", error))?;
        let Some(row) = row else { return Ok(None) };
        // The server read its clock at some moment between the question and the answer.
        let ours = asked + (now() - asked) / 2;
        let lsn = |bytes: i64| Lsn(bytes.max(0) as u64);
        Ok(Some(Self {
            active: row.read(0)?,
            wal_status: row.read(1)?,
            safe: row.read(2)?,
            held_back: row.read(3)?,
            kept: row.read(4)?,
            room: row.read::<_, Option<i64>>(5)?.filter(|room| *room >= 0),
            end: lsn(row.read(6)?),
            confirmed: row.read::<_, Option<i64>>(7)?.map(lsn),
            clock_offset: row.read::<_, i64>(8)?.saturating_sub(ours),
        }))
    }

    /// All that of it can be counted.
    pub(super) fn reading(&self) -> SlotReading {
        let bytes = |read: Option<i64>| read.map(|bytes| bytes.max(0) as u64);
        SlotReading {
            wal_status: self.wal_status.clone().unwrap_or_default(),
            retained: bytes(self.kept),
            safe: bytes(self.safe),
            limit: bytes(self.room),
        }
    }

    /// Tells whether somebody reads it.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Takes it down.
    pub(super) fn tell(&self, meter: &SourceMeter) {
        meter.clock_offset.set(Some(self.clock_offset));
        meter.looked_at(self.active, self.reading());
        if self.active {
            meter.server_lsn.raise(self.end.0);
        }
    }

    /// All that is wrong with it, if anything is.
    pub(super) async fn trouble(&self, client: &Client) -> Result<Option<Trouble>> {
        let (left, kept) = (self.safe, self.kept.unwrap_or(0));
        let unreserved = self.wal_status.as_deref() == Some("unreserved");
        if unreserved || left.zip(self.room).is_some_and(|(left, room)| left < room / 100 * ROOM_LEFT) {
            let what = "the server soon drops log that the pipeline still needs";
            let left = left.unwrap_or(0).max(0) >> 20;
            let help = format!(
                "{} MiB of log wait for the slot, {left} MiB more fit: look why the pipeline is behind (sinks, handlers), or \
                 raise `max_slot_wal_keep_size`",
                kept >> 20
            );
            return Ok(Some(Trouble { what, help }));
        }
        if self.held_back.is_some_and(|bytes| bytes > HELD_BACK) {
            let what = "the server keeps log that was confirmed, for a transaction that is still open";
            let help = format!("{} MiB are kept; {}", kept >> 20, blockers::oldest(client).await?);
            return Ok(Some(Trouble { what, help }));
        }
        Ok(None)
    }
}

/// Our clock, in µs since 1970-01-01 UTC.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
