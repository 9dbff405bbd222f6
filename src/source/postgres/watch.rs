//! `watch`: keeps an eye on the slot, and a heart beating in the log, in a session of its own.
//!
//! A slot that nothing is confirmed for makes the server keep its log, until the disk is full or the slot is invalidated.
//! The heartbeat is a transactional logical message: with it there is something to confirm also where only tables are
//! written that nobody publishes. What stands in the way otherwise is said early, with who must act.
//!
//! A server that shuts down ends this session first, and the stream last: only once all that it has sent is confirmed, which may
//! be never, since the sinks may lie on that very server. So the end of this session is what tells the stream to let go.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::Client;

use super::copy::PREFIX;
use super::feedback::Progress;
use super::loss::Loss;
use super::settings::{Settings, literal};
use super::tables::Table;
use super::{blockers, publication, setup};
use crate::error::{Error, Fault, Result};
use crate::postgres::{failed, sqlstate};

/// How often the slot is looked at, also where no heart beats.
const LOOK: Duration = Duration::from_secs(30);
/// How often it is looked whether the session still stands: a server that shuts down ends it, but not the stream.
const GLANCE: Duration = Duration::from_secs(1);
/// What a server answers that starts, or that shuts down.
const CANNOT_CONNECT_NOW: &str = "57P03";
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
    pub(super) fn start(settings: Arc<Settings>, tables: Arc<[Table]>, progress: Arc<Progress>) -> Self {
        let mut task = JoinSet::new();
        task.spawn(watch(settings, tables, progress));
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
async fn watch(settings: Arc<Settings>, tables: Arc<[Table]>, progress: Arc<Progress>) -> Error {
    let mut session = None;
    let mut told = Told::default();
    let period = settings.heartbeat.unwrap_or(LOOK).min(LOOK);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut alarmed = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = ended(session.as_ref()) => {}
            () = tokio::time::sleep(GLANCE), if alarmed => {}
        }
        let had_session = session.is_some();
        alarmed = match look(&settings, &tables, &mut session, &mut told).await {
            Ok(()) => false,
            Err(error) if Loss::of(&error).is_some() => return error,
            Err(error) => {
                tracing::debug!(cause = error.chain(), "the slot cannot be looked at now");
                session = None;
                let shuts_down = sqlstate(&error) == Some(CANNOT_CONNECT_NOW);
                if shuts_down {
                    progress.leave();
                }
                had_session || shuts_down
            }
        };
    }
}

/// Returns once the session was ended from outside.
async fn ended(session: Option<&Client>) {
    let Some(session) = session else { return std::future::pending().await };
    while !session.is_closed() {
        tokio::time::sleep(GLANCE).await;
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
