//! Makes what is missing: the extension, the table, its indexes.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::columns::{Column, Kind, quoted};
use super::place::schemas;
use super::table;
use crate::config::model::Distance;
use crate::error::{Error, Fault, Result};
use crate::postgres::{
    HANGING, ReadRow, ServerError, failed, is_trusted_here, keep_to_owner, of_another, shown_sql, sqlstate,
};

/// The most numbers that HNSW can index of a `vector`, and of a `halfvec`.
const MAX_INDEXED: usize = 2_000;
const MAX_INDEXED_HALF: usize = 4_000;
/// Room on each page for a new version of every row on it. A payload can then change without a new
/// entry in the HNSW index, which costs a hundred times the rest of the update.
const FILL_PERCENT: u32 = 50;
/// The server's errors if two hosts make the same at once. No lock is taken for it: anybody could
/// hold that.
const MADE_MEANWHILE: [SqlState; 3] =
    [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT];

/// The schema of the extension `vector`, quoted. Makes the extension if `may_create`.
pub(super) async fn extension(client: &Client, may_create: bool) -> Result<String> {
    if let Some(schema) = extension_schema(client).await? {
        return Ok(schema);
    }
    if !may_create {
        return Err(no_extension());
    }
    // Without a schema of its own it would go to the first of the path, which is the server's own.
    let schemas = schemas(client).await?;
    let schema = schemas.iter().find(|schema| !schema.starts_with("pg_")).map_or("public", String::as_str);
    let made = client.batch_execute(&format!("CREATE EXTENSION IF NOT EXISTS vector SCHEMA {}", quoted(schema))).await;
    let meanwhile = |error: &tokio_postgres::Error| error.code().is_some_and(|code| MADE_MEANWHILE.contains(code));
    made.or_else(|error| if meanwhile(&error) { Ok(()) } else { Err(error) }).map_err(|error| {
        let error = failed("cannot create the extension `vector`", error);
        match sqlstate(&error) {
            Some("0A000" | "58P01") => no_pgvector().because(error),
            Some("42501") => no_extension().because(error),
            _ => error,
        }
    })?;
    extension_schema(client).await?.ok_or_else(no_extension)
}

/// Checks that the extension and the table could be made. Makes neither.
pub(super) async fn could(client: &Client, sql: &str, user: &str) -> Result<()> {
    if extension_schema(client).await?.is_none() {
        let row = client.query_one(COULD_EXTEND, &[]).await;
        let row = row.map_err(|error| failed("cannot look for the extension `vector`", error))?;
        if !row.read::<_, bool>("there")? {
            return Err(no_pgvector());
        }
        if !row.read::<_, bool>("may")? {
            return Err(no_extension());
        }
    }
    // No part of the name but the last holds a dot.
    let schema = sql.split_once('.').map_or("public", |(schema, _)| schema);
    let name = schema.trim_matches('"').replace("\"\"", "\"");
    let schema = shown_sql(schema);
    let row = client.query_opt(MAY_CREATE, &[&name]).await;
    let row = row.map_err(|error| failed(format!("cannot look for schema {schema}"), error))?;
    let what = format!("cannot create table {sql}");
    match row.map(|row| row.read::<_, bool>(0)).transpose()? {
        Some(true) => Ok(()),
        Some(false) => Err(Error::new(Fault::Environment, what)
            .because(format!("user `{user}` may not make tables in schema {schema}"))
            .help(format!("GRANT CREATE ON SCHEMA {schema} TO {}", quoted(user)))),
        None => Err(Error::new(Fault::Environment, what)
            .because(format!("schema {schema} does not exist"))
            .help(format!("CREATE SCHEMA {schema}, or correct `table`"))),
    }
}

/// A trusted extension needs no more than the right to make schemas.
const COULD_EXTEND: &str = "
    SELECT count(*) > 0 AS there,
           coalesce(bool_or(v.trusted AND has_database_privilege(current_database(), 'CREATE')
                            OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)), false) AS may
    FROM pg_catalog.pg_available_extension_versions v WHERE v.name = 'vector'";

const MAY_CREATE: &str = "
    SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1";

fn no_extension() -> Error {
    Error::new(Fault::Environment, "the database does not have the extension `vector` (pgvector)")
        .help("as a superuser, in this database: CREATE EXTENSION vector")
}

fn no_pgvector() -> Error {
    Error::new(Fault::Environment, "the server does not have pgvector")
        .help("install pgvector on the database server (Debian: apt-get install postgresql-18-pgvector)")
}

async fn extension_schema(client: &Client) -> Result<Option<String>> {
    let sql = format!(
        "SELECT n.nspname::text, pg_get_userbyid(e.extowner)::text, {}, pg_get_userbyid(n.nspowner)::text, {}
         FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
        is_trusted_here("e.extowner"),
        is_trusted_here("n.nspowner")
    );
    let row = client.query_opt(&sql, &[]).await;
    let row = row.map_err(|error| failed("cannot look for the extension `vector`", error))?;
    let Some(row) = row else { return Ok(None) };
    let schema = quoted(row.read(0)?);
    for (owner, trusted, what) in
        [(1, 2, "the extension `vector`".to_owned()), (3, 4, format!("schema {schema} of the extension `vector`"))]
    {
        if !row.read::<_, bool>(trusted)? {
            return Err(of_another(&what, row.read(owner)?));
        }
    }
    Ok(Some(schema))
}

/// Makes the table with its indexes, in one transaction, unless another host just did. Answers its
/// OID.
pub(super) async fn table(
    client: &mut Client,
    sql: &str,
    columns: &[Column],
    extension: &str,
    user: &str,
) -> Result<u32> {
    let failed = |error| failed(format!("cannot create table {sql}"), error);
    let transaction = client.transaction().await.map_err(failed)?;
    let made = transaction.batch_execute(&script(sql, columns, extension)).await;
    if let Err(error) = &made
        && error.code().is_some_and(|code| MADE_MEANWHILE.contains(code))
    {
        transaction.rollback().await.map_err(failed)?;
        if let Some(oid) = table::find(client, sql).await? {
            return Ok(oid);
        }
        return Err(Error::new(Fault::Transient, format!("table {sql} was made by another host, and is gone again")));
    }
    made.map_err(|error| {
        // No part of the name but the last holds a dot.
        let schema = shown_sql(sql.split_once('.').map_or("public", |(schema, _)| schema));
        let help = format!("GRANT CREATE ON SCHEMA {schema} TO {}", quoted(user));
        denied(format!("cannot create table {sql}"), error, help)
    })?;
    let oid = table::find(&transaction, sql).await?;
    if let Some(oid) = oid {
        // Default privileges may have given them to others.
        keep_to_owner(&transaction, oid, HANGING).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    oid.ok_or_else(|| {
        Error::new(Fault::Environment, format!("table {sql} is created in a schema that is not searched"))
            .help("name the schema in `table`: `schema.table`")
    })
}

/// As [`failed`], with `help` in place of the general advice where a privilege is missing.
pub(super) fn denied(what: impl Into<String>, error: tokio_postgres::Error, help: String) -> Error {
    match error.as_db_error() {
        Some(server) if *server.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            let server = ServerError::new(server.code().code(), server.message(), server.hint());
            Error::new(Fault::Environment, what).because(server).help(help)
        }
        _ => failed(what, error),
    }
}

fn script(sql: &str, columns: &[Column], extension: &str) -> String {
    let mut table = format!("CREATE TABLE {sql} (id text PRIMARY KEY, group_id text");
    let mut indexes = format!("CREATE INDEX ON {sql} (group_id);\n");
    for column in columns {
        let (name, dimension) = (quoted(&column.name), column.dimension.unwrap_or_default());
        table.push_str(&format!(", {name} {extension}.{}({dimension})", column.kind.type_name()));
        if let Some((expression, opclass)) = indexed(column, extension) {
            indexes.push_str(&format!("CREATE INDEX ON {sql} USING hnsw ({expression} {extension}.{opclass});\n"));
        }
    }
    format!("{table}, payload jsonb NOT NULL) WITH (fillfactor = {FILL_PERCENT});\n{indexes}")
}

/// Returns the expression that an HNSW index on the column holds, and its operator class. None if
/// the column gets no index.
fn indexed(column: &Column, extension: &str) -> Option<(String, String)> {
    let suffix = match column.distance? {
        Distance::Cosine => "cosine_ops",
        Distance::Dot => "ip_ops",
        Distance::Euclid => "l2_ops",
    };
    let (name, dimension) = (quoted(&column.name), column.dimension?);
    match column.kind {
        Kind::Vector if dimension <= MAX_INDEXED => Some((name, format!("vector_{suffix}"))),
        Kind::Vector if dimension <= MAX_INDEXED_HALF => {
            Some((format!("({name}::{extension}.halfvec({dimension}))"), format!("halfvec_{suffix}")))
        }
        Kind::Vector => {
            let column = &column.name;
            tracing::warn!(%column, dimension, "no index: pgvector indexes up to {MAX_INDEXED_HALF} numbers; searches scan the table");
            None
        }
        Kind::Halfvec | Kind::Sparse => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Create, VectorSpec};
    use crate::sink::pgvector::columns::wanted;

    #[test]
    fn the_script_gives_each_vector_its_column_and_its_index() {
        let create = Create {
            dimension: Some(2000),
            distance: Distance::Cosine,
            vectors: [("big", 4000, Distance::Dot), ("huge", 4001, Distance::Euclid), ("a\"b", 3, Distance::Euclid)]
                .map(|(name, dimension, distance)| (name.to_owned(), VectorSpec { dimension, distance }))
                .into(),
            sparse: vec!["words".into()],
        };
        assert_eq!(
            script("\"docs\"", &wanted(&create).unwrap(), "\"ext\""),
            r#"CREATE TABLE "docs" (id text PRIMARY KEY, group_id text, "embedding" "ext".vector(2000), "a""b" "ext".vector(3), "big" "ext".vector(4000), "huge" "ext".vector(4001), "words" "ext".sparsevec(1000000000), payload jsonb NOT NULL) WITH (fillfactor = 50);
CREATE INDEX ON "docs" (group_id);
CREATE INDEX ON "docs" USING hnsw ("embedding" "ext".vector_cosine_ops);
CREATE INDEX ON "docs" USING hnsw ("a""b" "ext".vector_l2_ops);
CREATE INDEX ON "docs" USING hnsw (("big"::"ext".halfvec(4000)) "ext".halfvec_ip_ops);
"#
        );
    }
}
