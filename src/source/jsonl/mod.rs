//! The source `jsonl`: events from the lines of a file that may grow and be rotated, or of standard
//! input.
//!
//! ```text
//!  file ──> lines ──> line_event (debezium) ──> feed, a thread ──Batch──> JsonlSource::next
//!                                                                              │ made durable
//!  file.position <── checkpoint <── saver, a thread <── progress <── confirm <─┘
//! ```
//!
//! The place of an event is where its line ends, in bytes since the beginning of the first file,
//! and its number in the line. The confirmed position is kept beside the file, with marks that tell
//! that file from another one.

mod checkpoint;
mod debezium;
mod debezium_value;
mod feed;
mod followed;
mod jsonl_settings;
mod kind;
mod line_event;
mod lines;
mod progress;

use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use self::checkpoint::{Checkpoint, Record};
use self::feed::{Fed, Feed, Input};
use self::followed::{Begin, take_up, unreadable};
use self::progress::{FileProgress, Saver};
use super::{Lag, Source};

use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Lsn;

pub use jsonl_settings::{JsonlSettings, LineFormat, OnBadLine};

/// Batches that are read ahead.
const AHEAD: usize = 2;
/// The longest time for a source that ends to write down its position.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Standard input is there once in a process.
static STDIN_TAKEN: AtomicBool = AtomicBool::new(false);

/// A file, or standard input, being read.
pub struct JsonlSource {
    origin: String,
    batches: mpsc::Receiver<Fed>,
    progress: Arc<FileProgress>,
    /// None for standard input, of which nothing is kept.
    saver: Option<Saver>,
}

impl JsonlSource {
    /// Opens the file where the pipeline has confirmed it, for these sinks, and begins to read.
    /// Blocks as files do.
    ///
    /// # Errors
    /// `Environment` with what to type if the file is gone, cut off or another one, or a sink is.
    fn open(pipeline: &str, settings: &JsonlSettings, sinks: &[super::Fed]) -> Result<Self> {
        let checkpoint = Checkpoint::beside(&settings.path, settings.folder.as_deref(), pipeline)?;
        let lock = checkpoint.lock()?;
        let mut record = checkpoint.read()?.unwrap_or_else(|| Record::new(&settings.path));
        kind::refuse_other_sinks(&record, sinks)?;
        let marked = sinks.iter().filter_map(|fed| Some((fed.sink.clone(), fed.marks.clone()?)));
        record.sinks = marked.collect();
        record.models = sinks.iter().map(|fed| (fed.sink.clone(), fed.models.clone())).collect();
        let Begin { followed, offset, line, base } = take_up(settings, &record)?;
        let sought = (&*followed.file).seek(SeekFrom::Start(offset));
        sought.map_err(|error| unreadable(&settings.path, error))?;
        let kept = followed.describe(&mut record).and_then(|()| checkpoint.write(&record));
        kept.map_err(|error| checkpoint.unwritable(error))?;
        let place = checkpoint.path().display().to_string();
        tracing::info!(file = %settings.path.display(), line, place, "reading on behind this line");
        let origin = format!("jsonl/{}", record.incarnation);
        let progress = FileProgress::new(record);
        progress.goes_on_with(base, followed.clone());
        let saver = Saver::start(checkpoint, lock, Arc::clone(&progress), settings.path.clone());
        let source = Self::start(settings, origin, Input::File(followed), (base, offset, line), progress);
        Ok(Self { saver: Some(saver), ..source })
    }

    /// Reads standard input, once in a process.
    ///
    /// # Errors
    /// `Environment` if it was read before.
    fn stdin(settings: &JsonlSettings) -> Result<Self> {
        if STDIN_TAKEN.swap(true, Ordering::Relaxed) {
            return Err(Error::new(Fault::Environment, "standard input was read before by this process")
                .because("what an earlier run had read of it and not finished cannot be read again")
                .help(
                    "start the program again with the same input; or write the input to a file, whose place is kept",
                ));
        }
        tracing::info!("reading standard input; its place is not kept: a new start has to be given all of it again");
        let record = Record::new(&PathBuf::from("-"));
        let origin = format!("stdin/{}", record.incarnation);
        let input = Input::Pipe(Box::new(std::io::stdin()));
        Ok(Self::start(settings, origin, input, (0, 0, 0), FileProgress::new(record)))
    }

    fn start(
        settings: &JsonlSettings,
        origin: String,
        input: Input,
        place: (u64, u64, u64),
        progress: Arc<FileProgress>,
    ) -> Self {
        let (out, batches) = mpsc::channel(AHEAD);
        let feed = Feed::new(settings, input, place, out, Arc::clone(&progress));
        let span = tracing::Span::current();
        // A thread of its own: it waits for a pipe that nobody may ever write, which must not hold up the end of the program.
        std::thread::spawn(move || span.in_scope(|| feed.run()));
        Self { origin, batches, progress, saver: None }
    }
}

#[async_trait]
impl Source for JsonlSource {
    fn origin(&self) -> &str {
        &self.origin
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        match self.batches.recv().await {
            Some(Fed::Batch(batch)) => Ok(Some(batch)),
            Some(Fed::Failed(error)) => Err(error),
            Some(Fed::End) => Ok(None),
            None => Err(Error::new(Fault::Bug, "the thread that reads the file ended without a word")
                .help("this is a mistake in pgstream-host: please report it")),
        }
    }

    fn confirm(&self, lsn: Lsn) {
        self.progress.confirm(lsn);
    }

    fn is_in_order_of_time(&self) -> bool {
        false
    }

    fn lag(&self) -> Lag {
        Lag { bytes: self.progress.lag() }
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.batches.close();
        let Some(saver) = self.saver.take() else { return Ok(()) };
        let saved = tokio::time::timeout(LAST_WORD, tokio::task::spawn_blocking(|| saver.finish())).await;
        match saved {
            Ok(Ok(saved)) => saved,
            _ => {
                tracing::debug!("where the file was left could not be written down");
                Ok(())
            }
        }
    }
}
