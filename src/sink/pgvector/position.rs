//! `Lease`: the right to write under a pipeline's name, and the position stored in the same
//! transaction as the rows.
//!
//! One row of `pgstream.positions` per pipeline, sink, origin and table. Its epoch rises each time
//! a host takes the sink over; a host that was given up for dead and still writes finds another
//! epoch, and its transaction fails.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Statement, Transaction};

use super::columns::quoted;
use super::create;
use crate::error::{Error, Fault, Result};
use crate::lsn::{Lsn, Position};
use crate::postgres::{ReadRow, Url, ensure_table, failed, has_table};
use crate::sabotage::Breakage;
use crate::sink::Held;

const TABLE: &str = "pgstream.positions";

/// The beginning of the comment on our table. A random word follows it. By this word a database is
/// told from another one in its place that has a table of the same OID.
const COMMENT: &str = "pgstream-host: how far sinks hold their streams; ";

/// Never published: the source's publication names its tables one by one.
const CREATE: &str = "
    CREATE TABLE pgstream.positions (
        pipeline text NOT NULL,
        sink text NOT NULL,
        origin text NOT NULL,
        relation oid NOT NULL,
        lsn pg_lsn,
        ordinal bigint,
        committed_at timestamptz,
        epoch bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, sink, origin, relation)
    )";

/// Also ends the turns under other origins: a host that woke up late may not know that the pipeline
/// has begun anew.
const TAKE_OVER: &str = "
    WITH fenced AS (
        UPDATE pgstream.positions SET epoch = epoch + 1
        WHERE pipeline = $1 AND sink = $2 AND relation = $4 AND origin <> $3
    )
    INSERT INTO pgstream.positions AS held (pipeline, sink, origin, relation, epoch) VALUES ($1, $2, $3, $4, 1)
    ON CONFLICT (pipeline, sink, origin, relation) DO UPDATE SET epoch = held.epoch + 1, updated_at = now()
    RETURNING epoch, lsn, ordinal, committed_at";

/// Takes the row's lock, so that a host that takes over waits for a transaction that is under way.
/// In a table that was made unlogged meanwhile nothing is durable.
const ADVANCE: &str = "
    UPDATE pgstream.positions SET lsn = $6, ordinal = $7, committed_at = $8, updated_at = now()
    WHERE pipeline = $1 AND sink = $2 AND origin = $3 AND relation = $4 AND epoch = $5
          AND EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = $4 AND relpersistence = 'p')";

const LOGGED: &str = "SELECT relpersistence = 'p' FROM pg_catalog.pg_class WHERE oid = $1";

/// The row is there, whoever holds it.
const STANDS: &str = "
    SELECT FROM pgstream.positions WHERE pipeline = $1 AND sink = $2 AND origin = $3 AND relation = $4";

/// The right to write one stream to one table, with the number of the takeover that gave it.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pipeline: String,
    sink: String,
    origin: String,
    relation: u32,
    epoch: i64,
}

/// Makes the table of positions if it is missing.
pub(super) async fn ensure(client: &Client, url: &Url) -> Result<()> {
    ensure_table(client, TABLE, CREATE, url).await?;
    if word(client).await?.is_none() {
        // Only its owner may, and does so at its next start.
        let end = if give_word(client).await.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let _ = client.batch_execute(end).await;
    }
    Ok(())
}

/// Gives the table its word, unless another host or sink has just done so: one after another, each
/// looks again. In a transaction, which stays open.
async fn give_word(client: &Client) -> Result<()> {
    let run = async |sql: &str| {
        client.batch_execute(sql).await.map_err(|error| failed(format!("cannot comment on table `{TABLE}`"), error))
    };
    run(&format!("BEGIN; LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")).await?;
    match word(client).await? {
        Some(_) => Ok(()),
        None => run(&format!("COMMENT ON TABLE {TABLE} IS '{COMMENT}{:016x}'", rand::random::<u64>())).await,
    }
}

/// Returns the marks by which the table with this OID is known, the most telling first. The list is
/// empty in a database in which no sink has ever been. Before the owner of our table came and gave
/// it its word, the sinks of others were known by the OID alone.
pub(super) async fn marks(client: &Client, relation: u32) -> Result<Vec<String>> {
    if !has_table(client, TABLE).await? {
        return Ok(Vec::new());
    }
    let with_word = word(client).await?.map(|word| format!("{word}/{relation}"));
    Ok(with_word.into_iter().chain([format!("/{relation}")]).collect())
}

/// Removes the positions of a sink under all origins.
pub(super) async fn forget(client: &Client, pipeline: &str, sink: &str) -> Result<()> {
    if !has_table(client, TABLE).await? {
        return Ok(());
    }
    let sql = "DELETE FROM pgstream.positions WHERE pipeline = $1 AND sink = $2";
    client.execute(sql, &[&pipeline, &sink]).await.map(drop).map_err(|error| {
        create::denied("cannot remove the position", error, "GRANT DELETE ON pgstream.positions".to_owned())
    })
}

async fn word(client: &Client) -> Result<Option<String>> {
    // From the catalogue: to name the table takes rights on its schema.
    let sql = "SELECT pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'pgstream' AND c.relname = 'positions'";
    let row =
        client.query_opt(sql, &[]).await.map_err(|error| failed(format!("cannot look at table `{TABLE}`"), error))?;
    let comment: Option<String> = row.map(|row| row.read::<_, Option<String>>(0)).transpose()?.flatten();
    Ok(comment.and_then(|comment| Some(comment.strip_prefix(COMMENT)?.to_owned())))
}

impl Lease {
    /// Takes the sink over: whoever held it can write no more. Answers the position that the table
    /// has reached.
    pub(super) async fn take(
        client: &mut Client,
        pipeline: &str,
        sink: &str,
        origin: &str,
        relation: u32,
        url: &Url,
    ) -> Result<(Self, Option<Held>)> {
        ensure(client, url).await?;
        let row = client.query_one(TAKE_OVER, &[&pipeline, &sink, &origin, &relation]).await.map_err(|error| {
            let help = format!("GRANT SELECT, INSERT, UPDATE ON pgstream.positions TO {}", quoted(&url.user));
            create::denied(format!("cannot take over the stored position of sink `{sink}`"), error, help)
        })?;
        let (lsn, ordinal): (Option<PgLsn>, Option<i64>) = (row.read("lsn")?, row.read("ordinal")?);
        let ordinal = ordinal.and_then(|ordinal| u32::try_from(ordinal).ok());
        let committed = row.read::<_, Option<SystemTime>>("committed_at")?.map_or(0, micros);
        let held = lsn.zip(ordinal).map(|(lsn, ordinal)| Position { lsn: Lsn(lsn.into()), ordinal });
        let held = held.map(|position| Held { position, committed });
        let lease = Self {
            pipeline: pipeline.to_owned(),
            sink: sink.to_owned(),
            origin: origin.to_owned(),
            relation,
            epoch: row.read("epoch")?,
        };
        Ok((lease, held))
    }

    /// Stores the position that the transaction reaches; fails if another host has taken over.
    /// `prepared` is kept for the next time.
    pub(super) async fn advance(
        &self,
        transaction: &Transaction<'_>,
        prepared: &mut Option<Statement>,
        through: Held,
    ) -> Result<()> {
        let failed = |error| failed("cannot store the position", error);
        let statement = match prepared {
            Some(statement) => statement,
            None => prepared.insert(transaction.prepare(ADVANCE).await.map_err(failed)?),
        };
        let Self { pipeline, sink, origin, relation, epoch } = self;
        let (lsn, ordinal) = (PgLsn::from(through.position.lsn.0), i64::from(through.position.ordinal));
        let committed = UNIX_EPOCH + Duration::from_micros(through.committed.max(0) as u64);
        let rows = transaction
            .execute(&*statement, &[pipeline, sink, origin, relation, epoch, &lsn, &ordinal, &committed])
            .await
            .map_err(failed)?;
        if rows == 1 || Breakage::FencingOff.is_on() {
            return Ok(());
        }
        let stands = transaction.query_opt(STANDS, &[pipeline, sink, origin, relation]).await.map_err(failed)?;
        if stands.is_none() {
            return Err(Error::new(
                Fault::Environment,
                format!("the position of sink `{sink}` of pipeline `{pipeline}` is gone"),
            )
            .at("table `pgstream.positions`")
            .help("somebody deleted its row; start the pipeline again: what was not confirmed is written once more"));
        }
        let logged = transaction.query_opt(LOGGED, &[relation]).await.map_err(failed)?;
        match logged.map(|row| row.read(0)).transpose()? {
            Some(true) => {}
            Some(false) => {
                return Err(Error::new(
                    Fault::Environment,
                    "the table is unlogged now: a crash of the server empties it",
                )
                .because("nothing that is written to it is durable")
                .help("ALTER TABLE … SET LOGGED, then start the pipeline again"));
            }
            None => {
                return Err(Error::new(Fault::Environment, "the table was dropped while the sink was using it")
                    .because("rows that were written before count as durable, and do not come again")
                    .help(
                        "bring them over anew: `pgstream-host backfill <pipeline file> --detach`, or `resnapshot`; \
                         then start the pipeline",
                    ));
            }
        }
        Err(Error::new(
            Fault::Environment,
            format!("another host has taken over sink `{sink}` of pipeline `{pipeline}`"),
        )
        .at(format!("epoch {epoch} in table `pgstream.positions`"))
        .help("run a pipeline on one host at a time; what this host had not written, the other one writes"))
    }
}

/// Since 1970; what lies before is as good as then.
fn micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
