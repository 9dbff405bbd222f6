//! `create`: a new handler project from its language's template.

use std::path::Path;

use super::{Language, template, unwritable};
use crate::error::{Error, Fault, Result};

/// Longest name of a handler: its pipeline has the same, and the slot is named after that.
const NAME_BYTES: usize = 54;

/// Words that a language, its tools or the project itself already use.
const TAKEN: &[&str] = &[
    "handler",
    "sdk",
    "wit",
    "target",
    "tests",
    "test",
    "node-modules",
    "dist",
    "pgstream",
    "pgstream-host",
    "pgstream-handler", // ours
    "shop",             // the source and
    "out",              // the sink of its pipeline
    "core",
    "std",
    "alloc",
    "build",
    "main",
    "internal",
    "vendor",
    "self",
    "crate",
    "super",
    "fn",
    "struct",
    "enum",
    "trait",
    "impl",
    "mod",
    "use",
    "let",
    "match",
    "loop",
    "move",
    "ref",
    "static",
    "type",
    "where",
    "unsafe",
    "async",
    "await",
    "dyn",
    "extern",
    "const",
    "if",
    "else",
    "for",
    "while",
    "in",
    "return",
    "break",
    "continue",
    "true",
    "false",
    "pub",
    "mut",
    "as",
    "func",
    "go",
    "chan",
    "map",
    "range",
    "select",
    "switch",
    "case",
    "default",
    "defer",
    "var",
    "import",
    "package",
    "interface",
    "class",
    "def",
    "del",
    "from",
    "global",
    "lambda",
    "not",
    "or",
    "and",
    "is",
    "pass",
    "raise",
    "try",
    "except",
    "finally",
    "with",
    "yield",
    "none",
    "null",
    "new",
    "this",
    "export",
    "function",
    "delete",
    "void",
];

/// Writes a project for a handler called `name` into `folder`, which must not exist or be empty.
///
/// Fails with `Config` if the name does not fit or the folder holds something.
pub fn create(folder: &Path, name: &str, language: Language) -> Result<()> {
    check(name)?;
    let files = template::project(language, name)?;
    match std::fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Error::new(Fault::Config, format!("the folder `{}` is not empty", folder.display()))
                    .help("name another folder; a project is never written over something"));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::new(
                Fault::Config,
                format!("`{}` is there already, and is no folder", folder.display()),
            )
            .help("name another folder"));
        }
        Err(error) => return Err(unwritable(folder, error)),
    }
    for (path, content) in files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|error| unwritable(parent, error))?;
        std::fs::write(&path, content).map_err(|error| unwritable(&path, error))?;
    }
    Ok(())
}

/// A name must be a crate, a Go module, an npm package, a Python project and, in snake case, an
/// identifier.
fn check(name: &str) -> Result<()> {
    let refused = |why: &str| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(NAME_BYTES).collect();
        Err(Error::new(Fault::Config, format!("`{shown}` cannot be the name of a handler: {why}"))
            .help("a name is lower-case words joined by `-`, such as `my-handler`"))
    };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() {
        return refused("it is empty");
    }
    if name.len() > NAME_BYTES {
        return refused(&format!("it has more than {NAME_BYTES} characters"));
    }
    if let Some(c) = name.chars().find(|c| !fits(*c)) {
        return refused(&format!("it holds {c:?}"));
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refused("it does not begin with a letter");
    }
    if name.ends_with('-') || name.contains("--") {
        return refused("a `-` stands between two words");
    }
    if TAKEN.contains(&name) {
        return refused("it already means something to a language, or in a project");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_words() {
        for name in ["a", "my-handler", "v2-docs", "a1"] {
            check(name).unwrap();
        }
        let long = "a".repeat(55);
        for name in
            ["", "My", "my_handler", "-a", "a-", "a--b", "1a", "a/b", "..", "ä", "sdk", "fn", "class", &long, "a\nb"]
        {
            let error = check(name).unwrap_err();
            assert_eq!(error.fault(), Fault::Config, "{name}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
