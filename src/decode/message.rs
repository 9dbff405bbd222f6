//! The messages of pgoutput that are not rows: their fields, read and checked.

use bytes::Bytes;

use super::catalog::{Catalog, PrimaryKey};
use super::time::{Micros, from_postgres_micros};
use super::wire::{Flaw, Reader};
use crate::event::{Column, Relation, ReplicaIdentity};
use crate::lsn::Lsn;

/// A transaction starts; all of it is committed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// LSN of the commit record: the `lsn` of the positions of the transaction's events.
    pub final_lsn: Lsn,
    /// In µs since 1970-01-01 UTC.
    pub commit_time: i64,
    /// The transaction's id.
    pub xid: u32,
}

/// A transaction is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// LSN of the commit record, the same as in `Begin`.
    pub commit_lsn: Lsn,
    /// The end of the commit record, which may be confirmed once the transaction is durable.
    pub end_lsn: Lsn,
    /// In µs since 1970-01-01 UTC.
    pub commit_time: i64,
}

/// A message that someone wrote into the log with `pg_logical_emit_message`. Messages of every
/// prefix arrive.
#[derive(Clone, PartialEq, Eq)]
pub struct LogicalMessage {
    /// Whose message it is.
    pub prefix: String,
    /// Its content, as it is.
    pub content: Bytes,
    /// True if it stands in a transaction, and arrives only if that commits.
    pub transactional: bool,
    /// Its place in the log.
    pub lsn: Lsn,
}

impl std::fmt::Debug for LogicalMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The content is the application's data and must not reach a log.
        let Self { prefix, content, transactional, lsn } = self;
        write!(
            f,
            "LogicalMessage {{ prefix: {prefix:?}, {} bytes, transactional: {transactional}, lsn: {lsn} }}",
            content.len()
        )
    }
}

pub(super) fn begin(reader: &mut Reader<'_>) -> Result<Begin, Flaw> {
    Ok(Begin { final_lsn: Lsn(reader.u64()?), commit_time: time(reader)?, xid: reader.u32()? })
}

pub(super) fn commit(reader: &mut Reader<'_>) -> Result<Commit, Flaw> {
    if reader.u8()? != 0 {
        return Err(Flaw::Bad("unknown flags"));
    }
    Ok(Commit { commit_lsn: Lsn(reader.u64()?), end_lsn: Lsn(reader.u64()?), commit_time: time(reader)? })
}

fn time(reader: &mut Reader<'_>) -> Result<i64, Flaw> {
    match from_postgres_micros(reader.i64()?) {
        Micros::At(micros) => Ok(micros),
        Micros::Beyond => Err(Flaw::Bad("a commit time out of range")),
    }
}

pub(super) fn origin(reader: &mut Reader<'_>) -> Result<(), Flaw> {
    reader.u64()?;
    reader.cstr()?;
    Ok(())
}

/// Postgres' own limit, `NAMEDATALEN`, is 64 unless it was built with another.
const LONGEST_NAME: usize = 1024;

/// OID and name of a type; for a domain the name is its base type's.
pub(super) fn type_name<'a>(reader: &mut Reader<'a>) -> Result<(u32, &'a str), Flaw> {
    let oid = reader.u32()?;
    let _schema = reader.cstr()?;
    let name = reader.cstr()?;
    if name.len() > LONGEST_NAME {
        return Err(Flaw::Bad("a name that no type can have"));
    }
    Ok((oid, name))
}

pub(super) fn relation(reader: &mut Reader<'_>, catalog: &Catalog) -> Result<Relation, Flaw> {
    let id = reader.u32()?;
    let schema = match reader.cstr()? {
        "" => "pg_catalog",
        schema => schema,
    };
    let table = reader.cstr()?;
    let replica_identity = match reader.u8()? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        _ => return Err(Flaw::Bad("an unknown replica identity")),
    };
    let count = reader.i16()?;
    if count < 0 {
        return Err(Flaw::Bad("a negative number of columns"));
    }
    let mut columns = (0..count).map(|_| column(reader, catalog)).collect::<Result<Vec<_>, _>>()?;
    if replica_identity == ReplicaIdentity::Full
        && let Some(key) = catalog.primary_key(id)
    {
        mark_primary_key(&mut columns, key);
    }
    let (schema, table) = (schema.to_owned(), table.to_owned());
    Ok(Relation { id, schema, table, replica_identity, columns, naming: catalog.naming(id) })
}

fn column(reader: &mut Reader<'_>, catalog: &Catalog) -> Result<Column, Flaw> {
    let key = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Flaw::Bad("unknown flags of a column")),
    };
    let name = reader.cstr()?.to_owned();
    let type_oid = reader.u32()?;
    Ok(Column { name, type_name: catalog.type_name(type_oid), type_oid, type_modifier: reader.i32()?, key })
}

/// With `REPLICA IDENTITY FULL` the server marks every column. Where a column of the primary key
/// was renamed before or after the catalogue was read, its place tells it. If that does not help
/// either, every column stays a part of the key.
fn mark_primary_key(columns: &mut [Column], key: &PrimaryKey) {
    let names = &key.names;
    if names.iter().all(|name| columns.iter().any(|column| column.name == *name)) {
        for column in columns {
            column.key = names.contains(&column.name);
        }
    } else if let Some(places) = key.places(columns.len()) {
        for (place, column) in columns.iter_mut().enumerate() {
            column.key = places.contains(&place);
        }
    }
}

/// The OIDs of the truncated relations.
pub(super) fn truncate<'a>(reader: &mut Reader<'a>) -> Result<impl Iterator<Item = u32> + Clone + use<'a>, Flaw> {
    let count = reader.i32()?;
    // Bit 0 is CASCADE, bit 1 RESTART IDENTITY; the tables that a cascade reached are in the list.
    if reader.u8()? & !3 != 0 {
        return Err(Flaw::Bad("unknown flags"));
    }
    let bytes = count.checked_mul(4).ok_or(Flaw::Bad("too many relations"))?;
    let (oids, _) = reader.take(bytes)?.bytes.as_chunks::<4>();
    Ok(oids.iter().map(|oid| u32::from_be_bytes(*oid)))
}

/// `frame` is what `reader` reads from.
pub(super) fn logical_message(reader: &mut Reader<'_>, frame: &Bytes) -> Result<LogicalMessage, Flaw> {
    let transactional = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Flaw::Bad("unknown flags")),
    };
    let lsn = Lsn(reader.u64()?);
    let prefix = reader.cstr()?.to_owned();
    let content = frame.slice_ref(reader.sized()?.bytes);
    Ok(LogicalMessage { prefix, content, transactional, lsn })
}
