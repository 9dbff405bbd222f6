//! `Session`: a connection with its settings, its temporary table and its prepared statements.

use tokio_postgres::{Client, Statement};

use super::columns::Column;
use super::create;
use super::place::place;
use super::statements::Statements;
use super::table::{self, Table};
use crate::error::{Error, Fault, Result};
use crate::postgres::{self, Url, failed};

/// `Ok` from a write promises that it survives a crash, which `synchronous_commit = off` would not;
/// what is stricter or replicated stays as the server has it. The time limits end a transaction
/// whose host was frozen or cut off: it would make the host that takes over wait. Every write finds
/// its rows by id or group; but of a table without statistics, as during a first copy, the planner
/// knows so little that it would rather read all of it, each time.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SET idle_in_transaction_session_timeout = '60s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 10;
    SET tcp_keepalives_count = 3;
    SET lock_timeout = '120s';
    SET enable_seqscan = off;
    SET enable_mergejoin = off;
    SET jit = off";

/// An open connection to the table's database.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) table: Table,
    pub(super) statements: Statements,
    /// Prepared with the first write.
    pub(super) advance: Option<Statement>,
}

/// The table to open, and the columns to make it with if it is missing.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) url: Url,
    /// The name as SQL, with the schema if the settings say it.
    pub(super) table: String,
    /// The name as it is, if the settings do not.
    pub(super) unqualified: Option<String>,
    /// From `create`.
    pub(super) wanted: Option<Vec<Column>>,
}

impl Session {
    /// Connects, makes what is missing and may be made, and checks the table.
    pub(super) async fn open(target: &Target) -> Result<Self> {
        let mut client = connect(&target.url).await?;
        let extension = create::extension(&client, target.wanted.is_some()).await?;
        let name = place(&client, target).await?;
        let oid = match (table::find(&client, &name).await?, &target.wanted) {
            (Some(oid), _) => oid,
            (None, Some(wanted)) => create::table(&mut client, &name, wanted, &extension, &target.url.user).await?,
            (None, None) => return Err(missing(target)),
        };
        Self::on(client, target, oid, &extension).await
    }

    /// As `open`, but makes nothing. None if the table is missing and could be made.
    pub(super) async fn look(target: &Target) -> Result<Option<Self>> {
        let client = connect(&target.url).await?;
        postgres::warn_of_excess(&client, &target.url).await?;
        let name = place(&client, target).await?;
        match (table::find(&client, &name).await?, &target.wanted) {
            (Some(oid), _) => {
                let extension = create::extension(&client, false).await?;
                Self::on(client, target, oid, &extension).await.map(Some)
            }
            (None, Some(_)) => create::could(&client, &name, &target.url.user).await.map(|()| None),
            (None, None) => Err(missing(target)),
        }
    }

    /// Connects again to a table that was open before, which must still be the same one: an empty
    /// table in its place would lack all that was written before.
    pub(super) async fn reopen(target: &Target, oid: u32) -> Result<Self> {
        let client = connect(&target.url).await?;
        let extension = create::extension(&client, false).await?;
        let name = place(&client, target).await?;
        if table::find(&client, &name).await? != Some(oid) {
            return Err(Error::new(
                Fault::Environment,
                format!("table {} was dropped or replaced while the sink was using it", target.table),
            )
            .because("rows that were written before count as durable, and do not come again")
            .help("bring them over anew: `pgstream-host resnapshot <pipeline file>`, then start the pipeline"));
        }
        Self::on(client, target, oid, &extension).await
    }

    async fn on(client: Client, target: &Target, oid: u32, extension: &str) -> Result<Self> {
        let mut table = table::read(&client, oid, extension).await?;
        if let Some(wanted) = &target.wanted {
            table::check(&mut table, wanted)?;
        }
        let statements = Statements::prepare(&client, &table).await?;
        Ok(Self { client, table, statements, advance: None })
    }
}

fn missing(target: &Target) -> Error {
    Error::new(Fault::Environment, format!("table {} does not exist", target.table)).help(
        "add `create: { dimension: 384, distance: cosine }` to the sink, with your model's dimension, or correct `table`",
    )
}

pub(super) async fn connect(url: &Url) -> Result<Client> {
    let client = postgres::connect(url, "pgstream-host sink").await?;
    client.batch_execute(SETTINGS).await.map_err(|error| failed("cannot set up the session", error))?;
    Ok(client)
}
