//! `warn_of_excess`: what the role of a session may do beyond what a pipeline needs. Whoever takes
//! the role over may do it, too.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio_postgres::Client;

use super::answer::ReadRow;
use super::error::failed;
use super::url::Url;
use crate::error::Result;

/// Attributes of the role that logged in, and roles that it is a member of, or could act as.
const EXCESS: &str = "
    SELECT CASE WHEN rolsuper THEN ARRAY['is a superuser'] ELSE
               ARRAY(SELECT what FROM (VALUES (rolcreaterole, 'may make roles (CREATEROLE)'), (rolcreatedb, 'may make databases (CREATEDB)'))
                     AS attribute (has, what) WHERE has)
               || ARRAY(SELECT format('is a member of `%s`', other.rolname) FROM pg_roles other
                        WHERE other.rolname IN ('pg_write_all_data', 'pg_execute_server_program', 'pg_read_server_files',
                              'pg_write_server_files', 'pg_signal_backend', 'pg_maintain', 'pg_create_subscription',
                              'rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin', 'neon_superuser', 'alloydbsuperuser')
                          AND pg_has_role(role.oid, other.oid, 'MEMBER') ORDER BY other.rolname)
           END
    FROM pg_roles role WHERE rolname = session_user";

/// Servers, roles and rights that were told of already: source and sinks often share a role.
static TOLD: Mutex<BTreeSet<(String, String, String)>> = Mutex::new(BTreeSet::new());

/// Warns of what the role of the session may do that no pipeline needs, once in a process for each
/// server, role and finding.
///
/// # Errors
/// Those of the server and of the connection.
pub async fn warn_of_excess(client: &Client, url: &Url) -> Result<()> {
    let row = client.query_opt(EXCESS, &[]).await;
    let row = row.map_err(|error| failed("cannot read the rights of the role", error))?;
    let excess: Vec<String> = row.map(|row| row.read(0)).transpose()?.unwrap_or_default();
    let excess = excess.join(", ");
    let finding = || (url.address.to_string(), url.user.clone(), excess.clone());
    if !excess.is_empty() && TOLD.lock().is_ok_and(|mut told| told.insert(finding())) {
        tracing::warn!(
            role = url.user,
            help = "let the pipeline log in as a role of its own: docs/postgres.md, “The role”, has the smallest one",
            "the role has rights that a pipeline does not need, and that whoever takes it over has, too: it {excess}"
        );
    }
    Ok(())
}
