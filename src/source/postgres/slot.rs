//! The replication slot: from where the server still has the changes, and whether we are who may
//! read them.

use tokio_postgres::{CancelToken, Client, Row};

use super::blockers;
use super::loss::Loss;
use super::settings::Settings;
use crate::error::{Error, Fault, Result};
use crate::lsn::Lsn;
use crate::postgres::{ReadRow, Url, cancel, failed};

/// A slot as it stands on the server.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    plugin: Option<String>,
    kind: String,
    database: Option<String>,
    temporary: bool,
    active_pid: Option<i32>,
    wal_status: Option<String>,
    reason: Option<String>,
    /// The server brings it along when a standby is promoted.
    pub(super) failover: bool,
    /// Up to where the server was told that everything is durable.
    pub(super) confirmed: Lsn,
}

impl Slot {
    pub(super) async fn find(client: &Client, name: &str) -> Result<Option<Self>> {
        // Through JSON, because `invalidation_reason` and `failover` came with Postgres 17.
        let row = client
            .query_opt(
                "SELECT plugin::text, slot_type, database::text, temporary, active_pid, wal_status,
                        to_jsonb(s) ->> 'invalidation_reason', coalesce(confirmed_flush_lsn, '0/0')::text,
                        coalesce((to_jsonb(s) ->> 'failover')::boolean, false)
                 FROM pg_replication_slots s WHERE slot_name = $1",
                &[&name],
            )
            .await
            .map_err(|error| failed("cannot read the replication slots", error))?;
        let Some(row) = row else { return Ok(None) };
        let confirmed: &str = row.read(7)?;
        Ok(Some(Self {
            plugin: row.read(0)?,
            kind: row.read(1)?,
            database: row.read(2)?,
            temporary: row.read(3)?,
            active_pid: row.read(4)?,
            wal_status: row.read(5)?,
            reason: row.read(6)?,
            failover: row.read(8)?,
            confirmed: confirmed
                .parse()
                .map_err(|error| Error::new(Fault::Bug, "the slot's position").because(error))?,
        }))
    }

    /// Checks that the slot is of the kind that the pipeline can read: logical, of the plugin
    /// `pgoutput`, of its database, and not temporary. A slot in use is not refused: its user may
    /// be about to end.
    pub(super) fn check(&self, settings: &Settings) -> Result<()> {
        let (name, database) = (&settings.slot, &settings.url.database);
        let other = |what: String| {
            Err(Error::new(Fault::Config, format!("slot `{name}` {what}"))
                .help("name another `slot` in the source; if nobody needs this one: ".to_owned() + &drop_sql(name)))
        };
        if self.kind != "logical" {
            return other("is a physical slot, not a logical one".into());
        }
        if self.plugin.as_deref() != Some("pgoutput") {
            return other(format!("is of the plugin `{}`, not `pgoutput`", self.plugin.as_deref().unwrap_or_default()));
        }
        if self.database.as_ref() != Some(database) {
            return other(format!(
                "belongs to database `{}`, not `{database}`",
                self.database.as_deref().unwrap_or_default()
            ));
        }
        if self.temporary {
            return other("is temporary".into());
        }
        Ok(())
    }

    /// Returns the loss if the server has given the slot up.
    pub(super) fn loss(&self, name: &str) -> Option<Loss> {
        let lost = self.wal_status.as_deref() == Some("lost") || self.reason.is_some();
        lost.then(|| Loss::invalidated(name, self.reason.as_deref().unwrap_or("wal_removed")))
    }

    /// True while a process waits for the slot to be made: it has no position yet.
    pub(super) fn is_in_the_making(&self) -> bool {
        self.confirmed == Lsn::INVALID && self.is_active()
    }

    pub(super) fn is_active(&self) -> bool {
        self.active_pid.is_some()
    }
}

/// SQL by which the server soon notices that nobody waits for the slot any more.
const GIVEN_UP: &str = "
    SELECT set_config('client_connection_check_interval', '1s', false), set_config('tcp_keepalives_idle', '10', false),
           set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '4', false)";

/// Makes the slot. Waits for transactions that are running, for as long as they run, and says so.
/// If that is given up, the server gives it up, too, also when this process is killed: otherwise it
/// would make a slot later that nobody knows of, and keep log for it.
pub(super) async fn create(client: &Client, settings: &Settings) -> Result<String> {
    let name = &settings.slot;
    if let Err(error) = client.execute(GIVEN_UP, &[]).await {
        // A server on another system than Linux, macOS or a BSD may not have it.
        tracing::debug!(%error, "the server does not look whether its client is still there");
    }
    let given_up = Cancelled::when_dropped(client, settings);
    let sql = match settings.failover {
        true => "SELECT pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)",
        false => "SELECT pg_create_logical_replication_slot($1, 'pgoutput')",
    };
    let created = blockers::wait_for(settings, client.execute(sql, &[name])).await;
    given_up.not();
    created.map_err(|error| failed(format!("cannot create slot `{name}`"), error))?;
    Ok(format!("created slot `{name}`"))
}

/// Drops the slot. Says what it did.
pub(super) async fn drop(client: &Client, name: &str) -> Result<String> {
    let Some(slot) = Slot::find(client, name).await? else {
        return Ok(format!("slot `{name}` is not there"));
    };
    if slot.kind != "logical" || slot.plugin.as_deref() != Some("pgoutput") {
        return Ok(format!("left slot `{name}`, which pgstream-host did not make"));
    }
    match client.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await {
        Ok(_) => Ok(format!("dropped slot `{name}`")),
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE) => {
            Err(in_use(client, name).await.help("stop the pipeline that uses it first"))
        }
        Err(error) => Err(failed(format!("cannot drop slot `{name}`"), error)),
    }
}

/// The slot is in somebody else's hands: whose.
pub(super) async fn in_use(client: &Client, name: &str) -> Error {
    let who = client
        .query_opt(
            "SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, 'another role'),
                    coalesce(host(a.client_addr), 'an unknown address'), s.confirmed_flush_lsn IS NULL
             FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE slot_name = $1",
            &[&name],
        )
        .await;
    let read =
        |row: &Row| Ok::<(i32, String, String, bool), Error>((row.read(0)?, row.read(1)?, row.read(2)?, row.read(3)?));
    let (who, help) = match who.ok().flatten().as_ref().map(read) {
        Some(Ok((pid, application, address, in_the_making))) => {
            if in_the_making {
                // It waits for transactions that had begun before.
                let waits = blockers::oldest(client).await.unwrap_or_else(|error| error.chain());
                let who = format!(
                    "process {pid} of the server is still making it for `{application}` at {address}, and waits for other transactions"
                );
                let help = format!(
                    "if nobody waits for it any more: SELECT pg_terminate_backend({pid}), which leaves no slot; or let it be made: {waits}"
                );
                (who, Some(help))
            } else {
                (format!("process {pid} of the server serves it to `{application}` at {address}"), None)
            }
        }
        _ => ("it was in use a moment ago".to_owned(), None),
    };
    let error = Error::new(Fault::Transient, format!("slot `{name}` is in use")).because(InUse(who));
    help.into_iter().fold(error, Error::help)
}

/// The cause of a slot in use, for people: the process that reads or makes it, if that is known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct InUse(String);

/// Cancels what a session waits for, if that is given up.
struct Cancelled(Option<(CancelToken, Url)>);

impl Cancelled {
    fn when_dropped(client: &Client, settings: &Settings) -> Self {
        Self(Some((client.cancel_token(), settings.url.clone())))
    }

    /// Nothing is waited for any more.
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        // Where the runtime ends, the connection does, which the server notices a moment later.
        if let (Some((token, url)), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = cancel(&url, token).await {
                    tracing::debug!(cause = error.chain(), "the server could not be told that the slot is not wanted");
                }
            });
        }
    }
}

fn drop_sql(name: &str) -> String {
    format!("SELECT pg_drop_replication_slot('{name}')")
}

/// Tells if an error says that the slot is in use.
pub(super) fn is_in_use(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<InUse>())
}
