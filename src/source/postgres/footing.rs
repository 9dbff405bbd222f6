//! `footing`: what a table must still be at the moment when it is read, so that nothing of its
//! owner's runs with our rights.
//!
//! Between a look at a table and the reading of it its owner may put a view in its place, or make
//! an index for which the planner runs what he wrote. (Among its partitions are no foreign tables:
//! Postgres allows none where there is a key.) So each transaction that reads locks first, and asks
//! again in the statement before the one that reads: a server plans a statement only after those
//! before it have succeeded.

use tokio_postgres::Client;

use super::operand::{self, COLUMNS, Operand};
use super::settings::{Settings, literal, quoted};
use super::setup;
use super::tables::{self, Table};
use crate::error::{Error, Fault, Result};
use crate::postgres::{failed, is_trusted, plainly_quoted, shown_sql, sqlstate};
use crate::printable::printable;

/// SQL with which every session begins that reads tables. Policies are errors then instead of code
/// that runs; check constraints are not looked at by the planner, which would run what is constant
/// in them; and where the server knows the setting (since August 2024) views and foreign tables of
/// users cannot be read at all.
pub(super) const SESSION: &str = "SET row_security = off; SET constraint_exclusion = off; \
    SELECT pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings \
    WHERE name OPERATOR(pg_catalog.=) 'restrict_nonsystem_relation_kind'";

/// Functions that the planner would run as soon as it looks at the table with the OID in `$1`: it
/// computes what is constant in the expressions of indexes, statistics and partition keys, and
/// takes SQL functions apart for that. Those of users who may have our rights anyway do no harm,
/// nor those that run with the rights of their owner.
fn planned(relation: u32) -> String {
    let trusted = is_trusted("f.proowner");
    format!(
        "WITH parts AS (
        SELECT {relation}::oid AS oid UNION SELECT p.relid FROM pg_partition_tree({relation}::oid) p
    ), trees AS (
        SELECT concat(i.indexprs::text, i.indpred::text) AS tree
        FROM pg_index i JOIN parts ON parts.oid = i.indrelid WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
        UNION ALL SELECT s.stxexprs::text
        FROM pg_statistic_ext s JOIN parts ON parts.oid = s.stxrelid WHERE s.stxexprs IS NOT NULL
        UNION ALL SELECT k.partexprs::text
        FROM pg_partitioned_table k JOIN parts ON parts.oid = k.partrelid WHERE k.partexprs IS NOT NULL
    ), calls AS (
        SELECT found[1] = 'opno' AS by_operator, found[2]::oid AS id, found[3] IS NOT NULL AS of_column
        FROM trees CROSS JOIN LATERAL regexp_matches(
            tree, ':(funcid|opno) (\\d+) [^{{}}]*:args (?:<>|\\((\\{{VAR |\\{{RELABELTYPE :arg \\{{VAR )?)', 'g') AS found
    )
    SELECT DISTINCT f.oid
    FROM calls LEFT JOIN pg_operator o ON by_operator AND o.oid = calls.id
    JOIN pg_proc f ON f.oid = CASE WHEN by_operator THEN o.oprcode ELSE calls.id END
    JOIN pg_language l ON l.oid = f.prolang
    WHERE f.oid >= 16384 AND NOT f.prosecdef AND NOT {trusted}
      AND (by_operator OR NOT of_column OR (l.lanname = 'sql' AND f.proconfig IS NULL))"
    )
}

/// The properties that a table must still have when it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Name, kind, columns, and what is wrong with it.
    table: String,
    /// The ways in which its values may be compared, if types of users are among those of its
    /// columns: they depend on who owns these types.
    values: Option<String>,
}

/// Name, kind and columns of a table, and what is wrong with it, to be compared with what they were
/// before; NULL if it is gone. The names of types are not among them: none is called by a name that
/// somebody else could give away.
fn shape_sql(relation: u32) -> String {
    format!(
        "(SELECT jsonb_build_array(n.nspname, c.relname, c.relkind, (
                     SELECT jsonb_agg(jsonb_build_array(a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated)
                                      ORDER BY a.attnum)
                     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                     ARRAY({}))::text
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {relation})",
        planned(relation),
    )
}

/// Returns SQL for the ways in which values of the columns that have types of users may be
/// compared. It answers NULL if there are no such columns.
fn values_sql(relation: u32) -> String {
    format!(
        "(SELECT jsonb_agg(jsonb_build_array(a.attnum, {COLUMNS}) ORDER BY a.attnum)::text FROM pg_attribute a {}
          WHERE a.attrelid = {relation} AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384)",
        operand::join()
    )
}

/// Fails with [`FAILED`] unless `now` still is what it was, and answers nothing.
fn guard_sql(now: &str, was: &str) -> String {
    format!("SELECT WHERE 1 / CASE WHEN {now} = {} THEN 1 ELSE 0 END = 0", literal(was))
}

/// The SQLSTATE of a guard that fails.
pub(super) const FAILED: &str = "22012";

/// The shape of a table that may be read. None if it is gone.
///
/// # Errors
/// `Environment` if reading it would run what is not ours, or the server's.
pub(super) async fn shape_now(client: &Client, relation: u32) -> Result<Option<Shape>> {
    // In one query: what is refused is not in a shape that passes.
    let sql = format!(
        "SELECT {}, (SELECT ARRAY[f.oid::regprocedure::text, pg_get_userbyid(f.proowner)::text]
                     FROM ({}) AS found JOIN pg_proc f ON f.oid = found.oid ORDER BY 1 LIMIT 1),
                (SELECT format('%I.%I', n.nspname, c.relname)
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {relation}), {}",
        shape_sql(relation),
        planned(relation),
        values_sql(relation)
    );
    let row = client.query_one(&sql, &[]).await.map_err(unreadable)?;
    let Some(shape) = row.try_get(0).map_err(unreadable)? else { return Ok(None) };
    let found: Option<Vec<String>> = row.try_get(1).map_err(unreadable)?;
    if let Some([function, owner]) = found.as_deref() {
        let table: String = row.try_get::<_, Option<String>>(2).map_err(unreadable)?.unwrap_or_default();
        let (table, function) = (shown_sql(&table), shown_sql(function));
        let what = format!("reading `{table}` would run function `{function}` of another user with our rights");
        return Err(Error::new(Fault::Environment, what)
            .because("an index, statistics or the partition key of the table call it, and the planner computes what is constant")
            .help(format!(
                "if it is an SQL function, keep the planner from taking it apart: ALTER FUNCTION {function} SET search_path = pg_catalog, pg_temp;\n\
                 otherwise let a superuser own it (ALTER FUNCTION {function} OWNER TO …), or drop what calls it for constants;\n\
                 or, if `{}` may do all that the role of `url` may, say so beside `url`: trusted_owners: [{owner:?}]",
                printable(owner)
            )));
    }
    Ok(Some(Shape { table: shape, values: row.try_get(3).map_err(unreadable)? }))
}

/// Checks that the rows of a table may be read, and be asked for by their key.
///
/// # Errors
/// `Environment`, with who must act.
pub(super) async fn check(client: &Client, table: &Table) -> Result<()> {
    shape_now(client, table.oid).await?;
    let sql = format!(
        "SELECT a.attname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[:i.indnkeyatts - 1]) {}
         WHERE c.oid = $1 AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
           AND (compared.equal IS NULL OR compared.above IS NULL) LIMIT 1",
        operand::join()
    );
    let row = client.query_opt(&sql, &[&table.oid]).await.map_err(unreadable)?;
    match row.map(|row| row.try_get::<_, String>(0)).transpose().map_err(unreadable)? {
        Some(column) => Err(incomparable(&table.to_string(), &column)),
        None => Ok(()),
    }
}

fn unreadable(error: tokio_postgres::Error) -> Error {
    failed("cannot read the columns of a table", error)
}

/// A table as it is read row by row.
#[derive(Clone, Debug)]
pub(super) struct Footing {
    shape: Shape,
    /// Its name, for people.
    name: String,
    /// Its name as SQL, as what stands after FROM.
    pub(super) from: String,
    /// Its name, to be looked up.
    lookup: String,
    lock: String,
    columns: Vec<(String, Operand)>,
    /// Policies hide rows of it.
    pub(super) hidden: bool,
}

impl Footing {
    /// Looks at a table. None if it is gone.
    pub(super) async fn look(client: &Client, relation: u32) -> Result<Option<Self>> {
        let sql = format!(
            "SELECT a.attname::text, n.nspname::text, c.relname::text, c.relkind = 'p', has_table_privilege(c.oid, 'SELECT'),
                    row_security_active(c.oid), {COLUMNS}
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped {} WHERE c.oid = $1",
            operand::join()
        );
        // First: what changes after it shows when the rows are read.
        let Some(shape) = shape_now(client, relation).await? else { return Ok(None) };
        let rows = client.query(&sql, &[&relation]).await.map_err(unreadable)?;
        let Some(first) = rows.first() else { return Ok(None) };
        let looked = || {
            let (schema, name): (String, String) = (first.try_get(1)?, first.try_get(2)?);
            let from = from(first.try_get(3)?, &schema, &name);
            let lock = lock(first.try_get(4)?, &from);
            let columns = rows.iter().map(|row| {
                let name: String = row.try_get(0)?;
                let operand = Operand::read(&name, None, row, 6)?;
                Ok((name, operand))
            });
            let columns = columns.collect::<Result<_, tokio_postgres::Error>>()?;
            let lookup = lookup(&schema, &name);
            Ok(Self { shape, name: format!("{schema}.{name}"), from, lookup, lock, columns, hidden: first.try_get(5)? })
        };
        looked().map(Some).map_err(unreadable)
    }

    pub(super) fn operand(&self, column: &str) -> Option<&Operand> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, operand)| operand)
    }

    /// A transaction that reads, and what it answers before that: see [`begin_sql`].
    pub(super) fn transaction(&self, relation: u32, reads: &str) -> String {
        format!("{}; COMMIT", begin_sql(relation, &self.lookup, &self.lock, &self.shape, reads))
    }
}

/// Returns the text after FROM, with `ONLY` unless the table is partitioned: a table that inherits
/// from it is another one.
pub(super) fn from(is_partitioned: bool, schema: &str, name: &str) -> String {
    format!("{}{}.{}", if is_partitioned { "" } else { "ONLY " }, quoted(schema), quoted(name))
}

/// The name of a table as `to_regclass` reads it.
pub(super) fn lookup(schema: &str, name: &str) -> String {
    format!("{}.{}", plainly_quoted(schema), plainly_quoted(name))
}

/// SQL that keeps a table as it is until the end of the transaction, if the user may.
pub(super) fn lock(may: bool, from: &str) -> String {
    if may { format!("LOCK TABLE {from} IN ACCESS SHARE MODE;") } else { String::new() }
}

/// Begins a transaction that reads, if the table still is what it was. Answers a snapshot, and what
/// `reads` answers. `lookup` is the name by which `reads` calls the table. The lock comes before
/// the snapshot: one that is older than a rewrite of the table sees no rows in it at all.
pub(super) fn begin_sql(relation: u32, lookup: &str, lock: &str, shape: &Shape, reads: &str) -> String {
    let guard = guard_sql(&shape_sql(relation), &shape.table);
    // Before, and not within: only whom we trust can change it, and the time between guard and read is to be short.
    let values = shape
        .values
        .as_ref()
        .map_or(String::new(), |values| format!("BEGIN; {}; COMMIT;", guard_sql(&values_sql(relation), values)));
    // The snapshot does not see that a schema has been renamed since, while what reads goes by the
    // name as it is by then.
    let named =
        format!("SELECT WHERE 1 / CASE WHEN to_regclass({})::oid = {relation} THEN 1 ELSE 0 END = 0", literal(lookup));
    format!(
        "{values} BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {lock} SELECT pg_current_snapshot(); {guard}; {named}; {reads}; {named}"
    )
}

/// Returns the reason why a table cannot be read: policies that have come to hide rows of it since
/// it was looked at, or else `error`.
pub(super) async fn hidden_since(settings: &Settings, relation: u32, error: Error) -> Result<Error> {
    if sqlstate(&error) != Some("42501") {
        return Ok(error);
    }
    let client = setup::session(settings).await?;
    let table = Footing::look(&client, relation).await?.filter(|table| table.hidden);
    Ok(table.map_or(error, |table| tables::hidden(&table.name, &settings.url.user)))
}

/// A key of a type whose values could not be compared without running what its owner wrote.
pub(super) fn incomparable(table: &str, column: &str) -> Error {
    let what = format!("the key of `{table}` has column `{column}`, whose type another user defines, or could replace");
    Error::new(Fault::Environment, what)
        .because("values of such a type cannot be compared without running code of that user with our rights")
        .help(
            "give the table a key of plain types, domains over them, or enums; or give the type, its schema and its extension to a \
             superuser or to the database's owner; or, if their owner may do all that the role of `url` may, say so beside `url`: \
             trusted_owners: […]",
        )
}
