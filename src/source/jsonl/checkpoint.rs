//! `Checkpoint`: how far a pipeline has confirmed a file, kept beside it: written whole, synced,
//! and then put in its place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::config::folder_beneath;
use crate::error::{Error, Fault, Result};

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 20;
const VERSION: u32 = 1;

/// The record of a file: how far it is confirmed, and which file it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// Positions mean nothing under another one.
    pub(super) incarnation: String,
    /// The path, for people.
    pub(super) file: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// SHA-256 of so many of its first bytes, in hexadecimal.
    pub(super) head_bytes: u64,
    pub(super) head: String,
    /// Bytes of the file that are confirmed, and lines.
    pub(super) offset: u64,
    pub(super) line: u64,
    /// Bytes of the files before it, which were moved away.
    pub(super) base: u64,
    /// The table that was met first, whose ids are plain keys.
    pub(super) first_table: Option<String>,
    /// The marks by which the stores of the sinks were known, by the name of the sink.
    #[serde(default)]
    pub(super) sinks: BTreeMap<String, Vec<String>>,
    /// The models that made the vectors in them.
    #[serde(default)]
    pub(super) models: BTreeMap<String, Vec<String>>,
}

impl Record {
    /// Of a file that was never read.
    pub(super) fn new(file: &Path) -> Self {
        Self {
            version: VERSION,
            incarnation: format!("{:016x}", rand::random::<u64>()),
            file: file.display().to_string(),
            device: 0,
            inode: 0,
            head_bytes: 0,
            head: String::new(),
            offset: 0,
            line: 0,
            base: 0,
            first_table: None,
            sinks: BTreeMap::new(),
            models: BTreeMap::new(),
        }
    }

    /// Tells if anything was confirmed under it.
    pub(super) fn has_history(&self) -> bool {
        self.offset > 0 || self.base > 0
    }
}

/// The file beside the file, in a folder that is held open.
#[derive(Debug)]
pub(super) struct Checkpoint {
    folder: File,
    name: OsString,
    path: PathBuf,
}

/// Held by the process that runs the pipeline.
#[derive(Debug)]
pub(super) struct PipelineLock(#[expect(dead_code, reason = "held, not looked at")] File);

/// The endings of our files' names.
pub(super) const ENDINGS: [&str; 3] = [".position", ".position.new", ".lock"];

impl Checkpoint {
    /// The checkpoint of `pipeline` beside `file`, which may lie no where else than beneath
    /// `beneath`. Makes nothing.
    ///
    /// # Errors
    /// `Environment` if the folder cannot be opened.
    pub(super) fn beside(file: &Path, beneath: Option<&Path>, pipeline: &str) -> Result<Self> {
        let folder = folder_beneath(parent(file), beneath).map_err(|error| {
            Error::new(Fault::Environment, format!("the folder of `{}` cannot be opened", file.display()))
                .because(error)
                .help("how far the file is read is kept beside it: make the folder, or correct `path`")
        })?;
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{pipeline}"));
        let mut path = file.as_os_str().to_owned();
        path.push(format!(".{pipeline}.position"));
        Ok(Self { folder, name, path: path.into() })
    }

    /// Returns the path of the record, for people.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that no other process runs the pipeline.
    ///
    /// # Errors
    /// `Environment` if one does, or the folder cannot be written.
    pub(super) fn lock(&self) -> Result<PipelineLock> {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = self.open(".lock", flags).map_err(|error| self.unwritable(error))?;
        match file.try_lock() {
            Ok(()) => Ok(PipelineLock(file)),
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(Fault::Environment, "another process runs the pipeline on this file")
                    .at(format!("`{}`", self.path.with_extension("lock").display()))
                    .help("stop it, or give this pipeline another `name`"))
            }
            Err(TryLockError::Error(error)) => Err(self.unwritable(error)),
        }
    }

    /// Returns the record that was written last; None if none was.
    ///
    /// # Errors
    /// `Environment` if it cannot be read.
    pub(super) fn read(&self) -> Result<Option<Record>> {
        let unreadable = |error: String| {
            Error::new(Fault::Environment, format!("`{}` cannot be read", self.path.display())).because(error).help(
                "it says how far the file is read: restore it; or remove it, and the next `pgstream-host run` reads the file from \
                 its beginning",
            )
        };
        let mut text = Vec::new();
        match self.open(".position", OFlags::RDONLY) {
            Ok(file) => file.take(MAX_BYTES).read_to_end(&mut text).map_err(|error| unreadable(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let record: Record = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        match record.version {
            VERSION => Ok(Some(record)),
            other => Err(unreadable(format!("it is of version {other}, which this build does not know"))),
        }
    }

    /// Writes a record. When it returns, that is what is read after any crash; before, what was
    /// there.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let mut file = self.open(".position.new", OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        renameat(&self.folder, self.named(".position.new"), &self.folder, self.named(".position"))?;
        Ok(fsync(&self.folder)?)
    }

    /// Removes all that is kept. Answers whether there was a record.
    ///
    /// # Errors
    /// `Environment` if it cannot be removed.
    pub(super) fn remove(&self) -> Result<bool> {
        let mut found = false;
        for ending in ENDINGS {
            match unlinkat(&self.folder, self.named(ending), AtFlags::empty()) {
                Ok(()) => found |= ending == ".position",
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(self.unwritable(error.into())),
            }
        }
        Ok(found)
    }

    pub(super) fn unwritable(&self, error: io::Error) -> Error {
        Error::new(Fault::Environment, format!("`{}` cannot be written", self.path.display()))
            .because(error)
            .help("how far a file is read is kept beside it: let the host write into the folder")
    }

    /// No link is followed: the folder may be a stranger's.
    fn open(&self, ending: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(openat(&self.folder, self.named(ending), flags, Mode::from_raw_mode(0o644))?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file")),
        }
    }

    fn named(&self, ending: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(ending);
        name
    }
}

/// The folder that a file lies in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_one_process_at_a_time_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.jsonl");
        let checkpoint = Checkpoint::beside(&file, None, "docs").unwrap();
        assert_eq!(checkpoint.read().unwrap(), None);
        let record = Record { offset: 7, line: 2, ..Record::new(&file) };
        checkpoint.write(&Record::new(&file)).unwrap();
        checkpoint.write(&record).unwrap();
        assert_eq!(checkpoint.read().unwrap(), Some(record));
        let lock = checkpoint.lock().unwrap();
        let other = Checkpoint::beside(&file, None, "docs").unwrap();
        assert!(other.lock().unwrap_err().report().contains("another process"));
        assert!(Checkpoint::beside(&file, None, "other").unwrap().lock().is_ok(), "another pipeline");
        drop(lock);
        assert!(other.lock().is_ok());
        assert!(other.remove().unwrap() && !other.remove().unwrap());
        std::fs::write(other.path(), "{}").unwrap();
        assert!(other.read().unwrap_err().report().contains("from its beginning"));
    }

    #[test]
    fn a_link_in_the_place_of_a_checkpoint_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, victim) = (folder.path().join("events.jsonl"), folder.path().join("victim"));
        std::fs::write(&victim, "kept").unwrap();
        let checkpoint = Checkpoint::beside(&file, None, "docs").unwrap();
        for ending in ENDINGS {
            std::os::unix::fs::symlink(&victim, folder.path().join(format!("events.jsonl.docs{ending}"))).unwrap();
        }
        assert!(checkpoint.lock().is_err() && checkpoint.read().is_err());
        assert!(checkpoint.write(&Record::new(&file)).is_err());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
    }
}
