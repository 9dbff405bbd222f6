//! The schema `pgstream` in the source's database: what a pipeline must know again after the loss of its host's disk. Never published.

use tokio_postgres::Client;

use super::settings::{Settings, quoted};
use crate::error::{Error, Fault, Result};
use crate::postgres::{ensure_table, failed, sqlstate};

pub(super) use crate::postgres::has_table as is_there;

/// Makes schema and table if they are missing; `create` makes the table.
pub(super) async fn ensure(client: &Client, settings: &Settings, table: &str, create: &str) -> Result<()> {
    ensure_table(client, table, create, &settings.url).await.map_err(|error| match sqlstate(&error) {
        Some("42501") => refused(settings).because(error),
        _ => error,
    })
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

fn refused(settings: &Settings) -> Error {
    let user = quoted(&settings.url.user);
    unable(settings).help(format!("as the database's owner: CREATE SCHEMA pgstream AUTHORIZATION {user};"))
}

fn unable(settings: &Settings) -> Error {
    let what = format!("user `{}` may not keep the pipeline's state in the database", settings.url.user);
    Error::new(Fault::Environment, what)
}

const UNREADABLE: &str = "cannot read the catalogue";
