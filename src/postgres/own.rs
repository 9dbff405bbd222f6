//! The schema `pgstream`: tables of our own, where they are needed, and never published.

use tokio_postgres::Client;

use super::error::{ServerError, failed};
use crate::error::{Error, Fault, Result};

/// An arbitrary number that no other program is likely to lock: `IF NOT EXISTS` alone fails when two hosts start at once.
const LOCK: i64 = 0x7067_7374_6F77_6E65;

/// Whether a table of ours is there. Asks the catalogue, because a name in a schema that may not be used would be an error.
///
/// # Errors
/// What the server says.
pub async fn has_table(client: &Client, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                              WHERE n.nspname || '.' || c.relname = $1)";
    let row = client.query_one(sql, &[&table]).await;
    Ok(row.map_err(|error| failed(format!("cannot look for table `{table}`"), error))?.get(0))
}

/// Makes a table of ours, and the schema, as far as they are missing. `create` is the table's SQL, with `IF NOT EXISTS`;
/// `user` is who needs the privilege.
///
/// # Errors
/// `Environment`, with the SQL to run, if the user may not.
pub async fn ensure_table(client: &Client, table: &str, create: &str, user: &str) -> Result<()> {
    if has_table(client, table).await? {
        return Ok(());
    }
    let cannot = || format!("cannot create table `{table}`");
    let made = async {
        client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
        // `IF NOT EXISTS` asks for the privilege even where the schema is there.
        let schema = client.query_opt("SELECT FROM pg_namespace WHERE nspname = 'pgstream'", &[]).await?;
        let schema = schema.map_or("CREATE SCHEMA pgstream;", |_| "");
        client.batch_execute(&format!("{schema} {create}; COMMIT")).await
    };
    let Err(error) = made.await else { return Ok(()) };
    // Best effort: the session must not stay in the transaction that failed.
    let _ = client.batch_execute("ROLLBACK").await;
    Err(match error.as_db_error() {
        Some(server) if server.code().code() == "42501" => {
            let user = user.replace('"', "\"\"");
            Error::new(Fault::Environment, cannot())
                .because(ServerError::new("42501", server.message(), None))
                .help(format!("as the database's owner: CREATE SCHEMA pgstream AUTHORIZATION \"{user}\""))
        }
        _ => failed(cannot(), error),
    })
}
