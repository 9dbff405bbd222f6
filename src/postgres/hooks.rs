//! Hooks: what hangs on a table and makes code of somebody run with the rights of whoever writes to
//! it, and the privileges by which somebody may hang it there.
//!
//! Only the owner of a table, and whom he has given TRIGGER or REFERENCES, can do that. So once the
//! owners are known to be trusted and nobody else has these privileges, nothing can change between
//! a look and the use, and it is enough to look once in a session.

use tokio_postgres::{Client, GenericClient};

use super::answer::ReadRow;
use super::error::failed;
use super::names::shown_sql;
use super::ours::{is_trusted, is_trusted_here};
use crate::error::{Error, Fault, Result};
use crate::printable::printable;

/// Privileges by which others can hang code on a table.
pub(crate) const HANGING: &[&str] = &["TRIGGER", "REFERENCES"];

/// The demand on a table that [`flaws`] compares it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// A table that the program alone has made: nothing hangs on it at all.
    Ours,
    /// A table of people, who may hang on it what they like: nothing runs that a role wrote whom we
    /// do not trust.
    Theirs,
}

/// SQL that answers what is wrong with the table `c` (columns `oid` and `name`, which is SQL):
/// what it does, SQL that takes it away, and the roles that would have to be trusted otherwise.
///
/// `OFFSET 0` keeps the planner from beginning with all that anybody has made in the database.
pub(super) fn flaws(demand: Demand) -> String {
    let trusts = match demand {
        Demand::Ours => is_trusted,
        Demand::Theirs => is_trusted_here,
    };
    let (any, all_rows) = match demand {
        Demand::Ours => ("true", "privilege_type IN ('INSERT', 'UPDATE') AND c.relname = 'copies'"),
        Demand::Theirs => ("false", "false"),
    };
    let (function, child, used, grantee) =
        (trusts("f.proowner"), trusts("other.relowner"), trusts("owner.oid"), trusts("grantee"));
    format!(
        "SELECT format('has a trigger `%s`, which runs %s of `%s`', tgname, f.oid::regprocedure, pg_get_userbyid(f.proowner)) AS what,
                format('DROP TRIGGER %I ON %s;', tgname, c.name) AS remedy, ARRAY[pg_get_userbyid(f.proowner)::text] AS roles
         FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
         WHERE tgrelid = c.oid AND NOT tgisinternal AND ({any} OR NOT {function})
         UNION ALL
         SELECT format('is referred to by `%s` of `%s`', conrelid::regclass, pg_get_userbyid(other.relowner)),
                format('ALTER TABLE %s DROP CONSTRAINT %I;', conrelid::regclass, conname), ARRAY[pg_get_userbyid(other.relowner)::text]
         FROM pg_constraint JOIN pg_class other ON other.oid = conrelid
         WHERE contype = 'f' AND confrelid = c.oid AND ({any} OR NOT {child})
         UNION ALL
         SELECT format('has a foreign key `%s`', conname), format('ALTER TABLE %s DROP CONSTRAINT %I;', c.name, conname), NULL
         FROM pg_constraint WHERE contype = 'f' AND conrelid = c.oid AND {any}
         UNION ALL
         SELECT format('uses %s', pg_describe_object(d.refclassid, d.refobjid, 0))
                    || CASE WHEN {any} THEN '' ELSE format(' of `%s`', pg_get_userbyid(owner.oid)) END,
                NULL, ARRAY[pg_get_userbyid(owner.oid)::text]
         FROM (
             WITH RECURSIVE made_of (oid, typtype, typbasetype, typelem, typrelid) AS (
                 SELECT t.oid, t.typtype, t.typbasetype, t.typelem, t.typrelid FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 UNION
                 SELECT t.oid, t.typtype, t.typbasetype, t.typelem, t.typrelid FROM made_of m CROSS JOIN LATERAL (
                     SELECT m.typbasetype UNION ALL SELECT m.typelem
                     UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = m.oid
                     UNION ALL SELECT atttypid FROM pg_attribute
                     WHERE m.typrelid <> 0 AND attrelid = m.typrelid AND attnum > 0 AND NOT attisdropped
                 ) AS below (oid) JOIN pg_type t ON t.oid = below.oid
             ), domain AS (SELECT oid FROM made_of WHERE typtype = 'd')
             SELECT 'pg_class'::regclass::oid AS class, c.oid AS object
             UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = c.oid
             UNION ALL SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid = c.oid
             UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid = c.oid
             UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k JOIN domain ON domain.oid = k.contypid
             UNION ALL SELECT 'pg_type'::regclass, oid FROM domain
             UNION ALL SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxrelid = c.oid
             UNION ALL SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid = c.oid AND NOT {any}
             UNION ALL SELECT 'pg_rewrite'::regclass, oid FROM pg_rewrite WHERE ev_class = c.oid AND NOT {any}
             UNION ALL SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid = c.oid AND NOT {any}
         ) part
         CROSS JOIN LATERAL (
             SELECT refclassid, refobjid FROM pg_depend
             WHERE classid = part.class AND objid = part.object AND refobjid >= 16384 OFFSET 0
         ) AS d
         CROSS JOIN LATERAL (
             SELECT proowner FROM pg_proc WHERE d.refclassid = 'pg_proc'::regclass AND oid = d.refobjid
             UNION ALL SELECT unnest(ARRAY[oprowner, proowner]) FROM pg_operator o JOIN pg_proc f ON f.oid = o.oprcode
             WHERE d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
             UNION ALL SELECT typowner FROM pg_type WHERE d.refclassid = 'pg_type'::regclass AND oid = d.refobjid AND ({any} OR typtype = 'd')
             UNION ALL SELECT opcowner FROM pg_opclass WHERE d.refclassid = 'pg_opclass'::regclass AND oid = d.refobjid
             UNION ALL SELECT opfowner FROM pg_opfamily WHERE d.refclassid = 'pg_opfamily'::regclass AND oid = d.refobjid
             UNION ALL SELECT collowner FROM pg_collation WHERE d.refclassid = 'pg_collation'::regclass AND oid = d.refobjid AND {any}
             UNION ALL SELECT 10 FROM pg_am WHERE d.refclassid = 'pg_am'::regclass AND oid = d.refobjid AND {any}
         ) AS owner (oid)
         WHERE {any} OR NOT {used}
         UNION ALL
         SELECT format('may be %s by %s', may.does, string_agg(DISTINCT CASE grantee WHEN 0 THEN 'everybody' ELSE format('`%s`', pg_get_userbyid(grantee)) END, ', ')),
                format('REVOKE %s ON %s FROM %s;', string_agg(DISTINCT privilege_type, ', '), c.name,
                       string_agg(DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, ', ')),
                array_agg(DISTINCT pg_get_userbyid(grantee)::text) FILTER (WHERE grantee <> 0)
         FROM (SELECT relacl AS acl FROM pg_class WHERE oid = c.oid
               UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) granted
         CROSS JOIN LATERAL aclexplode(granted.acl)
         CROSS JOIN LATERAL (SELECT CASE WHEN privilege_type IN ('TRIGGER', 'REFERENCES') THEN 'given triggers or foreign keys' ELSE 'written to' END) may (does)
         WHERE (privilege_type IN ('TRIGGER', 'REFERENCES') OR {all_rows})
           AND CASE WHEN grantee = 0 THEN true ELSE NOT {grantee} END
         GROUP BY may.does",
    )
}

/// The table, and all to which a write of it may lead, or which lead to it: partitions and what
/// inherits, and what refers to one of them, as a row that goes takes rows there along.
fn tree() -> String {
    let (owner, flaws) = (is_trusted_here("c.relowner"), flaws(Demand::Theirs));
    // Those of others are a flaw of what they refer to.
    let ours = is_trusted_here("other.relowner");
    format!(
        "WITH RECURSIVE below AS (
             SELECT $1::oid AS oid UNION SELECT next.oid FROM below CROSS JOIN LATERAL (
                 SELECT inhrelid FROM pg_inherits WHERE inhparent = below.oid
                 UNION ALL SELECT conrelid FROM pg_constraint JOIN pg_class other ON other.oid = conrelid
                 WHERE contype = 'f' AND confrelid = below.oid AND {ours}
             ) AS next (oid)
         ), above AS (
             SELECT $1::oid AS oid UNION SELECT i.inhparent FROM above JOIN pg_inherits i ON i.inhrelid = above.oid
         ), found AS (
             SELECT c.oid, c.relname, c.relowner, format('%I.%I', n.nspname, c.relname) AS name
             FROM (SELECT oid FROM below UNION SELECT oid FROM above) AS tree JOIN pg_class c ON c.oid = tree.oid
             JOIN pg_namespace n ON n.oid = c.relnamespace
         )
         SELECT c.name, pg_get_userbyid(c.relowner)::text, {owner}, flaw.what, flaw.remedy, flaw.roles
         FROM found c LEFT JOIN LATERAL ({flaws}) flaw ON true
         ORDER BY {owner}, flaw.what IS NULL, c.oid <> $1, c.name, flaw.remedy IS NULL, flaw.what LIMIT 1"
    )
}

/// Refuses a table of people, by its OID, whose writes would run what a role wrote whom we do not
/// trust.
///
/// # Errors
/// `Environment`, with what it is, whose it is, and what to type.
pub(crate) async fn refuse_hooks(client: &Client, table: u32) -> Result<()> {
    let row = client.query_opt(&tree(), &[&table]).await;
    let row = row.map_err(|error| failed("cannot look at what hangs on the table", error))?;
    let Some(row) = row else { return Ok(()) };
    let (name, owner): (String, String) = (shown_sql(row.read(0)?), row.read(1)?);
    if !row.read::<_, bool>(2)? {
        return Err(of_another(&format!("table `{name}`"), &owner));
    }
    let Some(what) = row.read::<_, Option<&str>>(3)? else { return Ok(()) };
    let remedy = match row.read::<_, Option<&str>>(4)? {
        Some(remedy) => shown_sql(remedy),
        None => format!("take it out of the table: \\d {name}"),
    };
    let roles: Vec<String> = row.read::<_, Option<Vec<String>>>(5)?.unwrap_or_default();
    let help = match roles.is_empty() {
        true => format!("as `{}`: {remedy}", printable(&owner)),
        false => format!("as `{}`: {remedy}\n{}", printable(&owner), or_trust(&roles)),
    };
    let error = Error::new(Fault::Environment, format!("table `{name}` {what}")).because(HANGS);
    Err(error.help(help))
}

/// The reason why nobody else may hang code on a table that we write to.
pub(super) const HANGS: &str =
    "who owns what is written to, or may hang code on it, can run that code with the rights of whoever writes";

/// Makes the error for something that is about to be used and belongs to somebody whom we have no
/// reason to trust.
pub(crate) fn of_another(what: &str, owner: &str) -> Error {
    let headline =
        format!("{what} belongs to `{owner}`, who is neither the role of `url` nor the owner of the database");
    Error::new(Fault::Environment, headline)
        .because(HANGS)
        .help(format!("give it to the role of `url`\n{}", or_trust(&[owner.to_owned()])))
}

/// The other way: to let these roles do all that we may.
fn or_trust(roles: &[String]) -> String {
    let named: Vec<String> = roles.iter().map(|role| format!("`{}`", printable(role))).collect();
    format!("or, if {} may do all that this role may, say so beside `url`: trusted_owners: {roles:?}", named.join(", "))
}

/// Takes privileges on a table that was made just now from everybody but its owner and whom we
/// trust: such as come from `ALTER DEFAULT PRIVILEGES`.
///
/// # Errors
/// Those of the server and of the connection.
pub(crate) async fn keep_to_owner(
    client: &impl GenericClient,
    table: u32,
    privileges: &[&str],
) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "SELECT format('REVOKE %s ON %I.%I FROM %s', array_to_string($2::text[], ', '), n.nspname, c.relname,
                       string_agg(DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, ', '))
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl)
         WHERE c.oid = $1 AND grantee <> c.relowner AND privilege_type = ANY ($2) AND CASE WHEN grantee = 0 THEN true ELSE NOT {} END
         GROUP BY n.nspname, c.relname",
        is_trusted("grantee")
    );
    match client.query_opt(&sql, &[&table, &privileges]).await? {
        Some(row) => client.batch_execute(row.try_get(0)?).await,
        None => Ok(()),
    }
}
