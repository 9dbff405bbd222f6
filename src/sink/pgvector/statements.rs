//! The SQL of a write, and the statements that a connection prepares from it.

use tokio_postgres::{Client, Statement};

use super::columns::{Column, Kind, quoted};
use super::table::Table;
use crate::error::Result;
use crate::postgres::failed;

/// The temporary table in which rows arrive before they are merged into the table.
const STAGED: &str = "pg_temp.pgstream_staged";

/// The statements that a connection prepares once. Ids and groups are passed as arrays of text,
/// patches as pairs of arrays.
pub(super) struct Statements {
    /// COPY of `id, group_id, <vectors>, payload`.
    pub(super) stage: Statement,
    pub(super) clear: Statement,
    pub(super) delete_ids: Statement,
    pub(super) merge: Statement,
    pub(super) patch_ids: Statement,
    /// For tables with the column `group_id`.
    pub(super) groups: Option<GroupStatements>,
}

pub(super) struct GroupStatements {
    pub(super) delete: Statement,
    pub(super) patch: Statement,
}

impl Statements {
    /// Makes the connection's temporary table and prepares everything that writes need.
    pub(super) async fn prepare(client: &Client, table: &Table) -> Result<Self> {
        let staged = client.batch_execute(&create_staged(table)).await;
        staged.map_err(|error| failed("cannot create a temporary table", error))?;
        let failed = |error| failed(format!("cannot prepare writes to table `{}`", table.name), error);
        let prepare = async |sql: String| client.prepare(&sql).await;
        let (stage, clear, delete_ids, merge, patch_ids) = tokio::try_join!(
            prepare(format!("COPY {STAGED} FROM STDIN (FORMAT binary)")),
            prepare(format!("DELETE FROM {}", table.name)),
            prepare(delete_ids(table)),
            prepare(merge(table)),
            prepare(patch(table, "id", table.id.name())),
        )
        .map_err(failed)?;
        let groups = if table.grouped {
            let (delete, patch) =
                tokio::try_join!(prepare(delete_groups(table)), prepare(patch(table, "group_id", "text")))
                    .map_err(failed)?;
            Some(GroupStatements { delete, patch })
        } else {
            None
        };
        Ok(Self { stage, clear, delete_ids, merge, patch_ids, groups })
    }
}

/// Half vectors are staged whole, as the server rounds them; ids as text, whatever their type.
fn create_staged(table: &Table) -> String {
    let vectors: String = table
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let kind = if column.kind == Kind::Sparse { "sparsevec" } else { "vector" };
            format!(", v{index} {}.{kind}", table.extension)
        })
        .collect();
    format!(
        "CREATE TEMPORARY TABLE pgstream_staged (id text, group_id text{vectors}, payload jsonb) ON COMMIT DELETE ROWS"
    )
}

fn delete_ids(table: &Table) -> String {
    format!("DELETE FROM {} WHERE id = ANY($1::text[]::{}[])", table.name, table.id.name())
}

/// Spares the points that are about to be written: deleting and inserting them would cost the index
/// twice.
fn delete_groups(table: &Table) -> String {
    format!(
        "DELETE FROM {} AS t WHERE t.group_id = ANY($1::text[]) AND NOT EXISTS (SELECT FROM {STAGED} s WHERE s.id::{} = t.id)",
        table.name,
        table.id.name()
    )
}

/// Leaves a row alone that is already as it should be, and a vector that did not change: after a
/// replay, neither the table nor its index grows.
fn merge(table: &Table) -> String {
    let Table { name, extension, id, grouped, columns, .. } = table;
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let value = |(index, column): (usize, &Column)| match column.kind {
        Kind::Halfvec => format!("s.v{index}::{extension}.halfvec"),
        Kind::Vector | Kind::Sparse => format!("s.v{index}"),
    };
    let mut targets = vec!["id".to_owned()];
    let mut values = vec![format!("s.id::{}", id.name())];
    let mut sets = Vec::new();
    if *grouped {
        targets.push("group_id".to_owned());
        values.push("s.group_id".to_owned());
        sets.push("group_id = EXCLUDED.group_id".to_owned());
    }
    for (column, value) in names.iter().zip(columns.iter().enumerate().map(value)) {
        targets.push(column.clone());
        values.push(value);
        sets.push(format!(
            "{column} = CASE WHEN t.{column} OPERATOR({extension}.=) EXCLUDED.{column} THEN t.{column} ELSE EXCLUDED.{column} END"
        ));
    }
    targets.push("payload".to_owned());
    values.push("s.payload".to_owned());
    sets.push("payload = EXCLUDED.payload".to_owned());
    let differs = names.iter().map(|column| {
        format!(
            "(t.{column} OPERATOR({extension}.=) EXCLUDED.{column}) IS NOT TRUE AND (t.{column} IS NOT NULL OR EXCLUDED.{column} IS NOT NULL)"
        )
    });
    let group = grouped.then(|| "t.group_id IS DISTINCT FROM EXCLUDED.group_id".to_owned());
    let payload = "t.payload IS DISTINCT FROM EXCLUDED.payload".to_owned();
    let differs: Vec<String> = group.into_iter().chain([payload]).chain(differs).collect();
    format!(
        "INSERT INTO {name} AS t ({}) SELECT {} FROM {STAGED} s ON CONFLICT (id) DO UPDATE SET {} WHERE {}",
        targets.join(", "),
        values.join(", "),
        sets.join(", "),
        differs.join(" OR ")
    )
}

fn patch(table: &Table, column: &str, kind: &str) -> String {
    format!(
        "UPDATE {} AS t SET payload = coalesce(t.payload, '{{}}') || p.patch::jsonb \
         FROM unnest($1::text[]::{kind}[], $2::text[]) AS p(target, patch) WHERE t.{column} = p.target",
        table.name
    )
}
