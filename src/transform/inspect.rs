//! `inspect`: what a component is, and what it may do in this host, without running it.

use std::path::Path;

use wasmparser::{KnownCustom, Parser, Payload};
use wasmtime::component::{Component, HasSelf, Linker};

use super::engine::Engine;
use super::imports::State;
use super::load::{INTERFACES, Refusal, VERSION, WORDS, check_exports, compile, read, recognize, split};
use super::words::presentable;
use super::{bindings, wasi};
use crate::error::{Error, Result};

/// Tools and imports of one component that are told: a file may hold millions.
const TOLD: usize = 200;

const NOT_ASKED: &str = "it does not ask for it";

const PAGE: u64 = 64 << 10;

/// A description of a component, and of the things that it may do.
#[derive(Debug)]
pub struct Inspection {
    /// Bytes of the file.
    pub bytes: usize,
    /// Bytes of the machine code that it becomes.
    pub compiled: usize,
    /// The language in which its author wrote it, if its tools left a trace.
    pub language: Option<String>,
    /// The tools that made it, as they name themselves: name and version.
    pub tools: Vec<(String, String)>,
    /// The version of `pgstream:host` that it was built against, if it imports anything of it.
    pub world: Option<String>,
    /// Core modules in it: its own code, runtimes, adapters.
    pub modules: usize,
    /// Bytes of linear memory that an instance starts with.
    pub memory: u64,
    /// The interfaces that it imports, and what this host makes of each.
    pub imports: Vec<Import>,
    /// The reason why this host would not run it; None if it would.
    pub refusal: Option<Error>,
}

/// An interface that a component imports.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// As the component names it, such as `wasi:cli/exit@0.2.6`.
    pub name: String,
    /// The terms on which the host gives it.
    pub given: Given,
    /// The same in words.
    pub words: &'static str,
}

/// The terms on which the host gives an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Every handler gets it.
    Always,
    /// It is there, but reaches nothing outside the handler.
    Empty,
    /// Only where the pipeline grants it.
    Granted,
    /// Never: the component is refused.
    Refused,
}

/// Something that a handler can or cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ability {
    /// The ability in words, such as "reach the network".
    pub what: &'static str,
    /// True if the component can do it.
    pub can: bool,
    /// The limits of the ability, or the reason why it is missing.
    pub why: &'static str,
}

/// Reads and compiles the component in `file`. Blocks, for seconds if it is large.
///
/// Fails with `Config`, as loading it does, if it is not a component that compiles, or one that
/// would keep the compiler busy. One that this host would refuse for what it imports or lacks is
/// described nevertheless.
pub fn inspect(engine: &Engine, file: &Path) -> Result<Inspection> {
    let bytes = read(file, None).map_err(|refusal| refusal.alone(file))?;
    recognize(&bytes).map_err(|refusal| refusal.alone(file))?;
    let component = compile(engine, &bytes).map_err(|refusal| refusal.alone(file))?;
    let kind = component.component_type();
    let names: Vec<&str> = kind.imports(component.engine()).map(|(name, _)| name).collect();
    let refusal = refusal(engine, &component, &names);
    let anatomy = Anatomy::of(&bytes);
    let parts = names.iter().map(|name| split(name));
    let world = parts.filter(|(package, ..)| *package == "pgstream:host").map(|(_, _, version)| version).next();
    let code = component.image_range();
    Ok(Inspection {
        bytes: bytes.len(),
        compiled: code.end.addr().saturating_sub(code.start.addr()),
        language: anatomy.language(),
        tools: anatomy.tools,
        world: world.map(|version| presentable(version, WORDS)),
        modules: anatomy.modules,
        memory: anatomy.memory,
        imports: names.iter().take(TOLD).map(|name| Import::of(name)).collect(),
        refusal: refusal.map(|refusal| refusal.alone(file)),
    })
}

impl Inspection {
    /// Returns the things that it can do and those that it cannot: everything that people ask
    /// about, also what it does not ask for.
    pub fn abilities(&self) -> Vec<Ability> {
        let imports = |wanted: &str| self.imports.iter().any(|import| fits(&import.name, wanted));
        let any = |names: &[&str], what, how| {
            let can = names.iter().any(|name| imports(name));
            Ability { what, can, why: if can { how } else { NOT_ASKED } }
        };
        let never = |names: &[&str], what, why| Ability { can: false, ..any(names, what, why) };
        let network = if imports("wasi:http") {
            "the hosts that its pipeline names, through the host; none unless it does"
        } else {
            "it asks for sockets, but every connection is refused"
        };
        vec![
            Ability {
                what: "embed",
                can: true,
                why: if imports("pgstream:host/embeddings") {
                    "by calling the embedders that its pipeline names, or by texts in its answers"
                } else {
                    "by texts in its answers, which the host turns into vectors"
                },
            },
            any(&["pgstream:host/config"], "read config", "the values that its pipeline gives it"),
            any(
                &["pgstream:host/log", "wasi:cli/stdout", "wasi:cli/stderr"],
                "log",
                "so many lines in a time, without control characters",
            ),
            Ability {
                can: imports("wasi:http"),
                ..never(&["wasi:http", "wasi:sockets"], "reach the network", network)
            },
            never(&["wasi:filesystem"], "reach files", "it asks for them, but there are none"),
            never(&["wasi:cli/environment"], "read the environment", "it asks for it, but it is empty"),
            any(&["wasi:clocks"], "tell the time", "in whole milliseconds; a wait is over at once"),
            any(&["wasi:random"], "make random numbers", "4 KiB at a time"),
            never(&["wasi:cli/exit"], "end the host", "an exit ends its own call"),
        ]
    }
}

/// Returns the reason why this host would not run the component.
fn refusal(engine: &Engine, component: &Component, names: &[&str]) -> Option<Refusal> {
    for name in names {
        if Import::of(name).given == Given::Refused {
            let help = "a handler may import `pgstream:host` of this host's version, the plain parts of WASI 0.2, and \
                        `wasi:http` where hosts are granted; build it against `wit/`, and remove what needs this";
            return Some(Refusal::new(format!("it imports `{}`", presentable(name, WORDS)), help));
        }
    }
    if let Err(refusal) = check_exports(component) {
        return Some(refusal);
    }
    if names.iter().any(|name| fits(name, "wasi:http")) {
        return None; // is linked by grant only
    }
    let mut linker = Linker::<State>::new(engine.wasmtime());
    let linked = wasi::link(&mut linker)
        .and_then(|()| bindings::Handler::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state))
        .and_then(|()| linker.instantiate_pre(component))
        .and_then(bindings::HandlerPre::new);
    let error = linked.err()?;
    let why: Vec<String> = error.chain().map(|cause| presentable(&cause.to_string(), WORDS)).collect();
    let help = format!("build it against `wit/` of this host, which speaks pgstream:host {VERSION}");
    Some(Refusal::new(format!("it does not fit this host: {}", why.join(": ")), help))
}

impl Import {
    fn of(name: &str) -> Self {
        let (given, words) = given(name);
        Self { name: presentable(name, WORDS), given, words }
    }
}

/// Returns the terms on which the host gives an import, and says them in words. `wasi.rs` and
/// `imports.rs` do it like this.
fn given(name: &str) -> (Given, &'static str) {
    let (package, interface, version) = split(name);
    let spoken = version.strip_prefix(VERSION).is_some_and(|patch| patch.starts_with('.'));
    match (package, interface) {
        ("pgstream:host", _) if !spoken => (Given::Refused, "another version than this host speaks"),
        ("pgstream:host", "embeddings") => (Given::Granted, "the embedders that the pipeline names"),
        ("pgstream:host", "config") => (Given::Always, "the values that the pipeline gives it"),
        ("pgstream:host", "log") => (Given::Always, "the host's log, so many lines in a time"),
        ("pgstream:host", known) if INTERFACES.contains(&known) => (Given::Always, "the types of the contract"),
        ("pgstream:host", _) => (Given::Refused, "this host does not have it"),
        (package, _) if package.starts_with("wasi:") && !version.starts_with("0.2.") => {
            (Given::Refused, "this host has WASI 0.2 only")
        }
        ("wasi:http", "types" | "outgoing-handler") => (Given::Granted, "the hosts in the transform's `allow.http`"),
        ("wasi:sockets", _) => (Given::Empty, "every connection and every look-up is refused"),
        ("wasi:filesystem", _) => (Given::Empty, "no folder is open, so no file can be"),
        ("wasi:clocks", "wall-clock") => (Given::Always, "the time, in whole milliseconds"),
        ("wasi:clocks", _) => (Given::Always, "whole milliseconds; a wait is over at once"),
        ("wasi:random", _) => (Given::Always, "real random numbers, at most 4 KiB at a time"),
        ("wasi:cli", "stdout" | "stderr") => (Given::Always, "lines go to the host's log"),
        ("wasi:cli", "stdin") => (Given::Empty, "nothing comes in"),
        ("wasi:cli", "environment") => (Given::Empty, "no variables, no arguments"),
        ("wasi:cli", "exit") => (Given::Empty, "ends the call"),
        ("wasi:cli", _) => (Given::Empty, "there is no terminal"),
        ("wasi:io", _) => (Given::Always, "how the other interfaces read, write and fail"),
        (package, _) if wasi::PACKAGES.contains(&package) => (Given::Always, "as WASI has it"),
        _ => (Given::Refused, "this host does not have it"),
    }
}

/// Tells if the import is the interface, or of the package, that is wanted.
fn fits(import: &str, wanted: &str) -> bool {
    import.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
}

/// The parts of the file that tell of its making.
#[derive(Default)]
struct Anatomy {
    modules: usize,
    memory: u64,
    languages: Vec<String>,
    /// The language that was named last: `pgstream-host build` writes it behind everything else.
    signed: Option<String>,
    tools: Vec<(String, String)>,
}

impl Anatomy {
    /// Of bytes that have compiled; a section that is not as it should be tells nothing.
    fn of(bytes: &[u8]) -> Self {
        let mut anatomy = Self::default();
        for payload in Parser::new(0).parse_all(bytes).map_while(std::result::Result::ok) {
            match payload {
                Payload::ModuleSection { .. } => anatomy.modules += 1,
                Payload::MemorySection(memories) => {
                    let pages = memories.into_iter().flatten().map(|memory| memory.initial);
                    anatomy.memory =
                        pages.fold(anatomy.memory, |sum, pages| sum.saturating_add(pages.saturating_mul(PAGE)));
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Producers(fields) = section.as_known() {
                        fields.into_iter().flatten().for_each(|field| anatomy.add(&field));
                    }
                }
                _ => {}
            }
        }
        anatomy
    }

    fn add(&mut self, field: &wasmparser::ProducersField<'_>) {
        for value in field.values.clone().into_iter().flatten() {
            if field.name == "language" {
                self.signed = Some(presentable(value.name, WORDS));
            }
            let (name, version) = (presentable(value.name, WORDS), presentable(value.version, WORDS));
            if field.name == "language" {
                if self.languages.len() < TOLD && !self.languages.contains(&name) {
                    self.languages.push(name);
                }
            } else if self.tools.len() < TOLD && !self.tools.iter().any(|(known, _)| *known == name) {
                self.tools.push((name, version));
            }
        }
    }

    /// An interpreter is written in another language than the handler that it brings along, so what
    /// `pgstream-host build` says goes first.
    fn language(&self) -> Option<String> {
        let made_by = |tool: &str| self.tools.iter().any(|(name, _)| name == tool);
        if made_by("pgstream-host") {
            return self.signed.clone();
        }
        let traced = [("componentize-py", "Python"), ("ComponentizeJS", "JavaScript"), ("wit-bindgen-rust", "Rust")];
        let told = traced.into_iter().find(|(tool, _)| made_by(tool)).map(|(_, language)| language.to_owned());
        told.or_else(|| self.languages.first().cloned())
    }
}
