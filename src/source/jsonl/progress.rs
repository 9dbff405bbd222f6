//! `FileProgress`: how far files are read and confirmed, and the thread that writes it down.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoint::{Checkpoint, PipelineLock, Record};
use super::followed::Followed;
use crate::error::Result;
use crate::lsn::Lsn;

/// The pause between two writes: each waits for the disk.
const PAUSE: Duration = Duration::from_millis(50);
/// The pause after one that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The state that the reader of the lines, the pipeline and the writer of the checkpoint share.
#[derive(Debug)]
pub(super) struct FileProgress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    record: Record,
    /// The files that are not confirmed to their end, the oldest first, each with the bytes before
    /// it.
    files: VecDeque<(u64, Followed)>,
    /// Ends of batches, and the lines up to there in their file.
    ends: VecDeque<(u64, u64)>,
    /// Up to where something is confirmed, and up to where there is something, in bytes since the
    /// beginning.
    confirmed: u64,
    size: u64,
    changed: bool,
    closing: bool,
}

impl FileProgress {
    pub(super) fn new(record: Record) -> Arc<Self> {
        let confirmed = record.base + record.offset;
        let state = State {
            record,
            files: VecDeque::new(),
            ends: VecDeque::new(),
            confirmed,
            size: confirmed,
            changed: false,
            closing: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines from `base` on are those of another file.
    pub(super) fn goes_on_with(&self, base: u64, followed: Followed) {
        self.lock().files.push_back((base, followed));
    }

    /// A batch ends at `end`, with so many lines of its file before.
    pub(super) fn reads_to(&self, end: u64, line: u64) {
        self.lock().ends.push_back((end, line));
    }

    /// There is something up to `size`.
    pub(super) fn grows_to(&self, size: u64) {
        self.lock().size = size;
    }

    /// The first table that was ever met; `table` is, if there was none.
    pub(super) fn first_table(&self, table: &str) -> String {
        self.lock().record.first_table.get_or_insert_with(|| table.to_owned()).clone()
    }

    /// Everything up to there is durable in all sinks.
    pub(super) fn confirm(&self, lsn: Lsn) {
        // A batch ends behind the place of its last line.
        let end = lsn.0.saturating_sub(1);
        let mut state = self.lock();
        if end < state.confirmed {
            return;
        }
        state.confirmed = end;
        let mut line = None;
        while state.ends.front().is_some_and(|(known, _)| *known <= end) {
            line = state.ends.pop_front();
        }
        while state.files.get(1).is_some_and(|(base, _)| *base <= end) {
            state.files.pop_front();
        }
        let base = state.files.front().map_or(0, |(base, _)| *base);
        let moved_on = state.record.base != base;
        state.record.base = base;
        state.record.offset = end - base;
        match line {
            _ if end == base => state.record.line = 0,
            Some((_, line)) => state.record.line = line,
            None if moved_on => state.record.line = 0,
            None => {}
        }
        state.changed = true;
        self.changed.notify_one();
    }

    /// Bytes that are there and not confirmed.
    pub(super) fn lag(&self) -> u64 {
        let state = self.lock();
        state.size.saturating_sub(state.confirmed)
    }
}

/// The thread that writes the checkpoint.
#[derive(Debug)]
pub(super) struct Saver {
    progress: Arc<FileProgress>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Saver {
    /// Writes what is confirmed from now on. The lock is given back when the thread has ended.
    pub(super) fn start(
        checkpoint: Checkpoint,
        lock: PipelineLock,
        progress: Arc<FileProgress>,
        path: PathBuf,
    ) -> Self {
        let shared = Arc::clone(&progress);
        let span = tracing::Span::current();
        let run = move || {
            let _held = lock;
            span.in_scope(|| save(&checkpoint, &shared, &path))
        };
        Self { progress, thread: Some(std::thread::spawn(run)) }
    }

    /// Writes what was confirmed last. Blocks as the disk does.
    ///
    /// # Errors
    /// `Environment` if it cannot be written.
    pub(super) fn finish(mut self) -> Result<()> {
        self.end();
        // A panic leaves an older record, from which lines come again.
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or(Ok(())))
    }

    fn end(&self) {
        self.progress.lock().closing = true;
        self.progress.changed.notify_one();
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.end();
    }
}

fn save(checkpoint: &Checkpoint, progress: &FileProgress, path: &std::path::Path) -> Result<()> {
    loop {
        let mut state = progress.lock();
        while !state.changed && !state.closing {
            state = progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let closing = state.closing;
        if !state.changed {
            return Ok(());
        }
        state.changed = false;
        let (mut record, followed) = (state.record.clone(), state.files.front().map(|(_, followed)| followed.clone()));
        drop(state);
        let described = followed.map_or(Ok(()), |followed| followed.describe(&mut record));
        let pause = match described.and_then(|()| checkpoint.write(&record)) {
            Ok(()) => {
                let mut state = progress.lock();
                let Record { device, inode, head_bytes, head, .. } = record;
                let kept = &mut state.record;
                (kept.device, kept.inode, kept.head_bytes, kept.head) = (device, inode, head_bytes, head);
                PAUSE
            }
            Err(error) if closing => return Err(checkpoint.unwritable(error)),
            Err(error) => {
                tracing::warn!(file = %path.display(), cause = %error, "how far the file is read cannot be written down, trying again");
                progress.lock().changed = true;
                AGAIN
            }
        };
        let state = progress.lock();
        if !state.closing {
            drop(progress.changed.wait_timeout_while(state, pause, |state| !state.closing));
        }
    }
}
