//! `watch`: keeps an eye on the slot, and a heart beating in the log, in a session of its own.
//!
//! A slot that nothing is confirmed for makes the server keep its log, until the disk is full or the slot is invalidated.
//! The heartbeat is a transactional logical message: with it there is something to confirm also where only tables are
//! written that nobody publishes. What stands in the way otherwise is said early, with who must act.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::Client;

use super::copy::PREFIX;
use super::loss::Loss;
use super::settings::{Settings, literal};
use super::tables::Table;
use super::{blockers, publication, setup};
use crate::error::{Error, Fault, Result};
use crate::postgres::failed;

/// How often the slot is looked at, also where no heart beats.
const LOOK: Duration = Duration::from_secs(30);
/// How long the same trouble is not told again.
const AGAIN: Duration = Duration::from_secs(600);
/// Log that is kept although it was confirmed: more than transactions of everyday size hold back.
const HELD_BACK: i64 = 1 << 30;
/// The part of the room for log that is left, in percent, below which it is time to act.
const ROOM_LEFT: i64 = 25;

/// The watch over a slot. Ends when it is dropped.
pub(super) struct Watch {
    task: JoinSet<Error>,
}

impl Watch {
    pub(super) fn start(settings: Arc<Settings>, tables: Arc<[Table]>) -> Self {
        let mut task = JoinSet::new();
        task.spawn(watch(settings, tables));
        Self { task }
    }

    /// What was lost, once something is. Safe to cancel.
    pub(super) async fn lost(&mut self) -> Error {
        match self.task.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(panic)) => Error::new(Fault::Bug, "the task that watches the slot failed").because(panic),
            None => std::future::pending().await, // told already
        }
    }
}

/// Runs until changes are lost. A server that cannot be reached is the stream's concern.
async fn watch(settings: Arc<Settings>, tables: Arc<[Table]>) -> Error {
    let mut session = None;
    let mut told = Told::default();
    let period = settings.heartbeat.unwrap_or(LOOK).min(LOOK);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match look(&settings, &tables, &mut session, &mut told).await {
            Ok(()) => {}
            Err(error) if Loss::of(&error).is_some() => return error,
            Err(error) => {
                tracing::debug!(cause = error.chain(), "the slot cannot be looked at now");
                session = None;
            }
        }
    }
}

async fn look(settings: &Settings, tables: &[Table], session: &mut Option<Client>, told: &mut Told) -> Result<()> {
    let client = match session {
        Some(client) => client,
        None => {
            let client = setup::session(settings).await?;
            let quiet = "SET synchronous_commit = off";
            client.batch_execute(quiet).await.map_err(|error| failed("cannot set up a session", error))?;
            session.insert(client)
        }
    };
    // The server goes on without a word when a table is taken out.
    publication::verify(client, settings, tables).await?;
    if settings.heartbeat.is_some() {
        let sql = format!("SELECT pg_logical_emit_message(true, '{PREFIX}', {})", literal("heartbeat"));
        client.batch_execute(&sql).await.map_err(|error| failed("cannot write a heartbeat", error))?;
    }
    if let Some(trouble) = trouble(client, &settings.slot).await?
        && told.is_new(&trouble, Instant::now())
    {
        let Trouble { what, help } = trouble;
        tracing::warn!(slot = settings.slot, help, "{what}");
    }
    Ok(())
}

/// What is wrong with a slot, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trouble {
    what: &'static str,
    help: String,
}

/// What was told last, and when.
#[derive(Default)]
struct Told {
    last: Option<(&'static str, Instant)>,
}

impl Told {
    fn is_new(&mut self, trouble: &Trouble, now: Instant) -> bool {
        let known = self.last.is_some_and(|(what, when)| what == trouble.what && now - when < AGAIN);
        if !known {
            self.last = Some((trouble.what, now));
        }
        !known
    }
}

async fn trouble(client: &Client, slot: &str) -> Result<Option<Trouble>> {
    let row = client
        .query_opt(
            "SELECT wal_status, safe_wal_size, pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn)::bigint,
                    pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,
                    (SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
             FROM pg_replication_slots WHERE slot_name = $1",
            &[&slot],
        )
        .await
        .map_err(|error| failed("cannot read the replication slots", error))?;
    let Some(row) = row else { return Ok(None) };
    let (status, left): (Option<&str>, Option<i64>) = (row.get(0), row.get(1));
    let (held_back, kept): (Option<i64>, Option<i64>) = (row.get(2), row.get(3));
    let room = row.get::<_, Option<i64>>(4).filter(|room| *room >= 0);
    let kept = kept.unwrap_or(0);
    if status == Some("unreserved") || left.zip(room).is_some_and(|(left, room)| left < room / 100 * ROOM_LEFT) {
        let what = "the server soon drops log that the pipeline still needs";
        let left = left.unwrap_or(0).max(0) >> 20;
        let help = format!(
            "{} MiB of log wait for the slot, {left} MiB more fit: look why the pipeline is behind (sinks, handlers), or \
             raise `max_slot_wal_keep_size`",
            kept >> 20
        );
        return Ok(Some(Trouble { what, help }));
    }
    if held_back.is_some_and(|bytes| bytes > HELD_BACK) {
        let what = "the server keeps log that was confirmed, for a transaction that is still open";
        let help = format!("{} MiB are kept; {}", kept >> 20, blockers::oldest(client).await?);
        return Ok(Some(Trouble { what, help }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_once_in_a_while() {
        let trouble = |what| Trouble { what, help: String::new() };
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_new(&trouble("a"), now));
        assert!(!told.is_new(&trouble("a"), now));
        assert!(told.is_new(&trouble("b"), now), "another trouble");
        assert!(told.is_new(&trouble("b"), now + AGAIN), "still there");
    }
}
