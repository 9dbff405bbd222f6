//! Handler projects: `create` writes one, `detect` tells its language, `build` makes a component of
//! it.
//!
//! A project is a template of `plugins/templates/<language>`, filled in, with the SDK of
//! `plugins/sdk/<language>` in its `sdk/` and the contract in its `wit/`. So an SDK finds the
//! contract at `../wit`, and a template its SDK at `sdk`; in this repository the first holds by the
//! link `plugins/sdk/wit`, and the examples name their SDK as `../sdk/<language>`.
//!
//! In a template's texts and file names `{{name}}` is the handler's name (`my-handler`) and
//! `{{name_snake}}` the same as an identifier (`my_handler`). A name that begins with `dot.` gets a
//! plain dot, so that the template of a `.gitignore` does not act in this repository.
//!
//! A language's file holds its `build`, which runs that language's ordinary tools through
//! `tool.rs`, and the pins of their versions.

mod create;
mod encode;
mod go;
mod javascript;
mod language;
mod project;
mod python;
mod rust;
mod scratch;
mod source;
mod sources;
mod template;
mod tool;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Fault, Result};

pub use create::create;
pub use language::Language;
pub use project::{Project, detect};
pub use sources::{changes, is_stale};

/// The result of a build.
#[derive(Clone, Debug)]
pub struct Built {
    /// The component's file.
    pub component: PathBuf,
    /// Time that the build took.
    pub took: Duration,
}

/// Makes a component of a project with its language's own tools. Blocks, for minutes if tools have
/// to be fetched.
///
/// The component goes to `out`, or else to `<project>/<name>.wasm`; an older one stays until the
/// new one is whole. What the tools say goes to standard error, if they fail.
pub fn build(project: &Path, out: Option<&Path>) -> Result<Built> {
    let started = Instant::now();
    let project = Project::open(project)?;
    let component = match out {
        Some(out) => absolute(out)?,
        None => project.folder().join(format!("{}.wasm", project.name())),
    };
    if component.is_dir() {
        return Err(Error::new(Fault::Config, format!("`{}` is a folder", component.display()))
            .help("name the file to write, such as `--out handler.wasm`"));
    }
    if let Some(folder) = component.parent() {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
    }
    let before = sources::Before::of(&project)?;
    let unfinished = component.with_extension(format!("wasm.{:08x}", rand::random::<u32>()));
    let made = match project.language() {
        Language::Rust => rust::build(&project, &unfinished).map(|()| None),
        Language::Go => go::build(&project, &unfinished).map(|()| None),
        Language::JavaScript | Language::TypeScript => javascript::build(&project, &unfinished).map(|()| None),
        Language::Python => python::build(&project, &unfinished).map(Some),
    };
    let made = made.and_then(|source| {
        is_component(&unfinished)?;
        sign(&unfinished, project.language())?;
        append(&unfinished, &before.section(&project)?)?;
        source.map_or(Ok(()), |source| source::write(&unfinished, &source))
    });
    let made =
        made.and_then(|()| std::fs::rename(&unfinished, &component).map_err(|error| unwritable(&component, error)));
    if made.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    made?;
    Ok(Built { component, took: started.elapsed() })
}

/// The header of a component, which a core module does not have.
fn is_component(file: &Path) -> Result<()> {
    let unreadable = |error| Error::new(Fault::Bug, "the build wrote no component").because(error);
    let mut header = [0; 8];
    let mut opened = std::fs::File::open(file).map_err(unreadable)?;
    std::io::Read::read_exact(&mut opened, &mut header).map_err(unreadable)?;
    if header == *b"\0asm\x0d\0\x01\0" {
        return Ok(());
    }
    Err(Error::new(Fault::Handler, "what the build wrote is not a component")
        .help("compare the project with a new one: `pgstream-host new`"))
}

/// Writes into the component what its author wrote it in, where such things are written: tools
/// leave traces of their own languages only.
fn sign(file: &Path, language: Language) -> Result<()> {
    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.push(u8::try_from(text.len()).unwrap_or(0)); // all are short
        bytes.extend_from_slice(text.as_bytes());
    }
    let language = language.to_string();
    let mut section = Vec::new();
    text(&mut section, "producers");
    section.push(2);
    for (field, name, version) in
        [("language", language.as_str(), ""), ("processed-by", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))]
    {
        text(&mut section, field);
        section.push(1);
        text(&mut section, name);
        text(&mut section, version);
    }
    let length = u8::try_from(section.len()).ok().filter(|length| *length < 0x80);
    let length = length.ok_or_else(|| Error::new(Fault::Bug, "the signature of a build is too long"))?;
    append(file, &[&[0, length], section.as_slice()].concat())
}

fn append(file: &Path, bytes: &[u8]) -> Result<()> {
    let opened = std::fs::OpenOptions::new().append(true).open(file);
    opened.and_then(|mut file| std::io::Write::write_all(&mut file, bytes)).map_err(|error| unwritable(file, error))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::new(Fault::Environment, "the current folder cannot be told").because(error))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Fault::Environment, format!("`{}` cannot be written", path.display())).because(error)
}
