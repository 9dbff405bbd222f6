//! The sources of a component: a digest of its project's files, written into the component. So a
//! component that is older than its sources is known as such wherever it was copied, and whatever
//! the clocks say.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::Project;
use crate::error::{Error, Fault, Result};

/// Folders that tools fill, and those of tests.
const NOT_SOURCES: [&str; 7] = ["target", "node_modules", "tests", "dist", "build", "__pycache__", "venv"];

/// Lock files, which tools write beside the sources while they build.
const LOCKS: [&str; 5] = ["Cargo.lock", "package-lock.json", "go.sum", "uv.lock", "poetry.lock"];

/// Name of the section of a component that holds the digest. It is one of the last, and its length
/// is fixed.
const SECTION: &[u8] = b"pgstream:sources";

/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;

/// A project before it is built.
#[derive(Debug)]
pub(super) struct Before(String);

impl Before {
    pub(super) fn of(project: &Project) -> Result<Self> {
        Ok(Self(digest(project, false)?))
    }

    /// The section that says what was built, if the sources have stayed as they were.
    pub(super) fn section(&self, project: &Project) -> Result<Vec<u8>> {
        let digest = if digest(project, false)? == self.0 { digest(project, true)? } else { "0".repeat(DIGITS) };
        let mut section = vec![0, (1 + SECTION.len() + DIGITS) as u8, SECTION.len() as u8];
        section.extend_from_slice(SECTION);
        section.extend_from_slice(digest.as_bytes());
        Ok(section)
    }
}

/// Tells if the sources of a project are others than those that `component` was built from. A
/// component that this program did not build says nothing of its sources, and counts as up to date.
///
/// # Errors
/// `Environment` if either cannot be read.
pub fn is_stale(project: &Project, component: &Path) -> Result<bool> {
    let bytes = fs::read(component).map_err(|error| unreadable(component, error))?;
    let Some(start) = bytes.windows(SECTION.len()).rposition(|window| window == SECTION) else { return Ok(false) };
    let built_from = bytes.get(start + SECTION.len()..).and_then(|rest| rest.get(..DIGITS)).unwrap_or_default();
    Ok(digest(project, true)?.as_bytes() != built_from)
}

/// Lists the files of the project that matter to its tests, each with the time of its last change
/// and with its length in bytes.
pub fn changes(folder: &Path) -> BTreeMap<PathBuf, (Option<SystemTime>, u64)> {
    let mut found = BTreeMap::new();
    for part in [folder.to_owned(), folder.join("tests")] {
        // What is gone while it is looked at has changed.
        let _ = walk(&part, &mut |file| {
            let about = fs::metadata(file).ok();
            let changed = about.as_ref().and_then(|about| about.modified().ok());
            found.insert(file.to_owned(), (changed, about.map_or(0, |about| about.len())));
            Ok(())
        });
    }
    found
}

fn digest(project: &Project, with_locks: bool) -> Result<String> {
    let folder = project.folder();
    let mut files = BTreeMap::new();
    walk(folder, &mut |file| {
        let lock = file.file_name().is_some_and(|name| LOCKS.iter().any(|lock| name == *lock));
        if with_locks || !lock {
            files.insert(file.strip_prefix(folder).unwrap_or(file).to_owned(), Sha256::digest(fs::read(file)?));
        }
        Ok(())
    })
    .map_err(|error| unreadable(folder, error))?;
    let mut all = Sha256::new();
    for (name, content) in files {
        let name = name.as_os_str().as_encoded_bytes();
        all.update((name.len() as u64).to_le_bytes());
        all.update(name);
        all.update(content);
    }
    Ok(all.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All files below `folder` that may be sources.
fn walk(folder: &Path, each: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let shown = name.to_string_lossy();
        if shown.starts_with('.') || shown.contains(".wasm") || shown.ends_with(".egg-info") {
            continue;
        }
        let about = match fs::metadata(&path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // a link into nothing
            Err(error) => return Err(error),
        };
        if about.is_file() {
            each(&path)?;
        } else if about.is_dir() && !entry.file_type()?.is_symlink() && !NOT_SOURCES.contains(&&*shown) {
            walk(&path, each)?;
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::new(Fault::Environment, format!("`{}` cannot be read", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_knows_what_it_was_built_from() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("Cargo.toml", "[package]\nname = \"h\"\n");
        put("src/lib.rs", "fn main() {}");
        let project = Project::open(folder.path()).unwrap();
        let component = project.folder().join("h.wasm");
        let build = |meanwhile: &dyn Fn()| {
            let before = Before::of(&project).unwrap();
            meanwhile();
            let section = before.section(&project).unwrap();
            fs::write(&component, [b"\0asm\x0d\0\x01\0".as_slice(), &section].concat()).unwrap();
        };
        let stale = || is_stale(&project, &component).unwrap();
        build(&|| put("Cargo.lock", "made by the tool"));
        assert!(!stale());
        for (name, text) in
            [("target/x", "y"), ("tests/a.yaml", "cases: []"), (".git/x", ""), ("h.wasm.built-from", "")]
        {
            put(name, text);
            assert!(!stale(), "{name}");
        }
        for (name, text) in [("src/lib.rs", "fn main() { }"), ("src/new.rs", ""), ("Cargo.lock", "other")] {
            put(name, text);
            assert!(stale(), "{name}");
            build(&|| ());
            assert!(!stale(), "{name}");
        }
        build(&|| put("src/lib.rs", "edited while it was built"));
        assert!(stale());
        fs::write(&component, b"\0asm\x0d\0\x01\0").unwrap();
        assert!(!stale(), "built by somebody else");
    }
}
