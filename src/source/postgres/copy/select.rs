//! `Select`: a table as a copy reads it: the columns and rows that the publication lets through, in
//! the order of the key.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio_postgres::{Client, Row};

use super::super::footing;
use super::super::operand::{self, Operand};
use super::super::settings::{Settings, literal, quoted};
use super::super::tables::{self, Table};
use super::rows::Key;
use crate::decode::{ReadColumn, Reading};
use crate::error::{Error, Fault, Result};
use crate::event::ReplicaIdentity;
use crate::postgres::failed;

/// A table to be read chunk by chunk, with all that its queries need.
#[derive(Debug)]
pub(super) struct Select {
    pub(super) reading: Arc<Reading>,
    /// Places of the key's columns in a row, in the order of the key's index.
    pub(super) key: Vec<usize>,
    /// The columns that are read, with their names in the query.
    columns: Vec<(Operand, String)>,
    /// The table's name, to be looked up, and what stands after FROM.
    pub(super) lookup: String,
    from: String,
    /// Keeps the columns as they are until the end of a transaction. Empty if the user may not lock
    /// the table.
    pub(super) lock: String,
    /// The properties that the table must still have when it is read; empty if it is gone.
    pub(super) shape: footing::Shape,
    conditions: Vec<String>,
}

/// The name in a query of the keys that are asked for: no table has it.
const ASKED: &str = "\"pgstream-host asked\"";

/// SQL that reads rows by their keys.
pub(super) struct RowsSql {
    /// Those that are there.
    pub(super) there: String,
    /// Those that are not: their keys, and nulls.
    pub(super) gone: String,
}

/// One row for each column, with what else matters of the table.
const DESCRIBE: &str = "
    WITH published AS (
        SELECT to_jsonb(p) -> 'attnames' AS names, to_jsonb(p) ->> 'rowfilter' AS filter
        FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = $2 AND c.oid = $1
    ), identity AS (
        SELECT (i.indkey::int2[])[:i.indnkeyatts - 1] AS key, (i.indcollation::oid[])[:i.indnkeyatts - 1] AS collations
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE i.indrelid = $1 AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
    )
    SELECT a.attname::text, a.atttypid, a.atttypmod, place.of_key, c.relkind = 'p', c.relreplident::text, row_security_active(c.oid),
           has_column_privilege(c.oid, a.attnum, 'SELECT'), published.filter, n.nspname::text, c.relname::text,
           has_table_privilege(c.oid, 'SELECT'), sent.yes, quote_ident(collations.nspname) || '.' || quote_ident(l.collname), $COLUMNS
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    CROSS JOIN published LEFT JOIN identity ON true
    CROSS JOIN LATERAL (SELECT array_position(identity.key, a.attnum) AS of_key) AS place
    CROSS JOIN LATERAL (
        SELECT CASE WHEN published.names IS NULL THEN a.attgenerated = '' ELSE published.names ? a.attname::text END AS yes) AS sent
    LEFT JOIN pg_collation l ON l.oid = identity.collations[place.of_key] AND l.oid <> a.attcollation
    LEFT JOIN pg_namespace collations ON collations.oid = l.collnamespace $JOIN
    WHERE c.oid = $1 ORDER BY a.attnum";

impl Select {
    /// Asks the server how a table is to be read.
    pub(super) async fn describe(
        client: &Client,
        settings: &Settings,
        table: &Table,
        filter: Option<&str>,
    ) -> Result<Self> {
        // First: what changes after it shows when the first chunk is read.
        let shape = footing::shape_now(client, table.oid).await?.unwrap_or_default();
        let unreadable = |error| failed(format!("cannot read the columns of `{table}`"), error);
        let sql = DESCRIBE.replace("$COLUMNS", operand::COLUMNS).replace("$JOIN", &operand::join());
        let rows = client.query(&sql, &[&table.oid, &settings.publication]).await.map_err(unreadable)?;
        let Some(first) = rows.first() else {
            return Err(Error::new(Fault::Environment, format!("table `{table}` is not published any more"))
                .help("restart the pipeline: it then looks at the tables again"));
        };
        let found = Found::read(first).map_err(unreadable)?;
        // It may have been renamed since.
        let table = &Table { schema: found.schema, name: found.name, ..table.clone() };
        if found.hidden {
            return Err(tables::hidden(&table.to_string(), &settings.url.user));
        }
        let columns: Vec<Column> = rows.iter().map(Column::read).collect::<Result<_, _>>().map_err(unreadable)?;
        let sent: Vec<&Column> = columns.iter().filter(|column| column.sent).collect();
        if let Some(column) = sent.iter().find(|column| !column.readable) {
            return Err(Error::new(
                Fault::Environment,
                format!("user `{}` may not read column `{}` of `{table}`", settings.url.user, column.read.name),
            )
            .help(format!("GRANT SELECT ON {} TO {};", table.quoted(), quoted(&settings.url.user))));
        }
        if let Some(column) = columns.iter().find(|column| column.place.is_some() && !column.sent) {
            let what = format!("column `{}` of the key of `{table}` is not published", column.read.name);
            return Err(Error::new(Fault::Environment, what).help(
                "publish the whole key, or let another unique index identify the rows (REPLICA IDENTITY USING INDEX)",
            ));
        }
        let mut key: Vec<(i32, usize)> =
            sent.iter().enumerate().filter_map(|(index, column)| Some((column.place?, index))).collect();
        key.sort_unstable();
        if key.is_empty() {
            return Err(Error::new(
                Fault::Environment,
                format!("table `{table}` has no key by which it could be copied in parts"),
            )
            .help(format!("ALTER TABLE {} ADD PRIMARY KEY (id);", table.quoted())));
        }
        let key: Vec<usize> = key.into_iter().map(|(_, index)| index).collect();
        for column in key.iter().filter_map(|&index| sent.get(index)) {
            if !column.operand.is_comparable() {
                return Err(footing::incomparable(&table.to_string(), &column.read.name));
            }
        }
        let (catalog, _) = tables::catalog(client, &settings.publication, std::slice::from_ref(table)).await?;
        let read: Vec<ReadColumn> = sent.iter().map(|column| column.read.clone()).collect();
        let reading = Reading::new(table.oid, &table.schema, &table.name, found.identity, &read, &catalog);
        let from = footing::from(found.partitioned, &table.schema, &table.name);
        let lookup = footing::lookup(&table.schema, &table.name);
        let lock = footing::lock(found.lockable, &from);
        let conditions: Vec<String> = [found.filter, filter.map(str::to_owned)].into_iter().flatten().collect();
        let source = Source::new(&from, &table.name, &columns, !conditions.is_empty());
        let columns = columns.iter().zip(&source.columns).filter(|(column, _)| column.sent);
        let columns = columns.map(|(column, name)| (column.operand.clone(), name.clone())).collect();
        Ok(Self { reading: Arc::new(reading), key, columns, lookup, from: source.from, lock, shape, conditions })
    }

    /// The rows after the one with the key `after`, at most `limit` of them.
    pub(super) fn sql(&self, after: Option<&[String]>, limit: usize) -> String {
        let mut conditions = self.filters();
        if let Some(after) = after {
            let keys = self
                .key()
                .zip(after)
                .map(|((operand, column), text)| (operand, column.clone(), operand.value(&literal(text))));
            conditions.push(operand::after(&keys.collect::<Vec<_>>()));
        }
        let mut sql = format!("SELECT {} FROM {}", self.listed(), self.from);
        if !conditions.is_empty() {
            let _ = write!(sql, " WHERE {}", conditions.join(" AND "));
        }
        let order: Vec<String> = self.key().map(|(operand, column)| operand.ordered(column)).collect();
        let _ = write!(sql, " ORDER BY {} LIMIT {limit}", order.join(", "));
        sql
    }

    /// The rows with these keys. None if the key has other columns by now.
    pub(super) fn rows_sql(&self, keys: &[Key]) -> Option<RowsSql> {
        let columns = &self.reading.relation().columns;
        let names: Option<Vec<&str>> =
            self.key.iter().map(|&index| columns.get(index).map(|column| column.name.as_str())).collect();
        let names = names?;
        if !self.key().all(|(operand, _)| operand.is_named()) {
            return self.rows_one_by_one(keys, &names);
        }
        let typed = |key: &Key| {
            let values = key.values(&names)?;
            let typed = values.iter().zip(self.key()).map(|(value, (operand, _))| operand.value(value));
            Some(format!("({})", typed.collect::<Vec<_>>().join(", ")))
        };
        let keys = keys.iter().map(typed).collect::<Option<Vec<_>>>()?.join(", ");
        let aliases: Vec<String> = (0..names.len()).map(|index| format!("k{index}")).collect();
        let same =
            self.key().zip(&aliases).map(|((operand, column), alias)| operand.is(column, &format!("{ASKED}.{alias}")));
        let same = same.collect::<Vec<_>>().join(" AND ");
        let asked = format!("(VALUES {keys}) AS {ASKED} ({})", aliases.join(", "));
        let filter: String = self.filters().iter().map(|condition| format!(" AND {condition}")).collect();
        let from = &self.from;
        let gone = (0..columns.len()).map(|index| {
            let part = self.key.iter().position(|&key| key == index);
            part.map_or("NULL".to_owned(), |part| format!("{ASKED}.k{part}"))
        });
        Some(RowsSql {
            there: format!(
                "SELECT {} FROM {from} WHERE EXISTS (SELECT FROM {asked} WHERE {same}){filter}",
                self.listed()
            ),
            gone: format!(
                "SELECT {} FROM {asked} WHERE NOT EXISTS (SELECT FROM {from} WHERE {same}{filter})",
                gone.collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// As `rows_sql`, with values only beside the columns, whose types they take.
    fn rows_one_by_one(&self, keys: &[Key], names: &[&str]) -> Option<RowsSql> {
        let filter: String = self.filters().iter().map(|condition| format!(" AND {condition}")).collect();
        let (mut same, mut gone) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        for key in keys {
            let values = key.values(names)?;
            let values: Vec<String> =
                values.iter().zip(self.key()).map(|(value, (operand, _))| operand.value(value)).collect();
            let one = self.key().zip(&values).map(|((operand, column), value)| operand.is(column, value));
            let one = one.collect::<Vec<_>>().join(" AND ");
            let row = (0..self.columns.len()).map(|index| {
                let part = self.key.iter().position(|&key| key == index).and_then(|part| values.get(part));
                part.map_or("NULL".to_owned(), |value| format!("({value})::text"))
            });
            let row = row.collect::<Vec<_>>().join(", ");
            gone.push(format!("SELECT {row} WHERE NOT EXISTS (SELECT FROM {} WHERE {one}{filter})", self.from));
            same.push(format!("({one})"));
        }
        Some(RowsSql {
            there: format!("SELECT {} FROM {} WHERE ({}){filter}", self.listed(), self.from, same.join(" OR ")),
            gone: gone.join(" UNION ALL "),
        })
    }

    /// The key's columns, and how the query calls them.
    fn key(&self) -> impl Iterator<Item = &(Operand, String)> {
        self.key.iter().filter_map(|&index| self.columns.get(index))
    }

    fn listed(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(_, column)| column.as_str()).collect();
        names.join(", ")
    }

    /// A condition may end with a comment.
    fn filters(&self) -> Vec<String> {
        self.conditions.iter().map(|condition| format!("({condition}\n)")).collect()
    }
}

/// The text after FROM, and the name that each column then has in the query.
struct Source {
    from: String,
    columns: Vec<String>,
}

impl Source {
    /// `filtered`: conditions of people follow, in which a column of a user's own type could be
    /// cast by a function of that user. So they see columns below domains, enums as texts, and
    /// others not at all.
    fn new(from: &str, table: &str, columns: &[Column], filtered: bool) -> Self {
        let alias = quoted(table);
        if !filtered {
            let columns = columns.iter().map(|column| format!("{alias}.{}", column.operand.name)).collect();
            return Self { from: format!("{from} AS {alias}"), columns };
        }
        let own: Vec<String> = (0..columns.len()).map(|index| format!("\"pgstream-host {index}\"")).collect();
        let readable = || columns.iter().zip(&own).filter(|(column, _)| column.readable);
        let whole = readable().map(|(column, own)| format!("{} AS {own}", column.operand.name));
        let seen = readable().filter_map(|(column, _)| {
            let name = &column.operand.name;
            Some(format!("{} AS {name}", column.operand.seen(name)?))
        });
        let listed: Vec<String> = whole.chain(seen).collect();
        let columns = own.iter().map(|own| format!("{alias}.{own}")).collect();
        Self { from: format!("(SELECT {} FROM {from}) AS {alias}", listed.join(", ")), columns }
    }
}

/// The answer to [`DESCRIBE`], as far as it concerns the table.
struct Found {
    partitioned: bool,
    identity: ReplicaIdentity,
    hidden: bool,
    filter: Option<String>,
    schema: String,
    name: String,
    lockable: bool,
}

impl Found {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let identity = match row.try_get::<_, &str>(5)? {
            "i" => ReplicaIdentity::Index,
            "f" => ReplicaIdentity::Full,
            _ => ReplicaIdentity::Default,
        };
        Ok(Self {
            partitioned: row.try_get(4)?,
            identity,
            hidden: row.try_get(6)?,
            filter: row.try_get(8)?,
            schema: row.try_get(9)?,
            name: row.try_get(10)?,
            lockable: row.try_get(11)?,
        })
    }
}

/// The answer to [`DESCRIBE`], as far as it concerns one column.
struct Column {
    read: ReadColumn,
    /// Its place in the key.
    place: Option<i32>,
    /// The publication sends it.
    sent: bool,
    readable: bool,
    operand: Operand,
}

impl Column {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let (name, place): (String, Option<i32>) = (row.try_get(0)?, row.try_get(3)?);
        let operand = Operand::read(&name, row.try_get(13)?, row, 14)?;
        let (type_oid, type_modifier, key) = (row.try_get(1)?, row.try_get(2)?, place.is_some());
        let read = ReadColumn { name, type_oid, type_modifier, key };
        Ok(Self { read, place, sent: row.try_get(12)?, readable: row.try_get(7)?, operand })
    }
}
