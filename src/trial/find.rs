//! The files that hold tests, and the component that each of them is about.

use std::path::{Path, PathBuf};

use crate::error::{Error, Fault, Result};

/// Advice for where there is no test yet: the file to write.
pub const EXAMPLE: &str = "\
write `tests/first.yaml` next to the handler:
  table: { name: public.documents, key: [id], columns: { id: int8, content: text } }
  cases:
    - name: an insert becomes a point
      events:
        - insert: { id: 1, content: Dry it }
      expect:
        - upsert: { id: \"1\", payload: { content: Dry it } }
or let `pgstream-host test --bless` write what the handler answers: leave `expect` empty";

/// The test files that the paths name: of a project or a folder those in its `tests`, or its own.
///
/// # Errors
/// `Config` if there is none, with an example of what to write.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let tests = path.join("tests");
        let found = if tests.is_dir() { yaml_in(&tests)? } else { Vec::new() };
        let mut found = if found.is_empty() {
            yaml_in(path)?.into_iter().filter(|file| holds_cases(file)).collect()
        } else {
            found
        };
        if found.is_empty() {
            let what = format!("`{}` holds no test", path.display());
            return Err(Error::new(Fault::Config, what).help(EXAMPLE));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

fn yaml_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable =
        |cause| Error::new(Fault::Config, format!("folder `{}` cannot be read", folder.display())).because(cause);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
            found.push(file);
        }
    }
    Ok(found)
}

/// Beside tests there are pipeline files, and files of other tools.
fn holds_cases(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.starts_with("cases:")))
}

/// The component that `file` is about: what it says, or the one of its project.
pub(super) fn component(file: &Path, said: Option<&Path>) -> Result<PathBuf> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let missing = |path: &Path, help: String| {
        Err(Error::new(Fault::Config, format!("there is no component at `{}`", path.display())).help(help))
    };
    if let Some(said) = said {
        let path = folder.join(said);
        let help = "`component` is relative to the test file; build the handler first, or correct the path";
        return if path.is_file() { Ok(path) } else { missing(&path, help.to_owned()) };
    }
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let project = match resolved.parent() {
        Some(parent) if resolved.ends_with("tests") => parent,
        _ => &resolved,
    };
    let name = project.file_name().map_or_else(|| "handler".into(), |name| name.to_string_lossy());
    let path = project.join(format!("{name}.wasm"));
    if path.is_file() {
        return Ok(path);
    }
    let entries = std::fs::read_dir(project).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut others: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "wasm")).collect();
    match (others.pop(), others.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => missing(
            &path,
            format!(
                "build it: `pgstream-host build {}`; or name it: `--component handler.wasm`, or `component: …` in the file",
                project.display()
            ),
        ),
    }
}
