//! `Voice`: the words of a guest. Its log calls, standard output and error become log lines,
//! escaped, capped and rate-limited.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::words::presentable;
use crate::meter::TransformMeter;

/// Lines per second of one handler, over all its workers, unless its tenant has another limit: more
/// than a person reads, too few to fill a disk.
const LINES_PER_SECOND: u32 = 100;

/// Bytes of one line; the rest is cut and counted.
const LINE_BYTES: usize = 4096;

/// Lines that are remembered for the error of a call that fails: a panic's place and message are
/// two lines.
const LAST_LINES: usize = 6;

/// Bytes of a line that is remembered for an error.
const LAST_LINE_BYTES: usize = 400;

/// The loudness of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// Tells if anybody wants lines that are as quiet as this.
    fn is_logged(self) -> bool {
        match self {
            Level::Trace => tracing::enabled!(tracing::Level::TRACE),
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Warn => tracing::enabled!(tracing::Level::WARN),
            Level::Error => tracing::enabled!(tracing::Level::ERROR),
        }
    }
}

/// The stream that a guest wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// The number of lines that may still be said, shared by the workers of a handler or by all
/// handlers of a tenant.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u32,
    window: Mutex<Option<Window>>,
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(LINES_PER_SECOND)
    }
}

/// The second in which lines are being counted.
#[derive(Debug)]
struct Window {
    began: Instant,
    said: u32,
    dropped: u64,
}

impl Quota {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, window: Mutex::default() }
    }

    /// Tells if a line may be said now, and counts it. The second value is the number of lines that
    /// were dropped in the second before, if that is to be said first.
    fn ask(&self, now: Instant) -> (bool, u64) {
        let mut window = lock(&self.window);
        let dropped = Self::turn(&mut window, now);
        let Some(window) = window.as_mut() else { return (true, dropped) };
        let granted = window.said < self.limit;
        if granted {
            window.said += 1;
        } else {
            window.dropped += 1;
        }
        (granted, dropped)
    }

    /// Returns the number of lines that were dropped in a second that is over and was not accounted
    /// for.
    fn settle(&self, now: Instant) -> u64 {
        let mut window = lock(&self.window);
        Self::turn(&mut window, now)
    }

    /// Tells if lines were dropped that `settle` will have to account for.
    fn owes(&self) -> bool {
        lock(&self.window).as_ref().is_some_and(|window| window.dropped > 0)
    }

    fn turn(window: &mut Option<Window>, now: Instant) -> u64 {
        let over = window.as_ref().is_none_or(|window| now.duration_since(window.began) >= Duration::from_secs(1));
        if !over {
            return 0;
        }
        let before = window.replace(Window { began: now, said: 0, dropped: 0 });
        before.map_or(0, |window| window.dropped)
    }
}

/// The voice of one instance. Clones speak with the same voice.
#[derive(Clone, Debug)]
pub(super) struct Voice(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    handler: Arc<TransformMeter>,
    quota: Arc<Quota>,
    unfinished: [Vec<u8>; 2],
    last: VecDeque<String>,
}

impl Voice {
    /// The voice of an instance of `handler`.
    pub(super) fn new(handler: Arc<TransformMeter>, quota: Arc<Quota>) -> Self {
        Self(Arc::new(Mutex::new(Inner { handler, quota, unfinished: Default::default(), last: VecDeque::new() })))
    }

    /// The counts of the handler.
    pub(super) fn meter(&self) -> Arc<TransformMeter> {
        Arc::clone(&lock(&self.0).handler)
    }

    /// Says a line through the `log` import.
    pub(super) fn say(&self, level: Level, message: &str) {
        lock(&self.0).say(level, message);
    }

    /// Tells if the host may say a line that repeats the guest's words. If so, it counts as one of
    /// the guest's lines.
    pub(super) fn may_be_quoted(&self) -> bool {
        lock(&self.0).may_speak()
    }

    /// Takes bytes of a stream; whole lines are said.
    pub(super) fn write(&self, stream: Stream, bytes: &[u8]) {
        lock(&self.0).write(stream, bytes);
    }

    /// Says what was left unfinished on the streams. To be called when a call ends.
    pub(super) fn finish(&self) {
        let mut inner = lock(&self.0);
        for stream in [Stream::Stdout, Stream::Stderr] {
            inner.finish(stream);
        }
    }

    /// The last complaints since the last call of this: what stood on standard error or was logged
    /// as an error.
    pub(super) fn take_last_words(&self) -> Option<String> {
        let last = std::mem::take(&mut lock(&self.0).last);
        (!last.is_empty()).then(|| Vec::from(last).join("; "))
    }

    /// Keeps a complaint for the error of the call, without saying it.
    pub(super) fn remember(&self, complaint: &str) {
        lock(&self.0).remember(complaint);
    }

    /// Tells if lines were dropped for which nobody has accounted yet.
    pub(super) fn owes(&self) -> bool {
        lock(&self.0).quota.owes()
    }

    /// Accounts for lines that were dropped in a second that is over.
    pub(super) fn settle(&self) {
        let inner = lock(&self.0);
        inner.own_up(inner.quota.settle(Instant::now()));
    }
}

impl Inner {
    fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.hold(stream, line);
            self.finish(stream);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.hold(stream, bytes);
    }

    /// Keeps what is not a whole line yet; of a line that is too long only as much as is ever
    /// shown.
    fn hold(&mut self, stream: Stream, bytes: &[u8]) {
        let unfinished = &mut self.unfinished[stream as usize];
        let room = (LINE_BYTES + 1).saturating_sub(unfinished.len());
        unfinished.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn finish(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.unfinished[stream as usize]);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        match stream {
            Stream::Stdout => self.say(Level::Info, line),
            Stream::Stderr => {
                self.remember(line);
                self.say(Level::Warn, line);
            }
        }
    }

    fn say(&mut self, level: Level, message: &str) {
        if level == Level::Error {
            self.remember(message);
        }
        if !level.is_logged() || !self.may_speak() {
            return;
        }
        let (handler, text) = (self.handler.name.as_str(), presentable(message, LINE_BYTES));
        match level {
            Level::Trace => tracing::trace!(handler, "{text}"),
            Level::Debug => tracing::debug!(handler, "{text}"),
            Level::Info => tracing::info!(handler, "{text}"),
            Level::Warn => tracing::warn!(handler, "{text}"),
            Level::Error => tracing::error!(handler, "{text}"),
        }
    }

    fn may_speak(&self) -> bool {
        let (granted, dropped) = self.quota.ask(Instant::now());
        self.own_up(dropped);
        self.handler.dropped_lines.add(u64::from(!granted));
        granted
    }

    fn own_up(&self, dropped: u64) {
        if dropped > 0 {
            let (handler, limit) = (self.handler.name.as_str(), self.quota.limit);
            tracing::warn!(handler, dropped, "{dropped} lines were dropped: a handler may log {limit} a second");
        }
    }

    fn remember(&mut self, line: &str) {
        // Rust's advice to set a variable in an environment that the guest does not have.
        if line.starts_with("note: run with `RUST_BACKTRACE") {
            return;
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(presentable(line, LAST_LINE_BYTES));
    }
}

/// A panic elsewhere leaves words at worst incomplete, which is no reason to fall silent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler() -> Arc<TransformMeter> {
        Arc::new(TransformMeter::new("embed"))
    }

    #[test]
    fn a_flood_is_cut_and_owned_up_to() {
        let quota = Quota::default();
        let began = Instant::now();
        let granted = (0..250).filter(|_| quota.ask(began).0).count();
        assert_eq!(granted, LINES_PER_SECOND as usize);
        assert_eq!(quota.settle(began), 0, "the second is not over");
        let later = began + Duration::from_secs(1);
        assert_eq!(quota.ask(later), (true, 150));
        assert_eq!(quota.settle(later + Duration::from_secs(1)), 0, "told once");
    }

    #[test]
    fn a_flood_that_stops_is_owned_up_to_without_another_line() {
        let quota = Quota::default();
        let began = Instant::now();
        let granted = (0..101).filter(|_| quota.ask(began).0).count();
        assert_eq!(granted, 100);
        assert_eq!(quota.settle(began + Duration::from_secs(2)), 1);
    }

    #[test]
    fn what_nobody_logs_takes_nothing_of_the_quota() {
        let quota = Arc::new(Quota::new(1));
        let voice = Voice::new(handler(), Arc::clone(&quota));
        let quiet = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(quiet, || (0..9).for_each(|_| voice.say(Level::Trace, "step")));
        assert!(quota.ask(Instant::now()).0);
        assert!(!quota.owes());
    }

    #[test]
    fn the_last_complaints_are_kept_and_plain_output_is_not() {
        let voice = Voice::new(handler(), Arc::default());
        voice.write(Stream::Stdout, b"fine\n");
        voice.write(Stream::Stderr, b"thread 'main' panicked at src/lib.rs:1:2:\nbo");
        voice.write(Stream::Stderr, b"om\nnote: run with `RUST_BACKTRACE=1` for more\n");
        voice.say(Level::Error, "logged\u{7}");
        voice.say(Level::Warn, "not this");
        voice.finish();
        let said = voice.take_last_words();
        assert_eq!(said.as_deref(), Some("thread 'main' panicked at src/lib.rs:1:2:; boom; logged\\u{7}"));
        assert_eq!(voice.take_last_words(), None);
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let voice = Voice::new(handler(), Arc::default());
        (0..1000).for_each(|_| voice.write(Stream::Stdout, &[b'x'; 4096]));
        assert!(lock(&voice.0).unfinished[0].len() <= LINE_BYTES + 1);
    }
}
