//! `pgstream.ids`: the texts by which ids of several tables are kept apart. Each stands before the
//! keys of one table of a pipeline.
//!
//! A pipeline that grows from one table to two must not give the rows of the first other ids: their
//! points would stay for ever. So what a table's ids begin with is settled when the table comes
//! into the pipeline, and is noted, because a table may be renamed. As long as there is one table,
//! nothing is noted.

use tokio_postgres::{Client, Row};

use super::schema;
use super::settings::Settings;
use super::tables::Table;
use crate::decode::Catalog;
use crate::error::{Error, Result};
use crate::event::Naming;
use crate::postgres::{ReadRow, failed};

/// The table in which the texts are noted.
const TABLE: &str = "pgstream.ids";

const CREATE: &str = "
    CREATE TABLE pgstream.ids (
        slot text NOT NULL,
        relation oid NOT NULL,
        table_name text NOT NULL,
        prefix text,
        PRIMARY KEY (slot, relation)
    );
    COMMENT ON TABLE pgstream.ids IS 'pgstream-host: what ids of points begin with, where a pipeline has several tables'";

/// Makes the table if it is missing and there is something to note.
pub(super) async fn ensure(client: &Client, settings: &Settings, tables: &[Table]) -> Result<()> {
    let several = tables.len() > 1 || settings.tables.iter().any(|pattern| !pattern.is_exact());
    if several { schema::ensure(client, settings, TABLE, CREATE).await } else { Ok(()) }
}

/// Settles what ids of these tables begin with: what was noted; else nothing for tables that were
/// published `before`, and for one that is alone; else the table's name. Says which tables got a
/// name.
pub(super) async fn settle(
    client: &Client,
    slot: &str,
    tables: &mut [Table],
    before: &[u32],
) -> Result<Option<String>> {
    let noted = noted(client, slot).await?;
    if tables.len() < 2 && noted.is_empty() {
        return Ok(None);
    }
    let alone = tables.len() < 2 && before.is_empty();
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let mut named = Vec::new();
    for table in tables {
        let name = table.to_string();
        let same = noted.iter().find(|noted| noted.relation == table.oid);
        // A table that was made anew under an old name has the rows of the old one, most likely.
        let successor = || noted.iter().find(|noted| noted.name == name && !oids.contains(&noted.relation));
        let known = same.or_else(successor);
        let prefix = match known {
            Some(noted) => noted.prefix.clone(),
            None if alone || before.contains(&table.oid) => None,
            None => {
                named.push(format!("`{name}`"));
                Some(Naming::prefix(&table.schema, &table.name))
            }
        };
        if same.is_none() {
            let sql = "INSERT INTO pgstream.ids (slot, relation, table_name, prefix) VALUES ($1, $2, $3, $4)";
            client.execute(sql, &[&slot, &table.oid, &name, &prefix]).await.map_err(unwritable)?;
        }
        table.naming = naming(prefix);
    }
    let named = (!named.is_empty()).then(|| named.join(", "));
    Ok(named.map(|named| format!("ids of {named} begin with the table's name, as the pipeline has several tables")))
}

/// Tells a catalogue what was noted, also of tables that are in the pipeline no longer: the log may
/// still have changes of theirs.
pub(super) async fn recall(client: &Client, slot: &str, catalog: &mut Catalog) -> Result<()> {
    for Noted { relation, prefix, .. } in noted(client, slot).await? {
        catalog.set_naming(relation, naming(prefix));
    }
    Ok(())
}

fn naming(prefix: Option<String>) -> Naming {
    prefix.map_or(Naming::Key, |prefix| Naming::Named(prefix.into()))
}

/// Forgets what was noted for a slot: its tables begin anew.
pub(super) async fn forget(client: &Client, slot: &str) -> Result<()> {
    if !schema::is_there(client, TABLE).await? {
        return Ok(());
    }
    let forgotten = client.execute("DELETE FROM pgstream.ids WHERE slot = $1", &[&slot]).await;
    forgotten.map(drop).map_err(unwritable)
}

/// The note of one table.
struct Noted {
    relation: u32,
    /// Of the table at that time.
    name: String,
    prefix: Option<String>,
}

async fn noted(client: &Client, slot: &str) -> Result<Vec<Noted>> {
    if !schema::is_there(client, TABLE).await? {
        return Ok(Vec::new());
    }
    let rows = client.query("SELECT relation, table_name, prefix FROM pgstream.ids WHERE slot = $1", &[&slot]).await;
    let rows = rows.map_err(|error| failed(format!("cannot read `{TABLE}`"), error))?;
    let noted = |row: &Row| Ok(Noted { relation: row.read(0)?, name: row.read(1)?, prefix: row.read(2)? });
    rows.iter().map(noted).collect()
}

fn unwritable(error: tokio_postgres::Error) -> Error {
    failed(format!("cannot write to `{TABLE}`"), error)
}
