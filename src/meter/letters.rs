//! `LetterMeter`: how many dead letters a pipeline has, as somebody counted them, and what became
//! of replays.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::number::Counter;

/// A count that is older says nothing any more.
const STALE: Duration = Duration::from_secs(120);

/// All that is known of a pipeline's dead letters.
#[derive(Debug, Default)]
pub struct LetterMeter {
    kept: Mutex<Option<(u64, Instant)>>,
    /// Letters that were replayed: settled, refused again; as far as this host found out.
    pub replayed: [Counter; 2],
}

impl LetterMeter {
    /// The words for [`replayed`](Self::replayed).
    pub const OUTCOMES: [&'static str; 2] = ["settled", "refused"];

    /// So many are kept now.
    pub fn counted(&self, letters: u64) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((letters, Instant::now()));
    }

    /// The letters that are kept. None if nobody has counted them for two minutes.
    pub fn kept(&self) -> Option<u64> {
        let kept = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.filter(|(_, at)| at.elapsed() < STALE).map(|(letters, _)| letters)
    }

    /// Replays have ended.
    pub fn settled(&self, gone: u64, refused_again: u64) {
        let [settled, refused] = &self.replayed;
        settled.add(gone);
        refused.add(refused_again);
    }
}
