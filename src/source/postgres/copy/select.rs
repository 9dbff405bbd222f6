//! `Select`: a table as a copy reads it: the columns and rows that the publication lets through, in the order of the key.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio_postgres::Client;

use super::super::settings::{Settings, literal, quoted};
use super::super::tables::{self, Table};
use super::rows::Key;
use crate::decode::{ReadColumn, Reading};
use crate::error::{Error, Fault, Result};
use crate::event::ReplicaIdentity;
use crate::postgres::failed;

/// How to read a table, chunk by chunk.
#[derive(Debug)]
pub(super) struct Select {
    pub(super) reading: Arc<Reading>,
    /// Where the key's columns stand in a row, in the order of the key's index.
    pub(super) key: Vec<usize>,
    columns: String,
    from: String,
    /// Keeps the columns as they are until the end of a transaction. Empty if the user may not lock the table.
    pub(super) lock: String,
    /// Name and columns, as [`shape_sql`] answers them.
    pub(super) shape: Option<String>,
    /// Name and type of the key's columns, as SQL.
    key_sql: Vec<(String, String)>,
    conditions: Vec<String>,
}

/// How to read rows by their keys.
pub(super) struct RowsSql {
    /// Those that are there.
    pub(super) there: String,
    /// Those that are not: their keys, and nulls.
    pub(super) gone: String,
}

/// One row for each column that is published, with what else matters of the table.
const DESCRIBE: &str = "
    WITH published AS (
        SELECT to_jsonb(p) -> 'attnames' AS names, to_jsonb(p) ->> 'rowfilter' AS filter
        FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = $2 AND c.oid = $1
    ), identity AS (
        SELECT i.indkey::int2[] AS key FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE i.indrelid = $1 AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
    )
    SELECT a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod),
           array_position(identity.key, a.attnum) , c.relkind::text, c.relreplident::text, row_security_active(c.oid),
           has_column_privilege(c.oid, a.attnum, 'SELECT'), published.filter, n.nspname::text, c.relname::text,
           has_table_privilege(c.oid, 'SELECT')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    CROSS JOIN published LEFT JOIN identity ON true
    WHERE c.oid = $1 AND CASE WHEN published.names IS NULL THEN a.attgenerated = '' ELSE published.names ? a.attname::text END
    ORDER BY a.attnum";

/// Answers name and columns of a table, to be compared with what they were before; NULL if it is gone.
pub(super) fn shape_sql(relation: u32) -> String {
    format!(
        "SELECT string_agg(concat_ws(' ', relnamespace, relname, attnum, attname, atttypid, atttypmod), ',' ORDER BY attnum)
         FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE attrelid = {relation} AND attnum > 0 AND NOT attisdropped"
    )
}

impl Select {
    /// Asks the server how the table of `job` is to be read.
    pub(super) async fn describe(
        client: &Client,
        settings: &Settings,
        table: &Table,
        filter: Option<&str>,
    ) -> Result<Self> {
        // First: what changes after it shows when the first chunk is read.
        let shape = Self::shape_now(client, table.oid).await?;
        let rows = client.query(DESCRIBE, &[&table.oid, &settings.publication]).await;
        let rows = rows.map_err(|error| failed(format!("cannot read the columns of `{table}`"), error))?;
        let Some(first) = rows.first() else {
            return Err(Error::new(Fault::Environment, format!("table `{table}` is not published any more"))
                .help("restart the pipeline: it then looks at the tables again"));
        };
        // It may have been renamed since.
        let table = &Table { schema: first.get(10), name: first.get(11), ..table.clone() };
        if first.get(7) {
            return Err(tables::hidden(&table.to_string(), &settings.url.user));
        }
        if let Some(hidden) = rows.iter().find(|row| !row.get::<_, bool>(8)) {
            let column: &str = hidden.get(0);
            return Err(Error::new(
                Fault::Environment,
                format!("user `{}` may not read column `{column}` of `{table}`", settings.url.user),
            )
            .help(format!("GRANT SELECT ON {} TO {};", table.quoted(), quoted(&settings.url.user))));
        }
        let column = |row: &tokio_postgres::Row| ReadColumn {
            name: row.get(0),
            type_oid: row.get(1),
            type_modifier: row.get(2),
            key: row.get::<_, Option<i32>>(4).is_some(),
        };
        let columns: Vec<ReadColumn> = rows.iter().map(column).collect();
        // int2vector counts from 0, and array_position goes by the array's own bounds.
        let mut key: Vec<(i32, usize)> =
            rows.iter().enumerate().filter_map(|(index, row)| Some((row.get::<_, Option<i32>>(4)?, index))).collect();
        key.sort_unstable();
        if key.is_empty() {
            return Err(Error::new(
                Fault::Environment,
                format!("table `{table}` has no key by which it could be copied in parts"),
            )
            .help(format!("ALTER TABLE {} ADD PRIMARY KEY (id);", table.quoted())));
        }
        let key: Vec<usize> = key.into_iter().map(|(_, index)| index).collect();
        let key_sql =
            key.iter().filter_map(|&index| rows.get(index)).map(|row| (quoted(row.get(0)), row.get(3))).collect();
        let identity = match first.get::<_, &str>(6) {
            "i" => ReplicaIdentity::Index,
            "f" => ReplicaIdentity::Full,
            _ => ReplicaIdentity::Default,
        };
        let (catalog, _) = tables::catalog(client, &settings.publication, std::slice::from_ref(table)).await?;
        let reading = Reading::new(table.oid, &table.schema, &table.name, identity, &columns, &catalog);
        let published: Option<String> = first.get(9);
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
        let only = if first.get::<_, &str>(5) == "p" { "" } else { "ONLY " };
        let from = format!("{only}{}", table.quoted());
        let lock = if first.get(12) { format!("LOCK TABLE {from} IN ACCESS SHARE MODE;") } else { String::new() };
        Ok(Self {
            reading: Arc::new(reading),
            key,
            columns: names.join(", "),
            from,
            lock,
            shape,
            key_sql,
            conditions: [published, filter.map(str::to_owned)].into_iter().flatten().collect(),
        })
    }

    /// The table's name and columns as they are now.
    pub(super) async fn shape_now(client: &Client, relation: u32) -> Result<Option<String>> {
        let row = client.query_one(&shape_sql(relation), &[]).await;
        Ok(row.map_err(|error| failed("cannot read the columns of a table", error))?.get(0))
    }

    /// The rows after the one with the key `after`, at most `limit` of them.
    pub(super) fn sql(&self, after: Option<&[String]>, limit: usize) -> String {
        let names: Vec<&str> = self.key_sql.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        let mut conditions: Vec<String> = self.conditions.iter().map(|condition| format!("({condition}\n)")).collect();
        if let Some(after) = after {
            let typed = after.iter().zip(&self.key_sql).map(|(text, (_, kind))| format!("{}::{kind}", literal(text)));
            conditions.push(format!("({names}) > ({})", typed.collect::<Vec<_>>().join(", ")));
        }
        let mut sql = format!("SELECT {} FROM {}", self.columns, self.from);
        if !conditions.is_empty() {
            let _ = write!(sql, " WHERE {}", conditions.join(" AND "));
        }
        let _ = write!(sql, " ORDER BY {names} LIMIT {limit}");
        sql
    }

    /// The rows with these keys. None if the key has other columns by now.
    pub(super) fn rows_sql(&self, keys: &[Key]) -> Option<RowsSql> {
        let columns = &self.reading.relation().columns;
        let names: Option<Vec<&str>> =
            self.key.iter().map(|&index| columns.get(index).map(|column| column.name.as_str())).collect();
        let names = names?;
        let typed = |key: &Key| {
            let values = key.values(&names)?;
            let typed = values.iter().zip(&self.key_sql).map(|(value, (_, kind))| format!("({value})::{kind}"));
            Some(format!("({})", typed.collect::<Vec<_>>().join(", ")))
        };
        let keys = keys.iter().map(typed).collect::<Option<Vec<_>>>()?.join(", ");
        let aliases: Vec<String> = (0..names.len()).map(|index| format!("k{index}")).collect();
        let same = self.key_sql.iter().zip(&aliases).map(|((name, _), alias)| format!("t.{name} = asked.{alias}"));
        let same = same.collect::<Vec<_>>().join(" AND ");
        let asked = format!("(VALUES {keys}) AS asked ({})", aliases.join(", "));
        let filter: String = self.conditions.iter().map(|condition| format!(" AND ({condition}\n)")).collect();
        let from = &self.from;
        let listed = columns.iter().enumerate().map(|(index, _)| {
            let part = self.key.iter().position(|&key| key == index);
            part.map_or("NULL".to_owned(), |part| format!("asked.k{part}"))
        });
        Some(RowsSql {
            there: format!(
                "SELECT {} FROM {from} AS t WHERE EXISTS (SELECT FROM {asked} WHERE {same}){filter}",
                self.columns
            ),
            gone: format!(
                "SELECT {} FROM {asked} WHERE NOT EXISTS (SELECT FROM {from} AS t WHERE {same}{filter})",
                listed.collect::<Vec<_>>().join(", ")
            ),
        })
    }
}
