//! A row of each table as an insert, to try handlers with: one that is there, or one that is made
//! up where none can be read.

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::Client;

use super::PostgresSettings;
use super::connection::Connection;
use super::footing::Footing;
use super::publication::Publication;
use super::settings::{Settings, quoted};
use super::tables::{self, Table};
use super::writes::Writes;
use crate::decode::{Decoder, Joins, ReadColumn, Reading};
use crate::error::{Error, Fault, Result};
use crate::event::{BatchBuilder, Operation, ReplicaIdentity};
use crate::postgres::{ReadRow, failed};
use crate::source::SampleRow;

/// A row beyond this is not tried: one is made up instead.
const MAX_BYTES: usize = 4 << 20;

/// A transaction of the year 2000.
const BEGIN: [u8; 21] = *b"B\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01";

/// Columns as they are published, but for lists of columns; with what they hold if there is nothing
/// to read. `$2`: stored generated ones, too.
const COLUMNS: &str = "
    SELECT a.attname::text AS name, a.atttypid AS type, a.atttypmod AS modifier, t.typcategory::text AS category,
           coalesce(t.typname::text, '') AS type_name,
           EXISTS (SELECT FROM pg_catalog.pg_index i
                   WHERE i.indrelid = a.attrelid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
                     AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])) AS key
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR a.attgenerated = 's' AND $2)
    ORDER BY a.attnum";

/// Samples of all tables of a source. Changes nothing.
///
/// # Errors
/// As for [`check`](super::check).
pub async fn samples(pipeline: &str, config: &PostgresSettings) -> Result<Vec<SampleRow>> {
    let settings = Settings::new(pipeline, config)?;
    let client = super::setup::session(&settings).await?;
    let mut samples = Vec::new();
    let tables = tables::find(&client, &settings).await?;
    let publication = Publication::find(&client, &settings.publication).await?;
    let generated = publication.is_some_and(|publication| publication.sends_generated())
        || Writes::look(&client, &tables).await?.need_generated();
    for table in tables {
        samples.push(sample(&client, &settings, &table, generated).await?);
    }
    Ok(samples)
}

async fn sample(client: &Client, settings: &Settings, table: &Table, generated: bool) -> Result<SampleRow> {
    let rows = client.query(COLUMNS, &[&table.oid, &generated]).await;
    let rows = rows.map_err(|error| failed(format!("cannot read the columns of `{table}`"), error))?;
    let column = |row: &tokio_postgres::Row| {
        Ok(ReadColumn {
            name: row.read("name")?,
            type_oid: row.read("type")?,
            type_modifier: row.read("modifier")?,
            key: row.read("key")?,
        })
    };
    let columns: Vec<ReadColumn> = rows.iter().map(column).collect::<Result<_>>()?;
    let (catalog, _) = tables::catalog(client, &settings.publication, std::slice::from_ref(table)).await?;
    let reading = Reading::new(table.oid, &table.schema, &table.name, ReplicaIdentity::Default, &columns, &catalog);
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let there = read(settings, table, &names.join(", ")).await.unwrap_or_else(|error| {
        tracing::debug!(%table, error = error.chain(), "no row can be read");
        None
    });
    let made_up = there.is_none();
    let likely = |row: &tokio_postgres::Row| Ok(value(row.read("category")?, row.read("type_name")?));
    let likely: Vec<_> = rows.iter().map(likely).collect::<Result<_>>()?;
    let row = there.unwrap_or_else(|| data_row(likely.into_iter()));
    let mut decoder = Decoder::new(catalog);
    let mut out = BatchBuilder::default();
    decoder.decode(Bytes::from_static(&BEGIN), &mut out).map_err(Error::from)?;
    let joins = Joins { operation: Operation::Insert, replayed: false };
    decoder.read(&reading, row, joins, &mut out, |_| true).map_err(Error::from)?;
    Ok(SampleRow { table: table.to_string(), batch: out.take(), made_up })
}

/// Any row of the table, read as copies read it: nothing of its owner's runs.
async fn read(settings: &Settings, table: &Table, columns: &str) -> Result<Option<Bytes>> {
    let reading = settings.reading();
    let client = super::setup::session(&reading).await?;
    let Some(footing) = Footing::look(&client, table.oid).await? else {
        return Err(Error::new(Fault::Transient, format!("table `{table}` is another one now")));
    };
    let mut session = Connection::open_sql(&reading).await?;
    let select = format!("SELECT {columns} FROM {} LIMIT 1", footing.from);
    // A snapshot, and the row.
    let mut rows = Vec::new();
    session.query_within(&footing.transaction(table.oid, &select), &mut rows, MAX_BYTES).await?;
    Ok(rows.into_iter().nth(1).filter(|row| row.len() <= MAX_BYTES))
}

/// Returns a value that a column may well hold, as Postgres writes it. None where nothing fits all
/// types of the category.
fn value(category: &str, name: &str) -> Option<&'static str> {
    match (category, name) {
        (_, "json" | "jsonb") => Some(r#"{"sample":"text"}"#),
        (_, "uuid") => Some("00000000-0000-4000-8000-000000000001"),
        (_, "bytea") => Some("\\x00"),
        (_, "date") => Some("2000-01-01"),
        (_, "timestamp") => Some("2000-01-01 00:00:00"),
        (_, "timestamptz") => Some("2000-01-01 00:00:00+00"),
        (_, "time") => Some("00:00:00"),
        ("S", _) => Some("A sample of some words."),
        ("N", "money") => Some("$1.00"),
        ("N", _) => Some("1"),
        ("B", _) => Some("t"),
        _ => None,
    }
}

/// The body of a `DataRow` in text format (Postgres manual, 54.7).
fn data_row(values: impl ExactSizeIterator<Item = Option<&'static str>>) -> Bytes {
    let mut row = BytesMut::new();
    row.put_i16(i16::try_from(values.len()).unwrap_or(i16::MAX));
    for value in values {
        match value {
            Some(text) => {
                row.put_i32(i32::try_from(text.len()).unwrap_or_default());
                row.put_slice(text.as_bytes());
            }
            None => row.put_i32(-1),
        }
    }
    row.freeze()
}
