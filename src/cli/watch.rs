//! `FileWatch`: waits until files change. It looks at them twice a second, which sees what notifications miss: network file
//! systems, links that are swapped as Kubernetes does, files that an editor renames into place.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Looks that see the same before that counts: whoever writes several files, or one in pieces, is done by then.
const CALM: u32 = 2;
/// As many, if a file is missing that was there: some editors remove it first.
const CALM_WHEN_GONE: u32 = 10;

/// The things that are known of a file without reading it: its place, its length, and when it was changed.
type Marks = Option<(u64, u64, u64, Option<SystemTime>, i64)>;

/// Files as they were seen last.
pub(super) struct FileWatch {
    on: bool,
    known: Option<Vec<(PathBuf, Marks)>>,
}

impl FileWatch {
    /// Sees every change from the first wait on; if it is not `on`, none.
    pub(super) fn new(on: bool) -> Self {
        Self { on, known: None }
    }

    /// Returns when one of the files that `files` names has changed, is gone or is new, and all have been left alone since. Safe
    /// to cancel.
    pub(super) async fn wait(&mut self, files: impl Fn() -> Vec<PathBuf>) {
        if !self.on {
            std::future::pending::<()>().await;
        }
        let look = || tokio::task::block_in_place(|| seen(files()));
        let known = self.known.get_or_insert_with(look).clone();
        let (mut last, mut calm) = (known.clone(), 0);
        loop {
            tokio::time::sleep(LOOK).await;
            let now = look();
            calm = if now == last { calm + 1 } else { 0 };
            let there = |path: &PathBuf| now.iter().any(|(other, marks)| other == path && marks.is_some());
            let gone = known.iter().any(|(path, marks)| marks.is_some() && !there(path));
            if now != known && calm >= if gone { CALM_WHEN_GONE } else { CALM } {
                // What changes from now on, also while this is dealt with, is seen by the next wait.
                self.known = Some(now);
                return;
            }
            last = now;
        }
    }
}

fn seen(mut files: Vec<PathBuf>) -> Vec<(PathBuf, Marks)> {
    files.sort();
    files.dedup();
    let marks = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.modified().ok(), found.ctime_nsec()))
    };
    files.into_iter().map(|file| (file.clone(), marks(&file))).collect()
}
