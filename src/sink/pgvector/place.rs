//! `place`: where the table of the settings is. A name without a schema means what it means to
//! whoever logs in with the same URL.
//!
//! Our sessions look for nothing but the server's own objects by name alone, as anybody could else
//! put his own in their place. So the schemas of the role's path are asked for, and the table is
//! looked for in them; whose it is, is checked like that of any other.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::session::Target;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ReadRow, failed};

/// The role's own path is in force for one call, which names schemas itself.
const SCHEMAS: &str = "
    BEGIN READ ONLY;
    SET LOCAL search_path TO DEFAULT;
    SELECT pg_catalog.to_json(pg_catalog.current_schemas(false));
    ROLLBACK";

/// SQL for the place of a table: the first schema that holds something of its name, or else the
/// schema in which it would be made.
const PLACE: &str = "
    SELECT format('%I.%I', n.nspname, $2::text)
    FROM unnest($1::text[]) WITH ORDINALITY AS path (name, place) JOIN pg_namespace n ON n.nspname = path.name
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2
    WHERE n.nspname NOT LIKE 'pg\\_%'
    ORDER BY c.oid IS NULL, path.place LIMIT 1";

/// The schemas of the role's own path, as far as there are any, and it may use them.
pub(super) async fn schemas(client: &Client) -> Result<Vec<String>> {
    let answers = client.simple_query(SCHEMAS).await;
    let answers = answers.map_err(|error| failed("cannot read the search path of the role", error))?;
    let schemas = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
        _ => None,
    });
    Ok(schemas.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default())
}

/// Schema and name as SQL.
pub(super) async fn place(client: &Client, target: &Target) -> Result<String> {
    let Some(name) = &target.unqualified else { return Ok(target.table.clone()) };
    let failed = |error| failed(format!("cannot look up table {}", target.table), error);
    let schemas = schemas(client).await?;
    let row = client.query_opt(PLACE, &[&schemas, name]).await.map_err(failed)?;
    row.map(|row| row.read(0)).transpose()?.ok_or_else(|| {
        Error::new(Fault::Environment, format!("it is not known in which schema table {} is", target.table))
            .because("the search path of the role in `url` has no schema that is there, and that the role may use")
            .help("name the schema in `table`: `schema.table`")
    })
}
