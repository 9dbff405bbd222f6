//! One copy: reads a table chunk by chunk, hands each to the stream, and notes in the ledger what
//! has become durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::super::connection::Connection;
use super::super::footing;
use super::super::settings::{Settings, literal};
use super::super::setup;
use super::super::snapshot::Snapshot;
use super::ledger::{self, Job};
use super::mark::{Mark, PREFIX};
use super::portion::Portion;
use super::select::Select;
use super::told::{Line, Told};
use super::window::{Chunk, Clear, Handover};
use crate::backoff::Backoff;
use crate::decode::{Reading, texts};
use crate::error::{Error, Fault, Result};
use crate::lsn::Lsn;
use crate::retry::Retry;
use crate::sabotage::Breakage;

/// Rows of a chunk: enough that its two watermarks cost nothing beside it, few enough that it is
/// soon in the sinks.
const CHUNK_ROWS: usize = 5_000;
/// Bytes of a chunk; it ends with the row that goes beyond.
pub(super) const CHUNK_BYTES: usize = 4 << 20;
/// Chunks of a table that are on their way: the next is read while the stream takes in the one
/// before.
const AHEAD: usize = 2;
/// Between two attempts at a chunk that could not be used.
pub(super) const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// The means with which a copy works.
pub(super) struct Reader {
    pub(super) settings: Arc<Settings>,
    pub(super) handover: Arc<Handover>,
    /// The position up to which everything is durable in all sinks.
    pub(super) durable: watch::Receiver<Lsn>,
}

/// A chunk that was read.
struct Read {
    joined: oneshot::Receiver<Lsn>,
    /// Key of its last row.
    last: Vec<String>,
    rows: u64,
    bytes: u64,
}

/// A chunk that is in the stream, and where it ends.
struct Joined {
    end: Lsn,
    last: Vec<String>,
    rows: u64,
    bytes: u64,
}

impl Reader {
    /// Makes the copy, from where the ledger says it was left. Returns once it is complete and
    /// durable. `about`: so many rows there are, if that is known.
    pub(super) async fn run(&self, select: &Select, mut job: Job, about: Option<u64>) -> Result<()> {
        let (mut session, mut own) = (self.session().await?, self.own().await?);
        let mut after = job.after.clone();
        let mut read: VecDeque<Read> = VecDeque::new();
        let mut joined: VecDeque<Joined> = VecDeque::new();
        let mut again = Retry::new(AGAIN);
        let mut pace = Pace::new(job.rows_per_second, Instant::now());
        let mut told = Told::new(about, job.rows, Instant::now());
        loop {
            let from = read.back().map(|read| &read.last).or(after.as_ref()).cloned();
            let next = self.chunk(&mut session, select, &job, from.as_deref()).await?;
            let complete = next.is_none();
            read.extend(next);
            while read.len() >= AHEAD || (complete && !read.is_empty()) {
                let Some(Read { joined: answer, last, rows, bytes }) = read.pop_front() else { break };
                match answer.await {
                    Ok(end) => {
                        after = Some(last.clone());
                        again.succeeded();
                        joined.push_back(Joined { end, last, rows, bytes });
                        self.note(own.as_mut().unwrap_or(&mut session), &mut job, &mut joined).await?;
                        tell(&job, &mut told);
                        if let Some(next) = pace.after(rows, Instant::now()) {
                            tokio::time::sleep_until(next).await;
                        }
                    }
                    Err(_) => {
                        // The table was truncated or altered meanwhile, or a commit not yet seen.
                        read.clear();
                        let wait = again.not_yet();
                        tracing::debug!(
                            table = job.table,
                            wait_seconds = wait.seconds(),
                            "a part of the table is read again"
                        );
                        wait.over().await;
                        break;
                    }
                }
            }
            if complete && read.is_empty() && from == after {
                break;
            }
        }
        while let Some(Joined { end, .. }) = joined.front() {
            self.durable(*end).await?;
            self.note(own.as_mut().unwrap_or(&mut session), &mut job, &mut joined).await?;
            tell(&job, &mut told);
        }
        own.as_mut().unwrap_or(&mut session).query(&ledger::finish(&job), &mut Vec::new()).await
    }

    /// Lets the rows of all tables go from the sinks. Returns once that is durable.
    pub(super) async fn clear(&self, readings: &[Arc<Reading>]) -> Result<()> {
        let mut session = self.session().await?;
        let number = fresh_number();
        let (joined, answer) = oneshot::channel();
        self.handover.put_clear(number, Clear { readings: readings.to_vec(), joined });
        mark(&mut session, Mark::Clear { number }).await?;
        let end =
            answer.await.map_err(|_| Error::new(Fault::Transient, "the stream ended before the sinks were cleared"))?;
        self.durable(end).await
    }

    pub(super) async fn durable(&self, end: Lsn) -> Result<()> {
        let gone = |_| Error::new(Fault::Bug, "the source of a copy is gone");
        self.durable.clone().wait_for(|durable| *durable >= end).await.map(drop).map_err(gone)
    }

    pub(super) async fn session(&self) -> Result<Connection> {
        Self::local(&self.settings.reading()).await
    }

    /// A session with the pipeline's own login, if tables are read with another: the ledger is not
    /// the reader's to write.
    pub(super) async fn own(&self) -> Result<Option<Connection>> {
        match self.settings.reads_apart() {
            true => Self::local(&self.settings).await.map(Some),
            false => Ok(None),
        }
    }

    async fn local(settings: &Settings) -> Result<Connection> {
        let mut session = Connection::open_sql(settings).await?;
        // A watermark protects nothing that a standby would have to have.
        session.query("SET synchronous_commit = local", &mut Vec::new()).await?;
        Ok(session)
    }

    /// Notes how far the copy is durable.
    async fn note(&self, session: &mut Connection, job: &mut Job, joined: &mut VecDeque<Joined>) -> Result<()> {
        let durable = *self.durable.borrow();
        let mut last = None;
        while let Some(chunk) = joined.pop_front_if(|chunk| chunk.end <= durable || Breakage::CopyNotedEarly.is_on()) {
            job.rows += chunk.rows;
            job.bytes += chunk.bytes;
            last = Some(chunk.last);
        }
        match last {
            Some(last) => session.query(&ledger::advance(job, &last), &mut Vec::new()).await,
            None => Ok(()),
        }
    }

    /// Reads the rows after `after` and hands them over, between two watermarks. None if there are
    /// none.
    async fn chunk(
        &self,
        session: &mut Connection,
        select: &Select,
        job: &Job,
        after: Option<&[String]>,
    ) -> Result<Option<Read>> {
        let limit = job.rows_per_second.map_or(CHUNK_ROWS, |rate| CHUNK_ROWS.min(rate as usize).max(1));
        let window = Window::open(self, session, job.relation).await?;
        let cursor = format!("DECLARE chunk NO SCROLL CURSOR FOR {}", select.sql(after, limit));
        let snapshot = self.begin(session, select, job, &cursor).await?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut portion = Portion::default();
        while bytes < CHUNK_BYTES {
            let room = CHUNK_BYTES - bytes;
            let wanted = portion.next(room);
            let answer = session.query_within(&format!("FETCH {wanted} FROM chunk"), &mut rows, room).await?;
            bytes += answer.bytes;
            if answer.rows < wanted {
                break; // the end of the table, or of the room: what was dropped comes with the next chunk
            }
            portion.came(answer.rows, answer.bytes);
        }
        session.query("COMMIT", &mut Vec::new()).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = texts(last, &select.key).ok_or_else(|| unreadable("a key"))?;
        let (joined, answer) = oneshot::channel();
        let count = rows.len() as u64;
        let reading = Arc::clone(&select.reading);
        let chunk = Chunk { reading, rows, gone: Vec::new(), replayed: false, snapshot, joined };
        window.close(session, chunk).await?;
        Ok(Some(Read { joined: answer, last, rows: count, bytes: bytes as u64 }))
    }

    /// Begins to read the table, with `more` SQL in the same message. Answers what will be seen.
    pub(super) async fn begin(
        &self,
        session: &mut Connection,
        select: &Select,
        job: &Job,
        more: &str,
    ) -> Result<Snapshot> {
        let mut answers = Vec::new();
        let begin = footing::begin_sql(job.relation, &select.lookup, &select.lock, &select.shape, more);
        if let Err(error) = session.query(&begin, &mut answers).await {
            let reading = self.settings.reading();
            let client = setup::session(&reading).await?;
            let altered_since = footing::shape_now(&client, job.relation).await?.as_ref() != Some(&select.shape);
            return Err(match altered_since {
                true => altered(job),
                false => footing::hidden_since(&reading, job.relation, error).await?,
            });
        }
        answers.first().and_then(Snapshot::read).ok_or_else(|| unreadable("a snapshot"))
    }
}

/// The time between two watermarks. Dropped before it is closed, its chunk is not waited for.
pub(super) struct Window<'a> {
    handover: &'a Handover,
    number: u64,
}

impl<'a> Window<'a> {
    /// Writes the first watermark.
    pub(super) async fn open(reader: &'a Reader, session: &mut Connection, table: u32) -> Result<Self> {
        let window = Self { handover: &reader.handover, number: fresh_number() };
        window.handover.announce(window.number);
        mark(session, Mark::Low { chunk: window.number, table }).await?;
        Ok(window)
    }

    /// Puts down what was read in between, and writes the second watermark.
    pub(super) async fn close(self, session: &mut Connection, chunk: Chunk) -> Result<()> {
        self.handover.put(self.number, chunk);
        mark(session, Mark::High { chunk: self.number }).await?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.handover.forget(self.number);
    }
}

async fn mark(session: &mut Connection, mark: Mark) -> Result<()> {
    let sql = format!("SELECT pg_logical_emit_message(true, '{PREFIX}', {})", literal(&mark.text()));
    session.query(&sql, &mut Vec::new()).await
}

/// A number that no chunk of another process has: old watermarks come by again after a restart.
fn fresh_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let _ = NEXT.compare_exchange(0, rand::random::<u64>() >> 1 | 1, Relaxed, Relaxed);
    NEXT.fetch_add(1, Relaxed)
}

/// Says now and then how the copy gets on.
fn tell(job: &Job, told: &mut Told) {
    let Some(Line { percent, left, rate }) = told.line(job.rows, Instant::now()) else { return };
    let (table, rows, rows_per_second) = (&job.table, job.rows, rate);
    let left = left.map(|left| format!("about {}", humantime::format_duration(left)));
    let percent = percent.map(|percent| format!("about {percent} %"));
    tracing::info!(table, rows, percent, left, rows_per_second, "the copy of a table goes on");
}

/// Passes: the copy goes on with the table as it is now.
fn altered(job: &Job) -> Error {
    Error::new(Fault::Transient, format!("table `{}` was altered while it was copied", job.table))
}

fn unreadable(what: &str) -> Error {
    Error::new(Fault::Environment, format!("the server answered {what} that cannot be read"))
        .help("check that `url` leads to a Postgres server")
}

/// Holds a copy to so many rows a second. Time in which it could not go on is not made up for.
struct Pace {
    rows_per_second: Option<u32>,
    /// Not before then may the next rows be read.
    next: Instant,
}

impl Pace {
    fn new(rows_per_second: Option<u32>, now: Instant) -> Self {
        Self { rows_per_second, next: now }
    }

    /// Returns the time at which the copy may go on after so many rows. None if its pace is not
    /// limited.
    fn after(&mut self, rows: u64, now: Instant) -> Option<Instant> {
        let took = Duration::from_secs_f64(rows as f64 / f64::from(self.rows_per_second?));
        self.next = self.next.max(now) + took;
        Some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_not_made_up_for() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut pace = Pace::new(Some(100), began);
        assert_eq!(pace.after(200, at(0)), Some(at(2)));
        assert_eq!(pace.after(200, at(1)), Some(at(4)), "quicker than it may be");
        assert_eq!(pace.after(200, at(3600)), Some(at(3602)), "after an hour without a database");
        assert_eq!(Pace::new(None, began).after(200, at(0)), None);
    }

    #[test]
    fn numbers_of_chunks_differ() {
        assert_ne!(fresh_number(), fresh_number());
    }
}
