//! `LineFile`: a file that grows by whole lines, that one process at a time writes, and that is
//! followed when it is rotated.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use super::FileSettings;
use crate::config::{folder_beneath, open_beneath};
use crate::error::{Error, Fault, Result};

/// Bytes of the file's end that are read at once in search of its last line break.
const TAIL_BYTES: u64 = 64 << 10;

/// The longest line that is looked for the beginning of: more than all commands of a call can fill.
const LONGEST_LINE: u64 = if cfg!(test) { 4 << 20 } else { 256 << 20 };

/// The beginning of every line of ours.
const BEGINNING: &[u8] = br#"{"position":"#;

/// The largest number of times that the same lines are written, if their file is removed or emptied
/// in the same moment.
const ATTEMPTS: usize = 3;

/// A file that is followed by its name: one that was moved away or removed is succeeded by a new
/// one, so that no line is written, and confirmed, into nothing.
#[derive(Debug)]
pub(super) struct LineFile {
    at: Whereabouts,
    open: Mutex<Open>,
}

/// The path of a file, and the folder that the path may not lead out of, if its owner is not
/// trusted.
#[derive(Clone, Debug)]
pub(super) struct Whereabouts {
    path: PathBuf,
    folder: Option<PathBuf>,
}

#[derive(Debug)]
struct Open {
    at: Whereabouts,
    file: File,
    /// Pipes and devices can neither be cut nor synced.
    regular: bool,
    /// The length of the file in bytes when it was opened or last written.
    length: u64,
}

impl Whereabouts {
    pub(super) fn of(settings: &FileSettings) -> Self {
        Self { path: settings.path.clone(), folder: settings.folder.clone() }
    }

    /// Opens the file to append to it. That of a stranger is a plain one with no other name, or it
    /// could be anybody's.
    fn open(&self, make: bool) -> io::Result<File> {
        let Some(folder) = &self.folder else {
            return OpenOptions::new().read(true).append(true).create(make).open(&self.path);
        };
        let make = if make { OFlags::CREATE } else { OFlags::empty() };
        let file = open_beneath(&self.path, Some(folder), OFlags::RDWR | OFlags::APPEND | make)?;
        if file.metadata()?.nlink() > 1 {
            return Err(io::Error::other("it has another name besides, which may lie elsewhere"));
        }
        Ok(file)
    }

    /// A new file survives a crash of the machine only if its folder was synced.
    fn sync_folder(&self) -> io::Result<()> {
        let around = match &self.folder {
            None => File::open(self.around())?,
            folder => folder_beneath(self.around(), folder.as_deref())?,
        };
        around.sync_all()
    }

    /// The folder that the file lies in.
    fn around(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

impl LineFile {
    pub(super) fn open(at: Whereabouts) -> Result<Self> {
        let open = Open::new(&at)?;
        if open.regular && open.length == 0 {
            tracing::info!(file = %at.path.display(), "the file is empty: it gets what comes from now on");
        }
        Ok(Self { open: Mutex::new(open), at })
    }

    /// Tells if `open` would succeed once no other sink has the file open. Neither makes nor alters
    /// anything.
    pub(super) fn check(at: &Whereabouts) -> Result<()> {
        let file = match at.open(false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
                return rustix::fs::access(at.around(), access).map_err(|error| cannot_open(at, error.into()));
            }
            Err(error) => return Err(cannot_open(at, error)),
        };
        let about = file.metadata().map_err(|error| cannot_open(at, error))?;
        let open = Open { at: at.clone(), file, regular: about.is_file(), length: about.len() };
        if open.regular && open.claim()? {
            open.torn_line()?;
        }
        Ok(())
    }

    /// Appends whole lines; when it returns they are durable, in a file that has a name.
    pub(super) fn append(&self, lines: &[u8]) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..ATTEMPTS {
            match open.fate().map_err(|error| open.failed(error))? {
                Fate::Stands => {}
                fate => {
                    tell(&self.at.path, fate);
                    *open = Open::new(&self.at)?;
                }
            }
            if open.append(lines).map_err(|error| open.failed(error))? {
                return Ok(());
            }
        }
        let what = format!("file `{}` is removed or emptied whenever it is written", self.at.path.display());
        Err(Error::new(Fault::Environment, what)
            .help("let nothing remove or empty the file while lines are written; rotate it by renaming it"))
    }
}

/// The fate of an open file since it was last written.
enum Fate {
    Stands,
    /// It goes on under another name.
    Moved,
    /// It has no name any more.
    Removed,
}

fn tell(path: &Path, fate: Fate) {
    let file = path.display();
    match fate {
        Fate::Stands => {}
        Fate::Moved => tracing::info!(%file, "the file was moved away: what comes now goes into a new one"),
        Fate::Removed => tracing::warn!(
            %file,
            "the file was removed, with all lines in it: what comes now goes into a new one; to fill it from scratch: \
             `pgstream-host resnapshot <pipeline file>`"
        ),
    }
}

impl Open {
    fn new(at: &Whereabouts) -> Result<Self> {
        let fail = |error| cannot_open(at, error);
        let file = at.open(true).map_err(fail)?;
        let regular = file.metadata().map_err(fail)?.is_file();
        let mut open = Self { at: at.clone(), file, regular, length: 0 };
        if regular {
            if !open.claim()? {
                let what = format!("file `{}` is being written by another sink", at.path.display());
                return Err(Error::new(Fault::Environment, what)
                    .help("give each sink a file of its own, and stop the other pipeline if it should not run"));
            }
            open.cut_torn_line()?;
            at.sync_folder().map_err(|error| open.failed(error))?;
            open.length = open.file.metadata().map_err(fail)?.len();
        }
        Ok(open)
    }

    fn fate(&self) -> io::Result<Fate> {
        if !self.regular {
            return Ok(Fate::Stands);
        }
        let ours = self.file.metadata()?;
        let named = match std::fs::metadata(&self.at.path) {
            Ok(named) => Some(named),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(match named {
            Some(named) if named.ino() == ours.ino() && named.dev() == ours.dev() => Fate::Stands,
            _ if ours.nlink() == 0 => Fate::Removed,
            _ => Fate::Moved,
        })
    }

    /// False if the lines are in no file that anybody could open.
    fn append(&mut self, lines: &[u8]) -> io::Result<bool> {
        if !self.regular {
            return (&self.file).write_all(lines).map(|()| true);
        }
        let before = self.file.metadata()?.len();
        if before < self.length {
            tracing::warn!(
                file = %self.at.path.display(),
                bytes = self.length - before,
                "the file was cut short by somebody else: lines that were written meanwhile may be lost; rotate it by renaming it"
            );
        }
        (&self.file).write_all(lines).and_then(|()| self.file.sync_data()).inspect_err(|_| {
            // Half a line in the middle of the file could not be told apart later. Should this fail too, the
            // next open finds the torn line at the end.
            let _ = self.file.set_len(before);
        })?;
        let about = self.file.metadata()?;
        self.length = about.len();
        Ok(about.nlink() > 0 && about.len() >= before + lines.len() as u64)
    }

    /// Keeps other sinks out. False if one of them has the file open.
    fn claim(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(self.failed(error)),
        }
    }

    /// A crash may leave part of a line at the end. Its delivery was not confirmed and comes again,
    /// so it can go.
    fn cut_torn_line(&self) -> Result<()> {
        let Some(torn) = self.torn_line()? else { return Ok(()) };
        tracing::warn!(
            file = %self.at.path.display(),
            bytes = torn.end - torn.start,
            "cut off an unfinished last line that a crash left behind; its event is delivered again"
        );
        self.file.set_len(torn.start).and_then(|()| self.file.sync_all()).map_err(|error| self.failed(error))
    }

    /// Returns the place of an unfinished last line, if there is one. Refuses a line that is not
    /// ours: the file is somebody else's then.
    fn torn_line(&self) -> Result<Option<Range<u64>>> {
        let (torn, head) = match self.last_line(LONGEST_LINE).map_err(|error| self.failed(error))? {
            Some(found) => found,
            None => return Err(self.not_ours()),
        };
        if torn.is_empty() {
            return Ok(None);
        }
        if !head.starts_with(BEGINNING) && !BEGINNING.starts_with(&head) {
            return Err(self.not_ours());
        }
        Ok(Some(torn))
    }

    fn not_ours(&self) -> Error {
        let what = format!("file `{}` ends in a line that no sink of this program has begun", self.at.path.display());
        Error::new(Fault::Config, what)
            .because("the line has no end, and only what a crash left of a line of ours may be cut off")
            .help("correct `path`; or, if lines of ours are to follow, end the file with a line break")
    }

    /// Finds where the text behind the last line break lies, and how it begins. None if it is
    /// longer than `longest`: a file of holes, as large as a file can be, would be read for hours.
    fn last_line(&self, longest: u64) -> io::Result<Option<(Range<u64>, Vec<u8>)>> {
        let length = self.file.metadata()?.len();
        let mut end = length;
        let mut whole = 0;
        while end > 0 {
            if length - end > longest {
                return Ok(None);
            }
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
        Ok(Some((whole..length, head)))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::new(Fault::Environment, format!("file `{}` cannot be written", self.at.path.display()))
            .because(error)
            .help("make room on its disk and let the host write it; nothing of the last delivery was confirmed")
    }
}

fn cannot_open(at: &Whereabouts, error: io::Error) -> Error {
    Error::new(Fault::Environment, format!("file `{}` cannot be opened", at.path.display()))
        .because(error)
        .help("its folder must exist and be writable for the host")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> Whereabouts {
        Whereabouts { path: path.to_owned(), folder: None }
    }

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
            let lines = LineFile::open(at(&path)).unwrap();
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
            for error in [LineFile::check(&at(&path)).unwrap_err(), LineFile::open(at(&path)).unwrap_err()] {
                assert_eq!(error.fault(), Fault::Config);
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        }
    }

    #[test]
    fn a_file_of_holes_and_a_line_without_end_are_not_searched_to_their_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let holes = File::create(&path).unwrap();
        // To be read to its beginning it would take hours.
        holes.set_len(1 << 43).unwrap();
        for error in [LineFile::check(&at(&path)).unwrap_err(), LineFile::open(at(&path)).unwrap_err()] {
            assert_eq!(error.fault(), Fault::Config);
            assert!(error.to_string().ends_with("ends in a line that no sink of this program has begun"), "{error}");
        }
        assert_eq!(holes.metadata().unwrap().len(), 1 << 43, "nothing was cut off");
        std::fs::write(&path, format!("{{}}\n{}", "x".repeat(5 * TAIL_BYTES as usize))).unwrap();
        let open = Open { at: at(&path), file: File::open(&path).unwrap(), regular: true, length: 0 };
        assert!(open.last_line(4 * TAIL_BYTES).unwrap().is_none(), "longer than any line");
        assert_eq!(open.last_line(5 * TAIL_BYTES).unwrap().map(|(torn, _)| torn.start), Some(3));
    }

    #[test]
    fn a_check_alters_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        LineFile::check(&at(&path)).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "{}\n{\"position\":").unwrap();
        LineFile::check(&at(&path)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n{\"position\":");
        let _held = LineFile::open(at(&path)).unwrap();
        LineFile::check(&at(&path)).unwrap();
        assert_eq!(LineFile::check(&at(Path::new("/no/such/out.jsonl"))).unwrap_err().fault(), Fault::Environment);
    }

    #[test]
    fn two_sinks_cannot_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let first = LineFile::open(at(&path)).unwrap();
        let error = LineFile::open(at(&path)).unwrap_err();
        assert_eq!(error.to_string(), format!("file `{}` is being written by another sink", path.display()));
        drop(first);
        LineFile::open(at(&path)).unwrap();
    }

    #[test]
    fn a_file_that_was_moved_away_or_removed_is_succeeded_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("out.jsonl"), folder.path().join("out.jsonl.1"));
        let lines = LineFile::open(at(&path)).unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        lines.append(b"1\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        lines.append(b"2\n").unwrap();
        assert_eq!((read(&moved), read(&path)), ("1\n".to_owned(), "2\n".to_owned()));
        std::fs::remove_file(&path).unwrap();
        lines.append(b"3\n").unwrap();
        assert_eq!(read(&path), "3\n");
        // Somebody else's file in its place is followed as well.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "theirs\n").unwrap();
        lines.append(b"4\n").unwrap();
        assert_eq!(read(&path), "theirs\n4\n");
        // As `copytruncate` does: no hole, and what comes is whole.
        std::fs::write(&path, "").unwrap();
        lines.append(b"5\n").unwrap();
        assert_eq!(read(&path), "5\n");
    }

    #[test]
    fn a_file_without_a_name_takes_no_lines_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let mut open = Open::new(&at(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!open.append(b"{}\n").unwrap(), "it was removed while it was written");
        let gone = folder.path().join("gone");
        std::fs::create_dir(&gone).unwrap();
        let lines = LineFile::open(at(&gone.join("out.jsonl"))).unwrap();
        std::fs::remove_dir_all(&gone).unwrap();
        assert_eq!(lines.append(b"{}\n").unwrap_err().fault(), Fault::Environment);
    }

    #[test]
    fn a_failed_append_leaves_no_half_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let file = File::open(&path).unwrap(); // opened for reading only, so that writing fails
        let open = Mutex::new(Open { at: at(&path), file, regular: true, length: 3 });
        let lines = LineFile { at: at(&path), open };
        let error = lines.append(b"{}\n").unwrap_err();
        assert_eq!(error.fault(), Fault::Environment);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn a_missing_folder_and_a_device() {
        let error = LineFile::open(at(Path::new("/no/such/folder/out.jsonl"))).unwrap_err();
        assert_eq!(error.fault(), Fault::Environment);
        assert_eq!(error.to_string(), "file `/no/such/folder/out.jsonl` cannot be opened");
        LineFile::open(at(Path::new("/dev/null"))).unwrap().append(b"{}\n").unwrap();
    }
}
