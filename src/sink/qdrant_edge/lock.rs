//! `Lock`: one process at a time opens the engine's folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use super::ground::Ground;
use crate::error::{Error, Fault, Result};

/// Name of the lock file in the folder. It holds who has the lock: `run 4711` or `search 4711`.
const FILE: &str = "lock";

/// The time between two attempts to take a lock.
const RETRY: Duration = Duration::from_millis(50);

/// The longest time that a pipeline waits for a search, or for its own former sink that still
/// tidies up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest time that a pipeline waits for another one, which may just be stopping.
const GRACE: Duration = Duration::from_millis(500);

/// The purpose for which the folder is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A pipeline: holds the folder for as long as it runs, and answers searches meanwhile.
    Run,
    /// A single search.
    Search,
}

/// The folder is ours until this is dropped, or the process dies.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock for a pipeline; blocks while a search has it.
    pub(super) fn take(folder: &Ground) -> Result<Self> {
        let start = Instant::now();
        loop {
            if let Some(lock) = Self::try_take(folder, Role::Run)? {
                return Ok(lock);
            }
            let holder = holder(folder);
            let ours = format!("run {}", std::process::id());
            let another = holder.starts_with("run ") && holder != ours;
            if start.elapsed() > if another { GRACE } else { PATIENCE } {
                if holder == ours {
                    let what =
                        format!("a former writer of folder `{}` is still busy in this process", folder.display());
                    return Err(
                        Error::new(Fault::Environment, what).help("it lets go once the engine is done; just wait")
                    );
                }
                let process = holder.split_once(' ').map_or("unknown", |(_, process)| process).to_owned();
                return Err(Error::new(
                    Fault::Environment,
                    format!("folder `{}` is in use by another process ({process})", folder.display()),
                )
                .help(format!(
                    "one pipeline at a time writes a `qdrant-edge` folder: stop the other one (`kill {process}`), \
                     or give this one a `path` of its own"
                )));
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_take(folder: &Ground, role: Role) -> Result<Option<Self>> {
        let fail = |error: io::Error| {
            Error::new(Fault::Environment, format!("folder `{}` cannot be locked", folder.display()))
                .because(error)
                .help("the folder must be on a file system that knows locks, and writable for the host")
        };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(FILE));
        let mut file = file.map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let role = match role {
            Role::Run => "run",
            Role::Search => "search",
        };
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(format!("{role} {}", std::process::id()).as_bytes())
        };
        write(&mut file).map_err(fail)?;
        Ok(Some(Self(file)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // So that nobody takes the next holder for us; a failure only costs a clear message.
        let _ = self.0.set_len(0);
    }
}

fn holder(folder: &Ground) -> String {
    let mut text = String::new();
    // Unreadable means unknown, which the caller treats as somebody who will soon be gone.
    let _ = File::open(folder.join(FILE)).and_then(|file| file.take(64).read_to_string(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_pipeline_is_refused_and_told_whom_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::try_take(&folder.path().into(), Role::Run).unwrap().unwrap();
        assert!(Lock::try_take(&folder.path().into(), Role::Search).unwrap().is_none());
        std::fs::write(folder.path().join(FILE), "run 4711").unwrap();
        let error = Lock::take(&folder.path().into()).unwrap_err();
        assert_eq!(
            error.report(),
            format!(
                "error: folder `{}` is in use by another process (4711)\n  \
                 help: one pipeline at a time writes a `qdrant-edge` folder: stop the other one (`kill 4711`), \
                 or give this one a `path` of its own\n",
                folder.path().display()
            )
        );
        drop(lock);
        Lock::take(&folder.path().into()).unwrap();
    }

    #[test]
    fn a_pipeline_waits_for_a_search() {
        let folder = tempfile::tempdir().unwrap();
        let search = Lock::try_take(&folder.path().into(), Role::Search).unwrap().unwrap();
        std::thread::scope(|scope| {
            let pipeline = scope.spawn(|| Lock::take(&folder.path().into()));
            drop(search);
            pipeline.join().unwrap().unwrap();
        });
    }
}
