//! The hash of what a component was made of, inside it: for tools that never make the same
//! component twice.
//!
//! It stands at the very end of the file, as a custom section; `dlq show` compares it.

use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::unwritable;
use crate::error::{Error, Fault, Result};

/// The section's name. The host looks for it: `transform/load.rs`.
const SECTION: &str = "pgstream-host:source";

/// Folders and files that tools leave, and no build reads.
const LEFT: [&str; 8] = [".git", ".venv", "venv", "__pycache__", "node_modules", "target", "tests", "pipeline.yaml"];

/// SHA-256 of every file below these folders, in hexadecimal, but for what builds and tools write
/// there. `also` is what counts besides, such as the versions of tools, by name.
pub(super) fn hash(folders: &[PathBuf], also: &[(&str, &str)]) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut take = |name: &[u8], content: &[u8]| {
        for part in [name, content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    };
    for (name, text) in also {
        take(name.as_bytes(), text.as_bytes());
    }
    for (number, folder) in folders.iter().enumerate() {
        let mut files = Vec::new();
        walk(folder, Path::new(""), &mut files).map_err(|error| unreadable(folder, error))?;
        files.sort();
        for file in files {
            let content = std::fs::read(folder.join(&file)).map_err(|error| unreadable(folder, error))?;
            take(format!("{number}/{}", file.display()).as_bytes(), &content);
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unreadable(folder: &Path, error: std::io::Error) -> Error {
    Error::new(Fault::Environment, format!("`{}` cannot be read", folder.display())).because(error)
}

fn walk(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name();
        let path = below.join(&name);
        let made = path.extension().is_some_and(|extension| extension == "wasm" || extension == "pyc");
        if made || LEFT.iter().any(|left| name == *left) {
            continue;
        }
        // A link is what it leads to, unless it leads nowhere.
        match std::fs::metadata(root.join(&path)) {
            Ok(found) if found.is_dir() && !entry.file_type()?.is_symlink() => walk(root, &path, files)?,
            Ok(found) if found.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Writes the hash behind everything else.
pub(super) fn write(file: &Path, hash: &str) -> Result<()> {
    let mut section = vec![SECTION.len() as u8];
    section.extend(SECTION.as_bytes());
    section.extend(hash.as_bytes());
    let written = std::fs::OpenOptions::new()
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(&[&[0, section.len() as u8], section.as_slice()].concat()));
    written.map_err(|error| unwritable(file, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_names_and_contents_and_nothing_that_tools_leave() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let now = || hash(&[folder.path().to_owned()], &[("tool", "1")]).unwrap();
        put("handler.py", "one");
        let first = now();
        for left in ["__pycache__/handler.pyc", ".venv/lib/x.py", "handler.wasm"] {
            put(left, "left");
        }
        assert_eq!(now(), first);
        put("more/data.txt", "x");
        let second = now();
        put("handler.py", "two");
        assert!(first != second && second != now());
        put("handler.py", "one");
        assert_eq!(now(), second);
        assert_ne!(hash(&[folder.path().to_owned()], &[("tool", "2")]).unwrap(), second);
    }
}
