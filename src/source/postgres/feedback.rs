//! `Feedback`: the one owner of the write half. Tells the server what is confirmed, whether or not
//! anybody reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::message::EPOCH;
use crate::lsn::Lsn;
use crate::meter::SourceMeter;
use crate::source::Lag;

/// An idle connection speaks this often: well below any sensible `wal_sender_timeout`, and the age
/// that the server's view of us may have.
const EVERY: Duration = Duration::from_secs(1);
/// Confirmations closer than this travel together: each may cost the server a write of the slot.
const COALESCE: Duration = Duration::from_millis(100);

/// The progress of the source: positions received and confirmed, and who wants an answer. Outlives
/// connections.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The only source of the `flush` that the server hears of.
    confirmed: AtomicU64,
    /// Commit of a transaction with events that was returned and is not confirmed yet; 0 if none is
    /// waited for.
    returned: AtomicU64,
    /// The commit of the last one of those that was confirmed.
    held: AtomicU64,
    /// End of what was received.
    received: AtomicU64,
    /// End of what the server is known to have.
    ahead: AtomicU64,
    /// The server wants an answer at once.
    wanted: AtomicBool,
    /// Something was received since the last status update.
    heard: AtomicBool,
    /// We want an answer, and have none yet.
    asked: AtomicBool,
    wake: Notify,
    /// The server wants to shut down.
    leave: Notify,
}

impl Progress {
    pub(super) fn confirm(&self, lsn: Lsn) {
        if self.confirmed.fetch_max(lsn.0, Relaxed) < lsn.0 {
            self.wake.notify_one();
        }
    }

    /// A batch was returned whose last event is of the transaction that commits at `commit`.
    pub(super) fn returned(&self, commit: Lsn) {
        // One at a time is enough to tell later how far sinks must have come at least.
        let _ = self.returned.compare_exchange(0, commit.0, Relaxed, Relaxed);
    }

    /// Everything up to `lsn` is durable: as `confirm`, of what was returned here.
    pub(super) fn durable(&self, lsn: Lsn) {
        let returned = self.returned.load(Relaxed);
        if returned < lsn.0 {
            self.held.fetch_max(returned, Relaxed);
            self.returned.store(0, Relaxed);
        }
        self.confirm(lsn);
    }

    /// The commit of a transaction of which all sinks hold all events. Invalid if none is known.
    pub(super) fn held(&self) -> Lsn {
        Lsn(self.held.load(Relaxed))
    }

    pub(super) fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Relaxed))
    }

    /// Bytes came in: the server lives.
    pub(super) fn hear(&self) {
        self.heard.store(true, Relaxed);
        self.asked.store(false, Relaxed);
    }

    /// Everything before `end` was received.
    pub(super) fn receive(&self, end: Lsn) {
        self.received.fetch_max(end.0, Relaxed);
        self.see(end);
    }

    /// Up to where everything was received.
    pub(super) fn received(&self) -> Lsn {
        Lsn(self.received.load(Relaxed))
    }

    /// The server has log up to `end`.
    pub(super) fn see(&self, end: Lsn) {
        self.ahead.fetch_max(end.0, Relaxed);
    }

    /// The server asked for a status update.
    pub(super) fn answer(&self) {
        self.wanted.store(true, Relaxed);
        self.wake.notify_one();
    }

    /// The server shuts down, and would wait until all that it has sent is confirmed. The sinks may
    /// need that server themselves, or be down: whoever streams lets go, and what is not confirmed
    /// comes again.
    pub(super) fn leave(&self) {
        self.leave.notify_waiters();
    }

    /// Up to where the server is known to have log.
    pub(super) fn ahead(&self) -> Lsn {
        Lsn(self.ahead.load(Relaxed))
    }

    /// Tells how far the server and the pipeline are.
    pub(super) fn tell(&self, meter: &SourceMeter) {
        meter.stands_at(self.ahead().0, self.confirmed().0);
    }

    pub(super) fn lag(&self) -> Lag {
        Lag { bytes: self.ahead().bytes_since(self.confirmed()) }
    }

    /// Returns the time at which the next status update is due, if the last one was sent at `last`
    /// and confirmed `told`.
    fn due(&self, told: Lsn, last: Instant) -> Instant {
        let confirmed = self.confirmed();
        // A server that shuts down waits until it hears that we have all that it sent.
        let caught_up = confirmed.0 >= self.received.load(Relaxed);
        match confirmed > told {
            _ if self.wanted.load(Relaxed) => last,
            true if caught_up => last,
            true => last + COALESCE,
            false => last + EVERY,
        }
    }

    /// Tells if the server is to be asked for an answer, and takes note that it is. True if nothing
    /// came since the last status update, and no answer is awaited yet.
    fn ask(&self) -> bool {
        !self.heard.swap(false, Relaxed) && !self.asked.swap(true, Relaxed)
    }
}

/// The task that writes to the server.
#[derive(Debug)]
pub(super) struct Feedback<W> {
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<W>>,
}

impl<W: AsyncWrite + Unpin + Send + 'static> Feedback<W> {
    /// Starts to write status updates to `output`, the first one at once.
    pub(super) fn spawn(output: W, progress: Arc<Progress>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(run(output, progress, stopped)) }
    }

    /// Tells the server what was confirmed last, and that no more will follow.
    pub(super) async fn finish(self) -> std::io::Result<W> {
        // The task has ended if nobody listens; its result says why.
        let _ = self.stop.send(());
        self.task.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }
}

async fn run<W: AsyncWrite + Unpin>(
    mut output: W,
    progress: Arc<Progress>,
    mut stopped: oneshot::Receiver<()>,
) -> std::io::Result<W> {
    let mut told = Lsn::INVALID;
    let mut last = Instant::now().checked_sub(EVERY).unwrap_or_else(Instant::now);
    loop {
        tokio::select! {
            biased;
            // 1. The end comes before all else, so that a busy server cannot put it off.
            stop = &mut stopped => {
                if stop.is_err() {
                    return Ok(output); // the connection was given up, not ended in order
                }
                return farewell(output, &progress).await;
            }
            // 2. So does a server that shuts down. It ends its side, and so the stream.
            () = progress.leave.notified() => return farewell(output, &progress).await,
            // 3. Due, by the clock or because something happened.
            () = tokio::time::sleep_until(progress.due(told, last)) => {}
            // 4. Something happened: look again when the next update is due.
            () = progress.wake.notified() => continue,
        }
        progress.wanted.store(false, Relaxed);
        told = progress.confirmed();
        last = Instant::now();
        let message = status(&progress, progress.ask());
        output.write_all(&message).await?;
        output.flush().await?;
    }
}

/// The last word: what is confirmed, and that no more will follow.
async fn farewell<W: AsyncWrite + Unpin>(mut output: W, progress: &Progress) -> std::io::Result<W> {
    let mut message = status(progress, false);
    frontend::copy_done(&mut message);
    output.write_all(&message).await?;
    output.flush().await?;
    Ok(output)
}

/// A standby status update. `flush` is what was confirmed and nothing else.
fn status(progress: &Progress, ask: bool) -> BytesMut {
    let confirmed = progress.confirmed().0;
    let received = progress.received.load(Relaxed).max(confirmed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    let mut message = BytesMut::with_capacity(39);
    message.put_u8(b'd');
    message.put_u32(38);
    message.put_u8(b'r');
    message.put_u64(received); // written
    message.put_u64(confirmed); // flushed
    message.put_u64(confirmed); // applied
    message.put_i64(now - EPOCH);
    message.put_u8(ask.into());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, DuplexStream};

    /// write, flush, apply and whether a reply is asked for.
    async fn heard(server: &mut DuplexStream) -> (u64, u64, u64, bool) {
        let mut bytes = [0; 39];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes[..6], *b"d\0\0\0\x26r");
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        (number(6), number(14), number(22), bytes[38] == 1)
    }

    fn start(progress: &Arc<Progress>) -> (DuplexStream, Feedback<DuplexStream>) {
        let (ours, server) = tokio::io::duplex(1 << 16);
        (server, Feedback::spawn(ours, Arc::clone(progress)))
    }

    #[test]
    fn the_next_status_is_due_after_a_second_and_earlier_if_there_is_something_to_say() {
        let (progress, last) = (Progress::default(), Instant::now());
        progress.receive(Lsn(50));
        let due = |told| progress.due(Lsn(told), last) - last;
        assert_eq!(due(0), EVERY, "nothing confirmed");
        progress.confirm(Lsn(20));
        assert_eq!(due(0), COALESCE, "confirmations travel together");
        assert_eq!(due(20), EVERY, "told already");
        progress.confirm(Lsn(50));
        assert_eq!(due(20), Duration::ZERO, "all that was received: a stopping server waits for this");
        assert_eq!(due(50), EVERY);
        progress.answer();
        assert_eq!(due(50), Duration::ZERO, "the server asked");
    }

    #[test]
    fn an_idle_connection_asks_once_until_something_comes() {
        let progress = Progress::default();
        assert!(progress.ask());
        assert!(!progress.ask(), "one question at a time");
        progress.hear();
        assert!(!progress.ask(), "something came: not idle");
        assert!(progress.ask());
    }

    #[tokio::test]
    async fn flush_is_what_was_confirmed_and_never_falls() {
        let progress = Arc::new(Progress::default());
        progress.confirm(Lsn(10));
        progress.receive(Lsn(50));
        let (mut server, feedback) = start(&progress);
        assert_eq!(heard(&mut server).await, (50, 10, 10, true));
        progress.confirm(Lsn(30));
        progress.confirm(Lsn(20));
        assert_eq!(heard(&mut server).await.1, 30);
        progress.confirm(Lsn(40));
        drop(feedback.finish().await.unwrap());
        let mut flushed = heard(&mut server).await.1;
        if flushed == 30 {
            flushed = heard(&mut server).await.1;
        }
        assert_eq!(flushed, 40, "the last word");
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"c\0\0\0\x04");
    }

    #[tokio::test]
    async fn a_question_is_answered_although_nothing_is_due() {
        let progress = Arc::new(Progress::default());
        let (mut server, _feedback) = start(&progress);
        heard(&mut server).await;
        progress.answer();
        heard(&mut server).await;
    }
}
