//! One delivery as one transaction: rows through COPY into a temporary table, one merge, and the
//! position.

use bytes::Bytes;
use futures::{SinkExt, pin_mut};
use tokio_postgres::{CopyInSink, Statement, Transaction};

use super::columns;
use super::copy::CopyWriter;
use super::position::Lease;
use super::refusal::refused;
use super::session::Session;
use super::statements::Statements;
use super::table::{IdType, Table};
use crate::error::{Code, Error, Fault, Result};
use crate::lsn::Position;
use crate::postgres::failed;
use crate::sabotage::Breakage;
use crate::sink::{Held, PatchRun, WriteSet};

/// Enough that a message costs little beside its content, and little memory.
const PIECE_BYTES: usize = 256 << 10;
/// A key of a B-tree must fit into a third of a page (2704 bytes) with its header.
const MAX_KEY_BYTES: usize = 2_600;

/// Refuses what the table cannot hold, before anything is sent.
pub(super) fn admit(table: &Table, set: &WriteSet<'_>, through: Position) -> Result<()> {
    for upsert in &set.upserts {
        check_key(table, table.id, &upsert.point.id, upsert.position)?;
        columns::admit(&table.columns, &table.name, upsert.point, upsert.position)?;
    }
    for id in &set.delete_ids {
        check_key(table, table.id, id, through)?;
    }
    let upserts = set.upserts.iter().filter_map(|upsert| upsert.group.map(|group| (group, upsert.position)));
    let deletes = set.delete_groups.iter().map(|delete| (delete.group, through));
    let mut patched = Vec::new();
    for run in &set.patches {
        match run {
            PatchRun::Ids(patches) => {
                for patch in patches {
                    check_key(table, table.id, patch.target, patch.position)?;
                }
            }
            PatchRun::Groups(patches) => patched.extend(patches.iter().map(|patch| (patch.target, patch.position))),
        }
    }
    for (group, position) in upserts.chain(deletes).chain(patched) {
        if !table.grouped {
            let name = &table.name;
            return Err(Error::new(
                Fault::Environment,
                format!("table `{name}` has no column for groups, and the handler uses them"),
            )
            .at(format!("event {position}"))
            .help(format!("ALTER TABLE {name} ADD COLUMN group_id text; CREATE INDEX ON {name} (group_id)")));
        }
        check_key(table, IdType::Text, group, position)?;
    }
    Ok(())
}

fn check_key(table: &Table, kind: IdType, key: &str, position: Position) -> Result<()> {
    let (fault, what, help) = if key.len() > MAX_KEY_BYTES {
        let what =
            format!("the handler gave an id or a group of {} bytes, Postgres can index {MAX_KEY_BYTES}", key.len());
        (Fault::Data, what, "make the handler shorten it, for instance to a hash".to_owned())
    } else if !kind.holds(key) {
        let (kind, name) = (kind.name(), &table.name);
        let what =
            format!("the handler gave an id that is not written as column `id` writes its values, of type `{kind}`");
        let help = format!(
            "make the handler answer ids like `{}`, or let the table hold any text: ALTER TABLE {name} ALTER COLUMN id TYPE text",
            if kind == "uuid" { "0b6f1c2e-5a0d-4d5c-9f5e-2f6a7b8c9d0e" } else { "42" }
        );
        (Fault::Handler, what, help)
    } else {
        return Ok(());
    };
    let error = Error::new(fault, what).code(Code::Sink).at(format!("event {position}"));
    Err(error.at(format!("table `{}`", table.name)).help(help))
}

/// Carries out `set` and stores `through`, all or nothing. After an error without a code the
/// session is in no known state.
pub(super) async fn write(session: &mut Session, lease: &Lease, set: &WriteSet<'_>, through: Held) -> Result<()> {
    let Session { client, table, statements, advance, .. } = session;
    let failed = |error| failed(cannot_write(table), error);
    if Breakage::PositionApart.is_on() {
        let apart = client.transaction().await.map_err(failed)?;
        lease.advance(&apart, advance, through).await?;
        apart.commit().await.map_err(failed)?;
    }
    let transaction = client.transaction().await.map_err(failed)?;
    let written = async {
        if !set.upserts.is_empty() {
            stage(&transaction, &statements.stage, set, table).await?;
        }
        // The lock that this takes makes a host that takes over wait for us, so all that depends on our side is done before.
        lease.advance(&transaction, advance, through).await?;
        carry_out(&transaction, statements, set, table).await
    };
    match written.await {
        // Constraints may be deferred to the commit.
        Ok(()) => transaction.commit().await.map_err(|error| refused(cannot_write(table), error)),
        Err(error) if error.misdeed().is_some() => {
            transaction.rollback().await.map_err(failed)?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn cannot_write(table: &Table) -> String {
    format!("cannot write to table `{}`", table.name)
}

async fn carry_out(
    transaction: &Transaction<'_>,
    statements: &Statements,
    set: &WriteSet<'_>,
    table: &Table,
) -> Result<()> {
    let failed = |error| refused(cannot_write(table), error);
    if set.clear {
        transaction.execute(&statements.clear, &[]).await.map_err(failed)?;
    }
    if let Some(groups) = &statements.groups
        && !set.delete_groups.is_empty()
    {
        let names: Vec<&str> = set.delete_groups.iter().map(|delete| delete.group).collect();
        transaction.execute(&groups.delete, &[&names]).await.map_err(failed)?;
    }
    if !set.delete_ids.is_empty() {
        transaction.execute(&statements.delete_ids, &[&set.delete_ids]).await.map_err(failed)?;
    }
    if !set.upserts.is_empty() {
        transaction.execute(&statements.merge, &[]).await.map_err(failed)?;
    }
    for run in &set.patches {
        let (statement, patches) = match (run, &statements.groups) {
            (PatchRun::Ids(patches), _) => (&statements.patch_ids, patches),
            (PatchRun::Groups(patches), Some(groups)) => (&groups.patch, patches),
            // `admit` has refused it.
            (PatchRun::Groups(_), None) => continue,
        };
        let targets: Vec<&str> = patches.iter().map(|patch| patch.target).collect();
        let texts = patches.iter().map(|patch| patch.payload.text()).collect::<Result<Vec<_>>>()?;
        transaction.execute(statement, &[&targets, &texts]).await.map_err(failed)?;
    }
    Ok(())
}

async fn stage(transaction: &Transaction<'_>, copy: &Statement, set: &WriteSet<'_>, table: &Table) -> Result<()> {
    let failed = |error| refused(format!("cannot send rows for table `{}`", table.name), error);
    let sink: CopyInSink<Bytes> = transaction.copy_in(copy).await.map_err(failed)?;
    pin_mut!(sink);
    let mut rows = CopyWriter::new();
    for upsert in &set.upserts {
        rows.row(upsert, &table.columns)?;
        if rows.len() >= PIECE_BYTES {
            sink.send(rows.take()).await.map_err(failed)?;
        }
    }
    sink.send(rows.finish()).await.map_err(failed)?;
    sink.finish().await.map(drop).map_err(failed)
}
