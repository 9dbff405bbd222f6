//! `Lease`: the right to write under a pipeline's name, and the position stored in the same transaction as the rows.
//!
//! One row of `pgstream.positions` per pipeline, sink, origin and table. Its epoch rises each time a host takes the
//! sink over; a host that was given up for dead and still writes finds another epoch, and its transaction fails.

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Statement, Transaction};

use super::columns::quoted;
use super::create;
use crate::error::{Error, Fault, Result};
use crate::lsn::{Lsn, Position};
use crate::postgres::failed;

/// Never published: the source's publication names its tables one by one.
const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS pgstream.positions (
        pipeline text NOT NULL,
        sink text NOT NULL,
        origin text NOT NULL,
        relation oid NOT NULL,
        lsn pg_lsn,
        ordinal bigint,
        epoch bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (pipeline, sink, origin, relation)
    )";

const TAKE_OVER: &str = "
    INSERT INTO pgstream.positions AS held (pipeline, sink, origin, relation, epoch) VALUES ($1, $2, $3, $4, 1)
    ON CONFLICT (pipeline, sink, origin, relation) DO UPDATE SET epoch = held.epoch + 1, updated_at = now()
    RETURNING epoch, lsn, ordinal";

/// Takes the row's lock, so that a host that takes over waits for a transaction that is under way.
const ADVANCE: &str = "
    UPDATE pgstream.positions SET lsn = $6, ordinal = $7, updated_at = now()
    WHERE pipeline = $1 AND sink = $2 AND origin = $3 AND relation = $4 AND epoch = $5";

/// Which stream is written to which table, and since which takeover.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pipeline: String,
    sink: String,
    origin: String,
    relation: u32,
    epoch: i64,
}

impl Lease {
    /// Takes the sink over: whoever held it can write no more. Answers the position that the table has reached.
    pub(super) async fn take(
        client: &mut Client,
        pipeline: &str,
        sink: &str,
        origin: &str,
        relation: u32,
        user: &str,
    ) -> Result<(Self, Option<Position>)> {
        ensure_table(client, user).await?;
        let row = client.query_one(TAKE_OVER, &[&pipeline, &sink, &origin, &relation]).await.map_err(|error| {
            let help = format!("GRANT SELECT, INSERT, UPDATE ON pgstream.positions TO {}", quoted(user));
            create::denied(format!("cannot take over the stored position of sink `{sink}`"), error, help)
        })?;
        let (lsn, ordinal): (Option<PgLsn>, Option<i64>) = (row.get("lsn"), row.get("ordinal"));
        let ordinal = ordinal.and_then(|ordinal| u32::try_from(ordinal).ok());
        let position = lsn.zip(ordinal).map(|(lsn, ordinal)| Position { lsn: Lsn(lsn.into()), ordinal });
        let lease = Self {
            pipeline: pipeline.to_owned(),
            sink: sink.to_owned(),
            origin: origin.to_owned(),
            relation,
            epoch: row.get("epoch"),
        };
        Ok((lease, position))
    }

    /// Stores the position that the transaction reaches; fails if another host has taken over. `prepared` is kept
    /// for the next time.
    pub(super) async fn advance(
        &self,
        transaction: &Transaction<'_>,
        prepared: &mut Option<Statement>,
        through: Position,
    ) -> Result<()> {
        let failed = |error| failed("cannot store the position", error);
        let statement = match prepared {
            Some(statement) => statement,
            None => prepared.insert(transaction.prepare(ADVANCE).await.map_err(failed)?),
        };
        let Self { pipeline, sink, origin, relation, epoch } = self;
        let (lsn, ordinal) = (PgLsn::from(through.lsn.0), i64::from(through.ordinal));
        let rows = transaction
            .execute(&*statement, &[pipeline, sink, origin, relation, epoch, &lsn, &ordinal])
            .await
            .map_err(failed)?;
        if rows == 1 {
            return Ok(());
        }
        Err(Error::new(
            Fault::Environment,
            format!("another host has taken over sink `{sink}` of pipeline `{pipeline}`"),
        )
        .at(format!("epoch {epoch} in table `pgstream.positions`"))
        .help("run a pipeline on one host at a time; what this host had not written, the other one writes"))
    }
}

async fn ensure_table(client: &mut Client, user: &str) -> Result<()> {
    let failed = |error| failed("cannot create table `pgstream.positions`", error);
    let present = client.query_one("SELECT to_regclass('pgstream.positions') IS NOT NULL", &[]).await;
    if present.map_err(failed)?.get(0) {
        return Ok(());
    }
    let transaction = client.transaction().await.map_err(failed)?;
    create::lock(&transaction).await?;
    // `IF NOT EXISTS` asks for the privilege even where the schema is there.
    let schema = transaction.query_opt("SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'pgstream'", &[]).await;
    let schema = if schema.map_err(failed)?.is_some() { "" } else { "CREATE SCHEMA pgstream;" };
    transaction.batch_execute(&format!("{schema} {CREATE}")).await.map_err(|error| {
        let help = format!("as the database's owner: CREATE SCHEMA pgstream AUTHORIZATION {}", quoted(user));
        create::denied("cannot create table `pgstream.positions`", error, help)
    })?;
    transaction.commit().await.map_err(failed)
}
