//! The source `postgres`: committed changes of tables, from the server's write-ahead log.
//!
//! ```text
//!  server ──> connection ──> frames ──> stream (decode, batches) ──> PostgresSource::next
//!    ^                                                                       │ returned, made durable
//!    └────────── feedback (status updates, a task) <── Progress <── confirm ─┘
//! ```

mod auth;
mod blockers;
mod bond;
mod broken;
mod connection;
mod control;
mod copy;
mod dial;
mod fed;
mod feedback;
mod footing;
mod frames;
#[cfg(test)]
#[path = "../../../tests/fuzz/checks/replication.rs"]
mod fuzzed;
mod kind;
mod loss;
mod message;
mod naming;
mod operand;
mod outage;
mod postgres_settings;
mod publication;
mod read_back;
mod replay;
mod reread;
mod sample;
mod schema;
mod server;
mod settings;
mod setup;
mod slot;
mod slot_look;
mod snapshot;
mod standing;
mod state;
mod stream;
mod tables;
mod tap;
mod turn;
mod watch;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use self::setup::Ready;
use super::{Fed, Lag, Source, SourceState};
use crate::backoff::Backoff;
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::{Lsn, Position};
use crate::meter::SourceMeter;
use broken::Broken;
pub use control::{Copying, accept_sinks, ask_copy, check, check_for, copied, resnapshot, setup, slot_of, teardown};
use copy::Copies;
use dial::{Dial, Opened};
use feedback::Progress;
use loss::Loss;
use outage::Outage;
use reread::Rereading;
use settings::Settings;
use state::{Live, State};
use tables::Table;
use watch::Watch;

pub use super::{AskedRows, Copied, CopyRequest, SampleRow, WantedRow};
pub use postgres_settings::{OnSlotLost, PostgresSettings, Snapshot, Toast};
pub use replay::ask_rows;
pub use sample::samples;
pub use tap::Tap;

/// The first pause before connecting again, and the longest. A database that restarts is back
/// within seconds; one that is down for long should not be hammered by every pipeline that waits
/// for it.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// The longest time for a source that ends to write down its position.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A replication slot being read.
pub struct PostgresSource {
    settings: Arc<Settings>,
    tables: Arc<[Table]>,
    dial: Dial,
    origin: String,
    progress: Arc<Progress>,
    rereading: Rereading,
    state: State,
    /// The state as others see it.
    shown: Sender<SourceState>,
    /// The next batch is the first since all was set up again. What is confirmed until then was
    /// returned before, and says nothing of the slot as it is now.
    begins_anew: bool,
    /// The position of the last event that was returned.
    returned: Option<Position>,
    /// See [`Source::held_before`].
    held_before: Lsn,
    /// The end of the last batch that had one.
    ended: Lsn,
    outage: Outage,
}

impl PostgresSource {
    /// Sets the server up (see [`setup`]) and begins to stream. A slot that is still in use is
    /// waited for by `next`.
    ///
    /// # Errors
    /// `Config` or `Environment` with what to type; `Transient` if the server cannot be reached or
    /// is starting.
    pub async fn connect(pipeline: &str, config: &PostgresSettings) -> Result<Self> {
        Self::connect_for(pipeline, config, Vec::new(), Arc::default()).await
    }

    /// As `connect`, for these sinks, counting with `meter`. Refuses sinks that lack what the slot
    /// has confirmed, see [`Fed`].
    ///
    /// # Errors
    /// As for `connect`.
    pub async fn connect_for(
        pipeline: &str,
        config: &PostgresSettings,
        fed: Vec<Fed>,
        meter: Arc<SourceMeter>,
    ) -> Result<Self> {
        let mut settings = Settings::new(pipeline, config)?;
        (settings.fed, settings.meter) = (fed, meter);
        let mut source = Self::set_up(Arc::new(settings)).await?;
        match source.dial.clone().open(None).await {
            Ok(opened) => source.opened(opened),
            Err(error) => source.fail(error)?,
        }
        Ok(source)
    }

    async fn set_up(settings: Arc<Settings>) -> Result<Self> {
        let client = setup::session(&settings).await?;
        let ready = fed::set_up(&client, &settings).await?;
        let Ready { place, bond, .. } = &ready;
        let origin = format!("{}/{}/{}/{}", place.system, bond.incarnation, settings.url.database, settings.slot);
        let (progress, tables): (_, Arc<[Table]>) = (Arc::new(Progress::default()), ready.tables.as_slice().into());
        let rereading = Rereading::new(&settings, &tables, place.timeline);
        let dial = Dial::new(Arc::clone(&settings), Arc::clone(&tables), ready, Arc::clone(&progress));
        Ok(Self {
            settings,
            tables,
            dial,
            origin,
            progress,
            rereading,
            state: State::Waiting(Instant::now()),
            shown: Sender::default(),
            begins_anew: false,
            returned: None,
            held_before: Lsn::INVALID,
            ended: Lsn::INVALID,
            outage: Outage::default(),
        })
    }

    fn opened(&mut self, opened: Opened) {
        self.state = match opened {
            Opened::Stream { stream, handover, turn } => {
                tracing::info!(slot = self.settings.slot, "streaming");
                self.dial.took_up(turn.number);
                self.held_before = turn.held_before;
                let (settings, tables) = (&self.settings, &self.tables);
                let watch =
                    Watch::start(Arc::clone(settings), Arc::clone(tables), Arc::clone(&self.progress), turn.number);
                self.show(SourceState::Streaming);
                let copies = Copies::start(Arc::clone(settings), Arc::clone(tables), handover, self.shown.clone());
                let _connected = SourceMeter::connect(&settings.meter);
                State::Live(Box::new(Live { stream: *stream, copies, watch, turn: turn.number, _connected }))
            }
            Opened::Anew => {
                self.show(SourceState::Connecting);
                self.begin_anew()
            }
        };
    }

    fn show(&self, state: SourceState) {
        self.shown.send_if_modified(|shown| {
            let other = *shown != state;
            *shown = state;
            other
        });
    }

    fn begin_anew(&self) -> State {
        let mut setting_up = JoinSet::new();
        setting_up.spawn(Self::set_up(Arc::clone(&self.settings)).in_current_span());
        State::BeginningAnew(setting_up)
    }

    /// The next batch. Safe to cancel.
    async fn read(&mut self) -> Result<Batch> {
        loop {
            if let Some(batch) = self.rereading.finish().await? {
                return Ok(batch);
            }
            match &mut self.state {
                State::Live(live) => match tokio::select! {
                    biased;
                    // 1. A first copy that cannot be made: going on would leave rows out.
                    error = live.copies.failed() => return Err(error),
                    // 2. Changes that are no longer sent.
                    error = live.watch.ended() => Err(Broken::Failed(error)),
                    // 3. The stream.
                    next = live.stream.next() => next,
                }
                .inspect_err(|broken| self.settings.meter.reconnects(broken.reason()))
                {
                    Ok(batch) => {
                        let gaps = live.stream.left_gaps();
                        let Some(batch) = self.note(batch) else { continue };
                        if let Some(batch) = self.rereading.begin(batch, gaps) {
                            return Ok(batch);
                        }
                    }
                    Err(Broken::NeedsText) => {
                        tracing::info!("a column's type cannot be read in binary format, streaming in text format");
                        self.dial.use_text();
                        self.state = State::Waiting(Instant::now());
                    }
                    Err(Broken::Outdated(missing)) => {
                        self.dial.renew(missing)?;
                        self.state = State::Waiting(Instant::now());
                    }
                    Err(Broken::Unpublished) => {
                        self.fail(Loss::publication_gone(&self.settings.publication).error())?
                    }
                    Err(Broken::Failed(error)) => self.fail(error)?,
                },
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    let mut attempt = JoinSet::new();
                    attempt.spawn(self.dial.clone().open(self.returned).in_current_span());
                    self.state = State::Dialling(attempt);
                }
                State::Dialling(attempt) => match broken::ended_task(attempt.join_next().await) {
                    Ok(opened) => self.opened(opened),
                    Err(error) => self.fail(error)?,
                },
                State::BeginningAnew(setting_up) => match broken::ended_task(setting_up.join_next().await) {
                    Ok(mut anew) => {
                        if self.ended > Lsn::INVALID || self.returned.is_some() {
                            // Sinks hold what they hold under the name that they were told first.
                            anew.origin = std::mem::take(&mut self.origin);
                        }
                        let shown = self.shown.clone();
                        *self = Self { begins_anew: true, shown, ..anew };
                    }
                    Err(error) => self.fail(error)?,
                },
            }
        }
    }

    /// Waits before the next attempt after a passing failure, and begins anew after a loss if that
    /// is wanted; returns any other.
    fn fail(&mut self, error: Error) -> Result<()> {
        if Loss::can_begin_anew(&error) && self.settings.on_slot_lost == OnSlotLost::Resnapshot {
            self.show(SourceState::Retrying(error.chain()));
            self.state = self.begin_anew();
            return Ok(());
        }
        if error.fault() != Fault::Transient {
            return Err(error);
        }
        let (state, pause) = self.outage.failed(&error, &self.settings.slot);
        self.show(state);
        self.state = State::Waiting(Instant::now() + pause);
        Ok(())
    }

    /// Takes note of a batch; None if it says nothing new.
    fn note(&mut self, batch: Batch) -> Option<Batch> {
        self.outage = Outage::default();
        self.progress.tell(&self.settings.meter);
        if self.tables.len() > 1 {
            tables::warn_of_truncates(&batch);
        }
        if let Some(event) = batch.events().last() {
            self.returned = Some(event.position);
            self.progress.returned(event.position.lsn);
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

    fn held_before(&self) -> Lsn {
        self.held_before
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        let batch = self.read().await?;
        Ok(Some(if std::mem::take(&mut self.begins_anew) { batch.beginning_anew() } else { batch }))
    }

    fn confirm(&self, lsn: Lsn) {
        if self.begins_anew {
            return;
        }
        self.progress.durable(lsn);
        self.progress.tell(&self.settings.meter);
        if let State::Live(live) = &self.state {
            live.copies.confirm(lsn);
        }
    }

    fn is_in_order_of_time(&self) -> bool {
        true
    }

    fn lag(&self) -> Lag {
        self.progress.lag()
    }

    fn state(&self) -> Receiver<SourceState> {
        self.shown.subscribe()
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let State::Live(live) = self.state else { return Ok(()) };
        let Live { stream, turn, .. } = *live;
        let last = self.returned.map(|position| position.lsn).filter(|lsn| *lsn < self.progress.confirmed());
        let held = last.unwrap_or(self.progress.held());
        // While the slot is still ours.
        let left = async {
            let client = setup::session(&self.settings).await?;
            bond::hold(&client, &self.settings.slot, turn, held).await?;
            bond::leave(&client, &self.settings.slot, turn, self.progress.confirmed()).await
        };
        if !matches!(tokio::time::timeout(LAST_WORD, left).await, Ok(Ok(()))) {
            tracing::debug!("where the slot was left could not be written down");
        }
        stream.close().await
    }
}
