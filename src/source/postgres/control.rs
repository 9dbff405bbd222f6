//! Requests to a source beside a running pipeline: to set it up, to check it, to begin anew, to
//! copy rows once more.

use super::bond::{self, Bond};
use super::connection::Connection;
use super::copy;
use super::settings::{Pattern, Settings};
use super::setup::Occasion;
use super::tables::Table;
use super::{OnSlotLost, PostgresSettings};
use crate::error::{Error, Fault, Result};
use crate::postgres::warn_of_excess;
use crate::printable::printable;
use crate::source::{Copied, CopyRequest, Fed};

/// Makes publication and slot, as far as they are missing. Answers what it did, line by line.
///
/// # Errors
/// `Config` or `Environment`, with the SQL to run, when the server does not allow for it.
pub async fn setup(pipeline: &str, config: &PostgresSettings) -> Result<Vec<String>> {
    let settings = Settings::new(pipeline, config)?;
    let client = super::setup::session(&settings).await?;
    Ok(super::setup::setup(&client, &settings, Occasion::Start).await?.done)
}

/// Takes the sinks as they are at the next start, also those that were made anew or hold the
/// vectors of another model.
///
/// # Errors
/// As for [`setup`].
pub async fn accept_sinks(pipeline: &str, config: &PostgresSettings) -> Result<()> {
    let settings = Settings::new(pipeline, config)?;
    let client = super::setup::session(&settings).await?;
    bond::accept(&client, &settings.slot).await?;
    super::fed::forget(&client, &settings.slot).await
}

/// Names the slot that a pipeline reads, and its server, for people: no two pipelines may read one
/// slot.
///
/// # Errors
/// `Config` if the source's settings are wrong.
pub fn slot_of(pipeline: &str, config: &PostgresSettings) -> Result<String> {
    let settings = Settings::new(pipeline, config)?;
    Ok(format!("slot `{}` at `{}`", settings.slot, settings.url.address))
}

/// Begins anew after a loss: makes a new slot in place of the one that is there. Whoever runs the
/// pipeline next clears the sinks and copies all rows. Answers what it did, line by line.
///
/// # Errors
/// `Transient` while the slot is in use; otherwise as for [`setup`].
pub async fn resnapshot(pipeline: &str, config: &PostgresSettings) -> Result<Vec<String>> {
    let settings = Settings::new(pipeline, config)?;
    let client = super::setup::session(&settings).await?;
    Ok(super::setup::setup(&client, &settings, Occasion::Asked).await?.done)
}

/// Drops slot and publication, as far as they are ours: changes from now on are lost to the
/// pipeline. Answers what it did, line by line.
///
/// # Errors
/// `Transient` while the slot is in use.
pub async fn teardown(pipeline: &str, config: &PostgresSettings) -> Result<Vec<String>> {
    let settings = Settings::new(pipeline, config)?;
    let client = super::setup::session(&settings).await?;
    super::setup::teardown(&client, &settings).await
}

/// Asks whoever runs the pipeline, now or later, to copy rows of tables once more. Answers the
/// numbers of the copies, and whether somebody reads the slot.
///
/// # Errors
/// `Config` if a table is not one of the source, or there is no slot.
pub async fn ask_copy(pipeline: &str, config: &PostgresSettings, request: &CopyRequest) -> Result<(Vec<i64>, bool)> {
    let settings = Settings::new(pipeline, config)?;
    let client = super::setup::session(&settings).await?;
    let found = super::setup::preflight(&client, &settings).await?;
    if let Some(loss) = found.loss {
        return Err(loss.error());
    }
    let (tables, Some(slot)) = (found.tables, found.slot) else {
        return Err(Error::new(Fault::Config, format!("pipeline `{pipeline}` has no slot yet"))
            .help("run it first: `snapshot: initial` in the source copies all rows by itself"));
    };
    let wanted = if request.tables.is_empty() { tables } else { chosen(&tables, &request.tables)? };
    let rate = request.rows_per_second.map(|rate| i32::try_from(rate).unwrap_or(i32::MAX));
    let numbers = copy::ask(&client, &settings, &wanted, request.filter.as_deref(), rate).await?;
    Ok((numbers, slot.is_active()))
}

/// Returns the progress of the copies with these numbers, or of all copies of the pipeline.
///
/// # Errors
/// As for [`ask_copy`].
pub async fn copied(pipeline: &str, config: &PostgresSettings, numbers: Option<&[i64]>) -> Result<Vec<Copied>> {
    Copying::open(pipeline, config).await?.look(numbers).await
}

/// A look at copies, again and again, in one session.
pub struct Copying {
    settings: Settings,
    client: tokio_postgres::Client,
}

impl Copying {
    /// Connects.
    ///
    /// # Errors
    /// As for [`ask_copy`].
    pub async fn open(pipeline: &str, config: &PostgresSettings) -> Result<Self> {
        let settings = Settings::new(pipeline, config)?;
        let client = super::setup::session(&settings).await?;
        Ok(Self { settings, client })
    }

    /// Returns the progress of the copies with these numbers, or of all copies of the pipeline.
    ///
    /// # Errors
    /// As for [`ask_copy`].
    pub async fn look(&mut self, numbers: Option<&[i64]>) -> Result<Vec<Copied>> {
        if self.client.is_closed() {
            self.client = super::setup::session(&self.settings).await?;
        }
        copy::progress(&self.client, &self.settings.slot, numbers).await
    }
}

pub(super) fn chosen(tables: &[Table], names: &[String]) -> Result<Vec<Table>> {
    let find = |name: &String| {
        // As we show it, or as people write it.
        let full = match tables.iter().any(|table| table.to_string() == *name) {
            true => name.clone(),
            false => Pattern::parse(name)?.to_string(),
        };
        tables.iter().find(|table| table.to_string() == full).cloned().ok_or_else(|| {
            let known: Vec<String> =
                tables.iter().map(|table| format!("`{}`", printable(&table.to_string()))).collect();
            Error::new(Fault::Config, format!("`{name}` is not a table of the source"))
                .help(format!("it has {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// Checks everything that [`PostgresSource::connect`](super::PostgresSource::connect) would need,
/// down to a replication login, and changes nothing.
///
/// # Errors
/// As for [`PostgresSource::connect`](super::PostgresSource::connect).
pub async fn check(pipeline: &str, config: &PostgresSettings) -> Result<()> {
    Box::pin(check_for(pipeline, config, Vec::new())).await
}

/// As `check`, for these sinks.
///
/// # Errors
/// As for `check`.
pub async fn check_for(pipeline: &str, config: &PostgresSettings, fed: Vec<Fed>) -> Result<()> {
    let mut settings = Settings::new(pipeline, config)?;
    settings.fed = fed;
    let client = super::setup::session(&settings).await?;
    warn_of_excess(&client, &settings.url).await?;
    let found = super::setup::preflight(&client, &settings).await?;
    if let Some(loss) = found.loss.filter(|_| settings.on_slot_lost == OnSlotLost::Stop) {
        return Err(loss.error());
    }
    if let Some(bond) = Bond::find(&client, &settings.slot).await? {
        super::fed::check(&client, &settings, &bond, &found.tables).await?;
    }
    Connection::open(&settings).await?.check().await
}
