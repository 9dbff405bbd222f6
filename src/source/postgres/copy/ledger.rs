//! The ledger `pgstream.copies`: which tables are to be copied, and how far each copy has come. It
//! lies in the source's database, so that it survives the loss of the host's disk, and is bound to
//! the slot that the copies belong to.

use tokio_postgres::Client;

use super::super::schema;
use super::super::settings::{Settings, literal};
use super::super::tables::Table;
use super::mark::{Mark, PREFIX};
use crate::error::Result;
use crate::postgres::{ReadRow, failed, first_column, is_trusted};
use crate::source::Copied;

/// The table in which copies are written down.
const TABLE: &str = "pgstream.copies";

const CREATE: &str = "
    CREATE TABLE pgstream.copies (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        slot text NOT NULL,
        relation oid NOT NULL,
        table_name text NOT NULL,
        first boolean NOT NULL,
        filter text,
        keys text[],
        rows_per_second integer CHECK (rows_per_second > 0),
        after_key text[],
        rows bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        asked_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now(),
        done_at timestamptz,
        error text,
        written_by text DEFAULT session_user
    );
    ALTER TABLE pgstream.copies ADD CONSTRAINT written_by
        CHECK (filter IS NULL AND keys IS NULL OR written_by IS NOT DISTINCT FROM session_user) NOT VALID;
    CREATE UNIQUE INDEX copies_first ON pgstream.copies (slot, relation) WHERE first;
    COMMENT ON TABLE pgstream.copies IS 'pgstream-host: how far the copies of tables have come'";

/// For tables of earlier versions. Conditions and keys are SQL that runs with the rights of whoever
/// runs the pipeline, and a member of `pg_write_all_data` may write to any table. So the server
/// itself vouches for who has written a row with SQL in it, which only the owner of the table could
/// undo. NOT VALID, so that a backup is restored before the constraint counts.
const WRITTEN_BY: &str = "
    ALTER TABLE pgstream.copies ADD COLUMN IF NOT EXISTS written_by text;
    ALTER TABLE pgstream.copies ALTER written_by SET DEFAULT session_user, ADD CONSTRAINT written_by
        CHECK (filter IS NULL AND keys IS NULL OR written_by IS NOT DISTINCT FROM session_user) NOT VALID;";

/// A copy to be made, or gone on with.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: i64,
    pub(super) relation: u32,
    pub(super) table: String,
    /// Belongs to `snapshot: initial`, and was not asked for by hand.
    pub(super) first: bool,
    /// An SQL condition.
    pub(super) filter: Option<String>,
    /// Of these rows only, whose earlier events were set aside: each is a [`Key`](super::rows::Key)
    /// as text.
    pub(super) keys: Option<Vec<String>>,
    pub(super) rows_per_second: Option<u32>,
    /// The key of the last row that is durable in the sinks, as Postgres writes its columns.
    pub(super) after: Option<Vec<String>>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// The login that wrote the row last, as far as the server vouches for it.
    pub(super) writer: Option<String>,
    /// It has SQL in it, and nobody whom we trust has written that.
    pub(super) strange: bool,
}

/// Makes schema and table if they are missing.
pub(super) async fn ensure(client: &Client, settings: &Settings) -> Result<()> {
    schema::ensure(client, settings, TABLE, CREATE).await?;
    schema::give_columns(client, settings, TABLE, &["written_by"], WRITTEN_BY).await
}

pub(super) async fn is_there(client: &Client) -> Result<bool> {
    schema::is_there(client, TABLE).await
}

/// Forgets the copies of a slot that is gone: a new one begins anew.
pub(in crate::source::postgres) async fn forget(client: &Client, slot: &str) -> Result<()> {
    if !is_there(client).await? {
        return Ok(());
    }
    let forgotten = client.execute("DELETE FROM pgstream.copies WHERE slot = $1", &[&slot]).await;
    forgotten.map(drop).map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))
}

/// Lets go of the first copies of tables that the source no longer has: nobody can make them, and
/// one that was made says nothing once changes of its table were not sent.
pub(super) async fn withdraw(client: &Client, slot: &str, tables: &[Table]) -> Result<()> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let sql = "UPDATE pgstream.copies SET first = false, error = $3, written_by = session_user, changed_at = now()
               WHERE slot = $1 AND first AND relation <> ALL ($2)";
    let withdrawn = client.execute(sql, &[&slot, &oids, &WITHDRAWN]).await;
    withdrawn.map(drop).map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))
}

/// Forgets that tables were once withdrawn. Answers the names of those that were.
pub(super) async fn welcome_back(client: &Client, slot: &str, tables: &[Table]) -> Result<Vec<String>> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let sql = "DELETE FROM pgstream.copies WHERE slot = $1 AND relation = ANY ($2) AND NOT first AND error = $3
               RETURNING table_name";
    let back = client.query(sql, &[&slot, &oids, &WITHDRAWN]).await;
    let back = back.map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))?;
    first_column(&back)
}

/// Writes down a first copy of each table that has none. Answers how many there were.
pub(super) async fn add_first(client: &Client, slot: &str, tables: &[Table]) -> Result<u64> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let names: Vec<String> = tables.iter().map(Table::to_string).collect();
    let added = client
        .execute(
            "INSERT INTO pgstream.copies (slot, relation, table_name, first)
             SELECT $1, relation, name, true FROM unnest($2::oid[], $3::text[]) AS t (relation, name)
             ON CONFLICT (slot, relation) WHERE first DO NOTHING",
            &[&slot, &oids, &names],
        )
        .await;
    added.map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))
}

/// Writes down a copy that was asked for by hand, and in the same transaction the message that says
/// so to whoever runs the pipeline. Answers its id.
pub(super) async fn add(
    client: &Client,
    slot: &str,
    table: &Table,
    filter: Option<&str>,
    keys: Option<&[String]>,
    rows_per_second: Option<i32>,
) -> Result<i64> {
    let row = client
        .query_one(
            "INSERT INTO pgstream.copies (slot, relation, table_name, first, filter, keys, rows_per_second)
             VALUES ($1, $2, $3, false, $4, $5, $6) RETURNING id, pg_logical_emit_message(true, $7, $8)::text",
            &[&slot, &table.oid, &table.to_string(), &filter, &keys, &rows_per_second, &PREFIX, &Mark::Asked.text()],
        )
        .await;
    row.map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))?.read(0)
}

/// The copies of a slot that are not done and have not failed, the oldest first.
pub(super) async fn open(client: &Client, slot: &str) -> Result<Vec<Job>> {
    if !is_there(client).await? {
        return Ok(Vec::new());
    }
    let rows = client.query(&open_sql(), &[&slot]).await.map_err(|error| failed(UNREADABLE, error))?;
    let job = |row: &tokio_postgres::Row| {
        Ok(Job {
            id: row.read(0)?,
            relation: row.read(1)?,
            table: row.read(2)?,
            first: row.read(3)?,
            filter: row.read(4)?,
            rows_per_second: row.read::<_, Option<i32>>(5)?.and_then(|rate| u32::try_from(rate).ok()),
            after: row.read(6)?,
            rows: row.read::<_, i64>(7)?.max(0) as u64,
            bytes: row.read::<_, i64>(8)?.max(0) as u64,
            keys: row.read(9)?,
            writer: row.read(10)?,
            strange: row.read(11)?,
        })
    };
    rows.iter().map(job).collect()
}

/// A table without the constraint, as of an earlier version, says nothing of who wrote.
fn open_sql() -> String {
    let trusted = is_trusted("r.oid");
    format!(
        "SELECT id, relation, table_name, first, filter, rows_per_second, after_key, rows, bytes, keys, said.writer,
                NOT (filter IS NULL AND keys IS NULL OR vouched.for_all
                     AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = said.writer AND {trusted}))
         FROM pgstream.copies c
         CROSS JOIN LATERAL (SELECT to_jsonb(c) ->> 'written_by' AS writer) AS said
         CROSS JOIN (SELECT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = to_regclass('pgstream.copies')
                                    AND k.conname = 'written_by' AND k.contype = 'c') AS for_all) AS vouched
         WHERE slot = $1 AND done_at IS NULL AND error IS NULL ORDER BY id"
    )
}

/// The copies with these ids, or all that a slot has.
pub(super) async fn progress(client: &Client, slot: &str, ids: Option<&[i64]>) -> Result<Vec<Copied>> {
    let rows = client
        .query(
            &format!(
                "SELECT id, table_name, rows, bytes, done_at IS NOT NULL, error,
                    {ABOUT}
             FROM pgstream.copies WHERE slot = $1 AND ($2::bigint[] IS NULL OR id = ANY ($2)) ORDER BY id"
            ),
            &[&slot, &ids],
        )
        .await
        .map_err(|error| failed(UNREADABLE, error))?;
    let copied = |row: &tokio_postgres::Row| {
        Ok(Copied {
            id: row.read(0)?,
            table: row.read(1)?,
            rows: row.read::<_, i64>(2)?.max(0) as u64,
            bytes: row.read::<_, i64>(3)?.max(0) as u64,
            done: row.read(4)?,
            error: row.read(5)?,
            expected: row.read::<_, Option<i64>>(6)?.and_then(|rows| u64::try_from(rows).ok()).filter(|rows| *rows > 0),
        })
    };
    rows.iter().map(copied).collect()
}

/// About how many rows a copy has, as the server's planner estimates it: as many to a page as there
/// were at the last ANALYZE, and before the first one by the size of those that were copied, or of
/// the table's columns.
const ABOUT: &str = "
    coalesce(cardinality(keys)::bigint, (
        SELECT sum(CASE WHEN c.reltuples >= 0 AND c.relpages > 0
                        THEN c.reltuples / c.relpages * pg_relation_size(c.oid) / current_setting('block_size')::float8
                        ELSE pg_table_size(c.oid) / (28 + coalesce(bytes::float8 / nullif(rows, 0), (
                            SELECT sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE 32 END) FROM pg_attribute a
                            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), 32)) END)::bigint
        FROM pg_class c
        WHERE c.relkind = 'r' AND filter IS NULL
          AND (c.oid = relation OR c.oid IN (SELECT p.relid FROM pg_partition_tree(relation) p WHERE p.isleaf))))";

/// About how many rows a copy has.
pub(super) async fn about(client: &Client, job: &Job) -> Result<Option<u64>> {
    let sql = format!("SELECT {ABOUT} FROM pgstream.copies WHERE id = $1");
    let unreadable = |error| failed(UNREADABLE, error);
    let Some(row) = client.query_opt(&sql, &[&job.id]).await.map_err(unreadable)? else { return Ok(None) };
    let rows: Option<i64> = row.read(0)?;
    Ok(rows.and_then(|rows| u64::try_from(rows).ok()).filter(|rows| *rows > 0))
}

/// Its row, unless somebody else has written SQL into it meanwhile: that would then be ours.
fn row_of(job: &Job) -> String {
    let writer = literal(job.writer.as_deref().unwrap_or_default());
    format!("id = {} AND (filter IS NULL AND keys IS NULL OR written_by IN (session_user::text, {writer}))", job.id)
}

/// SQL that notes how far a copy is durable.
pub(super) fn advance(job: &Job, after: &[String]) -> String {
    let key: Vec<String> = after.iter().map(|text| literal(text)).collect();
    let (rows, bytes) = (job.rows, job.bytes);
    format!(
        "UPDATE {TABLE} SET after_key = ARRAY[{}]::text[], rows = {rows}, bytes = {bytes}, written_by = session_user, changed_at = now() WHERE {}",
        key.join(", "),
        row_of(job)
    )
}

/// SQL that notes that a copy is complete. Keys are values of rows, and are not kept for longer
/// than they are needed.
pub(super) fn finish(job: &Job) -> String {
    let (rows, bytes) = (job.rows, job.bytes);
    format!(
        "UPDATE {TABLE} SET rows = {rows}, bytes = {bytes}, written_by = session_user, changed_at = now(), done_at = now(), \
         keys = CASE WHEN keys IS NOT NULL THEN '{{}}'::text[] END WHERE {}",
        row_of(job)
    )
}

/// Notes why a copy cannot be made.
pub(super) async fn fail(client: &Client, job: &Job, why: &str) -> Result<()> {
    let failed_now = client
        .execute(
            "UPDATE pgstream.copies SET error = $2, written_by = session_user, changed_at = now() WHERE id = $1",
            &[&job.id, &why],
        )
        .await;
    failed_now.map(drop).map_err(|error| failed(format!("cannot write to `{TABLE}`"), error))
}

const UNREADABLE: &str = "cannot read the ledger of copies";

/// The reason that is noted when a first copy no longer counts as one.
const WITHDRAWN: &str = "the table was taken out of the source";
