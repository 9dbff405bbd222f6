//! From a file to a handler that can be instantiated: what is not a handler, or wants what it was
//! not granted, is refused.

use std::io::Read;
use std::path::Path;

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, Linker};

use super::WasmTransform;
use super::bindings;
use super::compiler::Failure;
use super::effort::{self, COMPONENT_BYTES};
use super::engine::Engine;
use super::http::{self, Grants};
use super::imports::State;
use super::wasi;
use super::words::{presentable, size};
use crate::config::open_beneath;
use crate::error::{Error, Fault, Result};

/// The interfaces of ours that a handler may import.
pub(super) const INTERFACES: [&str; 4] = ["types", "log", "config", "embeddings"];

/// The version of the world that this host speaks; additions only change the last number.
pub(super) const VERSION: &str = "0.1";

/// Bytes of a name or a sentence that comes out of the file.
pub(super) const WORDS: usize = 300;

/// Reads, checks and compiles the component of handler `name`, and links it to what it is granted.
/// Answers its hash, too.
pub(super) fn load(
    engine: &Engine,
    name: &str,
    settings: &WasmTransform,
    memory: usize,
    grants: &Grants,
) -> Result<(bindings::HandlerPre<State>, String)> {
    let file = &settings.component;
    let refused = |refusal: Refusal| refusal.of(name, file);
    let bytes = read(file, settings.folder.as_deref()).map_err(refused)?;
    recognize(&bytes).map_err(refused)?;
    let component = compile(engine, &bytes).map_err(refused)?;
    check_imports(&component, name, grants).map_err(refused)?;
    check_exports(&component).map_err(refused)?;
    check_memory(&component, name, memory).map_err(refused)?;

    let mut linker = Linker::new(engine.wasmtime());
    let linked = wasi::link(&mut linker)
        .and_then(|()| if grants.any() { http::link(&mut linker) } else { Ok(()) })
        .and_then(|()| bindings::Handler::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state))
        .and_then(|()| linker.instantiate_pre(&component))
        .and_then(bindings::HandlerPre::new);
    linked.map(|linked| (linked, hash(&bytes))).map_err(|error| {
        let why: Vec<String> = error.chain().map(|cause| presentable(&cause.to_string(), WORDS)).collect();
        let help = format!("build it against `wit/` of this host, which speaks pgstream:host {VERSION}");
        refused(Refusal::new(format!("it does not fit this host: {}", why.join(": ")), help))
    })
}

/// The section at the end of a component whose tools never make the same one twice: the hash of
/// what it was made of.
const SOURCE: &[u8] = b"\x14pgstream-host:source";

/// A mark that tells a component from others, in hexadecimal: SHA-256 of what it was made of if it
/// says so, or else of itself. Only to be shown: a component says of itself what it likes.
pub(super) fn hash(bytes: &[u8]) -> String {
    if let Some((before, hash)) = bytes.split_last_chunk::<64>()
        && before.ends_with(SOURCE)
        && hash.iter().all(u8::is_ascii_hexdigit)
    {
        return String::from_utf8_lossy(hash).into_owned();
    }
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Reads a component, beneath `folder` if it has an owner who is not trusted. Nothing but a plain
/// file is waited for.
pub(super) fn read(file: &Path, folder: Option<&Path>) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: std::io::Error| {
        let help = "build the handler first, or correct the path; it is relative to the pipeline file";
        Refusal::new(error.to_string(), help)
    };
    let mut bytes = Vec::new();
    let opened = match open_beneath(file, folder, OFlags::RDONLY) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            return Err(Refusal::new(error.to_string(), "name the `.wasm` file itself"));
        }
        opened => opened.map_err(unreadable)?,
    };
    let length = opened.metadata().map_err(unreadable)?.len();
    opened.take(COMPONENT_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > COMPONENT_BYTES {
        let what = format!("it has {}, at most {} are loaded", size(length as usize), size(COMPONENT_BYTES as usize));
        return Err(Refusal::new(what, "strip it: `wasm-tools strip handler.wasm -o smaller.wasm`"));
    }
    Ok(bytes)
}

/// Tells a component by its first bytes from what people mistake for one.
pub(super) fn recognize(bytes: &[u8]) -> Result<(), Refusal> {
    let refusal = match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Refusal::new(
            "it is a core module, not a component",
            "build it for the target `wasm32-wasip2`, or wrap it: `wasm-tools component new module.wasm -o handler.wasm`",
        ),
        [0, b'a', b's', b'm', ..] => {
            Refusal::new("it is WebAssembly of a version that this host does not know", "build it with current tools")
        }
        [0x7f, b'E', b'L', b'F', ..] => Refusal::new(
            "it is machine code, perhaps a precompiled `.cwasm`, which can do anything and is never loaded",
            "name the `.wasm` file; the host compiles it and keeps the result in its own cache",
        ),
        _ => Refusal::new("it is not WebAssembly", "name the `.wasm` file that the build of the handler wrote"),
    };
    Err(refusal)
}

/// Compiles what a compiler may be asked to.
pub(super) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, Refusal> {
    if let Some(excess) = effort::excess(bytes) {
        return Err(Refusal::new(excess, "build it optimised and without what it does not use"));
    }
    engine.compile(bytes).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => uncompiled(&failure),
        Err(error) => Refusal::new(
            format!("its machine code cannot be loaded: {}", presentable(&error.root_cause().to_string(), WORDS)),
            "start again; if that does not help, remove the folder of compiled handlers",
        ),
    })
}

fn uncompiled(failure: &Failure) -> Refusal {
    let smaller = |key: &str| {
        format!(
            "build it optimised, with smaller functions and without what it does not use. If it has to be so large: \
             `compile: {{ {key} }}` in a host file"
        )
    };
    match failure {
        Failure::Refused(why) => Refusal::new(
            format!("it does not compile: {}", presentable(why, WORDS)),
            "build it again, for the target `wasm32-wasip2`; our world has no `async`",
        ),
        Failure::Excess(what) => Refusal::new(what, "build it optimised and without what it does not use"),
        Failure::Time(limit) => {
            let double = crate::config::Span(limit.saturating_mul(2));
            Refusal::new(failure.to_string(), smaller(&format!("time: {double}")))
        }
        Failure::Memory(limit) => {
            let double = crate::config::Size(limit.saturating_mul(2));
            Refusal::new(failure.to_string(), smaller(&format!("memory: {double}")))
        }
        Failure::Crashed(_) => Refusal::new(failure.to_string(), "build it again with current tools"),
        Failure::Killed => {
            Refusal::new(failure.to_string(), "look whether the machine ran out of memory, and start again")
                .blame(Fault::Environment)
        }
        Failure::NotStarted(cause) => Refusal::new(
            format!("{failure}: {cause}"),
            "the host starts itself once more to compile: it needs `/proc`, and room for another process",
        )
        .blame(Fault::Environment),
    }
}

fn check_imports(component: &Component, name: &str, grants: &Grants) -> Result<(), Refusal> {
    let kind = component.component_type();
    for (import, _) in kind.imports(component.engine()) {
        let (package, interface, version) = split(import);
        let shown = presentable(import, WORDS);
        if package == "pgstream:host" {
            check_version(version, &shown)?;
            if !INTERFACES.contains(&interface) {
                let help = "build it against `wit/` of this host, or run it in a newer one";
                return Err(Refusal::new(format!("it imports `{shown}`, which this host does not have"), help));
            }
            continue;
        }
        let http = package == "wasi:http" && http::INTERFACES.contains(&interface);
        let granted = wasi::PACKAGES.contains(&package) || http && grants.any();
        if !(granted && version.starts_with("0.2.")) {
            let what = format!("it imports `{shown}`, which transform `{name}` does not grant");
            let help = if http {
                format!(
                    "name the hosts that it may reach: `transforms.{name}.allow: {{ http: [api.example.com] }}`. If it needs \
                     none, build it without HTTP (JavaScript: `--disable http --disable fetch-event`)"
                )
            } else {
                "a handler may import `pgstream:host`, the plain parts of WASI 0.2, and `wasi:http` where hosts are granted, \
                 nothing else; remove what needs this"
                    .to_owned()
            };
            return Err(Refusal::new(what, help));
        }
    }
    Ok(())
}

pub(super) fn check_exports(component: &Component) -> Result<(), Refusal> {
    let kind = component.component_type();
    if kind.get_export(component.engine(), "handle").is_some() {
        return Ok(());
    }
    let exports: Vec<String> = kind
        .exports(component.engine())
        .take(5)
        .map(|(export, _)| format!("`{}`", presentable(export, WORDS)))
        .collect();
    let has = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
    Err(Refusal::new(
        format!("it exports no function `handle`, but {has}"),
        "export the world `pgstream:host/handler`; in Rust `pgstream_handler::handler!(on_event)` in a crate of type `cdylib`",
    ))
}

fn check_version(version: &str, import: &str) -> Result<(), Refusal> {
    if version.strip_prefix(VERSION).is_some_and(|patch| patch.starts_with('.')) {
        return Ok(());
    }
    let what = format!("it imports `{import}`, this host speaks pgstream:host {VERSION}");
    Err(Refusal::new(what, "build it against `wit/` of this host, or run it in a host of its version"))
}

fn check_memory(component: &Component, name: &str, memory: usize) -> Result<(), Refusal> {
    const PAGE: usize = 64 << 10;
    let Some(pages) = component.resources_required().and_then(|required| required.max_initial_memory_size) else {
        return Ok(());
    };
    let needed = usize::try_from(pages).unwrap_or(usize::MAX).saturating_mul(PAGE);
    if needed <= memory {
        return Ok(());
    }
    let what = format!("it starts with {} of memory, the limit is {}", size(needed), size(memory));
    Err(Refusal::new(what, format!("raise `transforms.{name}.limits.memory`")))
}

/// `wasi:cli/exit@0.2.6` in its parts; what is missing is empty.
pub(super) fn split(import: &str) -> (&str, &str, &str) {
    let (path, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    (package, interface, version)
}

/// The reason why a file is not taken, and advice for its author.
pub(super) struct Refusal {
    what: String,
    help: String,
    fault: Fault,
}

impl Refusal {
    pub(super) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), fault: Fault::Config }
    }

    /// The same, if it is not the file's doing.
    fn blame(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    /// As an error of a file that no pipeline has named yet.
    pub(super) fn alone(self, file: &Path) -> Error {
        let what = match self.fault {
            Fault::Config => "is not a handler",
            _ => "cannot be looked at",
        };
        Error::new(self.fault, format!("`{}` {what}", file.display()))
            .because(std::io::Error::other(self.what))
            .help(self.help)
    }

    /// As an error of a transform's component.
    pub(super) fn of(self, name: &str, file: &Path) -> Error {
        Error::new(self.fault, format!("`{}` cannot be the component of transform `{name}`", file.display()))
            .because(std::io::Error::other(self.what))
            .at(format!("`transforms.{name}.component`"))
            .help(self.help)
    }
}
