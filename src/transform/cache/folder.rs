//! The folder of the cache: private to one user, with its key; entries are written whole and the oldest evicted.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Error, Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How entries end.
const ENTRY: &str = "compiled";

/// How entries end that are being written.
const UNFINISHED: &str = "unfinished";

/// The key's file.
const KEY: &str = "key";

/// An unfinished entry of this age was left by a process that is gone.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A block of SHA-256: what HMAC takes as it is.
pub(super) type Key = [u8; 64];

pub(super) struct Folder(PathBuf);

/// An entry: where it is, how large, and when it was last used.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Folder {
    /// The folder, made or tightened so that nobody else can enter it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let folder = path.canonicalize()?;
        let found = folder.metadata()?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(Error::other("it belongs to another user"));
        }
        if found.mode() & 0o777 != 0o700 {
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        }
        Ok(Self(folder))
    }

    /// The key of this folder, made at the first use. Two processes that make one at once end with the same.
    pub(super) fn key(&self) -> Result<Key> {
        let path = self.0.join(KEY);
        for _ in 0..3 {
            match self.read_key(&path) {
                Ok(Some(key)) => return Ok(key),
                Ok(None) => std::fs::remove_file(&path)?, // cut off, or not ours: so is everything made with it
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let fresh: Key = rand::random();
            let unfinished = self.unfinished();
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(&fresh)?;
            file.sync_all()?;
            // A link fails if there is a key by now, where a rename would replace it.
            let linked = std::fs::hard_link(&unfinished, &path);
            std::fs::remove_file(&unfinished)?;
            match linked {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Err(Error::other("its key cannot be read"))
    }

    /// None if what is there is no key that only this user could have written and can read.
    fn read_key(&self, path: &Path) -> Result<Option<Key>> {
        let found = path.symlink_metadata()?;
        let private =
            found.is_file() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
        let mut key = Vec::new();
        if private {
            File::open(path)?.take(size_of::<Key>() as u64 + 1).read_to_end(&mut key)?;
        }
        Ok(key.try_into().ok())
    }

    pub(super) fn entry(&self, name: &str) -> PathBuf {
        self.0.join(name).with_extension(ENTRY)
    }

    fn unfinished(&self) -> PathBuf {
        self.0.join(format!("{:032x}", rand::random::<u128>())).with_extension(UNFINISHED)
    }

    /// Writes an entry so that others see all of it or none.
    pub(super) fn write(&self, path: &Path, content: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        let unfinished = self.unfinished();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let written = content(&mut file).and_then(|()| std::fs::rename(&unfinished, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        written
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry>> {
        self.files(ENTRY)
    }

    fn files(&self, extension: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in std::fs::read_dir(&self.0)? {
            let path = file?.path();
            if path.extension().is_some_and(|found| found == extension)
                && let Ok(found) = path.symlink_metadata()
            // another process may have removed it
            {
                entries.push(Entry { path, bytes: found.len(), used: found.modified()? });
            }
        }
        Ok(entries)
    }

    /// Removes what was not used for longest until the rest fits, but never `newest`.
    pub(super) fn evict(&self, max_bytes: u64, newest: &Path) -> Result<()> {
        let age = |entry: &Entry| SystemTime::now().duration_since(entry.used).unwrap_or_default();
        for left in self.files(UNFINISHED)?.iter().filter(|entry| age(entry) > ABANDONED) {
            let _ = std::fs::remove_file(&left.path);
        }
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries.iter().filter(|entry| entry.path != newest) {
            if total <= max_bytes {
                break;
            }
            let _ = std::fs::remove_file(&entry.path);
            total -= entry.bytes;
        }
        Ok(())
    }
}
