//! `LineFile`: a file that grows by whole lines, and that one process at a time writes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Fault, Result};

/// How much of the file's end is read at once in search of its last line break.
const TAIL_BYTES: u64 = 64 << 10;

/// How every line of ours begins.
const BEGINNING: &[u8] = br#"{"position":"#;

#[derive(Debug)]
pub(super) struct LineFile {
    path: PathBuf,
    file: File,
    /// Pipes and devices can neither be cut nor synced.
    regular: bool,
}

impl LineFile {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let fail = |error| cannot_open(path, error);
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(fail)?;
        let regular = file.metadata().map_err(fail)?.is_file();
        let lines = Self { path: path.to_owned(), file, regular };
        if regular {
            if !lines.claim()? {
                let what = format!("file `{}` is being written by another sink", lines.path.display());
                return Err(Error::new(Fault::Environment, what)
                    .help("give each sink a file of its own, and stop the other pipeline if it should not run"));
            }
            lines.cut_torn_line()?;
            lines.sync_folder().map_err(|error| lines.failed(error))?;
        }
        Ok(lines)
    }

    /// Whether `open` would succeed once no other sink has the file open. Neither makes nor alters anything.
    pub(super) fn check(path: &Path) -> Result<()> {
        let file = match OpenOptions::new().read(true).append(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
                return rustix::fs::access(folder(path), access).map_err(|error| cannot_open(path, error.into()));
            }
            Err(error) => return Err(cannot_open(path, error)),
        };
        let regular = file.metadata().map_err(|error| cannot_open(path, error))?.is_file();
        let lines = Self { path: path.to_owned(), file, regular };
        if regular && lines.claim()? {
            lines.torn_line()?;
        }
        Ok(())
    }

    /// Appends whole lines; durable when it returns.
    pub(super) fn append(&self, lines: &[u8]) -> Result<()> {
        let append = || -> io::Result<()> {
            if !self.regular {
                return (&self.file).write_all(lines);
            }
            let length = self.file.metadata()?.len();
            (&self.file).write_all(lines).and_then(|()| self.file.sync_data()).inspect_err(|_| {
                // Half a line in the middle of the file could not be told apart later. Should this fail too, the
                // next open finds the torn line at the end.
                let _ = self.file.set_len(length);
            })
        };
        append().map_err(|error| self.failed(error))
    }

    /// Keeps other sinks out. False if one of them has the file open.
    fn claim(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(self.failed(error)),
        }
    }

    /// A crash may leave part of a line at the end. Its delivery was not confirmed and comes again, so it can go.
    fn cut_torn_line(&self) -> Result<()> {
        let Some(torn) = self.torn_line()? else { return Ok(()) };
        tracing::warn!(
            file = %self.path.display(),
            bytes = torn.end - torn.start,
            "cut off an unfinished last line that a crash left behind; its event is delivered again"
        );
        self.file.set_len(torn.start).and_then(|()| self.file.sync_all()).map_err(|error| self.failed(error))
    }

    /// Where an unfinished last line lies. Refuses one that is not ours: the file is somebody else's then.
    fn torn_line(&self) -> Result<Option<Range<u64>>> {
        let (torn, head) = self.last_line().map_err(|error| self.failed(error))?;
        if torn.is_empty() {
            return Ok(None);
        }
        if !head.starts_with(BEGINNING) && !BEGINNING.starts_with(&head) {
            let what = format!("file `{}` ends in a line that no sink of this program has begun", self.path.display());
            return Err(Error::new(Fault::Config, what)
                .because("the line has no end, and only what a crash left of a line of ours may be cut off")
                .help("correct `path`; or, if lines of ours are to follow, end the file with a line break"));
        }
        Ok(Some(torn))
    }

    /// Where the text behind the last line break lies, and how it begins.
    fn last_line(&self) -> io::Result<(Range<u64>, Vec<u8>)> {
        let length = self.file.metadata()?.len();
        let mut end = length;
        let mut whole = 0;
        while end > 0 {
            let start = end.saturating_sub(TAIL_BYTES);
            let mut tail = Vec::new();
            (&self.file).seek(SeekFrom::Start(start))?;
            (&self.file).take(end - start).read_to_end(&mut tail)?;
            if let Some(at) = tail.iter().rposition(|byte| *byte == b'\n') {
                whole = start + at as u64 + 1;
                break;
            }
            end = start;
        }
        let mut head = Vec::new();
        (&self.file).seek(SeekFrom::Start(whole))?;
        (&self.file).take(BEGINNING.len() as u64).read_to_end(&mut head)?;
        Ok((whole..length, head))
    }

    /// A new file survives a crash of the machine only if its folder was synced.
    fn sync_folder(&self) -> io::Result<()> {
        File::open(folder(&self.path))?.sync_all()
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::new(Fault::Environment, format!("file `{}` cannot be written", self.path.display()))
            .because(error)
            .help("make room on its disk and let the host write it; nothing of the last delivery was confirmed")
    }
}

fn cannot_open(path: &Path, error: io::Error) -> Error {
    Error::new(Fault::Environment, format!("file `{}` cannot be opened", path.display()))
        .because(error)
        .help("its folder must exist and be writable for the host")
}

/// The folder that the file lies in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let long = format!(r#"{{"position":"0/1#0","id":"{}"#, "x".repeat(3 * TAIL_BYTES as usize));
        for (before, after) in [
            (String::new(), String::new()),
            ("{}\n".to_owned(), "{}\n".to_owned()),
            ("{\"po".to_owned(), String::new()),
            ("{}\n{\"position\":\"0/".to_owned(), "{}\n".to_owned()),
            (format!("{long}\n{long}"), format!("{long}\n")),
            (long, String::new()),
        ] {
            std::fs::write(&path, before).unwrap();
            let lines = LineFile::open(&path).unwrap();
            lines.append(b"{\"next\":1}\n").unwrap();
            assert!(std::fs::read_to_string(&path).unwrap() == after + "{\"next\":1}\n");
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        for before in ["somebody's text", "{}\n{\"half", "one\ntwo"] {
            std::fs::write(&path, before).unwrap();
            for error in [LineFile::check(&path).unwrap_err(), LineFile::open(&path).unwrap_err()] {
                assert_eq!(error.fault(), Fault::Config);
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        }
    }

    #[test]
    fn a_check_alters_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        LineFile::check(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "{}\n{\"position\":").unwrap();
        LineFile::check(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n{\"position\":");
        let _held = LineFile::open(&path).unwrap();
        LineFile::check(&path).unwrap();
        assert_eq!(LineFile::check(Path::new("/no/such/out.jsonl")).unwrap_err().fault(), Fault::Environment);
    }

    #[test]
    fn two_sinks_cannot_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let first = LineFile::open(&path).unwrap();
        let error = LineFile::open(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("file `{}` is being written by another sink", path.display()));
        drop(first);
        LineFile::open(&path).unwrap();
    }

    #[test]
    fn a_failed_append_leaves_no_half_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let file = File::open(&path).unwrap(); // opened for reading only, so that writing fails
        let lines = LineFile { path: path.clone(), file, regular: true };
        let error = lines.append(b"{}\n").unwrap_err();
        assert_eq!(error.fault(), Fault::Environment);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn a_missing_folder_and_a_device() {
        let error = LineFile::open(Path::new("/no/such/folder/out.jsonl")).unwrap_err();
        assert_eq!(error.fault(), Fault::Environment);
        assert_eq!(error.to_string(), "file `/no/such/folder/out.jsonl` cannot be opened");
        LineFile::open(Path::new("/dev/null")).unwrap().append(b"{}\n").unwrap();
    }
}
