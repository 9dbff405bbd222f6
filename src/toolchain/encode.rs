//! From a core module to a component: the world's type put in, WASI preview 1 served by an adapter
//! of our own.
//!
//! This is for toolchains that stop at a core module, as Go's does. The adapter is `adapter.wat`;
//! its binary form is kept beside it, because the program that reads the text would be many times
//! larger, and a test holds the two together.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

use super::template;
use crate::error::{Error, Fault, Result};

/// The world that a handler is built for.
const WORLD: &str = "handler";

/// Name under which core modules import WASI preview 1.
const PREVIEW1: &str = "wasi_snapshot_preview1";

const ADAPTER: &[u8] = include_bytes!("adapter.wasm");
const ADAPTER_WIT: &str = include_str!("adapter.wit");
const ADAPTER_WORLD: &str = "adapter";
const REQUESTS_WORLD: &str = "requests";

/// Makes a component of a core module that was compiled for the world `handler`.
///
/// `wit` is the folder with the contract; without one it is the contract that this program carries.
/// Fails with `Handler` if the module is none, or does not fit the world.
pub(super) fn encode(module: &[u8], wit: Option<&Path>) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = match wit {
        Some(folder) => {
            resolve.push_dir(folder).map(|(package, _)| package).map_err(|error| contract(folder, &error))?
        }
        None => ours(&mut resolve)?,
    };
    let world = resolve.select_world(&[package], Some(WORLD));
    let world = world.map_err(|error| contract(wit.unwrap_or(Path::new("wit")), &error))?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(|error| bug(&error))?;
    if imports_http(&module) {
        embed(&mut module, REQUESTS_WORLD).map_err(|error| bug(&error))?;
    }
    let adapter = adapter().map_err(|error| bug(&error))?;

    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.adapter(PREVIEW1, &adapter))
        .and_then(|mut encoder| encoder.encode());
    component.map_err(|error| {
        Error::new(Fault::Handler, "what was compiled does not fit the world `handler`")
            .because(said(&error))
            .help("its imports and exports are made by the SDK: use the one that `pgstream-host new` writes")
    })
}

/// The contract that this program carries.
fn ours(resolve: &mut Resolve) -> Result<wit_parser::PackageId> {
    let mut sources = SourceMap::default();
    for (path, text) in template::contract() {
        sources.push_str(&path, String::from_utf8_lossy(&text));
    }
    let group = sources.parse().map_err(|(_, error)| bug(&error))?;
    resolve.push_group(group).map_err(|error| bug(&error))
}

/// The adapter, with its type.
fn adapter() -> Result<Vec<u8>, impl std::fmt::Display> {
    let mut adapter = ADAPTER.to_vec();
    embed(&mut adapter, ADAPTER_WORLD).map(|()| adapter)
}

/// Says of a module that it is of one of the adapter's worlds, too.
fn embed(module: &mut Vec<u8>, world: &str) -> Result<(), impl std::fmt::Display + use<>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("adapter.wit", ADAPTER_WIT)?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}

/// Tells if a core module imports `wasi:http`, to send requests: only then may its component import
/// what is granted to few.
fn imports_http(module: &[u8]) -> bool {
    let parts = wasmparser::Parser::new(0).parse_all(module).map_while(Result::ok);
    let mut imports = parts.filter_map(|part| match part {
        wasmparser::Payload::ImportSection(imports) => Some(imports),
        _ => None,
    });
    imports.any(|imports| {
        imports.into_imports().map_while(Result::ok).any(|import| import.module.starts_with("wasi:http/"))
    })
}

fn contract(folder: &Path, error: &impl std::fmt::Display) -> Error {
    Error::new(Fault::Config, format!("the contract in `{}` cannot be read", folder.display()))
        .because(said(error))
        .help("put back the files that `pgstream-host new` writes into `wit`")
}

fn bug(error: &impl std::fmt::Display) -> Error {
    Error::new(Fault::Bug, "this program's own contract or adapter is broken").because(said(error))
}

/// The error with its causes; its type is not one of the standard kind.
fn said(error: &impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adapter_is_what_its_text_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/toolchain");
        let made = wat::parse_file(folder.join("adapter.wat")).unwrap();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(folder.join("adapter.wasm"), &made).unwrap();
        }
        let kept = std::fs::read(folder.join("adapter.wasm")).unwrap();
        assert!(made == kept, "`BLESS=1 cargo test --lib the_adapter_is_what_its_text_says` writes it anew");
    }

    /// A module that exports what the world asks for, and wants nothing.
    const SMALLEST: &str = r#"(module
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "handle") (param i32 i32 i32 i32) (result i32) unreachable))"#;

    #[test]
    fn a_module_becomes_a_component_with_either_contract() {
        let module = wat::parse_str(SMALLEST).unwrap();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
        let component = encode(&module, Some(&wit)).unwrap();
        assert!(component == encode(&module, None).unwrap());
        assert!(!component.windows(5).any(|bytes| bytes == b"wasi:"), "it imports what nobody asked for");
    }

    #[test]
    fn every_function_of_preview_1_is_served() {
        let functions: Vec<String> = wasmparser::Parser::new(0)
            .parse_all(ADAPTER)
            .filter_map(|part| match part.unwrap() {
                wasmparser::Payload::ExportSection(exports) => Some(exports),
                _ => None,
            })
            .flat_map(|exports| exports.into_iter().map(|export| export.unwrap().name.to_owned()))
            .collect();
        assert_eq!(functions.iter().filter(|name| !name.starts_with("adapter_")).count(), 46);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let refused = |module: &[u8]| encode(module, None).unwrap_err();
        let error = refused(b"no module");
        assert_eq!(error.fault(), Fault::Handler);
        let error = refused(&wat::parse_str("(module)").unwrap());
        assert!(format!("{error:?}").contains("handle"), "{error:?}");
        let stranger = r#"(module (import "env" "system" (func)) (memory (export "memory") 1))"#;
        assert_eq!(refused(&wat::parse_str(stranger).unwrap()).fault(), Fault::Handler);
        let error = encode(b"", Some(Path::new("no/such/folder"))).unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
    }
}
