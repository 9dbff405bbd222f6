//! `Mark`: by what a folder is known, so that one that was removed, or made anew in its place, is
//! noticed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ground::Ground;
use crate::error::{Error, Fault, Result};

/// Name of the file in the folder that holds a random word.
const FILE: &str = "pgstream_mark";

/// Longer than any word of ours.
const MAX_BYTES: u64 = 64;

/// The mark of an open folder.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
    word: String,
}

impl Mark {
    /// Reads the folder's mark, or gives it one. To be called by whoever holds the folder.
    pub(super) fn take(folder: &Ground) -> Result<Self> {
        let path = folder.join(FILE);
        let take = || -> io::Result<(File, String)> {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let mut word = String::new();
            (&file).take(MAX_BYTES).read_to_string(&mut word)?;
            // A crash may have left it without a word.
            if word.trim().is_empty() {
                word = format!("{:016x}", rand::random::<u64>());
                file.write_all(word.as_bytes())?;
                file.sync_all()?;
                File::open(folder.path())?.sync_all()?;
            }
            Ok((file, word.trim().to_owned()))
        };
        let (file, word) = take().map_err(|error| unwritable(&path, error))?;
        Ok(Self { path: folder.named(FILE), file, word })
    }

    /// Removes the mark of a folder whose points are gone: what is made in it from now on is
    /// another store. To be called before that.
    pub(super) fn remove(folder: &Ground) -> Result<()> {
        let path = folder.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&path, error)),
            _ => Ok(()),
        }
    }

    /// The mark of a folder that somebody may hold. None if it has none.
    pub(super) fn read(folder: &Ground) -> Option<String> {
        let word = fs::read_to_string(folder.join(FILE)).ok()?;
        Some(word.trim().to_owned()).filter(|word| !word.is_empty())
    }

    pub(super) fn word(&self) -> &str {
        &self.word
    }

    /// Refuses to go on if the folder was removed, or another one put in its place: what is written
    /// has no name there.
    pub(super) fn stands(&self) -> Result<()> {
        let same = |ours: fs::Metadata, named: fs::Metadata| ours.ino() == named.ino() && ours.dev() == named.dev();
        let stands = self.file.metadata().and_then(|ours| Ok(same(ours, fs::metadata(&self.path)?)));
        if stands.is_ok_and(|stands| stands) {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(&self.path);
        let what = format!("folder `{}` was removed or replaced while the sink was using it", folder.display());
        Err(Error::new(Fault::Environment, what)
            .because("points that were written before count as durable, and do not come again")
            .help("bring them over anew: `pgstream-host resnapshot <pipeline file>`, then start the pipeline"))
    }
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(Fault::Environment, format!("file `{}` cannot be read or written", path.display()))
        .because(error)
        .help("the folder must be writable for the host")
}
