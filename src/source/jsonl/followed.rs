//! The file that is read: which one it is, and whether the one at the path is still the one that
//! was read before.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::checkpoint::{ENDINGS, Record, parent};
use super::jsonl_settings::JsonlSettings;
use crate::config::open_beneath;
use crate::error::{Error, Fault, Result};

/// So many of the first bytes tell a file from another one.
const HEAD: u64 = 1024;

/// An open file, known by device and inode.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) file: Arc<File>,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// The place where reading begins.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) followed: Followed,
    pub(super) offset: u64,
    pub(super) line: u64,
    /// Bytes of the files before it.
    pub(super) base: u64,
}

impl Followed {
    pub(super) fn open(path: &Path, folder: Option<&Path>) -> io::Result<Self> {
        let file = open_beneath(path, folder, OFlags::RDONLY)?;
        let about = file.metadata()?;
        Ok(Self { file: Arc::new(file), device: about.dev(), inode: about.ino() })
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn is(&self, other: &Followed) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// SHA-256 of the first bytes, of `bytes` at most.
    pub(super) fn head(&self, bytes: u64) -> io::Result<String> {
        let mut head = vec![0; usize::try_from(bytes.min(HEAD)).unwrap_or_default()];
        self.file.read_exact_at(&mut head, 0)?;
        Ok(Sha256::digest(&head).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Writes into a record which file this is, known by what is confirmed of it.
    pub(super) fn describe(&self, record: &mut Record) -> io::Result<()> {
        let known = (record.device, record.inode) == (self.device, self.inode);
        (record.device, record.inode) = (self.device, self.inode);
        let bytes = record.offset.min(HEAD);
        if !known || record.head_bytes != bytes {
            record.head = self.head(bytes)?;
            record.head_bytes = bytes;
        }
        Ok(())
    }

    /// Tells if the file begins as that of the record did, and has all that was confirmed.
    fn fits(&self, record: &Record) -> io::Result<bool> {
        Ok(self.size()? >= record.offset && self.head(record.head_bytes)? == record.head)
    }
}

/// Opens the file where the record has it, also under the name that it has by now; or from its
/// beginning without one.
///
/// # Errors
/// `Environment` with what to type if the file is gone, cut off or another one.
pub(super) fn take_up(settings: &JsonlSettings, record: &Record) -> Result<Begin> {
    let (path, folder) = (&settings.path, settings.folder.as_deref());
    let at_path = Followed::open(path, folder);
    let unreadable = |error: io::Error| unreadable(path, error);
    if !record.has_history() {
        let followed = at_path.map_err(unreadable)?;
        return Ok(Begin { followed, offset: 0, line: 0, base: 0 });
    }
    let begin = |followed| Begin { followed, offset: record.offset, line: record.line, base: record.base };
    let is_known = |followed: &Followed| (followed.device, followed.inode) == (record.device, record.inode);
    match at_path {
        Ok(followed) if is_known(&followed) => match followed.fits(record).map_err(unreadable)? {
            true => Ok(begin(followed)),
            false if followed.size().map_err(unreadable)? < record.offset => Err(lost(
                path,
                format!("it was cut off: {} bytes of it are confirmed, and it is shorter now", record.offset),
            )),
            false => Err(lost(path, "it was written anew in its place".to_owned())),
        },
        at_path => {
            let moved = moved(path, folder, &is_known).map_err(unreadable)?;
            if let Some((name, followed)) = moved
                && followed.fits(record).map_err(unreadable)?
            {
                between(path, &name, &followed, record)?;
                tracing::info!(file = %name.display(), "the file was moved away: its rest comes first");
                return Ok(begin(followed));
            }
            let followed = at_path.map_err(unreadable)?;
            if record.head_bytes > 0 && followed.fits(record).map_err(unreadable)? {
                return Ok(begin(followed)); // a copy, or restored
            }
            Err(lost(path, "another file is in its place, and the one that was read is not beside it".to_owned()))
        }
    }
}

/// The file in the folder of `path` that is known, by its name now.
fn moved(
    path: &Path,
    folder: Option<&Path>,
    is_known: &dyn Fn(&Followed) -> bool,
) -> io::Result<Option<(PathBuf, Followed)>> {
    for entry in std::fs::read_dir(parent(path))? {
        let name = entry?.path();
        // Others may be opened by nobody, or not be files.
        let Ok(followed) = Followed::open(&name, folder) else { continue };
        if is_known(&followed) {
            return Ok(Some((name, followed)));
        }
    }
    Ok(None)
}

/// Refuses to go on where a file was moved away after the one that was read: nobody has read it,
/// and nothing tells its place.
fn between(path: &Path, read: &Path, followed: &Followed, record: &Record) -> Result<()> {
    let beginning = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let since = followed.file.metadata().and_then(|about| about.modified()).map_err(|error| unreadable(read, error))?;
    for entry in std::fs::read_dir(parent(path)).map_err(|error| unreadable(path, error))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = ENDINGS.iter().any(|ending| name.ends_with(ending));
        let other = name.starts_with(&beginning) && entry.path() != path && entry.path() != read && !ours;
        let Ok(about) = entry.metadata() else { continue };
        if other && about.is_file() && about.modified().is_ok_and(|time| time > since) {
            let what = format!("file `{}` was moved away more than once since it was read", path.display());
            return Err(Error::new(Fault::Environment, what)
                .because(format!(
                    "`{name}` is younger than `{}`, of which {} bytes are read",
                    read.display(),
                    record.offset
                ))
                .help(format!(
                    "put the lines of `{name}` before those of `{}`, and move `{name}` out of the folder. {AGAIN}",
                    path.display()
                )));
        }
    }
    Ok(())
}

/// The command to type to begin anew.
const AGAIN: &str =
    "`pgstream-host resnapshot <pipeline file>` has the file read from its beginning; the sinks keep what they have";

fn lost(path: &Path, why: String) -> Error {
    Error::new(Fault::Environment, format!("file `{}` is not the one that was read before", path.display()))
        .because(why)
        .help(format!("lines may be missing: put the file back. Or {AGAIN}"))
}

/// A file of which fewer bytes are there than were read.
pub(super) fn cut_off(path: &Path) -> Error {
    lost(path, "it was cut off while it was read".to_owned())
}

pub(super) fn unreadable(path: &Path, error: io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("there is no file `{}`", path.display()),
        _ => format!("file `{}` cannot be read", path.display()),
    };
    Error::new(Fault::Environment, what)
        .because(error)
        .help("make it, or correct `path`, which is relative to the working directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        settings: JsonlSettings,
    }

    impl Scene {
        fn new() -> (Self, Record) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("events.jsonl");
            std::fs::write(&path, "one\ntwo\n").unwrap();
            let mut settings: JsonlSettings = serde_json::from_str(r#"{"path":""}"#).unwrap();
            settings.path.clone_from(&path);
            let mut record = Record { offset: 4, line: 1, ..Record::new(&path) };
            Followed::open(&path, None).unwrap().describe(&mut record).unwrap();
            (Self { folder, settings }, record)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn said(&self, record: &Record) -> String {
            match take_up(&self.settings, record) {
                Ok(begin) => format!("from {} of {}", begin.offset, begin.followed.size().unwrap()),
                Err(error) => error.report(),
            }
        }
    }

    #[test]
    fn the_file_goes_on_where_it_was_also_under_another_name() {
        let (scene, record) = Scene::new();
        assert_eq!(scene.said(&record), "from 4 of 8");
        std::fs::rename(scene.path("events.jsonl"), scene.path("events.jsonl.1")).unwrap();
        assert_eq!(scene.said(&record), "from 4 of 8", "there is no new one yet");
        std::fs::write(scene.path("events.jsonl"), "three\n").unwrap();
        assert_eq!(scene.said(&record), "from 4 of 8");
        std::fs::rename(scene.path("events.jsonl"), scene.path("events.jsonl.0")).unwrap();
        std::fs::write(scene.path("events.jsonl"), "four\n").unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        File::options().append(true).open(scene.path("events.jsonl.0")).unwrap().set_modified(later).unwrap();
        assert!(scene.said(&record).contains("more than once"), "{}", scene.said(&record));
    }

    #[test]
    fn another_file_and_a_shorter_one_are_noticed_and_it_is_said_what_to_type() {
        let (scene, record) = Scene::new();
        std::fs::write(scene.path("events.jsonl"), "on").unwrap();
        assert!(scene.said(&record).contains("cut off"), "{}", scene.said(&record));
        std::fs::write(scene.path("events.jsonl"), "other lines\n").unwrap();
        assert!(scene.said(&record).contains("written anew"), "{}", scene.said(&record));
        std::fs::write(scene.path("other"), "other lines\n").unwrap();
        std::fs::rename(scene.path("other"), scene.path("events.jsonl")).unwrap();
        let said = scene.said(&record);
        assert!(said.contains("another file is in its place") && said.contains("pgstream-host resnapshot"), "{said}");
        std::fs::remove_file(scene.path("events.jsonl")).unwrap();
        assert!(scene.said(&record).contains("there is no file"));
    }

    #[test]
    fn a_copy_that_begins_the_same_is_the_same() {
        let (scene, record) = Scene::new();
        std::fs::write(scene.path("copy"), "one\ntwo\nthree\n").unwrap();
        std::fs::rename(scene.path("copy"), scene.path("events.jsonl")).unwrap();
        assert_eq!(scene.said(&record), "from 4 of 14");
    }
}
