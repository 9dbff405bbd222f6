//! The pipeline files that a command line names: files, and folders of them.

use std::path::{Path, PathBuf};

use crate::config::{is_alien, is_host_file};
use crate::error::{Error, Fault, Result};

/// The files that `paths` name. A folder stands for the `.yaml` and `.yml` files in it, by name, and in folders in it down to
/// `depth`. Links to folders are not followed, and neither is what a test, a dependency or the host itself keeps in folders
/// that begin with a dot. YAML that is something else is left out, with a line that says so.
pub(super) fn pipeline_files(paths: &[PathBuf], depth: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        gather(path, depth, &mut files)?;
        let aliens: Vec<PathBuf> = files.extract_if(before.., |file| is_alien(file)).collect();
        if files.len() == before {
            return Err(Error::new(Fault::Config, format!("folder `{}` holds no pipeline file", path.display()))
                .help("pipeline files end in `.yaml` or `.yml`, and have `version`, `name`, `sources`, `transforms` and `sinks`"));
        }
        for alien in aliens.iter().filter(|alien| !is_host_file(alien)) {
            tracing::warn!(file = %alien.display(), "left out: a YAML file without `sources`, `transforms` and `sinks` is no pipeline");
        }
    }
    Ok(files)
}

/// As [`pipeline_files`], with whatever else is YAML in the folders, and without what cannot be read.
pub(super) fn yaml_files(paths: &[PathBuf], depth: usize) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => drop(gather(path, depth, &mut files)),
            false => files.push(path.clone()),
        }
    }
    files
}

fn gather(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable =
        |cause| Error::new(Fault::Config, format!("folder `{}` cannot be read", folder.display())).because(cause);
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(folder).map_err(unreadable)?.collect();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(unreadable)?;
        let path = entry.path();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if kind.is_dir() && depth > 0 && !entry.file_name().to_string_lossy().starts_with('.') {
            gather(&path, depth - 1, files)?;
        } else if !kind.is_dir() && yaml && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_looked_through_as_deep_as_wanted() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        for folder in ["a/b", ".hidden", "empty"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        for file in ["z.yaml", "notes.txt", "a/one.yml", "a/b/two.yaml", ".hidden/no.yaml"] {
            std::fs::write(path(file), "").unwrap();
        }
        let found = |depth| pipeline_files(&[path("")], depth).unwrap();
        assert_eq!(found(0), [path("z.yaml")]);
        assert_eq!(found(1), [path("a/one.yml"), path("z.yaml")]);
        assert_eq!(found(8), [path("a/b/two.yaml"), path("a/one.yml"), path("z.yaml")]);
        assert!(pipeline_files(&[path("empty")], 8).is_err());
        // What is named is meant, whatever it is.
        std::fs::write(path("a/one.yml"), "- a list").unwrap();
        assert_eq!(pipeline_files(&[path("")], 1).unwrap(), [path("z.yaml")]);
        assert_eq!(pipeline_files(&[path("a/one.yml")], 1).unwrap(), [path("a/one.yml")]);
        assert_eq!(pipeline_files(&[path("notes.txt")], 0).unwrap(), [path("notes.txt")]);
    }
}
