//! `Feed`: the thread that reads lines, makes batches of them, and waits for more at the end of the
//! file.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::followed::{Followed, cut_off, unreadable};
use super::jsonl_settings::{JsonlSettings, OnBadLine};
use super::line_event;
use super::lines::{Line, LineSplitter};
use super::progress::FileProgress;
use crate::config::qualified;
use crate::error::{Error, Fault, Result};
use crate::event::json::{Flaw, Json, Reader};
use crate::event::{BadLine, Batch, Naming};
use crate::lsn::Lsn;
use crate::printable::printable;

/// Time between two looks at the end of a file.
const LOOK: Duration = Duration::from_millis(25);
/// Bytes of a line that cannot be read that are kept of it.
const KEPT: usize = 64 << 10;
/// Bytes that may be read without a batch, where events of other tables are left out.
const SILENT: u64 = 4 << 20;

/// A message from the thread that reads.
#[derive(Debug)]
pub(super) enum Fed {
    Batch(Batch),
    Failed(Error),
    /// There is no more.
    End,
}

/// The file or pipe from which lines come.
pub(super) enum Input {
    File(Followed),
    Pipe(Box<dyn Read + Send>),
}

pub(super) struct Feed {
    settings: JsonlSettings,
    tables: Vec<String>,
    input: Input,
    splitter: LineSplitter,
    reader: Reader,
    bad: Vec<BadLine>,
    /// Bytes of the files before this one.
    base: u64,
    /// Up to where lines are taken, and up to where they were handed on, in bytes since the
    /// beginning.
    taken: u64,
    handed_on: u64,
    line: u64,
    /// Since when the batch waits for more.
    since: Option<Instant>,
    out: mpsc::Sender<Fed>,
    progress: Arc<FileProgress>,
}

/// The thread has nobody to read for any more.
struct Gone;

/// The reason why reading ends: a failure, or nobody reads.
type Stopped = std::result::Result<Error, Gone>;

impl Feed {
    pub(super) fn new(
        settings: &JsonlSettings,
        input: Input,
        (base, offset, line): (u64, u64, u64),
        out: mpsc::Sender<Fed>,
        progress: Arc<FileProgress>,
    ) -> Self {
        let tables: Vec<String> = settings.tables.iter().map(|table| qualified(table)).collect();
        let max = usize::try_from(settings.max_row.0).unwrap_or(usize::MAX);
        let (listed, shared) = (tables.len(), Arc::clone(&progress));
        let naming = move |schema: &str, table: &str| {
            let alone = match listed {
                0 => shared.first_table(&format!("{schema}.{table}")) == format!("{schema}.{table}"),
                listed => listed == 1,
            };
            if alone { Naming::Alone } else { Naming::Named(Naming::prefix(schema, table).into()) }
        };
        Self {
            settings: settings.clone(),
            tables,
            input,
            splitter: LineSplitter::new(offset, line, max),
            reader: Reader::with_naming(naming),
            bad: Vec::new(),
            base,
            taken: base + offset,
            handed_on: base + offset,
            line,
            since: None,
            out,
            progress,
        }
    }

    /// Reads until there is no more, something fails, or nobody reads.
    pub(super) fn run(mut self) {
        let last = match self.read() {
            Ok(()) => Fed::End,
            Err(Ok(error)) => Fed::Failed(error),
            Err(Err(Gone)) => return,
        };
        // Nobody may be there to hear of it.
        let _ = self.out.blocking_send(last);
    }

    fn read(&mut self) -> std::result::Result<(), Stopped> {
        loop {
            while let Some(line) = self.splitter.next() {
                self.take(line).map_err(Ok)?;
                if self.is_full() {
                    self.hand_on()?;
                }
            }
            let read = match &mut self.input {
                Input::File(followed) => self.splitter.feed(&mut &*followed.file),
                Input::Pipe(pipe) => self.splitter.feed(pipe),
            };
            match read {
                Ok(0) => {
                    if matches!(self.input, Input::Pipe(_)) || self.at_end()? {
                        return self.end();
                    }
                }
                Ok(read) => self.progress.grows_to(self.taken + read as u64),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ok(unreadable(&self.settings.path, error))),
            }
        }
    }

    /// At the end of a file: hands on what there is, and waits. Answers whether no more comes.
    fn at_end(&mut self) -> std::result::Result<bool, Stopped> {
        if let Some(since) = self.since {
            let left = self.settings.batch.linger.0.saturating_sub(since.elapsed());
            if !left.is_zero() && self.settings.follow {
                std::thread::sleep(left.min(LOOK));
                return Ok(false);
            }
        }
        self.hand_on()?;
        if !self.settings.follow {
            return Ok(true);
        }
        if self.out.is_closed() {
            return Err(Err(Gone));
        }
        std::thread::sleep(LOOK);
        let Input::File(followed) = &self.input else { return Ok(true) };
        let path = &self.settings.path;
        let size = followed.size().map_err(|error| Ok(unreadable(path, error)))?;
        let read = self.splitter.read();
        if size < read {
            return Err(Ok(cut_off(path)));
        }
        if size > read {
            return Ok(false);
        }
        // One that is empty yet may not be written: its writer still has the old one.
        let next = Followed::open(path, self.settings.folder.as_deref()).ok().filter(|next| !next.is(followed));
        if let Some(next) = next.filter(|next| next.size().is_ok_and(|size| size > 0))
            && followed.size().is_ok_and(|size| size == read)
        {
            self.go_on_with(next)?;
        }
        Ok(false)
    }

    /// The file was moved away, and its writer has begun another one.
    fn go_on_with(&mut self, next: Followed) -> std::result::Result<(), Stopped> {
        if let Some(rest) = self.splitter.rest() {
            self.take(rest).map_err(Ok)?;
        }
        self.hand_on()?;
        tracing::info!(file = %self.settings.path.display(), "the file was moved away: a new one is read from its beginning");
        self.base = self.taken;
        self.line = 0;
        let max = usize::try_from(self.settings.max_row.0).unwrap_or(usize::MAX);
        self.splitter = LineSplitter::new(0, 0, max);
        self.progress.goes_on_with(self.base, next.clone());
        self.input = Input::File(next);
        Ok(())
    }

    /// The last line may have no line break; half a line is none.
    fn end(&mut self) -> std::result::Result<(), Stopped> {
        if let Some(rest) = self.splitter.rest() {
            let bad = self.bad.len();
            let number = rest.number;
            self.take(rest).map_err(Ok)?;
            if self.bad.len() > bad {
                let what = format!("`{}` ends in the middle of line {number}", self.settings.path.display());
                return Err(Ok(Error::new(Fault::Data, what).help(
                    "what wrote it was cut short: complete the line, or remove it; what stands before it was read",
                )));
            }
        }
        self.hand_on()
    }

    /// Takes the events of a line into the batch.
    fn take(&mut self, line: Line) -> Result<()> {
        let Line { bytes, end, number } = line;
        (self.taken, self.line) = (self.base + end, number);
        let mut read = match &bytes {
            Some(bytes) => line_event::events(bytes, self.settings.format, &self.settings.key),
            None => {
                let most = self.settings.max_row;
                Err(Flaw::new(format!("the line is longer than {most}"), "raise `max_row` of the source"))
            }
        };
        if let (Ok(events), false) = (&mut read, self.tables.is_empty()) {
            events.retain(|event| line_event::table(event).is_none_or(|table| self.tables.contains(&table)));
        }
        let read = read.and_then(|events| {
            let mut events = events.into_iter().enumerate();
            events.try_for_each(|(ordinal, event)| {
                let event = line_event::at(event, line_event::place(self.taken, ordinal));
                self.reader.push(&event)
            })
        });
        if let Err(flaw) = read {
            self.reject(number, bytes.as_deref().unwrap_or_default(), &flaw)?;
        }
        if !self.reader.is_empty() || !self.bad.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn reject(&mut self, number: u64, line: &[u8], flaw: &Flaw) -> Result<()> {
        let place = format!("{}:{number}", self.settings.path.display());
        let what = printable(&flaw.to_string());
        if self.settings.on_bad_line == OnBadLine::Stop {
            let help = format!("{}{}", flaw.help, if flaw.help.is_empty() { "" } else { "\n" });
            return Err(Error::new(Fault::Data, "a line cannot be read as an event")
                .because(what)
                .at(place)
                .help(format!("{help}correct the line, or write `on_bad_line: reject` to set such lines aside")));
        }
        let text = String::from_utf8_lossy(line.get(..KEPT).unwrap_or(line)).into_owned();
        let position = line_event::place(self.taken, 0);
        self.bad.push(BadLine { position, reason: format!("{place}: {what}"), text });
        Ok(())
    }

    fn is_full(&self) -> bool {
        let limits = &self.settings.batch;
        let bytes = self.taken - self.handed_on;
        let some = self.since.is_some();
        self.reader.len() + self.bad.len() >= limits.max_events
            || (some && bytes >= limits.max_bytes.0)
            || bytes >= SILENT
    }

    /// Hands on what was taken, waiting for room.
    fn hand_on(&mut self) -> std::result::Result<(), Stopped> {
        if self.taken == self.handed_on {
            return Ok(());
        }
        self.progress.reads_to(self.taken, self.line);
        let batch = self.reader.take().ending_at(Lsn(self.taken + 1)).with_bad_lines(std::mem::take(&mut self.bad));
        (self.handed_on, self.since) = (self.taken, None);
        self.out.blocking_send(Fed::Batch(batch)).map_err(|_| Err(Gone))
    }
}

/// The first event of each table among the lines at the beginning of a file, each as a batch.
pub(super) fn samples(settings: &JsonlSettings, file: &Followed) -> std::io::Result<Vec<(String, Batch)>> {
    const LINES: usize = 1000;
    const BYTES: u64 = 4 << 20;
    let (mut splitter, mut samples) = (LineSplitter::new(0, 0, 1 << 20), Vec::<(String, Batch)>::new());
    let mut input = (&*file.file).take(BYTES);
    while splitter.feed(&mut input)? > 0 {}
    let tables: Vec<String> = settings.tables.iter().map(|table| qualified(table)).collect();
    for line in std::iter::from_fn(|| splitter.next()).take(LINES) {
        let events = line.bytes.and_then(|bytes| line_event::events(&bytes, settings.format, &settings.key).ok());
        for event in events.into_iter().flatten() {
            let Some(table) = line_event::table(&event) else { continue };
            let known = samples.iter().any(|(known, _)| *known == table);
            let wanted = tables.is_empty() || tables.contains(&table);
            let is_row = event.get("operation") == Some(&Json::Text("insert".to_owned()));
            let mut reader = Reader::default();
            if !known && wanted && is_row && reader.push(&event).is_ok() {
                samples.push((table, reader.finish()));
            }
        }
    }
    Ok(samples)
}
