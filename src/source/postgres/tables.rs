//! The tables that the source names, as the server has them: found by pattern, and of a kind that
//! is streamed, or refused.

use tokio_postgres::Client;

use super::footing;
use super::settings::{Pattern, Settings, quoted};
use crate::decode::{Catalog, Shape};
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Naming, Operation, Relation};
use crate::postgres::{ReadRow, failed, first_column};
use crate::printable::printable;

/// A table to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// True if the user has the rights of its owner, and so may put it into a publication.
    pub(super) owned: bool,
    /// The way in which its ids are kept apart from those of other tables; set when the pipeline is
    /// set up.
    pub(super) naming: Naming,
}

impl Table {
    /// As SQL.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Whatever a pattern may match, with what decides over its fitness; what identifies rows is
/// [`Writes`](super::writes)' matter.
const FIND: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
           pg_has_role(current_user, c.relowner, 'USAGE'),
           ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid),
           row_security_active(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname LIKE $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    ORDER BY 2, 3";

/// All tables that the patterns mean, each once, in the order of their names.
pub(super) async fn find(client: &Client, settings: &Settings) -> Result<Vec<Table>> {
    let mut tables: Vec<(Table, Vec<u32>)> = Vec::new();
    for pattern in &settings.tables {
        let rows = client.query(FIND, &[&pattern.schema, &pattern.like()]).await;
        let mut found = false;
        for row in rows.map_err(|error| failed("cannot read the catalogue", error))? {
            let naming = Naming::Alone;
            let table =
                Table { oid: row.read(0)?, schema: row.read(1)?, name: row.read(2)?, owned: row.read(5)?, naming };
            let (kind, persistence): (&str, &str) = (row.read(3)?, row.read(4)?);
            if !matches!(kind, "r" | "p") || persistence != "p" {
                if pattern.is_exact() {
                    return Err(unfit(&table, kind, persistence));
                }
                continue;
            }
            found = true;
            if settings.rereads && !settings.reads_apart() && row.read(7)? {
                return Err(hidden(&table.to_string(), &settings.url.user));
            }
            if !tables.iter().any(|(known, _)| known.oid == table.oid) {
                tables.push((table, row.read(6)?));
            }
        }
        if !found {
            return Err(missing(client, pattern).await);
        }
    }
    // A partition's changes are published as its root's.
    let oids: Vec<u32> = tables.iter().map(|(table, _)| table.oid).collect();
    tables.retain(|(_, ancestors)| !ancestors.iter().any(|ancestor| oids.contains(ancestor)));
    let mut tables: Vec<Table> = tables.into_iter().map(|(table, _)| table).collect();
    tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    if (settings.copies_first || settings.rereads) && !settings.reads_apart() {
        for table in &tables {
            footing::check(client, table).await?;
        }
    }
    Ok(tables)
}

/// Tables that a wildcard means and that could be followed, but are not among `tables`, nor
/// partitions of them.
pub(super) async fn unfollowed(client: &Client, settings: &Settings, tables: &[Table]) -> Result<Vec<String>> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let mut new = Vec::new();
    for pattern in settings.tables.iter().filter(|pattern| !pattern.is_exact()) {
        let rows = client.query(UNFOLLOWED, &[&pattern.schema, &pattern.like(), &oids]).await;
        new.extend(first_column::<String>(&rows.map_err(|error| failed("cannot read the catalogue", error))?)?);
    }
    Ok(new)
}

const UNFOLLOWED: &str = "
    SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname LIKE $2 AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid <> ALL ($3)
      AND NOT EXISTS (SELECT FROM pg_partition_ancestors(c.oid) AS a WHERE a.relid = ANY ($3) OR a.relid <> c.oid)
    ORDER BY 1 LIMIT 100";

/// Policies hide rows of a table from us.
pub(super) fn hidden(table: &str, user: &str) -> Error {
    Error::new(Fault::Environment, format!("row-level security hides rows of `{table}` from user `{user}`"))
        .because("the stream brings changes of all rows, so all rows must be seen in the table, too")
        .help(format!("ALTER ROLE {} BYPASSRLS;", quoted(user)))
}

fn unfit(table: &Table, kind: &str, persistence: &str) -> Error {
    let what = match (kind, persistence) {
        ("v", _) => "a view",
        ("m", _) => "a materialized view",
        ("f", _) => "a foreign table",
        ("S", _) => "a sequence",
        (_, "u") => "an unlogged table",
        _ => "a temporary table",
    };
    Error::new(Fault::Config, format!("`{table}` is {what}, whose changes Postgres does not publish"))
        .help("name ordinary tables in `tables`")
}

async fn missing(client: &Client, pattern: &Pattern) -> Error {
    let what = if pattern.is_exact() {
        format!("table `{pattern}` does not exist")
    } else {
        format!("no table matches `{pattern}`")
    };
    let error = Error::new(Fault::Environment, what);
    let names = client.query(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'",
        &[],
    );
    let wanted = pattern.to_string();
    let names: Vec<String> = first_column(&names.await.unwrap_or_default()).unwrap_or_default();
    let near = names.iter().min_by_key(|name| strsim::damerau_levenshtein(name, &wanted));
    match near.filter(|name| {
        strsim::damerau_levenshtein(name, &wanted) <= 3 || name.ends_with(&format!(".{}", pattern.table))
    }) {
        Some(near) => error.help(format!("did you mean `{}`?", printable(near))),
        None => error.help("correct `tables` in the source, or create the table first"),
    }
}

/// Reads what the decoder must know of types and keys, and the types of the tables' columns.
/// Generated columns count as far as the publication sends them.
pub(super) async fn catalog(client: &Client, publication: &str, tables: &[Table]) -> Result<(Catalog, Vec<u32>)> {
    let unreadable = |error| failed("cannot read the catalogue", error);
    let mut catalog = Catalog::default();
    for table in tables {
        catalog.set_naming(table.oid, table.naming.clone());
    }
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    // Without those of tables' rows, of which there are many, unless a column is of such a type.
    let types = client
        .query(
            "WITH RECURSIVE used AS (
                SELECT a.atttypid AS oid FROM pg_attribute a WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
                UNION SELECT below.oid FROM used u JOIN pg_type t ON t.oid = u.oid
                CROSS JOIN LATERAL (VALUES (t.typelem), (t.typbasetype)) AS below (oid) WHERE below.oid <> 0
             )
             SELECT t.oid, t.typname::text, t.typtype::text, t.typbasetype, e.oid, coalesce(e.typdelim, ',')::text
             FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND t.typlen = -1
             LEFT JOIN pg_class c ON c.oid = coalesce(nullif(t.typrelid, 0), e.typrelid)
             WHERE t.typtype IN ('b', 'c', 'd', 'e', 'r', 'm')
               AND (c.oid IS NULL OR c.relkind = 'c' OR t.oid IN (SELECT used.oid FROM used))",
            &[&oids],
        )
        .await
        .map_err(unreadable)?;
    for row in &types {
        let (kind, element, delimiter): (&str, Option<u32>, &str) = (row.read(2)?, row.read(4)?, row.read(5)?);
        let shape = match (kind, element) {
            ("d", _) => Shape::Domain(row.read(3)?),
            ("e", _) => Shape::Enum,
            ("c" | "r" | "m", _) => Shape::Opaque,
            (_, Some(element)) => Shape::Array { element, delimiter: delimiter.bytes().next().unwrap_or(b',') },
            _ => Shape::Base,
        };
        catalog.add_type(row.read(0)?, row.read::<_, &str>(1)?, shape);
    }
    // What an index includes beside its key identifies no row.
    let keys = client
        .query(
            "WITH published AS (
                 SELECT c.oid, to_jsonb(p) -> 'attnames' AS names FROM pg_publication_tables p
                 JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
                 WHERE p.pubname = $2
             ), sent AS (
                 SELECT a.attrelid, a.attnum, a.attname, a.attisdropped FROM pg_attribute a LEFT JOIN published p ON p.oid = a.attrelid
                 WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND (a.attgenerated = '' OR p.names ? a.attname::text)
             )
             SELECT i.indrelid,
                    ARRAY(SELECT a.attname::text FROM sent a WHERE a.attrelid = i.indrelid
                          AND a.attnum = ANY ((i.indkey::int2[])[:i.indnkeyatts - 1]) ORDER BY a.attnum),
                    ARRAY(SELECT CASE WHEN NOT a.attisdropped THEN a.attname::text END FROM sent a
                          WHERE a.attrelid = i.indrelid ORDER BY a.attnum)
             FROM pg_index i WHERE i.indisprimary AND i.indrelid = ANY ($1)",
            &[&oids, &publication],
        )
        .await
        .map_err(unreadable)?;
    for row in &keys {
        catalog.set_primary_key(row.read(0)?, row.read(1)?, row.read(2)?);
    }
    let columns = client
        .query(
            "SELECT DISTINCT atttypid FROM pg_attribute WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped",
            &[&oids],
        )
        .await
        .map_err(unreadable)?;
    Ok((catalog, first_column(&columns)?))
}

/// Warns of tables that were truncated: a handler answers with `clear`, which knows no tables.
pub(super) fn warn_of_truncates(batch: &Batch) {
    for event in batch.events().iter().filter(|event| event.operation == Operation::Truncate && !event.snapshot) {
        tracing::warn!(
            table = %batch.relation(event),
            "a table was truncated: if the handler answers with `clear`, that empties the sink's collection for all tables of \
             the source; bring the others back with `pgstream-host backfill … --table …`"
        );
    }
}

/// Says what a change of a table does not bring about by itself.
pub(super) fn schema_changed(before: &Relation, now: &Relation) {
    let names = |relation: &Relation, key: bool| -> String {
        let chosen = relation.columns.iter().filter(|column| column.key || !key);
        chosen.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let places = |relation: &Relation| -> Vec<bool> {
        let last = relation.columns.iter().rposition(|column| column.key);
        relation.columns.iter().take(last.map_or(0, |last| last + 1)).map(|column| column.key).collect()
    };
    if names(before, true) != names(now, true) && places(before) != places(now) {
        tracing::warn!(
            table = %now,
            from = names(before, true),
            to = names(now, true),
            "the key of a table has changed, and with it the ids of its points: those under the former key stay in the \
             sinks; empty them, and bring the rows back with `pgstream-host backfill`"
        );
    } else {
        tracing::info!(
            table = %now,
            columns = names(now, false),
            "a table has changed; its rows that are in the sinks follow when they are next written, or with \
             `pgstream-host backfill`"
        );
    }
}
