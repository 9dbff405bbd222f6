//! The folder of the cache: private to one user, with its key; entries are written whole and the
//! oldest evicted.
//!
//! It is opened once, and everything in it through that: whoever owns a folder above could put
//! another one in its place.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, linkat, open, openat, renameat, unlinkat};
use rustix::io::Errno;

/// The ending of an entry's name.
const ENTRY: &str = "compiled";

/// The ending of an entry's name while the entry is being written.
const UNFINISHED: &str = "unfinished";

/// The key's file.
const KEY: &str = "key";

/// An unfinished entry of this age was left by a process that is gone.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A block of SHA-256: what HMAC takes as it is.
pub(super) type Key = [u8; 64];

pub(super) struct Folder(File);

/// An entry: its name, how large it is, and when it was last used.
pub(super) struct Entry {
    pub(super) name: String,
    bytes: u64,
    used: SystemTime,
}

impl Folder {
    /// The folder, made or tightened so that nobody else can enter it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let folder = File::from(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        let found = folder.metadata()?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(Error::other("it belongs to another user"));
        }
        if found.mode() & 0o777 != 0o700 {
            folder.set_permissions(Permissions::from_mode(0o700))?;
        }
        Ok(Self(folder))
    }

    /// The key of this folder, made at the first use. Two processes that make one at once end with
    /// the same.
    pub(super) fn key(&self) -> Result<Key> {
        for _ in 0..3 {
            match self.read_key() {
                Ok(Some(key)) => return Ok(key),
                Ok(None) => self.remove(KEY)?, // cut off, or not ours: so is everything made with it
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let fresh: Key = rand::random();
            let (unfinished, mut file) = self.unfinished()?;
            file.write_all(&fresh)?;
            file.sync_all()?;
            // A link fails if there is a key by now, where a rename would replace it.
            let linked = linkat(&self.0, &unfinished, &self.0, KEY, AtFlags::empty());
            self.remove(&unfinished)?;
            match linked {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::other("its key cannot be read"))
    }

    /// None if what is there is no key that only this user could have written and can read.
    fn read_key(&self) -> Result<Option<Key>> {
        let file = match self.read(KEY) {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(None),
            file => file?,
        };
        let found = file.metadata()?;
        let private =
            found.is_file() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
        let mut key = Vec::new();
        if private {
            file.take(size_of::<Key>() as u64 + 1).read_to_end(&mut key)?;
        }
        Ok(key.try_into().ok())
    }

    /// Opens a file in it, but follows no link and waits for no pipe.
    pub(super) fn read(&self, name: &str) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::empty())?))
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// The name of the entry for what is called `name`.
    pub(super) fn entry(name: &str) -> String {
        format!("{name}.{ENTRY}")
    }

    /// A new file, and its name.
    fn unfinished(&self) -> Result<(String, File)> {
        let name = format!("{:032x}.{UNFINISHED}", rand::random::<u128>());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.0, &name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok((name, File::from(file)))
    }

    /// Writes an entry so that others see all of it or none.
    pub(super) fn write(&self, name: &str, content: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
        let (unfinished, mut file) = self.unfinished()?;
        let written = content(&mut file).and_then(|()| Ok(renameat(&self.0, &unfinished, &self.0, name)?));
        if written.is_err() {
            let _ = self.remove(&unfinished);
        }
        written
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry>> {
        self.files(ENTRY)
    }

    fn files(&self, extension: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if Path::new(name).extension().is_some_and(|found| found == extension)
                && let Ok(found) = self.read(name).and_then(|file| file.metadata())
            // another process may have removed it
            {
                entries.push(Entry { name: name.to_owned(), bytes: found.len(), used: found.modified()? });
            }
        }
        Ok(entries)
    }

    /// Removes what was not used for longest until the rest fits, but never `newest`.
    pub(super) fn evict(&self, max_bytes: u64, newest: &str) -> Result<()> {
        let age = |entry: &Entry| SystemTime::now().duration_since(entry.used).unwrap_or_default();
        for left in self.files(UNFINISHED)?.iter().filter(|entry| age(entry) > ABANDONED) {
            let _ = self.remove(&left.name);
        }
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries.iter().filter(|entry| entry.name != newest) {
            if total <= max_bytes {
                break;
            }
            let _ = self.remove(&entry.name);
            total -= entry.bytes;
        }
        Ok(())
    }
}
