//! `Server`: the settings and limits of a server, our rights there, and whether a pipeline can be read from it.

use tokio_postgres::Client;

use super::settings::{Settings, quoted};
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed};

/// Postgres 14 brought binary pgoutput and logical messages.
const OLDEST: i32 = 140_000;
/// Postgres 17 brought slots that a standby takes over.
const FAILOVER: i32 = 170_000;

/// The server's version, settings and limits, and our rights there.
pub(super) struct Server {
    version: i32,
    version_text: String,
    wal_level: String,
    is_standby: bool,
    may_replicate: bool,
    has_rds_role: bool,
    pub(super) may_create: bool,
    slots: (i64, i64),
    senders: (i64, i64),
    /// `output_plugin_libraries`, where the server has it and the role may see it: only these
    /// plugins may be used.
    plugins: Option<String>,
}

impl Server {
    pub(super) async fn ask(client: &Client) -> Result<Self> {
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                        current_setting('wal_level'), pg_is_in_recovery(),
                        (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
                        coalesce((SELECT pg_has_role(current_user, oid, 'USAGE') FROM pg_roles WHERE rolname = 'rds_replication'), false),
                        EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication'),
                        has_database_privilege(current_database(), 'CREATE'),
                        (SELECT count(*) FROM pg_replication_slots), current_setting('max_replication_slots')::bigint,
                        (SELECT count(*) FROM pg_stat_replication), current_setting('max_wal_senders')::bigint,
                        (SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries')",
                &[],
            )
            .await
            .map_err(|error| failed("cannot ask the server for its settings", error))?;
        Ok(Self {
            version: row.read(0)?,
            version_text: row.read(1)?,
            wal_level: row.read(2)?,
            is_standby: row.read(3)?,
            may_replicate: row.read::<_, bool>(4)? || row.read::<_, bool>(5)?,
            has_rds_role: row.read(6)?,
            may_create: row.read(7)?,
            slots: (row.read(8)?, row.read(9)?),
            senders: (row.read(10)?, row.read(11)?),
            plugins: row.read(12)?,
        })
    }

    pub(super) fn check(&self, settings: &Settings) -> Result<()> {
        if self.version < OLDEST {
            return Err(wrong(format!("the server is Postgres {}", self.version_text))
                .help("pgstream-host needs Postgres 14 or later: upgrade the server"));
        }
        if settings.failover && self.version < FAILOVER {
            return Err(wrong(format!("the server is Postgres {}, which has no failover slots", self.version_text))
                .help("they came with Postgres 17: upgrade the server, or take `failover: true` out of the source"));
        }
        if self.is_standby {
            return Err(wrong("the server is a standby")
                .because(
                    "the pipeline keeps its publication, its state (`pgstream.slots`) and the marks of its copies in the database, \
                     which only the primary can write",
                )
                .help("name the primary in `url`"));
        }
        // Postgres 19 raises the level by itself once there is a logical slot.
        if self.version < 190_000 && self.wal_level != "logical" {
            return Err(wrong(format!("`wal_level` of the server is `{}`, not `logical`", self.wal_level)).help(
                "ALTER SYSTEM SET wal_level = logical; then restart the server (Amazon RDS: `rds.logical_replication = 1`, Cloud SQL: `cloudsql.logical_decoding = on`)",
            ));
        }
        if !self.may_replicate {
            let user = &settings.url.user;
            let name = quoted(user);
            let sql = if self.has_rds_role {
                format!("GRANT rds_replication TO {name};")
            } else {
                format!("ALTER ROLE {name} REPLICATION;")
            };
            return Err(wrong(format!("user `{user}` lacks the privilege REPLICATION")).help(sql));
        }
        if let Some(plugins) = &self.plugins
            && !plugins.split(',').any(|plugin| plugin.trim().trim_matches('"') == "pgoutput")
        {
            return Err(wrong("the server does not allow the plugin `pgoutput`")
                .because(format!("output_plugin_libraries = '{plugins}'"))
                .help(format!(
                    "ALTER SYSTEM SET output_plugin_libraries = {}; SELECT pg_reload_conf();",
                    with_pgoutput(plugins)
                )));
        }
        Ok(())
    }

    pub(super) fn check_room_for_slot(&self, settings: &Settings) -> Result<()> {
        let (used, limit) = self.slots;
        if used < limit {
            return Ok(());
        }
        Err(wrong(format!("the server has no room for slot `{}`", settings.slot))
            .because(format!("all {limit} replication slots are taken"))
            .help("drop one that nobody needs (SELECT slot_name, active FROM pg_replication_slots), or raise `max_replication_slots` and restart the server"))
    }

    pub(super) fn check_room_for_sender(&self) -> Result<()> {
        let (used, limit) = self.senders;
        if used < limit {
            return Ok(());
        }
        Err(wrong("the server has no room for another replication connection")
            .because(format!("all {limit} WAL senders are taken"))
            .help("end one (SELECT pid, application_name FROM pg_stat_replication), or raise `max_wal_senders` and restart the server"))
    }
}

fn with_pgoutput(plugins: &str) -> String {
    let named = plugins.split(',').map(str::trim).filter(|plugin| !plugin.is_empty());
    ["pgoutput"].into_iter().chain(named).collect::<Vec<_>>().join(", ")
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Fault::Environment, what)
}
