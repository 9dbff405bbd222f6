//! `Project`: a folder with a handler in it, told by the file that its language's tools read.

use std::path::{Path, PathBuf};

use super::{Language, absolute};
use crate::error::{Error, Fault, Result};

/// A folder with a handler in it.
#[derive(Clone, Debug)]
pub struct Project {
    folder: PathBuf,
    name: String,
    language: Language,
}

impl Project {
    /// Looks at a folder. Fails with `Config` if no language's project is in it, or more than
    /// one's.
    pub fn open(folder: &Path) -> Result<Self> {
        let language = detect(folder)?;
        let folder = absolute(folder)?;
        // `absolute` leaves `..`, which has no name.
        let folder = folder.canonicalize().unwrap_or(folder);
        let manifest = folder.join(manifest(language));
        let text = std::fs::read_to_string(&manifest).map_err(|error| {
            Error::new(Fault::Config, format!("`{}` cannot be read", manifest.display())).because(error)
        })?;
        let name = match language {
            Language::Rust => keyed(&text, "[package]"),
            Language::Python => keyed(&text, "[project]"),
            Language::Go => module(&text),
            Language::JavaScript | Language::TypeScript => package(&text),
        };
        let name = name.or_else(|| folder.file_name().map(|name| name.to_string_lossy().into_owned()));
        let name = name.filter(|name| is_file_name(name)).unwrap_or_else(|| "handler".to_owned());
        Ok(Self { folder, name, language })
    }

    /// Returns the folder in which it lies; absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The handler's name, as its manifest says, or else its folder's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the language in which it is written.
    pub fn language(&self) -> Language {
        self.language
    }
}

/// Tells the language of a project by the file that its tools read. Fails with `Config` if there is
/// none, or several.
pub fn detect(project: &Path) -> Result<Language> {
    let file = |name: &str| project.join(name).is_file();
    let mut found: Vec<Language> = Language::ALL.into_iter().filter(|language| file(manifest(*language))).collect();
    let typed = file("tsconfig.json");
    found.retain(|language| match language {
        Language::TypeScript => typed,
        Language::JavaScript => !typed,
        _ => true,
    });
    match found[..] {
        [language] => Ok(language),
        [] if !project.is_dir() => {
            Err(Error::new(Fault::Config, format!("there is no folder `{}`", project.display()))
                .help("`pgstream-host new my-handler --lang rust` makes a project"))
        }
        [] => Err(Error::new(Fault::Config, format!("no handler is in `{}`", project.display())).help(
            "a project has a `Cargo.toml`, `go.mod`, `package.json` or `pyproject.toml`; `pgstream-host new` makes one",
        )),
        _ => {
            let files: Vec<_> = found.iter().map(|language| format!("`{}`", manifest(*language))).collect();
            let what =
                format!("the language of `{}` cannot be told: it has {}", project.display(), files.join(" and "));
            Err(Error::new(Fault::Config, what).help("keep the handler in a folder of its own"))
        }
    }
}

fn manifest(language: Language) -> &'static str {
    match language {
        Language::Rust => "Cargo.toml",
        Language::Go => "go.mod",
        Language::JavaScript | Language::TypeScript => "package.json",
        Language::Python => "pyproject.toml",
    }
}

/// The string at `name` in a section of a TOML file.
fn keyed(text: &str, section: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != section).skip(1);
    let mut lines = lines.take_while(|line| !line.starts_with('['));
    lines.find_map(|line| {
        let value = line.strip_prefix("name")?.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        Some(value.get(1..)?.split(quote).next()?.to_owned())
    })
}

/// The last part of a Go module's path.
fn module(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.trim().strip_prefix("module ")?.split_whitespace().next())?;
    path.trim_matches('"').rsplit('/').next().map(str::to_owned)
}

/// The name in a `package.json`, without its scope.
fn package(text: &str) -> Option<String> {
    let package: serde_json::Value = serde_json::from_str(text).ok()?;
    package.get("name")?.as_str()?.rsplit('/').next().map(str::to_owned)
}

fn is_file_name(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_named_as_its_manifest_says() {
        assert_eq!(
            keyed("[x]\nname = \"no\"\n[package]\n version=\"1\"\nname = \"a-b\" # c\n", "[package]").unwrap(),
            "a-b"
        );
        assert_eq!(keyed("[package]\n[lib]\nname = \"no\"", "[package]"), None);
        assert_eq!(keyed("[package]\nname.workspace = true", "[package]"), None);
        assert_eq!(module("// c\nmodule example.com/x/my-handler\n\ngo 1.25\n").unwrap(), "my-handler");
        assert_eq!(package(r#"{ "name": "@us/my-handler" }"#).unwrap(), "my-handler");
        assert_eq!(package("{"), None);
        assert!(is_file_name("my-handler") && !is_file_name("../x") && !is_file_name("") && !is_file_name(".."));
    }

    #[test]
    fn the_language_is_told_by_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(folder.path().join(name), "{}").unwrap();
        let said = |name: &str| detect(folder.path()).unwrap_err().to_string().contains(name);
        assert!(said("no handler is in"));
        put("package.json");
        assert_eq!(detect(folder.path()).unwrap(), Language::JavaScript);
        put("tsconfig.json");
        assert_eq!(detect(folder.path()).unwrap(), Language::TypeScript);
        put("go.mod");
        assert!(said("`go.mod` and `package.json`"));
        let error = detect(&folder.path().join("nothing")).unwrap_err();
        assert!(error.to_string().contains("there is no folder"));
    }
}
