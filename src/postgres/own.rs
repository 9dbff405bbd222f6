//! The schema `pgstream`: tables of our own, where they are needed, and never published.

use tokio_postgres::Client;

use super::Url;
use super::answer::ReadRow;
use super::error::{ServerError, failed};
use super::hooks::keep_to_owner;
use super::names::quoted;
use super::ours::inspect;
use crate::error::{Error, Fault, Result};
use crate::printable::printable;

/// The largest number of attempts to make a table that another host makes at the same time.
const ATTEMPTS: usize = 5;

/// Tells if a table of ours is there. Refuses a schema or a table of our names that is not ours.
/// Asks the catalogue, because a name in a schema that may not be used would be an error.
///
/// # Errors
/// Those of the server and of the connection; `Environment` if the schema `pgstream`, or any table
/// in it by a name of ours, was made by somebody whom we do not trust or is not as we make it.
pub async fn has_table(client: &Client, table: &str) -> Result<bool> {
    Ok(inspect(client).await?.iter().any(|name| name == table))
}

/// Makes a table of ours, and the schema, as far as they are missing. `create` is the table's SQL,
/// which fails if there is one; `url` says who needs the privilege.
///
/// # Errors
/// `Environment`, with the SQL to run, if the user may not.
pub async fn ensure_table(client: &Client, table: &str, create: &str, url: &Url) -> Result<()> {
    let cannot = || format!("cannot create table `{table}`");
    let mut attempts = 0;
    loop {
        if has_table(client, table).await? {
            return Ok(());
        }
        let made = make(client, table, create).await;
        // Whatever `SET role` of the user's own settings made of the owner, or somebody else of the schema meanwhile.
        let made = match made {
            Ok(()) => inspect(client).await.map(|_| Ok(())),
            Err(error) => Ok(Err(error)),
        };
        let error = match made {
            Ok(Ok(())) => return client.batch_execute("COMMIT").await.map_err(|error| failed(cannot(), error)),
            Ok(Err(error)) => error,
            Err(error) => {
                let _ = client.batch_execute("ROLLBACK").await;
                return Err(error);
            }
        };
        // Best effort: the session must not stay in the transaction that failed.
        let _ = client.batch_execute("ROLLBACK").await;
        attempts += 1;
        match error.code().map(tokio_postgres::error::SqlState::code) {
            // No lock is taken for it: anybody could hold that. Two hosts at once: one of them finds that there is one.
            Some(DUPLICATE_KEY | DUPLICATE_SCHEMA | DUPLICATE_TABLE) if attempts < ATTEMPTS => {}
            Some("42501") => {
                let message = error.as_db_error().map(tokio_postgres::error::DbError::message).unwrap_or_default();
                return Err(Error::new(Fault::Environment, cannot())
                    .because(ServerError::new("42501", message, None))
                    .help(grant(client, &url.user).await));
            }
            _ => return Err(failed(cannot(), error)),
        }
    }
}

/// Returns what to type so that `user` may make tables in the schema `pgstream`, which may be there
/// already and belong to somebody else.
pub(crate) async fn grant(client: &Client, user: &str) -> String {
    let user = quoted(user);
    let owner =
        client.query_opt("SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'pgstream'", &[]);
    let row = owner.await.ok().flatten();
    match row.as_ref().and_then(|row| row.read(0).ok()) {
        Some(owner) => format!(
            "as `{}`, who owns the schema: GRANT USAGE, CREATE ON SCHEMA pgstream TO {user}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgstream TO {user};",
            printable(owner)
        ),
        None => format!("as the database's owner: CREATE SCHEMA pgstream AUTHORIZATION {user};"),
    }
}

const DUPLICATE_KEY: &str = "23505";
const DUPLICATE_SCHEMA: &str = "42P06";
const DUPLICATE_TABLE: &str = "42P07";

/// Makes table and schema in a transaction, which stays open.
async fn make(client: &Client, table: &str, create: &str) -> Result<(), tokio_postgres::Error> {
    // Whoever may make a schema could begin to make this one, and leave it at that.
    client.batch_execute("BEGIN; SET LOCAL lock_timeout = '60s'").await?;
    // `IF NOT EXISTS` asks for the privilege even where the schema is there, and takes whatever it finds.
    let schema = client.query_opt("SELECT FROM pg_namespace WHERE nspname = 'pgstream'", &[]).await?;
    let schema = schema.map_or("CREATE SCHEMA pgstream;", |_| "");
    client.batch_execute(&format!("{schema} {create}")).await?;
    // Default privileges may have given others more than to look.
    let made = client.query_one("SELECT oid FROM pg_class WHERE oid = to_regclass($1)", &[&table]).await?;
    keep_to_owner(client, made.try_get(0)?, WRITES).await
}

const WRITES: &[&str] = &["INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"];
