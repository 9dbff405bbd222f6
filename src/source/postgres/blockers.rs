//! The sessions that stand in our way. Those with the oldest transactions that write hold up the
//! making of a slot, and keep log that could go; others hold a lock that we wait for.

use std::time::Duration;

use tokio_postgres::Client;

use super::settings::Settings;
use super::setup;
use crate::error::Result;
use crate::postgres::{ReadRow, failed, sqlstate};
use crate::printable::printable;

/// The SQLSTATE that the server answers after `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// On a server without long transactions a slot takes less.
const SLOW: Duration = Duration::from_secs(5);

/// Waits for a slot to be made, which takes as long as transactions run that had begun before, and
/// says who has the oldest.
pub(super) async fn wait_for<T>(settings: &Settings, made: impl Future<Output = T>) -> T {
    tokio::pin!(made);
    loop {
        match tokio::time::timeout(SLOW, &mut made).await {
            Ok(made) => return made,
            Err(_) => {
                // In a session of its own: the other one waits.
                let asked = async { oldest(&setup::session(settings).await?).await };
                let help = asked.await.unwrap_or_else(|error| error.chain());
                let slot = &settings.slot;
                tracing::warn!(slot, help, "the server makes the slot only after all running transactions have ended");
            }
        }
    }
}

/// Does work of the server's process `ours` that takes locks, and says who is in the way once it
/// takes long.
///
/// # Errors
/// Those of the work; with who was in the way, if a lock could not be had in time.
pub(super) async fn name<T>(settings: &Settings, ours: i32, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(work);
    let mut known = None;
    loop {
        match tokio::time::timeout(SLOW, &mut work).await {
            Ok(Err(error)) if sqlstate(&error) == Some(LOCK_NOT_AVAILABLE) => {
                return Err(match known {
                    Some(help) => error.help(help),
                    None => error,
                });
            }
            Ok(done) => return done,
            Err(_) => {
                // In a session of its own: the other one waits.
                let asked = async { holder(&setup::session(settings).await?, ours).await };
                let Ok(Some(help)) = asked.await else { continue };
                let slot = &settings.slot;
                tracing::warn!(slot, help, "the pipeline is set up after another session has let go of a lock");
                known = Some(help);
            }
        }
    }
}

/// Describes a session that holds the lock for which the server's process `waiting` waits, and says
/// what to do about it. None if no session does.
async fn holder(client: &Client, waiting: i32) -> Result<Option<String>> {
    let row = client
        .query_opt(
            "SELECT pid, coalesce(a.usename::text, 'unknown'), coalesce(nullif(a.application_name, ''), 'without a name'),
                    coalesce(host(a.client_addr), 'an unknown address')
             FROM unnest(pg_blocking_pids($1)) AS holder (pid) LEFT JOIN pg_stat_activity a USING (pid) LIMIT 1",
            &[&waiting],
        )
        .await
        .map_err(|error| failed("cannot read the server's sessions", error))?;
    let Some(row) = row else { return Ok(None) };
    let (pid, role, name, address): (i32, &str, &str, &str) = (row.read(0)?, row.read(1)?, row.read(2)?, row.read(3)?);
    let (role, name) = (printable(role), printable(name));
    Ok(Some(format!(
        "session {pid} of `{role}` (`{name}`, from {address}) holds the lock: if it should not, \
         SELECT pg_terminate_backend({pid})"
    )))
}

/// Describes the session with the oldest transaction that writes, and says what to do about it. If
/// there is none, it names the SQL that finds prepared transactions.
pub(super) async fn oldest(client: &Client) -> Result<String> {
    let row = client
        .query_opt(
            "SELECT pid, coalesce(nullif(application_name, ''), usename::text, 'unknown'), state,
                    extract(epoch FROM now() - xact_start)::bigint
             FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
             ORDER BY age(backend_xid) DESC LIMIT 1",
            &[],
        )
        .await
        .map_err(|error| failed("cannot read the server's sessions", error))?;
    if let Some(row) = row {
        let (pid, name, state): (i32, &str, Option<&str>) = (row.read(0)?, row.read(1)?, row.read(2)?);
        let name = printable(name);
        let seconds = row.read::<_, Option<i64>>(3)?.unwrap_or(0);
        let state = state.unwrap_or("unknown");
        return Ok(format!(
            "session {pid} (`{name}`, {state}) has written in a transaction for {seconds} s: end it, if need be with \
             SELECT pg_terminate_backend({pid})"
        ));
    }
    Ok("look for forgotten prepared transactions: SELECT gid, prepared FROM pg_prepared_xacts".to_owned())
}
