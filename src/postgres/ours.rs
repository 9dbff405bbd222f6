//! `inspect`: whose the schema `pgstream` is. Whoever owns what we write to can let code of his run
//! with our rights.
//!
//! Only the owner of a relation, or of its schema, can put another one in its place; who can hang
//! code on it, [`hooks`](super::hooks) says. So it is enough to look closely once in a session, as
//! long as schema and tables stay the same ones, of the same owners and with the same privileges:
//! that is asked each time, as it costs the server next to nothing.

use tokio_postgres::Client;

use super::answer::ReadRow;
use super::error::failed;
use super::hooks::{Demand, HANGS, flaws};
use super::names::shown_sql;
use crate::error::{Error, Fault, Result};
use crate::printable::printable;

/// The tables of ours that are there, and the versions of the rows by which the catalogue knows
/// schema and tables: another one in the place of one, another owner or other privileges have
/// others. NULL if there is no schema. Then, how they stood when the session last looked.
const STANDING: &str = "
    SELECT coalesce(array_agg('pgstream.' || c.relname ORDER BY c.oid) FILTER (WHERE c.oid IS NOT NULL), '{}'),
           string_agg(concat_ws(' ', s.oid, s.xmin, c.oid, c.xmin), ',' ORDER BY c.oid), current_setting('pgstream.looked')
    FROM pg_namespace s LEFT JOIN pg_class c ON c.relnamespace = s.oid
         AND c.relname IN ('slots', 'copies', 'sinks', 'positions', 'dead_letters', 'ids')
    WHERE s.nspname = 'pgstream'";

/// The schema, and each table of ours in it that is there: its name, its owner, whether we trust
/// him, the kind of relation, what of it is not ours, and how to be rid of that.
///
/// We trust who could act with our rights anyway: ourselves, superusers, and members of our role;
/// and those whom the settings name, of whom [`trusting`] has told the session. It is the role of
/// the login that counts, as code of somebody else could go back to it with `RESET ROLE`. Objects
/// below 16384 came with the server.
fn inspect_sql() -> String {
    let (schema, owner, flaws) = (is_trusted("nspowner"), is_trusted("c.relowner"), flaws(Demand::Ours));
    format!(
        "WITH found AS (
             SELECT c.oid, c.relname, c.relowner, c.relkind, c.relpersistence, c.relrowsecurity, c.reloftype, 'pgstream.' || c.relname AS name
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'pgstream' AND c.relname IN ('slots', 'copies', 'sinks', 'positions', 'dead_letters', 'ids')
         )
         SELECT 'pgstream', pg_get_userbyid(nspowner)::text, {schema}, 'schema', NULL, NULL
         FROM pg_namespace WHERE nspname = 'pgstream'
         UNION ALL
         SELECT c.name, pg_get_userbyid(c.relowner)::text, {owner},
                CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                               WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' ELSE 'relation of another kind' END,
                flaw.what, flaw.remedy
         FROM found c LEFT JOIN LATERAL (
             SELECT format('has a rule `%s`', rulename) AS what, format('DROP RULE %I ON %s;', rulename, c.name) AS remedy
             FROM pg_rewrite WHERE ev_class = c.oid AND c.relkind = 'r'
             UNION ALL
             SELECT format('has a policy `%s`', polname), format('DROP POLICY %I ON %s;', polname, c.name)
             FROM pg_policy WHERE polrelid = c.oid
             UNION ALL
             SELECT 'has row-level security', format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY;', c.name) WHERE c.relrowsecurity
             UNION ALL
             SELECT 'is not logged, and empty after a crash', format('ALTER TABLE %s SET LOGGED;', c.name)
             WHERE c.relpersistence = 'u'
             UNION ALL
             SELECT 'is of a type', format('ALTER TABLE %s NOT OF;', c.name) WHERE c.reloftype <> 0
             UNION ALL
             SELECT format('has `%s` for a child', inhrelid::regclass), format('ALTER TABLE %s NO INHERIT %s;', inhrelid::regclass, c.name)
             FROM pg_inherits WHERE inhparent = c.oid
             UNION ALL
             SELECT format('has `%s` for a parent', inhparent::regclass), format('ALTER TABLE %s NO INHERIT %s;', c.name, inhparent::regclass)
             FROM pg_inherits WHERE inhrelid = c.oid
             UNION ALL
             SELECT what, remedy FROM ({flaws}) hooks
         ) flaw ON true
         ORDER BY 1"
    )
}

/// SQL that tells a session whom the settings trust, and that it has looked at nothing yet. Always
/// to be run, as a role or a database could have settings of these names.
pub(crate) fn trusting(owners: &[String]) -> String {
    // Strings in JSON are ASCII's quotes and backslashes around and between, whatever they hold.
    let names = serde_json::Value::from(owners).to_string();
    let names = names.replace('\\', "\\\\").replace('\'', "''");
    format!("SET pgstream.trusted_owners = E'{names}';SET pgstream.looked = '';")
}

/// SQL that says whether we trust the role with the OID `owner`, as above.
pub(crate) fn is_trusted(owner: &str) -> String {
    format!(
        "(pg_has_role({owner}, session_user, 'MEMBER') OR pg_get_userbyid({owner}) IN
          (SELECT json_array_elements_text(current_setting('pgstream.trusted_owners')::json)))"
    )
}

/// SQL that says whether we trust the role with the OID `owner` with what we write to, other than
/// our own schema: whoever owns the database has made the surroundings of what is in it, too.
pub(crate) fn is_trusted_here(owner: &str) -> String {
    let database = "(SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database())";
    format!("({} OR {owner} = {database} OR pg_get_userbyid({owner}) = 'pg_database_owner')", is_trusted(owner))
}

/// Refuses a schema `pgstream`, or tables in it, that are not ours. Answers the names of the tables
/// that there are.
///
/// # Errors
/// `Environment`, with who owns what was found, and what to type.
pub(super) async fn inspect(client: &Client) -> Result<Vec<String>> {
    let cannot = |error| failed("cannot look at the schema `pgstream`", error);
    let row = client.query_one(STANDING, &[]).await.map_err(cannot)?;
    let (names, standing, looked): (Vec<String>, Option<String>, String) = (row.read(0)?, row.read(1)?, row.read(2)?);
    let Some(standing) = standing.filter(|standing| *standing != looked) else { return Ok(names) };
    look_closely(client).await?;
    // What stood before the look: whatever was altered during it is looked at again.
    client.query_one("SELECT set_config('pgstream.looked', $1, false)", &[&standing]).await.map_err(cannot)?;
    Ok(names)
}

async fn look_closely(client: &Client) -> Result<()> {
    let rows = client.query(&inspect_sql(), &[]).await;
    let rows = rows.map_err(|error| failed("cannot look at the schema `pgstream`", error))?;
    for row in &rows {
        let (name, owner, trusted, kind): (&str, &str, bool, &str) =
            (row.read(0)?, row.read(1)?, row.read(2)?, row.read(3)?);
        let (flaw, remedy): (Option<&str>, Option<&str>) = (row.read(4)?, row.read(5)?);
        if !trusted {
            return Err(owned_by_another(kind, name, owner));
        }
        if !matches!(kind, "schema" | "table") {
            let error = not_ours(format!("`{name}` is a {kind}, and not the table of pgstream-host"));
            return Err(error.help(rename(kind, name)));
        }
        if let Some(flaw) = flaw {
            let error = not_ours(format!("table `{name}` {flaw}"));
            return Err(match remedy {
                Some(remedy) => error.help(format!("as `{}`: {}", printable(owner), shown_sql(remedy))),
                None => error.help(format!("as `{}`: take that out of the table again: \\d {name}", printable(owner))),
            });
        }
    }
    Ok(())
}

fn rename(kind: &str, name: &str) -> String {
    let (object, own) =
        if kind == "schema" { ("SCHEMA", name) } else { ("TABLE", name.trim_start_matches("pgstream.")) };
    format!(
        "drop it, or give it another name, so that pgstream-host can make its own: ALTER {object} {name} RENAME TO {own}_old;"
    )
}

fn owned_by_another(kind: &str, name: &str, owner: &str) -> Error {
    let error = not_ours(format!("{kind} `{name}` belongs to `{owner}`, who is not the role of `url`"));
    error.help(format!(
        "{}\nif `{}` may do all that the role of `url` may, say so beside `url`: trusted_owners: [{owner:?}]",
        rename(kind, name),
        printable(owner)
    ))
}

fn not_ours(what: String) -> Error {
    Error::new(Fault::Environment, what).because(HANGS)
}
