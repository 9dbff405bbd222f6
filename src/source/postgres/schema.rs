//! The schema `pgstream` in the source's database: what a pipeline must know again after the loss of its host's disk. Never published.

use tokio_postgres::Client;

use super::settings::{Settings, quoted};
use crate::error::{Error, Fault, Result};
use crate::postgres::{failed, sqlstate};

/// An arbitrary number that no other program is likely to lock: `IF NOT EXISTS` alone fails when two hosts start at once.
const LOCK: i64 = 0x7067_7374_636F_7079;

/// Makes schema and table if they are missing; `create` makes the table.
pub(super) async fn ensure(client: &Client, settings: &Settings, table: &str, create: &str) -> Result<()> {
    if is_there(client, table).await? {
        return Ok(());
    }
    let schema = client.query_opt("SELECT FROM pg_namespace WHERE nspname = 'pgstream'", &[]).await;
    let schema = schema.map_err(|error| failed(UNREADABLE, error))?.map_or("CREATE SCHEMA pgstream;", |_| "");
    let sql = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK}); {schema} {create}; COMMIT");
    if let Err(error) = client.batch_execute(&sql).await {
        let error = failed(format!("cannot create table `{table}`"), error);
        // Best effort: the session must not stay in the transaction that failed.
        let _ = client.batch_execute("ROLLBACK").await;
        return Err(match sqlstate(&error) {
            Some("42501") => refused(settings).because(error),
            _ => error,
        });
    }
    Ok(())
}

/// Checks that the state of slots can be kept: in the table that is there, or in one that could be made. Changes nothing.
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
    match (row.get(0), row.get(1)) {
        (_, true) => Ok(()),
        (false, false) => {
            Err(refused(settings).because("it takes a schema `pgstream` that the user may create tables in"))
        }
        (true, false) => {
            let user = quoted(&settings.url.user);
            let help = format!(
                "as the owner of the schema: GRANT USAGE, CREATE ON SCHEMA pgstream TO {user}; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgstream TO {user};"
            );
            Err(unable(settings).because("the schema `pgstream` belongs to another role").help(help))
        }
    }
}

/// Asks the catalogue, because a name in a schema that may not be used would be an error.
pub(super) async fn is_there(client: &Client, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE n.nspname || '.' || c.relname = $1)";
    let row = client.query_one(sql, &[&table]).await;
    Ok(row.map_err(|error| failed(UNREADABLE, error))?.get(0))
}

fn refused(settings: &Settings) -> Error {
    let user = quoted(&settings.url.user);
    unable(settings).help(format!("as the database's owner: CREATE SCHEMA pgstream AUTHORIZATION {user};"))
}

fn unable(settings: &Settings) -> Error {
    let what = format!("user `{}` may not keep the pipeline's state in the database", settings.url.user);
    Error::new(Fault::Environment, what)
}

const UNREADABLE: &str = "cannot read the catalogue";
