//! The schema `pgstream` in the source's database: what a pipeline must know again after the loss
//! of its host's disk. Never published.

use tokio_postgres::Client;

use super::blockers;
use super::settings::Settings;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, ensure_table, failed, grant, sqlstate};

pub(super) use crate::postgres::has_table as is_there;

/// Makes schema and table if they are missing; `create` makes the table.
pub(super) async fn ensure(client: &Client, settings: &Settings, table: &str, create: &str) -> Result<()> {
    if is_there(client, table).await? {
        return Ok(());
    }
    let ours = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let ours = ours.map_err(|error| failed(UNREADABLE, error))?.read(0)?;
    let made = blockers::name(settings, ours, ensure_table(client, table, create, &settings.url)).await;
    made.map_err(|error| match (sqlstate(&error), error.advice().map(str::to_owned)) {
        (Some("42501"), Some(help)) => unable(settings, help).because(error),
        _ => error,
    })
}

/// Gives a table of an earlier version the columns that it lacks; `alter` is the SQL. Waits for
/// locks on it no longer than for a turn, and says who has them.
///
/// # Errors
/// As the server says, with `alter` as what to type for the table's owner.
pub(super) async fn give_columns(
    client: &Client,
    settings: &Settings,
    table: &str,
    columns: &[&str],
    alter: &str,
) -> Result<()> {
    let what = || format!("cannot write to `{table}`");
    let sql = "SELECT pg_backend_pid(), (SELECT count(*) = cardinality($2::text[]) FROM pg_attribute
               WHERE attrelid = to_regclass($1) AND attname::text = ANY ($2) AND NOT attisdropped)";
    let row = client.query_one(sql, &[&table, &columns]).await.map_err(|error| failed(what(), error))?;
    if row.read(1)? {
        return Ok(());
    }
    let altered = async {
        let sql = format!("BEGIN; SET LOCAL lock_timeout = '60s'; {alter} COMMIT");
        client.batch_execute(&sql).await.map_err(|error| failed(what(), error))
    };
    let altered = blockers::name(settings, row.read(0)?, altered).await;
    if let Err(error) = altered {
        // A session that is lost has taken the transaction with it.
        let _ = client.batch_execute("ROLLBACK").await;
        return Err(match sqlstate(&error) {
            Some("42501") => Error::new(error.fault(), what()).because(error).help(format!("as its owner: {alter}")),
            _ => error,
        });
    }
    Ok(())
}

/// Checks that the state of slots can be kept: in the table that is there, or in one that could be
/// made. Changes nothing.
pub(super) async fn check(client: &Client, settings: &Settings) -> Result<()> {
    let row = client
        .query_one(
            "SELECT s.oid IS NOT NULL,
                    CASE WHEN s.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
                         WHEN t.oid IS NULL THEN has_schema_privilege(s.oid, 'USAGE') AND has_schema_privilege(s.oid, 'CREATE')
                         ELSE has_schema_privilege(s.oid, 'USAGE') AND has_table_privilege(t.oid, 'SELECT')
                              AND has_table_privilege(t.oid, 'INSERT') AND has_table_privilege(t.oid, 'UPDATE')
                              AND has_table_privilege(t.oid, 'DELETE') END
             FROM (SELECT) one LEFT JOIN pg_namespace s ON s.nspname = 'pgstream'
             LEFT JOIN pg_class t ON t.relnamespace = s.oid AND t.relname = 'slots'",
            &[],
        )
        .await
        .map_err(|error| failed(UNREADABLE, error))?;
    match (row.read(0)?, row.read(1)?) {
        (_, true) => Ok(()),
        (false, false) => Err(unable(settings, grant(client, &settings.url.user).await)
            .because("it takes a schema `pgstream` that the user may create tables in")),
        (true, false) => Err(unable(settings, grant(client, &settings.url.user).await)
            .because("the schema `pgstream` belongs to another role")),
    }
}

fn unable(settings: &Settings, help: String) -> Error {
    let what = format!("user `{}` may not keep the pipeline's state in the database", settings.url.user);
    Error::new(Fault::Environment, what).help(help)
}

const UNREADABLE: &str = "cannot read the catalogue";
