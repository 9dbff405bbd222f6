//! The templates, SDKs and the contract that this program carries with it, and how they become a
//! project's files.

use std::borrow::Cow;

use super::Language;
use crate::error::{Error, Fault, Result};

#[derive(rust_embed::RustEmbed)]
#[folder = "plugins/templates"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/target/*"]
#[exclude = "*/__pycache__/*"]
#[exclude = "*/.venv/*"]
#[exclude = "*.wasm"]
#[exclude = "*/Cargo.lock"]
struct Templates;

#[derive(rust_embed::RustEmbed)]
#[folder = "plugins/sdk"]
#[include = "rust/*"]
#[include = "js/*"]
#[include = "go/*"]
#[include = "python/*"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/target/*"]
#[exclude = "*/__pycache__/*"]
#[exclude = "*/.venv/*"]
#[exclude = "*.egg-info/*"]
#[exclude = "python/tests/*"]
#[exclude = "js/tests/*"]
#[exclude = "rust/tests/*"]
#[exclude = "go/*_test.go"]
#[exclude = "js/runtime/patch.py"]
#[exclude = "*/Cargo.lock"]
struct Sdks;

#[derive(rust_embed::RustEmbed)]
#[folder = "wit"]
#[include = "*.wit"]
struct Contract;

/// Folders of the SDK and of the contract in a project.
const SDK: &str = "sdk";
const WIT: &str = "wit";

/// A file of a project: its path below the project's folder, and what it holds.
pub(super) type File = (String, Cow<'static, [u8]>);

/// The files of a new project. Fails with `Bug` if this program carries no template for the
/// language.
pub(super) fn project(language: Language, name: &str) -> Result<Vec<File>> {
    let fill = |text: &str| text.replace("{{name}}", name).replace("{{name_snake}}", &name.replace('-', "_"));
    let mut files: Vec<File> = below::<Templates>(language.name())
        .map(|(path, content)| {
            let filled = match std::str::from_utf8(&content) {
                Ok(text) if text.contains("{{name") => Cow::Owned(fill(text).into_bytes()),
                _ => content,
            };
            (undot(&fill(&path)), filled)
        })
        .collect();
    if files.is_empty() {
        return Err(Error::new(Fault::Bug, format!("this program has no template for {language} yet"))
            .help("write a project by hand, from the SDK in `plugins/sdk` and the contract in `wit`"));
    }
    files.extend(sdk(language).map(|(path, content)| (format!("{SDK}/{path}"), content)));
    files.extend(contract().map(|(path, content)| (format!("{WIT}/{path}"), content)));
    Ok(files)
}

/// The language's SDK, by paths below its folder.
pub(super) fn sdk(language: Language) -> impl Iterator<Item = File> {
    below::<Sdks>(language.sdk())
}

/// The contract with handlers: the files of `wit/`.
pub(super) fn contract() -> impl Iterator<Item = File> {
    all::<Contract>()
}

fn below<E: rust_embed::RustEmbed>(folder: &str) -> impl Iterator<Item = File> {
    let prefix = format!("{folder}/");
    all::<E>().filter_map(move |(path, content)| Some((path.strip_prefix(&prefix)?.to_owned(), content)))
}

fn all<E: rust_embed::RustEmbed>() -> impl Iterator<Item = File> {
    E::iter().filter_map(|path| Some((path.to_string(), E::get(&path)?.data)))
}

/// `dot.gitignore` is how the template of `.gitignore` is kept.
fn undot(path: &str) -> String {
    let (folder, file) = path.rsplit_once('/').map_or(("", path), |(folder, file)| (folder, file));
    let file = file.strip_prefix("dot").filter(|rest| rest.starts_with('.')).unwrap_or(file);
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_built_is_embedded_and_all_of_it_is_small() {
        let embedded: Vec<File> = all::<Templates>().chain(all::<Sdks>()).chain(contract()).collect();
        for (path, content) in &embedded {
            let built = ["node_modules/", "target/", "__pycache__/", ".venv/"].iter().any(|part| path.contains(part));
            assert!(!built, "{path}");
            assert!(!path.contains("breaches"), "{path} needs a file that is not embedded");
            assert!(content.len() < 400_000, "{path} has {} bytes", content.len());
        }
        let all: usize = embedded.iter().map(|(_, content)| content.len()).sum();
        assert!(all < 3_000_000, "{all} bytes");
        assert!(embedded.iter().any(|(path, _)| path == "world.wit"));
    }

    #[test]
    fn a_dot_file_is_kept_without_its_dot() {
        assert_eq!(undot("dot.gitignore"), ".gitignore");
        assert_eq!(undot("a/dot.env"), "a/.env");
        assert_eq!(undot("a/dots.txt"), "a/dots.txt");
    }
}
