//! `SourceMeter`: what a source has read, how far it is behind, and how its slot stands.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::number::{Counter, Gauge, Reading};

/// The age at which a look at a slot says nothing of it as it is now: several looks were missed.
const STALE: Duration = Duration::from_secs(120);

/// The reason why a stream ended, and another one had to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconnectReason {
    /// The connection was closed or broke.
    Closed,
    /// The server said nothing for longer than it may.
    Silent,
    /// The server shut down, or ended the session.
    ServerShutdown,
    /// The schema, or how values are sent, has changed.
    Outdated,
    /// Anything else.
    Error,
}

impl ReconnectReason {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Closed, "closed"),
        (Self::Silent, "silent"),
        (Self::ServerShutdown, "server_shutdown"),
        (Self::Outdated, "outdated"),
        (Self::Error, "error"),
    ];
}

/// All that a source tells of itself.
#[derive(Debug, Default)]
pub struct SourceMeter {
    /// Events received, by operation: insert, update, delete, truncate. Copied rows are inserts.
    pub events: [Counter; 4],
    /// Commits received.
    pub transactions: Counter,
    /// Bytes of the replication connection.
    pub received_bytes: Counter,
    /// Rows that copies brought.
    pub copied_rows: Counter,
    /// Streams that ended and were opened again, by reason.
    pub reconnects: [Counter; 5],
    /// End of the server's log as far as it is known.
    pub server_lsn: Gauge,
    /// Up to where everything is durable, and the server may forget.
    pub confirmed_lsn: Gauge,
    /// In µs: how old the last event was when the server sent it.
    pub receive_lag: Reading,
    /// In µs: the server's clock minus ours.
    pub clock_offset: Reading,
    connected: AtomicBool,
    slot_active: Reading,
    slot: Mutex<Option<(SystemTime, SlotReading)>>,
    copies: Mutex<Option<CopyCount>>,
}

/// A slot as it stood at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotReading {
    /// All that the server says of the log that the slot needs: `reserved`, `extended`,
    /// `unreserved`, `lost`.
    pub wal_status: String,
    /// Bytes of log that the server keeps for it.
    pub retained: Option<u64>,
    /// Bytes that may still be written before the server drops log that it needs. None without a
    /// limit.
    pub safe: Option<u64>,
    /// The limit on what is kept. None without one.
    pub limit: Option<u64>,
}

impl SlotReading {
    /// As postgres_exporter has it: 0 reserved, 1 extended, 2 unreserved, 3 lost. None for a word
    /// that is not known.
    pub fn status_number(&self) -> Option<u64> {
        ["reserved", "extended", "unreserved", "lost"]
            .iter()
            .position(|word| *word == self.wal_status)
            .map(|at| at as u64)
    }
}

/// The number of copies of tables that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyCount {
    /// Not begun.
    pub waiting: u64,
    /// Under way.
    pub running: u64,
    /// Complete.
    pub done: u64,
    /// Given up.
    pub failed: u64,
    /// About how many rows they have, as far as that is known.
    pub rows_expected: u64,
}

/// A stream that is open until this is dropped.
#[derive(Debug)]
pub struct Connected(Arc<SourceMeter>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connected(false);
    }
}

impl SourceMeter {
    /// A stream has been opened, and ends when the answer is dropped.
    pub fn connect(meter: &Arc<Self>) -> Connected {
        meter.connected(true);
        meter.slot_is_active(true);
        Connected(Arc::clone(meter))
    }

    /// A stream has been opened, or has ended.
    pub fn connected(&self, now: bool) {
        self.connected.store(now, Relaxed);
    }

    /// Tells whether it streams.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    /// A stream has ended and another is opened.
    pub fn reconnects(&self, reason: ReconnectReason) {
        self.reconnects.get(reason as usize).into_iter().for_each(|counter| counter.add(1));
    }

    /// Takes note of where the server's log ends and how far it is confirmed, both of one moment.
    pub fn stands_at(&self, server: u64, confirmed: u64) {
        self.server_lsn.set(server.max(confirmed));
        self.confirmed_lsn.set(confirmed);
    }

    /// Bytes of log that are not confirmed. Unknown while nothing is streamed: then nobody knows
    /// how far the server is.
    pub fn lag_bytes(&self) -> Option<u64> {
        let server = Some(self.server_lsn.get()).filter(|server| *server > 0 && self.is_connected())?;
        Some(server.saturating_sub(self.confirmed_lsn.get()))
    }

    /// Takes note of a look at the slot, which somebody reads or not.
    pub fn looked_at(&self, active: bool, slot: SlotReading) {
        self.slot_active.set(Some(i64::from(active)));
        *locked(&self.slot) = Some((SystemTime::now(), slot));
    }

    /// Tells whether somebody reads the slot, as far as was seen.
    pub fn slot_is_active(&self, active: bool) {
        self.slot_active.set(Some(i64::from(active)));
    }

    /// Tells whether somebody read the slot when it was last looked at.
    pub fn slot_active(&self) -> Option<bool> {
        self.slot_active.get().map(|active| active == 1)
    }

    /// The time when the slot was looked at last.
    pub fn checked_at(&self) -> Option<SystemTime> {
        locked(&self.slot).as_ref().map(|(at, _)| *at)
    }

    /// All that was read of the slot, unless that is too long ago.
    pub fn slot(&self) -> Option<SlotReading> {
        let slot = locked(&self.slot).clone()?;
        slot.0.elapsed().is_ok_and(|age| age < STALE).then_some(slot.1)
    }

    /// The number of copies that there are now.
    pub fn copies(&self, now: CopyCount) {
        *locked(&self.copies) = Some(now);
    }

    /// The number of copies that there were when they were last counted.
    pub fn copy_count(&self) -> Option<CopyCount> {
        *locked(&self.copies)
    }

    /// The time since something was committed by the server's clock, at `committed` µs since
    /// 1970-01-01 UTC. Never negative.
    pub fn age(&self, committed: i64) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let now = now.saturating_add(self.clock_offset.get().unwrap_or(0));
        Duration::from_micros(now.saturating_sub(committed).max(0) as u64)
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_unknown_without_a_stream_and_never_negative() {
        let meter = SourceMeter::default();
        assert_eq!(meter.lag_bytes(), None);
        meter.connected(true);
        assert_eq!(meter.lag_bytes(), None, "nothing was heard of the server yet");
        meter.stands_at(100, 40);
        assert_eq!(meter.lag_bytes(), Some(60));
        meter.stands_at(100, 140);
        assert_eq!(meter.lag_bytes(), Some(0));
        meter.connected(false);
        assert_eq!(meter.lag_bytes(), None);
    }

    #[test]
    fn ages_are_by_the_servers_clock() {
        let meter = SourceMeter::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        assert_eq!(meter.age(now + 60_000_000), Duration::ZERO, "the server's clock is ahead");
        meter.clock_offset.set(Some(60_000_000));
        assert!(meter.age(now) >= Duration::from_secs(60));
    }
}
