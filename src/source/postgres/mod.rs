//! The source `postgres`: committed changes of tables, from the server's write-ahead log.
//!
//! ```text
//!  server ──> connection ──> frames ──> stream (decode, batches) ──> PostgresSource::next
//!    ^                                                                       │ returned, made durable
//!    └────────── feedback (status updates, a task) <── Progress <── confirm ─┘
//! ```

mod auth;
mod connection;
mod copy;
mod dial;
mod feedback;
mod frames;
mod publication;
mod reread;
mod settings;
mod setup;
mod slot;
mod snapshot;
mod stream;
mod tables;
mod tap;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Lag, Source};
use crate::backoff::Backoff;
use crate::config::model;
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::{Lsn, Position};
pub use copy::Copied;
use copy::Copies;
use dial::Dial;
use feedback::Progress;
use reread::Reread;
use settings::{Pattern, Settings};
use stream::{Broken, Stream};
use tables::Table;

pub use tap::Tap;

/// The first pause before connecting again, and the longest. A database that restarts is back within seconds; one
/// that is down for long should not be hammered by every pipeline that waits for it.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// A slot is held for some moments by the connection that was lost before: not worth a word.
const QUIET: Duration = Duration::from_secs(5);

/// Makes publication and slot, as far as they are missing. Answers what it did, line by line.
///
/// # Errors
/// `Config` or `Environment`, with the SQL to run, when the server does not allow for it.
pub async fn setup(pipeline: &str, config: &model::PostgresSource) -> Result<Vec<String>> {
    let settings = Settings::new(pipeline, config)?;
    let client = setup::session(&settings).await?;
    Ok(setup::setup(&client, &settings).await?.1)
}

/// Drops slot and publication, as far as they are ours: changes from now on are lost to the pipeline. Answers what it
/// did, line by line.
///
/// # Errors
/// `Transient` while the slot is in use.
pub async fn teardown(pipeline: &str, config: &model::PostgresSource) -> Result<Vec<String>> {
    let settings = Settings::new(pipeline, config)?;
    let client = setup::session(&settings).await?;
    setup::teardown(&client, &settings).await
}

/// Which copies to ask for.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// Tables as `schema.table`; all of the source if there are none.
    pub tables: Vec<String>,
    /// An SQL condition on the rows.
    pub filter: Option<String>,
    /// At most so many rows a second.
    pub rows_per_second: Option<u32>,
}

/// Asks whoever runs the pipeline, now or later, to copy rows of tables once more. Answers the numbers of the copies, and
/// whether somebody reads the slot.
///
/// # Errors
/// `Config` if a table is not one of the source, or there is no slot.
pub async fn ask_copy(
    pipeline: &str,
    config: &model::PostgresSource,
    request: &CopyRequest,
) -> Result<(Vec<i64>, bool)> {
    let settings = Settings::new(pipeline, config)?;
    let client = setup::session(&settings).await?;
    let (tables, slot) = setup::preflight(&client, &settings).await?;
    let Some(slot) = slot else {
        return Err(Error::new(Fault::Config, format!("pipeline `{pipeline}` has no slot yet"))
            .help("run it first: `snapshot: initial` in the source copies all rows by itself"));
    };
    let wanted = if request.tables.is_empty() { tables } else { chosen(&tables, &request.tables)? };
    let rate = request.rows_per_second.map(|rate| i32::try_from(rate).unwrap_or(i32::MAX));
    let numbers = copy::ask(&client, &settings, &wanted, request.filter.as_deref(), rate).await?;
    Ok((numbers, slot.is_active()))
}

/// How far copies have come: those with these numbers, or all of the pipeline.
///
/// # Errors
/// As for [`ask_copy`].
pub async fn copied(pipeline: &str, config: &model::PostgresSource, numbers: Option<&[i64]>) -> Result<Vec<Copied>> {
    let settings = Settings::new(pipeline, config)?;
    let client = setup::session(&settings).await?;
    copy::progress(&client, &settings.slot, numbers).await
}

fn chosen(tables: &[Table], names: &[String]) -> Result<Vec<Table>> {
    let find = |name: &String| {
        let full = Pattern::parse(name)?.to_string();
        tables.iter().find(|table| table.to_string() == full).cloned().ok_or_else(|| {
            let known: Vec<String> = tables.iter().map(|table| format!("`{table}`")).collect();
            Error::new(Fault::Config, format!("`{name}` is not a table of the source"))
                .help(format!("it has {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// Checks everything that [`PostgresSource::connect`] would need, down to a replication login, and changes nothing.
///
/// # Errors
/// As for [`PostgresSource::connect`].
pub async fn check(pipeline: &str, config: &model::PostgresSource) -> Result<()> {
    let settings = Settings::new(pipeline, config)?;
    let client = setup::session(&settings).await?;
    setup::preflight(&client, &settings).await?;
    connection::Connection::open(&settings).await?;
    Ok(())
}

/// A replication slot being read.
pub struct PostgresSource {
    dial: Dial,
    origin: String,
    progress: Arc<Progress>,
    copies: Copies,
    rereading: Rereading,
    /// Ends with the source.
    _watch: JoinSet<()>,
    state: State,
    /// The position of the last event that was returned.
    returned: Option<Position>,
    /// The end of the last batch that had one.
    ended: Lsn,
    /// Failures since something was last returned.
    backoff: Backoff,
    /// Since when there has been no stream.
    down_since: Option<Instant>,
}

enum State {
    Live(Box<Stream>),
    /// Not before then.
    Waiting(Instant),
    /// A task, so that a cancelled `next` does not begin anew.
    Dialling(JoinSet<Result<Stream>>),
}

/// Whether gaps of batches are filled, and whether one is being filled.
enum Rereading {
    Never,
    Idle(Box<Reread>),
    /// A task, so that a cancelled `next` loses nothing.
    Busy(JoinSet<(Reread, Result<Batch>)>),
}

impl Rereading {
    /// The batch, if it has no gaps that would be filled.
    fn begin(&mut self, batch: Batch) -> Option<Batch> {
        if matches!(self, Self::Never) || batch.incomplete().is_empty() {
            return Some(batch);
        }
        let Self::Idle(reread) = std::mem::replace(self, Self::Never) else { return Some(batch) };
        let mut task = JoinSet::new();
        task.spawn(reread.complete(batch));
        *self = Self::Busy(task);
        None
    }

    /// The batch whose gaps are being filled, once they are. Safe to cancel.
    async fn finish(&mut self) -> Result<Option<Batch>> {
        let Self::Busy(task) = self else { return Ok(None) };
        match task.join_next().await {
            Some(Ok((reread, batch))) => {
                *self = Self::Idle(Box::new(reread));
                batch.map(Some)
            }
            _ => Err(Error::new(Fault::Bug, "the task that reads large values ended without a result")),
        }
    }
}

impl PostgresSource {
    /// Sets the server up (see [`setup`]) and begins to stream. A slot that is still in use is waited for by `next`.
    ///
    /// # Errors
    /// `Config` or `Environment` with what to type; `Transient` if the server cannot be reached or is starting.
    pub async fn connect(pipeline: &str, config: &model::PostgresSource) -> Result<Self> {
        let settings = Settings::new(pipeline, config)?;
        let client = setup::session(&settings).await?;
        let (tables, done) = setup::setup(&client, &settings).await?;
        for step in done {
            tracing::info!("{step}");
        }
        let system = dial::system_identifier(&client).await?;
        let origin = format!("{system}/{}/{}", settings.url.database, settings.slot);
        let progress = Arc::new(Progress::default());
        let (settings, tables): (Arc<Settings>, Arc<[Table]>) = (Arc::new(settings), tables.into());
        let copies = Copies::start(Arc::clone(&settings), Arc::clone(&tables));
        let mut watching = JoinSet::new();
        watching.spawn(watch::watch(Arc::clone(&settings)));
        let rereading = match settings.rereads {
            true => Rereading::Idle(Box::new(Reread::new(Arc::clone(&settings), Arc::clone(&tables)))),
            false => Rereading::Never,
        };
        let dial = Dial::new(settings, tables, system, Arc::clone(&progress), Arc::clone(&copies.handover));
        drop(client);
        let mut source = Self {
            dial,
            origin,
            progress,
            copies,
            rereading,
            _watch: watching,
            state: State::Waiting(Instant::now()),
            returned: None,
            ended: Lsn::INVALID,
            backoff: BACKOFF,
            down_since: None,
        };
        match source.dial.clone().open(None).await {
            Ok(stream) => source.state = State::Live(Box::new(stream)),
            Err(error) => source.fail(error)?,
        }
        Ok(source)
    }

    /// Waits before the next attempt after a passing failure; returns any other.
    fn fail(&mut self, error: Error) -> Result<()> {
        if error.fault() != Fault::Transient {
            return Err(error);
        }
        self.copies.handover.clear();
        let down_since = *self.down_since.get_or_insert_with(Instant::now);
        let pause = self.backoff.next_wait();
        let cause = error.chain();
        if slot::is_in_use(&error) && down_since.elapsed() < QUIET {
            tracing::debug!(cause, "trying again");
        } else {
            tracing::warn!(cause, pause_ms = pause.as_millis() as u64, "no stream from Postgres, trying again");
        }
        self.state = State::Waiting(Instant::now() + pause);
        Ok(())
    }

    /// Takes note of a batch; None if it says nothing new.
    fn note(&mut self, batch: Batch) -> Option<Batch> {
        self.backoff = BACKOFF;
        self.down_since = None;
        if let Some(event) = batch.events().last() {
            self.returned = Some(event.position);
        } else if batch.ends_at().is_none_or(|end| end <= self.ended) {
            return None; // after a reconnect, what was returned before
        }
        self.ended = self.ended.max(batch.ends_at().unwrap_or_default());
        Some(batch)
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn origin(&self) -> &str {
        &self.origin
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(batch) = self.rereading.finish().await? {
            return Ok(Some(batch));
        }
        loop {
            match &mut self.state {
                State::Live(stream) => match tokio::select! {
                    biased;
                    // 1. A first copy that cannot be made: going on would leave rows out.
                    error = self.copies.failed() => return Err(error),
                    // 2. The stream.
                    next = stream.next() => next,
                } {
                    Ok(batch) => {
                        let Some(batch) = self.note(batch) else { continue };
                        match self.rereading.begin(batch) {
                            Some(batch) => return Ok(Some(batch)),
                            None => return self.rereading.finish().await,
                        }
                    }
                    Err(Broken::NeedsText) => {
                        tracing::info!("a column's type cannot be read in binary format, streaming in text format");
                        self.dial.use_text();
                        self.copies.handover.clear();
                        self.state = State::Waiting(Instant::now());
                    }
                    Err(Broken::Failed(error)) => self.fail(error)?,
                },
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    let mut attempt = JoinSet::new();
                    attempt.spawn(self.dial.clone().open(self.returned));
                    self.state = State::Dialling(attempt);
                }
                State::Dialling(attempt) => match attempt.join_next().await {
                    Some(Ok(Ok(stream))) => {
                        tracing::info!(slot = self.dial.slot(), "streaming");
                        self.state = State::Live(Box::new(stream));
                    }
                    Some(Ok(Err(error))) => self.fail(error)?,
                    _ => {
                        return Err(Error::new(
                            Fault::Bug,
                            "the task that connects to Postgres ended without a result",
                        ));
                    }
                },
            }
        }
    }

    fn confirm(&self, lsn: Lsn) {
        self.progress.confirm(lsn);
        self.copies.confirm(lsn);
    }

    fn lag(&self) -> Lag {
        self.progress.lag()
    }

    async fn close(self: Box<Self>) -> Result<()> {
        match self.state {
            State::Live(stream) => stream.close().await,
            State::Waiting(_) | State::Dialling(_) => Ok(()),
        }
    }
}
