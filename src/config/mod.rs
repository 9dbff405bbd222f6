//! The pipeline file: parsed, checked and turned into the `model` that the rest of the host works
//! with.
//!
//! Text becomes nodes that know their place (`yaml`), references to the environment are resolved in
//! them (`env`), nodes become structs (`file`, `read`), and what the types cannot say is checked
//! (`wiring`, `check`). Each step gathers problems and goes on, so that all of them are reported at
//! once (`diagnostic`). Kinds of components come as a list (`kind`) and report through `problems`;
//! nothing here knows one of them.

pub mod model;

mod secret;
mod units;

mod alien;
mod beneath;
mod bounds;
mod check;
mod diagnostic;
mod document;
mod env;
mod excerpt;
mod file;
mod handed;
mod host;
mod host_shape;
mod kind;
mod merge;
mod mistake;
mod node;
mod problems;
mod read;
mod reference;
mod repair;
mod resource;
mod room;
mod schema;
mod table;
mod wiring;
mod yaml;

pub use alien::{is_alien, is_host_file};
pub use beneath::{folder_beneath, open_beneath, read as read_beneath};
pub use diagnostic::{Diagnostics, Place, Problem};
pub use document::{Document, Mistakes, Part, Shape};
pub use handed::{HandedFile, Objection};
pub use host::{host_schema, load_host, parse_host};
pub(crate) use kind::section_of_kinds;
pub use kind::{
    Accepts, Component, ComponentKind, ComponentSettings, Components, Holds, KindEntry, Registry, SinkComponent,
    SourceComponent,
};
pub(crate) use problems::example_name;
pub use problems::{MAX_IDENTIFIER, Problems, SLOT_PREFIX, default_slot, is_whole_identifier};
pub use reference::{host_reference, reference};
pub use resource::{PostgresLogin, Resource, SourceDatabase};
pub use schema::schema;
pub use secret::Secret;
pub use table::{qualified, split};
pub use units::{Size, Span, UnitError};

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::path::Path;

use check::Check;
use diagnostic::Findings;
use file::{File, components};
use model::Pipeline;
use room::Room;
use yaml::{Id, Kind, Node, SyntaxError};

/// The longest list of tables that anybody has, several times over. Bounds what a stranger's file
/// costs.
const ROOM: Room = Room { nodes: 100_000, text: 4 << 20, brackets: 1000 };

/// Reads and checks the pipeline file at `path`, with references resolved from the process's
/// environment.
///
/// # Errors
/// All the problems that were found, never only the first.
pub fn load<C: Components>(registry: &Registry<C>, path: &Path) -> Result<Pipeline<C>, Diagnostics> {
    load_granted(registry, path, &Grants::default())
}

/// The things outside of a pipeline file that the file may use.
pub struct Grants<'a> {
    /// The environment that its references see.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Names of the embedders that the host lends.
    pub embedders: &'a [String],
}

impl Default for Grants<'_> {
    /// The whole environment: for files of the host's own user.
    fn default() -> Self {
        Self { lookup: &|variable| std::env::var(variable).ok(), embedders: &[] }
    }
}

/// As `load`, with nothing but these grants.
///
/// # Errors
/// All the problems that were found, never only the first.
pub fn load_granted<C: Components>(
    registry: &Registry<C>,
    path: &Path,
    grants: &Grants<'_>,
) -> Result<Pipeline<C>, Diagnostics> {
    HandedFile::read(path, None)?.parse(registry, grants)
}

/// The tenant that the pipeline file at `path` names, before anything in it is resolved.
///
/// # Errors
/// Fails if the file cannot be read, is larger than 1 MiB, is not UTF-8 text or YAML, or is not a
/// map.
pub fn tenant_of(path: &Path) -> Result<Option<String>, Diagnostics> {
    HandedFile::read(path, None)?.tenant()
}

/// Checks `text` as the pipeline file `name`, whose relative paths start at `folder`, with the
/// environment that `lookup` gives. Looks at the file system for the component's file, and at
/// nothing else.
///
/// # Errors
/// All the problems that were found, never only the first.
pub fn parse<C: Components>(
    registry: &Registry<C>,
    name: &str,
    text: &str,
    folder: &Path,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Pipeline<C>, Diagnostics> {
    parse_granted(registry, name, text, folder, &Grants { lookup, embedders: &[] })
}

fn parse_granted<C: Components>(
    registry: &Registry<C>,
    name: &str,
    text: &str,
    folder: &Path,
    grants: &Grants<'_>,
) -> Result<Pipeline<C>, Diagnostics> {
    let mut findings = Findings::new(name, text);
    match nodes(text, ROOM, &mut findings) {
        Some(mut root) => {
            file::drop_ignored(&mut root);
            env::resolve(&mut root, grants.lookup, &mut findings);
            let pipeline = pipeline(registry, &root, folder, grants.embedders, &mut findings);
            pipeline.filter(|_| findings.is_empty()).ok_or_else(|| findings.finish())
        }
        None => Err(findings.finish()),
    }
}

fn nodes(text: &str, room: Room, findings: &mut Findings<'_>) -> Option<Node> {
    let mut root = match yaml::parse(text, room) {
        Ok(Some(root)) => root,
        Ok(None) => {
            findings.at_spot(None, "the file is empty", "start with `version: 1`, or copy a file from `pipelines/`");
            return None;
        }
        Err(error) => {
            let line = error.spot.map_or("", |spot| findings.line(spot.line));
            findings.at_spot(error.spot, &error.message, syntax_help(line, &error));
            return None;
        }
    };
    if !root.is_map() {
        findings.at(root.id, "expected a map with `version`, `name`, `sources`, `transforms` and `sinks`", "");
        return None;
    }
    drop_duplicate_keys(&mut root, findings);
    Some(root)
}

fn pipeline<C: Components>(
    registry: &Registry<C>,
    root: &Node,
    folder: &Path,
    lent: &[String],
    findings: &mut Findings<'_>,
) -> Option<Pipeline<C>> {
    let file = File::read::<C>(root, findings);
    let mut sources = components(root, registry.sources, findings);
    let mut embedders = components(root, registry.embedders, findings);
    let mut transforms = components(root, registry.transforms, findings);
    let mut sinks = components(root, registry.sinks, findings);
    wiring::check::<C>(root, registry.sinks, lent, findings);

    let mut check = Check { root, findings };
    check.bounds(registry.sources);
    check.bounds(registry.embedders);
    check.bounds(registry.transforms);
    check.bounds(registry.sinks);
    file.iter().for_each(|file| check.file(file));
    check.components(sources.iter_mut(), folder);
    check.components(embedders.iter_mut(), folder);
    check.components(transforms.iter_mut(), folder);
    check.components(sinks.iter_mut(), folder);
    if let Some((_, source)) = sources.first() {
        check.complete(&mut sinks, source.database().as_ref());
    }

    let File { name, tenant, .. } = file?;
    let (source_name, source) = sources.into_iter().next()?;
    Some(Pipeline { name, tenant, source_name, source, embedders, transforms, sinks })
}

/// Reports keys that stand twice, and goes on with the first of them.
fn drop_duplicate_keys(node: &mut Node, findings: &mut Findings<'_>) {
    match &mut node.kind {
        Kind::Map(entries) => {
            let mut first: HashMap<String, Id> = HashMap::new();
            entries.retain(|entry| match first.entry(entry.key.clone()) {
                Occupied(other) => {
                    let line = findings.line_of(*other.get());
                    let help = format!("remove one of the two, the other is on line {line}");
                    findings.at(entry.id, format!("`{}` stands twice in one map", entry.key), help);
                    false
                }
                Vacant(place) => {
                    place.insert(entry.id);
                    true
                }
            });
            entries.iter_mut().for_each(|entry| drop_duplicate_keys(&mut entry.value, findings));
        }
        Kind::List(items) => items.iter_mut().for_each(|item| drop_duplicate_keys(item, findings)),
        Kind::Null | Kind::Scalar(_) | Kind::Hole => {}
    }
}

fn syntax_help(line: &str, error: &SyntaxError) -> String {
    let began = error.began.map_or(String::new(), |spot| format!(" on line {}", spot.line));
    let help = match error.message.as_str() {
        _ if line.contains('\t') => "indent with spaces: YAML does not allow tabs",
        message if message.contains("expected ',' or") && line.contains("${") => {
            "inside `{ }` and `[ ]` a reference needs quotes: `\"${VAR}\"`"
        }
        message if message.contains("expected ',' or ']'") => return format!("close the `[`{began} with a `]`"),
        message if message.contains("expected ',' or '}'") => return format!("close the `{{`{began} with a `}}`"),
        message if message.contains("unexpected end of stream") => return format!("close the quote{began}"),
        message if message.contains("mapping values") => {
            "a value that holds `: ` needs quotes; or the line is indented too far"
        }
        message if message.contains("expected ':'") => "write `key: value`",
        message if message.contains("expected key") || message.contains("block") => {
            "keys of one map start in the same column"
        }
        message if message.contains("cannot start any token") => {
            "a value that starts with `@`, `` ` `` or `%` needs quotes"
        }
        message if message.contains("aliases") => {
            "an alias (`*name`) repeats all that it names: use fewer, or name less"
        }
        message if message.contains("brackets") => {
            "write lists with a `-` before each item, and maps with each key on its line"
        }
        _ => "",
    };
    help.to_owned()
}

fn reason(error: &std::io::Error) -> Cow<'static, str> {
    Cow::Borrowed(match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file",
        std::io::ErrorKind::PermissionDenied => "permission denied",
        std::io::ErrorKind::IsADirectory => "it is a folder",
        // Ours, of what may not be opened.
        std::io::ErrorKind::InvalidInput => return Cow::Owned(error.to_string()),
        _ => "the operating system refused",
    })
}
