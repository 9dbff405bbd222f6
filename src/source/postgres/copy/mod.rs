//! Copies of tables that travel with the stream: the first one, one of a table added later, and
//! those asked for by hand.
//!
//! ```text
//!  ledger ──> reader ── watermark, SELECT, watermark ──> Handover ──> Windows ──> batches, as rows of the stream
//!    ^                                                                                   │
//!    └──────────────── how far it is durable <── confirm <── sinks <─────────────────────┘
//! ```
//!
//! Copied rows have positions of the stream, pass through the same handlers, and are confirmed with
//! it. So there is one delivery, with one set of promises; what is special is all in this folder.

mod ledger;
mod mark;
mod portion;
mod reader;
mod rows;
mod select;
mod told;
mod window;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::bond::{self, Bond};
use super::settings::Settings;
use super::setup;
use super::tables::Table;
use crate::backoff::Backoff;
use crate::error::{Error, Fault, Result};
use crate::lsn::Lsn;
use crate::meter::CopyCount;
use crate::retry::Retry;
use crate::source::{Copied, SourceState};
use ledger::Job;
use reader::Reader;
use select::Select;

pub(super) use ledger::forget;
pub(super) use mark::{PREFIX, say_set_up, says_set_up};
pub(super) use rows::Key;
pub(super) use window::{Handover, Streamed, Windows};

/// Tables that are copied at once: more would only contend for one stream.
const AT_ONCE: usize = 2;
/// Between attempts while the server cannot be reached.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// Time before a look at the ledger: a request is streamed a moment before it is seen there.
const SEEN: Duration = Duration::from_secs(1);

/// The copies that join one stream. They end when this is dropped; the next stream goes on where
/// the ledger says.
pub(super) struct Copies {
    durable: watch::Sender<Lsn>,
    failures: mpsc::Receiver<Error>,
    tasks: JoinSet<()>,
}

impl Copies {
    /// Starts what the ledger has open, and whatever is asked for from now on; `shown` says for how
    /// long there is any. For who has the slot: what the ledger says is another host's business
    /// before that, and outdated after it.
    pub(super) fn start(
        settings: Arc<Settings>,
        tables: Arc<[Table]>,
        handover: Arc<Handover>,
        shown: watch::Sender<SourceState>,
    ) -> Self {
        let (durable, durable_now) = watch::channel(Lsn::INVALID);
        let (failure, failures) = mpsc::channel(1);
        let reader = Reader { settings, handover, durable: durable_now };
        let mut tasks = JoinSet::new();
        tasks.spawn(supervise(Arc::new(reader), tables, failure, shown).in_current_span());
        Self { durable, failures, tasks }
    }

    /// Everything up to `lsn` is durable in every sink.
    pub(super) fn confirm(&self, lsn: Lsn) {
        self.durable.send_if_modified(|durable| {
            let rose = lsn > *durable;
            *durable = lsn.max(*durable);
            rose
        });
    }

    /// Returns the error that ends the copies: a first copy cannot be made, the sinks cannot be
    /// cleared, or a task has failed. Never returns while all goes well. Safe to cancel.
    pub(super) async fn failed(&mut self) -> Error {
        tokio::select! {
            Some(error) = self.failures.recv() => error,
            _ = self.tasks.join_next() => Error::new(Fault::Bug, "the task that copies tables ended"),
        }
    }
}

/// Makes the ledger if it is missing and `wanted`, and brings one that is there up to date.
pub(super) async fn ensure(client: &tokio_postgres::Client, settings: &Settings, wanted: bool) -> Result<()> {
    match wanted || ledger::is_there(client).await? {
        true => ledger::ensure(client, settings).await,
        false => Ok(()),
    }
}

/// Makes sure that each table has a first copy, before the slot exists from which its changes are
/// streamed: a table without one would stay without its old rows for ever. `anew` if the slot is
/// about to be made.
pub(super) async fn plan(
    client: &tokio_postgres::Client,
    settings: &Settings,
    tables: &[Table],
    anew: bool,
) -> Result<Option<String>> {
    if anew {
        ledger::forget(client, &settings.slot).await?;
    }
    for table in ledger::welcome_back(client, &settings.slot, tables).await? {
        tracing::warn!(
            table,
            "a table that was taken out of the source is back: its rows are copied again, but those that were deleted \
             meanwhile stay in the sinks; `pgstream-host resnapshot` clears them first"
        );
    }
    let added = ledger::add_first(client, &settings.slot, tables).await?;
    Ok(match added {
        0 => None,
        1 => Some("1 table is to be copied, before its changes".to_owned()),
        _ => Some(format!("{added} tables are to be copied, before their changes")),
    })
}

/// Lets go of the first copies of tables that the source no longer has, so that one that comes back
/// is copied again.
pub(super) async fn withdraw(client: &tokio_postgres::Client, settings: &Settings, tables: &[Table]) -> Result<()> {
    match ledger::is_there(client).await? {
        true => ledger::withdraw(client, &settings.slot, tables).await,
        false => Ok(()),
    }
}

/// Asks for copies of `tables`; whoever runs the pipeline begins at once. Answers their numbers.
pub(super) async fn ask(
    client: &tokio_postgres::Client,
    settings: &Settings,
    tables: &[Table],
    filter: Option<&str>,
    rows_per_second: Option<i32>,
) -> Result<Vec<i64>> {
    ledger::ensure(client, settings).await?;
    let mut ids = Vec::new();
    for table in tables {
        ids.push(ledger::add(client, &settings.slot, table, filter, None, rows_per_second).await?);
    }
    Ok(ids)
}

/// Asks for the rows of a table with these keys as they are now, or for deletes of those that are
/// gone. Answers the numbers of the copies, each with the keys that it is for.
pub(super) async fn ask_rows<'k>(
    client: &tokio_postgres::Client,
    settings: &Settings,
    table: &Table,
    keys: &'k [Key],
) -> Result<Vec<(i64, &'k [Key])>> {
    ledger::ensure(client, settings).await?;
    let mut asked = Vec::new();
    for keys in keys.chunks(rows::AT_ONCE) {
        let texts: Vec<String> = keys.iter().map(Key::to_string).collect();
        asked.push((ledger::add(client, &settings.slot, table, None, Some(&texts), None).await?, keys));
    }
    Ok(asked)
}

/// Returns the progress of the copies with these numbers, or of all copies of the slot.
pub(super) async fn progress(client: &tokio_postgres::Client, slot: &str, ids: Option<&[i64]>) -> Result<Vec<Copied>> {
    if !ledger::is_there(client).await? {
        return Ok(Vec::new());
    }
    ledger::progress(client, slot, ids).await
}

/// Runs the copies that the ledger has open, some at once. Ends only with its stream.
async fn supervise(
    reader: Arc<Reader>,
    tables: Arc<[Table]>,
    failure: mpsc::Sender<Error>,
    shown: watch::Sender<SourceState>,
) {
    let mut running: JoinSet<(i64, Result<()>)> = JoinSet::new();
    let mut numbers: HashSet<i64> = HashSet::new();
    let mut again = Retry::new(AGAIN);
    // When the ledger is looked into once more, whatever happens.
    let mut look: Option<Instant> = None;
    loop {
        let begun = begin(&reader, &tables, &mut running, &mut numbers, &failure).await;
        show(&shown, !numbers.is_empty());
        look = look.filter(|at| *at > Instant::now());
        if let Err(error) = begun {
            let wait = again.failed(&error);
            tracing::warn!(
                cause = error.chain(),
                wait_seconds = wait.seconds(),
                "the copies of tables wait for the server"
            );
            look = Some(Instant::now() + wait.time);
        }
        tokio::select! {
            // A copy has ended: there may be room for the next.
            Some(ended) = running.join_next() => {
                let (number, result) = match ended {
                    Ok(ended) => ended,
                    Err(panic) => return drop(failure.try_send(Error::new(Fault::Bug, "a copy failed").because(panic))),
                };
                numbers.remove(&number);
                match result {
                    Ok(()) => again.succeeded(),
                    Err(error) => {
                        let wait = again.failed(&error);
                        tracing::warn!(cause = error.chain(), wait_seconds = wait.seconds(), "a copy of a table goes on later");
                        wait.over().await;
                    }
                }
            }
            () = reader.handover.asked.notified() => look = Some(Instant::now() + SEEN),
            () = tokio::time::sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {}
        }
    }
}

/// Says of a stream whether rows are copied into it. One that has been cut off meanwhile has
/// nothing to say.
fn show(shown: &watch::Sender<SourceState>, copying: bool) {
    shown.send_if_modified(|shown| match (&*shown, copying) {
        (SourceState::Streaming, true) => {
            *shown = SourceState::Copying;
            true
        }
        (SourceState::Copying, false) => {
            *shown = SourceState::Streaming;
            true
        }
        _ => false,
    });
}

/// Begins what the ledger has open, as far as there is room.
async fn begin(
    reader: &Arc<Reader>,
    tables: &Arc<[Table]>,
    running: &mut JoinSet<(i64, Result<()>)>,
    numbers: &mut HashSet<i64>,
    failure: &mpsc::Sender<Error>,
) -> Result<()> {
    let client = setup::session(&reader.settings).await?;
    let slot = &reader.settings.slot;
    if Bond::find(&client, slot).await?.is_some_and(|bond| bond.clear_sinks) {
        clear(reader, tables, &client, failure).await?;
    }
    let open = ledger::open(&client, &reader.settings.slot).await?;
    for job in open {
        let number = job.id;
        // Single rows do not wait for whole tables.
        let room = AT_ONCE + usize::from(job.keys.is_some());
        if numbers.len() < room && numbers.insert(number) {
            let (reader, tables, failure) = (Arc::clone(reader), Arc::clone(tables), failure.clone());
            let copying = async move { (number, copy(&reader, &tables, job, &failure).await) };
            running.spawn(copying.in_current_span());
        }
    }
    let all = progress(&client, slot, None).await?;
    reader.settings.meter.copies(counted(&all, numbers));
    Ok(())
}

/// The number of copies of tables that there are, of which those with `running` numbers are under
/// way.
fn counted(all: &[Copied], running: &HashSet<i64>) -> CopyCount {
    let mut count = CopyCount::default();
    for copy in all {
        match copy {
            Copied { done: true, .. } => count.done += 1,
            Copied { error: Some(_), .. } => count.failed += 1,
            Copied { id, .. } if running.contains(id) => count.running += 1,
            _ => count.waiting += 1,
        }
        count.rows_expected += if copy.done { copy.rows } else { copy.expected.unwrap_or(0).max(copy.rows) };
    }
    count
}

/// Begins anew after a loss: what is gone from the tables must go from the sinks. All tables at
/// once, before any is copied: several may feed one collection.
async fn clear(
    reader: &Reader,
    tables: &[Table],
    client: &tokio_postgres::Client,
    failure: &mpsc::Sender<Error>,
) -> Result<()> {
    let cleared = async {
        let mut readings = Vec::new();
        let reading = reader.settings.reading();
        let session = setup::session(&reading).await?;
        for table in tables {
            readings.push(Select::describe(&session, &reading, table, None).await?.reading);
        }
        reader.clear(&readings).await?;
        bond::cleared(client, &reader.settings.slot).await
    };
    match cleared.await {
        Err(error) if error.fault() != Fault::Transient => {
            let _ = failure.try_send(error.within("the sinks cannot be cleared"));
            std::future::pending().await
        }
        result => result,
    }
}

/// Makes one copy. Only a failure that will pass is an error. Any other ends the pipeline if it
/// concerns a first copy, and is written into the ledger if somebody asked for the copy.
async fn copy(reader: &Reader, tables: &[Table], job: Job, failure: &mpsc::Sender<Error>) -> Result<()> {
    tracing::info!(table = job.table, rows_before = job.rows, "copying the rows of a table");
    let client = setup::session(&reader.settings).await?;
    let made = async {
        let table = tables.iter().find(|table| table.oid == job.relation).ok_or_else(|| match job.first {
            // Noted since we set the pipeline up; the publication has the table, too, and we are about to begin anew.
            true => {
                Error::new(Fault::Transient, format!("another process has added table `{}` to the pipeline", job.table))
            }
            false => {
                Error::new(Fault::Environment, format!("table `{}` is not among the tables of the source", job.table))
                    .help("it was dropped, or taken out of `tables`: ask for the copy again if it is to be made")
            }
        })?;
        if job.strange {
            return Err(strange(&job));
        }
        // What may be read is asked with the login that reads.
        let reading = reader.settings.reading();
        let select = Select::describe(&setup::session(&reading).await?, &reading, table, job.filter.as_deref()).await?;
        match &job.keys {
            Some(keys) => reader.bring_back(&select, &job, keys).await,
            None => {
                let about = ledger::about(&client, &job).await?;
                reader.run(&select, job.clone(), about).await
            }
        }
    };
    match made.await {
        Ok(()) => {
            tracing::info!(table = job.table, "all rows of the table are copied");
            Ok(())
        }
        Err(error) if error.fault() == Fault::Transient => Err(error),
        Err(error) if job.first => {
            let error = error.within(format!("the rows of table `{}` cannot be copied", job.table));
            // The receiver is gone only if the stream is, and takes one failure only.
            let _ = failure.try_send(error);
            std::future::pending().await
        }
        Err(error) => {
            tracing::error!(cause = error.chain(), table = job.table, "a copy that was asked for cannot be made");
            ledger::fail(&client, &job, &error.chain()).await
        }
    }
}

/// The condition and the keys of a copy are SQL, which would run with the rights of whoever runs
/// the pipeline.
fn strange(job: &Job) -> Error {
    let by = job.writer.as_ref().map_or("somebody who is not known".to_owned(), |role| format!("`{role}`"));
    let trust = job.writer.as_ref().map_or(String::new(), |role| {
        format!("; or, if that role may do all that this one may, say so beside `url`: trusted_owners: [{role:?}]")
    });
    let what = format!("the copy of table `{}` was written down by {by}, and its SQL is not run", job.table);
    Error::new(Fault::Environment, what)
        .because("whoever may write to `pgstream.copies` could have what he writes run by the pipeline")
        .help(format!("ask for it again as the role of `url`{trust}"))
}
