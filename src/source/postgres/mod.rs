//! The source `postgres`: committed changes of tables, from the server's write-ahead log.
//!
//! ```text
//!  server ──> connection ──> frames ──> stream (decode, batches) ──> PostgresSource::next
//!    ^                                                                       │ returned, made durable
//!    └────────── feedback (status updates, a task) <── Progress <── confirm ─┘
//! ```

mod auth;
mod connection;
mod dial;
mod feedback;
mod frames;
mod publication;
mod settings;
mod setup;
mod slot;
mod stream;
mod tables;

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
use dial::Dial;
use feedback::Progress;
use settings::Settings;
use stream::{Broken, Stream};

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
        let dial = Dial::new(settings, tables, system, Arc::clone(&progress));
        drop(client);
        let mut source = Self {
            dial,
            origin,
            progress,
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
        loop {
            match &mut self.state {
                State::Live(stream) => match stream.next().await {
                    Ok(batch) => {
                        if let Some(batch) = self.note(batch) {
                            return Ok(Some(batch));
                        }
                    }
                    Err(Broken::NeedsText) => {
                        tracing::info!("a column's type cannot be read in binary format, streaming in text format");
                        self.dial.use_text();
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
