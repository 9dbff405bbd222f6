//! The dead letters of all pipelines, counted when somebody wants to know, and at most every half
//! minute.

use std::collections::BTreeMap;
use std::time::Duration;

use super::handle::PipelineHandle;
use super::letter_box::keeper;
use super::supervisor::Supervisor;
use crate::error::{Error, Fault, Result};
use crate::sink::dead_letters::{DeadLettersSettings, count};

/// The time between two counts.
const PAUSE: Duration = Duration::from_secs(30);
/// The time that one database may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl PipelineHandle {
    /// Letters that it may keep; none if it keeps none.
    pub fn letter_limit(&self) -> Option<u64> {
        keeper(&self.spec().settings, None).ok().map(|keeper| keeper.max_letters)
    }
}

impl Supervisor {
    /// Counts the letters of all pipelines each time that
    /// [`want_letter_counts`](Self::want_letter_counts) was called, until the process is to end. A
    /// database that does not answer leaves its pipelines' counts as they were.
    pub async fn count_letters(self) {
        let stop = self.stopping();
        let counting = async {
            loop {
                self.letter_counts_wanted().notified().await;
                self.count_all().await;
                tokio::time::sleep(PAUSE).await;
            }
        };
        let _ = stop.run_until_cancelled(counting).await;
    }

    async fn count_all(&self) {
        // One session for each database, in which all its pipelines are counted.
        let mut databases: BTreeMap<_, (DeadLettersSettings, Vec<(PipelineHandle, u64)>)> = BTreeMap::new();
        for handle in self.list() {
            let settings = handle.spec().settings;
            let Ok(keeper) = keeper(&settings, None) else { continue };
            let login = (keeper.url.as_ref().map(|url| url.expose().to_owned()), keeper.password_file.clone());
            let entry = databases.entry(login).or_insert_with(|| (keeper.clone(), Vec::new()));
            let most = keeper.max_letters;
            entry.1.push((handle, most));
        }
        for (settings, handles) in databases.into_values() {
            let pipelines: Vec<(&str, u64)> = handles.iter().map(|(handle, most)| (handle.name(), *most)).collect();
            let counted = tokio::time::timeout(PATIENCE, count(&settings, &pipelines)).await;
            let counted: Result<Vec<u64>> =
                counted.unwrap_or_else(|_| Err(Error::new(Fault::Environment, "the database gives no answer")));
            match counted {
                Ok(counts) => {
                    handles.iter().zip(counts).for_each(|((handle, _), count)| handle.letters().counted(count))
                }
                Err(error) => tracing::debug!(cause = error.chain(), ?pipelines, "dead letters cannot be counted"),
            }
        }
    }
}
