//! The table that points go to: finds it, reads what it can hold, and refuses what would fail
//! later.

use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

use super::columns::{self, Column, DEFAULT, Kind, List, PYTHON_DEFAULT, quoted, title, word};
use crate::config::model::Distance;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed, is_trusted_here, of_another, refuse_hooks, shown_sql};

/// A table as it was when the connection was opened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) oid: u32,
    /// Schema and name, quoted where SQL needs it.
    pub(super) name: String,
    pub(super) id: IdType,
    /// True if it has the column `group_id`.
    pub(super) grouped: bool,
    pub(super) columns: Vec<Column>,
    /// The schema of the extension, quoted: types and operators are named with it, whatever the
    /// search path.
    pub(super) extension: String,
}

/// The type of the column `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdType {
    Text,
    Int2,
    Int4,
    Int8,
    Uuid,
}

impl IdType {
    fn of_type(name: &str) -> Option<Self> {
        match name {
            "text" | "varchar" => Some(Self::Text),
            "int2" => Some(Self::Int2),
            "int4" => Some(Self::Int4),
            "int8" => Some(Self::Int8),
            "uuid" => Some(Self::Uuid),
            _ => None,
        }
    }

    /// As SQL names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Uuid => "uuid",
        }
    }

    /// Tells if an id is the one way to write a value of the type: `7` but not `007`, so that two
    /// ids of a handler never mean one row.
    pub(super) fn holds(self, id: &str) -> bool {
        let whole = |range: std::ops::RangeInclusive<i64>| {
            id.parse::<i64>().is_ok_and(|number| range.contains(&number) && number.to_string() == id)
        };
        match self {
            Self::Text => true,
            Self::Int2 => whole(i16::MIN.into()..=i16::MAX.into()),
            Self::Int4 => whole(i32::MIN.into()..=i32::MAX.into()),
            Self::Int8 => whole(i64::MIN..=i64::MAX),
            Self::Uuid => Uuid::try_parse(id).is_ok_and(|uuid| uuid.to_string() == id),
        }
    }
}

/// Writes `schema.table` or `table` as SQL.
pub(super) fn parse_name(table: &str) -> Result<String> {
    let (schema, name) = match table.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, table),
    };
    for part in schema.into_iter().chain([name]) {
        columns::check_name(part)?;
    }
    Ok(schema.map_or_else(|| quoted(name), |schema| format!("{}.{}", quoted(schema), quoted(name))))
}

/// The OID of a table, if there is one.
pub(super) async fn find(client: &impl GenericClient, sql: &str) -> Result<Option<u32>> {
    // By way of `pg_class`: alone, `to_regclass` would miss what another session made while this transaction waited.
    let row = client.query_opt("SELECT oid FROM pg_catalog.pg_class WHERE oid = to_regclass($1)", &[&sql]).await;
    let row = row.map_err(|error| failed(format!("cannot look up table {sql}"), error))?;
    row.map(|row| row.read(0)).transpose()
}

/// Reads a table's columns, and says what is missing and how to add it.
pub(super) async fn read(client: &Client, oid: u32, extension: &str) -> Result<Table> {
    let failed = |error| failed("cannot read the table's definition", error);
    let head = client.query_opt(&head(), &[&oid]).await.map_err(failed)?;
    let head = head.ok_or_else(|| Error::new(Fault::Transient, "the table is gone while it is being looked at"))?;
    let (name, user): (String, String) = (shown_sql(head.read("name")?), head.read("user")?);
    if !matches!(head.read::<_, &str>("kind")?, "r" | "p") {
        return Err(environment(format!("`{name}` is not a table")).help("name a table in `table`, not a view"));
    }
    if !head.read::<_, bool>("trusts_schema")? {
        return Err(of_another(&format!("the schema of table `{name}`"), head.read("schema_owner")?));
    }
    refuse_hooks(client, oid).await?;
    if let Some(volatile) = head.read::<_, Option<String>>("volatile")? {
        let volatile = shown_sql(&volatile);
        let what = format!("table `{volatile}` is unlogged or temporary: a crash of the server empties it");
        return Err(environment(what).because(FOR_GOOD).help(format!("ALTER TABLE {volatile} SET LOGGED")));
    }
    if !head.read::<_, bool>("may_write")? {
        return Err(environment(format!("user `{user}` may not write to table `{name}`"))
            .help(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {}", quoted(&user))));
    }
    if head.read::<_, bool>("shut_out")? {
        let user = quoted(&user);
        return Err(environment(format!("row-level security lets user {user} write no row to table `{name}`"))
            .because("no policy of the table is for this user")
            .help(format!(
                "ALTER ROLE {user} BYPASSRLS\nor, as the table's owner: CREATE POLICY pgstream ON {name} TO {user} USING (true)"
            )));
    }
    if head.read::<_, bool>("policed")? {
        tracing::warn!(table = name, "rows that a policy (row-level security) hides are neither updated nor deleted");
    }
    let rows = client.query(COLUMNS, &[&oid]).await.map_err(failed)?;
    let found: Vec<Found> = rows.iter().map(Found::new).collect::<Result<_>>()?;

    let lacks = |column: &str, definition: &str| {
        environment(format!("table `{name}` has no column `{column}`"))
            .help(format!("ALTER TABLE {name} ADD COLUMN {column} {definition}"))
    };
    let id = found.iter().find(|column| column.name == "id").ok_or_else(|| lacks("id", "text PRIMARY KEY"))?;
    let id_type = IdType::of_type(&id.type_name).ok_or_else(|| {
        environment(format!(
            "column `id` of table `{name}` is of type `{}`, expected `text`, an integer or `uuid`",
            id.shown
        ))
        .help(format!("ALTER TABLE {name} ALTER COLUMN id TYPE text"))
    })?;
    if !id.unique {
        return Err(environment(format!("column `id` of table `{name}` is not unique"))
            .help(format!("ALTER TABLE {name} ADD PRIMARY KEY (id)")));
    }
    let payload = found
        .iter()
        .find(|column| column.name == "payload")
        .ok_or_else(|| lacks("payload", "jsonb NOT NULL DEFAULT '{}'"))?;
    if payload.type_name != "jsonb" {
        return Err(environment(format!(
            "column `payload` of table `{name}` is of type `{}`, expected `jsonb`",
            payload.shown
        ))
        .help(format!("ALTER TABLE {name} ALTER COLUMN payload TYPE jsonb USING payload::jsonb")));
    }
    let group = found.iter().find(|column| column.name == "group_id");
    if let Some(group) = group.filter(|group| !matches!(group.type_name.as_str(), "text" | "varchar")) {
        return Err(environment(format!(
            "column `group_id` of table `{name}` is of type `{}`, expected `text`",
            group.shown
        ))
        .help(format!("ALTER TABLE {name} ALTER COLUMN group_id TYPE text")));
    }
    let default = if found.iter().any(|column| column.name == DEFAULT) { DEFAULT } else { PYTHON_DEFAULT };
    let vectors: Vec<Column> = found.iter().filter_map(|column| column.vector(default)).collect();
    let ours = |name: &str| ["id", "payload", "group_id"].contains(&name) || vectors.iter().any(|v| v.name == name);
    if let Some(column) = found.iter().find(|column| column.required && !ours(&column.name)) {
        return Err(environment(format!(
            "column `{}` of table `{name}` must not be null, and no point has it",
            column.name
        ))
        .help(format!("ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL", quoted(&column.name))));
    }
    if vectors.is_empty() {
        return Err(lacks(DEFAULT, "vector(384)"));
    }
    Ok(Table { oid, id: id_type, grouped: group.is_some(), columns: vectors, extension: extension.to_owned(), name })
}

/// `volatile` is the table, or one of its partitions, that a crash of the server empties.
fn head() -> String {
    let schema = is_trusted_here("n.nspowner");
    format!(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, current_user::text AS user, c.relkind::text AS kind,
                pg_get_userbyid(n.nspowner)::text AS schema_owner, {schema} AS trusts_schema,
                (SELECT format('%I.%I', ln.nspname, l.relname)
                 FROM (SELECT c.oid AS relid UNION SELECT t.relid FROM pg_partition_tree(c.oid) AS t WHERE t.isleaf) AS parts
                 JOIN pg_catalog.pg_class l ON l.oid = parts.relid
                 JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace
                 WHERE l.relpersistence <> 'p' LIMIT 1) AS volatile,
                has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE') AS may_write,
                row_security_active(c.oid) AS policed,
                row_security_active(c.oid) AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_policy p CROSS JOIN LATERAL unnest(p.polroles) AS r(role)
                    WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('*', 'a')
                      AND (r.role = 0 OR pg_has_role(current_user, r.role, 'USAGE'))) AS shut_out
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = $1"
    )
}

const FOR_GOOD: &str = "what was written counts as durable, and does not come again";

/// The distance of a vector is that of its newest usable index; an index on an expression counts
/// when it casts the column to `halfvec`.
const COLUMNS: &str = "
    SELECT a.attname::text AS name,
           CASE WHEN t.typnamespace IN (SELECT extnamespace FROM pg_catalog.pg_extension WHERE extname = 'vector'
                                        UNION ALL SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog')
                 AND t.typtype = 'b' THEN t.typname::text ELSE 'other' END AS type, format_type(a.atttypid, a.atttypmod) AS shown,
           a.atttypmod AS modifier,
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required,
           EXISTS (SELECT FROM pg_catalog.pg_index i
                   WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indimmediate AND i.indisvalid
                     AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS unique,
           (SELECT array_agg(o.opcname::text ORDER BY i.indexrelid)
            FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]
            JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
            WHERE i.indrelid = a.attrelid AND i.indisvalid AND m.amname IN ('hnsw', 'ivfflat')
              AND (i.indkey[0] = a.attnum
                   OR i.indkey[0] = 0 AND o.opcname LIKE 'halfvec%'
                      AND strpos(pg_get_indexdef(i.indexrelid, 1, false), '(' || quote_ident(a.attname) || ')::') > 0)
           ) AS opclasses
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// A column as the catalog has it.
struct Found {
    name: String,
    type_name: String,
    /// The type with its modifier.
    shown: String,
    modifier: i32,
    /// True if a row without a value for it is refused.
    required: bool,
    unique: bool,
    opclasses: Vec<String>,
}

impl Found {
    fn new(row: &tokio_postgres::Row) -> Result<Self> {
        Ok(Self {
            name: row.read("name")?,
            type_name: row.read("type")?,
            shown: row.read("shown")?,
            modifier: row.read("modifier")?,
            required: row.read("required")?,
            unique: row.read("unique")?,
            opclasses: row.read::<_, Option<_>>("opclasses")?.unwrap_or_default(),
        })
    }

    /// The column as a place for vectors, if it is one; `default` is the name of the default
    /// vector's column.
    fn vector(&self, default: &str) -> Option<Column> {
        let kind = Kind::of_type(&self.type_name)?;
        let newest = self.opclasses.last();
        Some(Column {
            vector: if self.name == default { String::new() } else { self.name.clone() },
            name: self.name.clone(),
            kind,
            dimension: usize::try_from(self.modifier).ok(),
            distance: newest.and_then(|opclass| distance_of(opclass)),
            half_index: kind == Kind::Vector && newest.is_some_and(|opclass| opclass.starts_with("halfvec")),
        })
    }
}

fn distance_of(opclass: &str) -> Option<Distance> {
    match opclass.rsplit_once('_')?.0.rsplit_once('_')?.1 {
        "cosine" => Some(Distance::Cosine),
        "ip" => Some(Distance::Dot),
        "l2" => Some(Distance::Euclid),
        _ => None,
    }
}

/// Checks that a table has what `create` asks for, and takes over the distance where no index
/// decides it.
pub(super) fn check(table: &mut Table, wanted: &[Column]) -> Result<()> {
    let name = table.name.clone();
    for want in wanted {
        let title = title(&want.vector);
        let there = List(&table.columns).to_string();
        let Some(found) = table.columns.iter_mut().find(|column| column.vector == want.vector) else {
            let dimension = want.dimension.unwrap_or_default();
            return Err(wrong(format!("table `{name}` has no column for {title}, `create` asks for it")).help(format!(
                "ALTER TABLE {name} ADD COLUMN {} {}({dimension}), or remove it from `create`: the table has {there}",
                quoted(&want.name),
                want.kind.type_name()
            )));
        };
        let (column, setting) = (&found.name, setting(&want.vector));
        if (found.kind == Kind::Sparse) != (want.kind == Kind::Sparse) {
            let (is, asked) = (found.kind.type_name(), want.kind.type_name());
            return Err(wrong(format!(
                "column `{column}` of table `{name}` is a `{is}`, `create` asks for a `{asked}`"
            ))
            .help("name the vector in `create.vectors` if it is dense, in `create.sparse` if it is sparse"));
        }
        if let (Some(is), Some(asked)) = (found.dimension, want.dimension)
            && is != asked
            && want.kind != Kind::Sparse
        {
            return Err(wrong(format!("column `{column}` of table `{name}` holds {is} numbers, `create` asks for {asked}"))
                .help(format!(
                    "set `{setting}.dimension` to {is}, or empty the table and run: ALTER TABLE {name} ALTER COLUMN {} TYPE {}({asked})",
                    quoted(column),
                    found.kind.type_name()
                )));
        }
        if let (Some(is), Some(asked)) = (found.distance, want.distance)
            && is != asked
        {
            return Err(wrong(format!(
                "column `{column}` of table `{name}` is indexed for distance `{}`, `create` asks for `{}`",
                word(is),
                word(asked)
            ))
            .help(format!("set `{setting}.distance` to `{}`, or drop the index and build another", word(is))));
        }
        found.distance = found.distance.or(want.distance);
    }
    Ok(())
}

fn setting(vector: &str) -> String {
    if vector.is_empty() { "create".to_owned() } else { format!("create.vectors.{vector}") }
}

fn environment(what: impl Into<String>) -> Error {
    Error::new(Fault::Environment, what)
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Fault::Config, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_type_holds_each_value_in_one_spelling() {
        let cases = [
            (IdType::Text, &["", "007", "é"][..], &[][..]),
            (IdType::Int2, &["0", "-32768", "32767"], &["32768", "007", "+1", "-0", "", " 1", "1.0"]),
            (IdType::Int4, &["2147483647"], &["2147483648"]),
            (IdType::Int8, &["9223372036854775807"], &["9223372036854775808", "x"]),
            (
                IdType::Uuid,
                &["0b6f1c2e-5a0d-4d5c-9f5e-2f6a7b8c9d0e"],
                &["0B6F1C2E-5A0D-4D5C-9F5E-2F6A7B8C9D0E", "0b6f1c2e5a0d4d5c9f5e2f6a7b8c9d0e", "7"],
            ),
        ];
        for (id, held, refused) in cases {
            assert!(held.iter().all(|text| id.holds(text)), "{id:?}");
            assert!(!refused.iter().any(|text| id.holds(text)), "{id:?}");
        }
    }

    #[test]
    fn a_table_name_is_quoted_as_it_is_written() {
        assert_eq!(parse_name("docs").unwrap(), "\"docs\"");
        assert_eq!(parse_name("Öl.a\"b").unwrap(), "\"Öl\".\"a\"\"b\"");
        for name in ["", "a.", ".a", &"x".repeat(64)] {
            assert_eq!(parse_name(name).unwrap_err().fault(), Fault::Config, "{name}");
        }
    }
}
