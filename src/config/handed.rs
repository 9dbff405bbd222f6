//! `HandedFile`: the text of a pipeline file, read once: what is judged is what runs, whatever lies
//! at the path by then.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostics, Findings};
use super::kind::{Components, Registry};
use super::model::Pipeline;
use super::problems::report;
use super::yaml::Node;
use super::{Grants, ROOM, nodes, parse_granted, read_beneath, reason};
use crate::error::Error;

/// A larger file is no pipeline but something else by mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A pipeline file as it was when it was read.
pub struct HandedFile {
    name: String,
    text: String,
    base: PathBuf,
}

impl HandedFile {
    /// Reads the file at `path`. With a `folder`, whose owner is not trusted, it must be a plain
    /// file that lies in it.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is larger than 1 MiB, or is not UTF-8 text.
    pub fn read(path: &Path, folder: Option<&Path>) -> Result<Self, Diagnostics> {
        let text = match folder {
            None => text_of(path)?,
            Some(_) => text_from(path, || read_beneath(path, folder, MAX_FILE_BYTES + 1))?,
        };
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { name: path.to_string_lossy().into_owned(), text, base })
    }

    /// The tenant that the file names, before anything in it is resolved.
    ///
    /// # Errors
    /// Fails if the file is not YAML, or is not a map.
    pub fn tenant(&self) -> Result<Option<String>, Diagnostics> {
        let mut findings = Findings::new(&self.name, &self.text);
        match nodes(&self.text, ROOM, &mut findings) {
            Some(root) => Ok(root.get("tenant").and_then(Node::text).map(str::to_owned)),
            None => Err(findings.finish()),
        }
    }

    /// Checks the file, with nothing but these grants. Relative paths start at the file's folder.
    ///
    /// # Errors
    /// All the problems that were found, never only the first.
    pub fn parse<C: Components>(
        &self,
        registry: &Registry<C>,
        grants: &Grants<'_>,
    ) -> Result<Pipeline<C>, Diagnostics> {
        parse_granted(registry, &self.name, &self.text, &self.base, grants)
    }

    /// The problems that somebody has with a file that was parsed, each with its line.
    pub fn refuse(&self, objections: &[Objection]) -> Diagnostics {
        let mut findings = Findings::new(&self.name, &self.text);
        if let Some(root) = nodes(&self.text, ROOM, &mut findings) {
            for Objection { at, error } in objections {
                let at: Vec<&str> = at.iter().map(String::as_str).collect();
                report(&root, &mut findings, &at, error.chain(), error.advice().unwrap_or_default());
            }
        }
        findings.finish()
    }
}

/// Something in a file that is right in itself, and that whoever runs it does not allow.
pub struct Objection {
    /// The keys from the top of the file to what is meant.
    pub at: Vec<String>,
    /// The reason why it is not allowed.
    pub error: Error,
}

/// The text of a file that a command line names, or that lies in a folder of the host's own. It may
/// be a pipe.
pub(super) fn text_of(path: &Path) -> Result<String, Diagnostics> {
    text_from(path, || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

/// The text of a plain file that was only come across: nothing is waited for.
pub(super) fn text_found_at(path: &Path) -> Result<String, Diagnostics> {
    text_from(path, || read_beneath(path, None, MAX_FILE_BYTES + 1))
}

fn text_from(path: &Path, read: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<String, Diagnostics> {
    let name = path.to_string_lossy();
    let unreadable = |message: String| {
        let mut findings = Findings::new(&name, "");
        findings.at_spot(None, message, "");
        findings.finish()
    };
    let bytes = read().map_err(|error| unreadable(format!("cannot read the pipeline file: {}", reason(&error))))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable("the pipeline file is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("the pipeline file is not UTF-8 text".to_owned()))
}
