//! Requests of others for a source's rows: those whose events were set aside, once more, as they
//! are now.

use std::collections::BTreeMap;

use super::PostgresSettings;
use super::control::chosen;
use super::copy::{self, Key};
use super::settings::Settings;
use super::setup;
use crate::error::{Error, Fault, Result};
use crate::event::json::{Json, Reader};
use crate::printable::printable;
use crate::source::{AskedRows, WantedRow};

/// Asks whoever runs the pipeline, now or later, to bring rows over once more: each as it is then,
/// or a delete if it is gone. A change that comes meanwhile wins over it.
///
/// # Errors
/// `Config` if there is no slot.
pub async fn ask_rows(pipeline: &str, config: &PostgresSettings, wanted: &[WantedRow<'_>]) -> Result<AskedRows> {
    let settings = Settings::new(pipeline, config)?;
    let client = setup::session(&settings).await?;
    let found = setup::preflight(&client, &settings).await?;
    if let Some(loss) = found.loss {
        return Err(loss.error());
    }
    let (tables, slot) = (found.tables, found.slot);
    let slot = slot.ok_or_else(|| {
        Error::new(Fault::Config, format!("pipeline `{pipeline}` has no slot")).help("run the pipeline first")
    })?;
    let mut asked = AskedRows { served: slot.is_active(), ..AskedRows::default() };
    let mut by_table: BTreeMap<&str, (Vec<usize>, Vec<Key>)> = BTreeMap::new();
    for (index, row) in wanted.iter().enumerate() {
        match key(row) {
            Some(key) => {
                let (indices, keys) = by_table.entry(row.table).or_default();
                indices.push(index);
                keys.push(key);
            }
            None => asked.refused.push((index, unnamed(row.table))),
        }
    }
    for (name, (indices, keys)) in by_table {
        let table = match chosen(&tables, &[name.to_owned()]) {
            Ok(tables) => tables,
            Err(error) => {
                let why = error.chain();
                asked.refused.extend(indices.into_iter().map(|index| (index, Error::new(Fault::Config, why.clone()))));
                continue;
            }
        };
        let mut indices = indices.into_iter();
        for table in &table {
            for (copy, keys) in copy::ask_rows(&client, &settings, table, &keys).await? {
                asked.copies.push((copy, indices.by_ref().take(keys.len()).collect()));
            }
        }
    }
    Ok(asked)
}

/// The key of a row as SQL knows it.
fn key(row: &WantedRow<'_>) -> Option<Key> {
    let mut reader = Reader::default();
    let text = |text: &str| Json::Text(text.to_owned());
    let event = Json::Object(vec![
        ("operation".to_owned(), text("delete")),
        ("table".to_owned(), text(row.table)),
        ("row".to_owned(), Json::parse(row.key).ok()?),
    ]);
    reader.push(&event).ok()?;
    let batch = reader.finish();
    Key::of(&batch, batch.events().first()?)
}

fn unnamed(table: &str) -> Error {
    Error::new(Fault::Config, "the event names no row: it is a truncate, or its key is not whole").help(format!(
        "bring all rows of the table over once more: `pgstream-host backfill <file> --table {}`",
        printable(table)
    ))
}
