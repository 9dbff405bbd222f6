//! `Stream`: one streaming session, from the server's messages to batches.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::broken::{Broken, GOOD_BYE, Silence, ended, heed};
use super::connection::Streaming;
use super::copy::{Windows, says_set_up};
use super::feedback::{Feedback, Progress};
use super::frames::{Frame, Frames, TooLong};
use super::message::Said;
use super::settings::{Limits, Settings};
use super::tables::schema_changed;
use crate::config::Size;
use crate::decode::{DecodeError, Decoded, Decoder};
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, BatchBuilder, Row, Value};
use crate::lsn::Lsn;
use crate::meter::SourceMeter;
use crate::postgres::{Socket, lost};
use crate::sabotage::Breakage;

/// The longest time for the server to end its side; after that the connection is cut.
const FAREWELL: Duration = Duration::from_secs(5);

/// A streaming session. What it has not returned yet is lost with it, and comes again on the next
/// one.
pub(super) struct Stream {
    frames: Frames<ReadHalf<Socket>>,
    feedback: Feedback<WriteHalf<Socket>>,
    progress: Arc<Progress>,
    decoder: Decoder,
    limits: Limits,
    batch: BatchBuilder,
    windows: Windows,
    /// The batch returned last must be completed from the table.
    gaps: bool,
    /// Events of the batch under construction that lack values, as far as they count.
    lacking: usize,
    /// The time after which the batch under construction closes; within a transaction it first
    /// takes all that has arrived.
    closes: Option<Instant>,
    in_transaction: bool,
    /// The position at which the transaction at hand commits.
    commits_at: Lsn,
    /// Before that the pipeline was set up as we know it.
    set_up_at: Lsn,
    /// The end of the last keepalive or commit that a batch was given.
    ended: Lsn,
    /// Since when we have been waiting for a byte.
    waiting_since: Option<Instant>,
    /// The longest time for which the server may be silent although it was asked.
    patience: Duration,
    /// Remarks of the server that were heard.
    remarks: u32,
    meter: Arc<SourceMeter>,
    /// Commits since a batch was closed.
    commits: u64,
    /// The time when the server sent the last message, in µs since 1970-01-01 UTC.
    sent: i64,
}

impl Stream {
    /// Takes over a session that streams after `from`, of a pipeline that was set up before
    /// `set_up_at`.
    pub(super) fn new(
        (frames, write): Streaming,
        decoder: Decoder,
        windows: Windows,
        progress: Arc<Progress>,
        settings: &Settings,
        (set_up_at, from): (Lsn, Lsn),
        patience: Duration,
    ) -> Self {
        Self {
            frames,
            feedback: Feedback::spawn(write, Arc::clone(&progress)),
            progress,
            decoder,
            limits: settings.limits,
            batch: BatchBuilder::default(),
            windows,
            gaps: false,
            lacking: 0,
            closes: None,
            in_transaction: false,
            commits_at: Lsn::INVALID,
            set_up_at,
            ended: from,
            waiting_since: None,
            patience,
            remarks: 0,
            meter: Arc::clone(&settings.meter),
            commits: 0,
            sent: 0,
        }
    }

    /// The next batch. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Batch, Broken> {
        loop {
            if self.drain()? {
                return Ok(self.close_batch());
            }
            match self.batch.len() {
                0 if self.batch.is_empty() => {
                    self.fill().await?;
                    continue;
                }
                0 => return Ok(self.close_batch()), // only progress
                _ => {}
            }
            let closes = *self.closes.get_or_insert_with(|| Instant::now() + self.limits.linger);
            if !self.in_transaction && Instant::now() >= closes {
                return Ok(self.close_batch());
            }
            tokio::select! {
                biased;
                // 1. What is there already may complete a transaction.
                filled = self.fill() => filled?,
                // 2. Nothing more for now.
                () = tokio::time::sleep_until(closes) => return Ok(self.close_batch()),
            }
        }
    }

    /// Tells if the batch returned last lacks values that the sinks may not have.
    pub(super) fn left_gaps(&self) -> bool {
        self.gaps
    }

    fn close_batch(&mut self) -> Batch {
        self.closes = None;
        self.lacking = 0;
        let batch = self.batch.take();
        self.meter.transactions.add(std::mem::take(&mut self.commits));
        if let Some(last) = batch.events().last().filter(|last| !last.snapshot) {
            self.meter.receive_lag.set(Some(self.sent.saturating_sub(last.commit_time).max(0)));
        }
        self.windows.returned(batch.ends_at());
        self.gaps = self.windows.take_gaps();
        batch
    }

    /// Handles the messages that have been read; true if the batch is full before all are handled.
    fn drain(&mut self) -> Result<bool, Broken> {
        while !self.is_full() {
            if self.windows.is_joining() {
                self.windows.join(&mut self.decoder, &mut self.batch).map_err(Error::from)?;
                continue;
            }
            let Some(frame) = self.frames.take().map_err(|error| self.unread(error))? else {
                return Ok(false);
            };
            self.handle(frame)?;
        }
        Ok(true)
    }

    /// A message could not be read, or was too long to be.
    fn unread(&self, error: io::Error) -> Error {
        let TooLong { length, most, relation } = match error.downcast() {
            Ok(error) => error,
            Err(error) => return lost(BROKE, error),
        };
        let (most, length) = (Size(most as u64), length.div_ceil(1 << 20));
        let because = format!("it has {length} MiB, and {most} is the most");
        let Some(oid) = relation else {
            let what = "a message of the server's is too long";
            return Error::new(Fault::Environment, what)
                .because(because)
                .help("check that `url` leads to a Postgres server");
        };
        let table =
            self.decoder.relation(oid).map_or_else(|| format!("with the OID {oid}"), |name| format!("`{name}`"));
        Error::new(Fault::Environment, format!("a row of table {table} is larger than `max_row`"))
            .because(because)
            .help("raise `max_row` of the source (Postgres' own limit is 1GiB), or take the table out of its `tables`")
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= self.limits.events
            || self.batch.bytes() >= self.limits.bytes
            || self.lacking >= self.most_gaps()
    }

    /// Returns the largest number of events of the batch that may lack values.
    fn most_gaps(&self) -> usize {
        if self.windows.want_it_whole() { Limits::GAPS } else { self.limits.gaps }
    }

    /// Counts the gaps in the last `events` of the batch, if they are to be filled.
    fn count_gaps(&mut self, events: usize) {
        if self.most_gaps() < usize::MAX {
            let lacks = |row: Row<'_>| row.iter().any(|value| value == Value::Unchanged);
            self.lacking += self.batch.last(events).filter(|(_, _, row)| lacks(*row)).count();
        }
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Broken> {
        match Said::read(frame)? {
            Said::Data { payload, sent } => {
                self.sent = sent;
                return self.data(payload);
            }
            Said::Keepalive { end, answer } => self.keepalive(end, answer),
            Said::Error(error) => return Err(ended(error)),
            Said::Notice(notice) => {
                self.remarks = self.remarks.saturating_add(1);
                return heed(notice, self.remarks);
            }
            Said::End => return Err(Error::new(Fault::Transient, GOOD_BYE).into()),
            Said::Nothing => {}
        }
        Ok(())
    }

    fn data(&mut self, payload: Bytes) -> Result<(), Broken> {
        match self.decoder.decode(payload, &mut self.batch) {
            Ok(Decoded::Begin(begin)) => {
                self.in_transaction = true;
                self.commits_at = begin.final_lsn;
                self.windows.begin(begin.xid);
                self.progress.see(begin.final_lsn);
            }
            Ok(Decoded::Commit(commit)) => {
                self.in_transaction = false;
                self.commits += 1;
                self.ended = self.ended.max(commit.end_lsn);
                self.windows.commit(commit.end_lsn);
                self.progress.receive(commit.end_lsn);
            }
            Ok(Decoded::Rows { events, incomplete }) => {
                self.windows.changed(&self.batch, events as usize);
                self.count_gaps(events as usize);
                if incomplete {
                    tracing::warn!(
                        "an update changed a key and left a large column alone, whose value the server does not send: \
                         it reaches the handler as `unchanged`; ALTER TABLE … REPLICA IDENTITY FULL avoids it"
                    );
                }
            }
            Ok(Decoded::Message(message)) => {
                if says_set_up(&message) && self.commits_at >= self.set_up_at {
                    // Of tables that we do not know yet everything is sent from here on.
                    return Err(Error::new(Fault::Transient, "the pipeline was set up with other tables").into());
                }
                let before = self.most_gaps();
                self.windows.message(&message);
                if self.most_gaps() < before {
                    // A chunk is being read: from now on all gaps count.
                    self.lacking = 0;
                    self.count_gaps(self.batch.len());
                }
            }
            Ok(Decoded::Relation { now, before: Some(before) }) => schema_changed(&before, &now),
            Ok(Decoded::Relation { .. } | Decoded::Nothing) => {}
            Err(DecodeError::BinaryOnly { .. }) => return Err(Broken::NeedsText),
            Err(error @ (DecodeError::UnknownType { .. } | DecodeError::UnknownKey { .. })) => {
                return Err(Broken::Outdated(error));
            }
            Err(error) => return Err(Error::from(error).into()),
        }
        Ok(())
    }

    /// The server has nothing for us before `end`. Inside a transaction that says nothing yet.
    fn keepalive(&mut self, end: Lsn, answer: bool) {
        if !self.in_transaction {
            self.progress.receive(end);
            if end >= self.progress.ahead() {
                self.meter.receive_lag.set(Some(0)); // the server has no more
            }
            if Breakage::KeepaliveConfirmed.is_on() {
                self.progress.confirm(end);
            }
            if end > self.ended {
                self.ended = end;
                self.batch.end_at(end);
            }
        }
        if answer {
            self.progress.answer();
        }
    }

    /// Reads some bytes. Safe to cancel: the wait is counted over several calls.
    async fn fill(&mut self) -> Result<(), Broken> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        tokio::select! {
            biased;
            // 1. What has arrived while nobody asked counts.
            filled = self.frames.fill() => {
                let read = filled.map_err(|error| lost(BROKE, error))?;
                self.meter.received_bytes.add(read as u64);
            }
            // 2. The server was asked by a status update meanwhile, and is dead or cut off.
            () = tokio::time::sleep_until(since + self.patience) => {
                let silent = Silence(self.patience.as_secs());
                return Err(Error::new(Fault::Transient, BROKE).because(silent).into());
            }
        }
        self.waiting_since = None;
        self.progress.hear();
        Ok(())
    }

    /// Ends the session in order, or cuts it after some seconds.
    pub(super) async fn close(self) -> Result<()> {
        let Self { mut frames, feedback, .. } = self;
        let farewell = async {
            let mut write = feedback.finish().await?;
            // The server may still be sending a transaction; then it ends with its own CopyDone and is ready again.
            while frames.next().await?.tag != b'Z' {}
            let mut terminate = bytes::BytesMut::new();
            frontend::terminate(&mut terminate);
            write.write_all(&terminate).await?;
            write.shutdown().await
        };
        match tokio::time::timeout(FAREWELL, farewell).await {
            Ok(Ok(())) => {}
            // A server that is gone cannot be told; it sends again from what it was told last.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => return Err(lost(BROKE, error)),
            Ok(Err(error)) => tracing::warn!(%error, "the stream did not end in order"),
            Err(_) => {
                tracing::warn!("the server did not end the stream in {} s; the connection was cut", FAREWELL.as_secs())
            }
        }
        Ok(())
    }
}

const BROKE: &str = "the replication connection broke";
