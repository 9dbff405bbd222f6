//! Files that are not handlers, and handlers that want what they were not granted.

use std::fs;
use std::path::PathBuf;

use pgstream_host::error::{Error, Fault};
use pgstream_host::transform::{Engine, Transform};

use crate::guests::{Embedders, guest, load, root, settings};

/// The core of a component that exports a function `handle`, of the wrong type.
const HANDLE: &str = r#"
    (core module $m (func (export "handle")))
    (core instance $i (instantiate $m))
    (func $handle (canon lift (core func $i "handle")))
    (export "handle" (func $handle))"#;

fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handler.wasm");
    fs::write(&file, bytes).unwrap();
    let error = load(&settings(&file), Embedders::new()).err().expect("it was loaded");
    assert_eq!(error.fault(), Fault::Config);
    report(&error, &file)
}

/// What stands between the headline, which is always the same, and the end.
fn report(error: &Error, file: &std::path::Path) -> String {
    let report = error.report();
    let headline = format!("error: `{}` cannot be the component of transform `embed`\n  caused by: ", file.display());
    report.strip_prefix(&headline).unwrap_or_else(|| panic!("{report}")).to_owned()
}

fn component(wat: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {wat})")).unwrap()
}

#[test]
fn what_is_not_a_component_is_refused_with_what_to_do() {
    let where_ = "\n  where: `transforms.embed.component`\n  help: ";
    for (bytes, cause, help) in [
        (b"".to_vec(), "it is not WebAssembly", "name the `.wasm` file that the build of the handler wrote"),
        (b"(module)".to_vec(), "it is not WebAssembly", "name the `.wasm` file that the build of the handler wrote"),
        (
            wat::parse_str("(module)").unwrap(),
            "it is a core module, not a component",
            "build it for the target `wasm32-wasip2`, or wrap it: `wasm-tools component new module.wasm -o handler.wasm`",
        ),
        (
            b"\0asm\x63\0\0\0".to_vec(),
            "it is WebAssembly of a version that this host does not know",
            "build it with current tools",
        ),
        (
            b"\x7fELF\x02\x01\x01".to_vec(),
            "it is machine code, perhaps a precompiled `.cwasm`, which can do anything and is never loaded",
            "name the `.wasm` file; the host compiles it and keeps the result in its own cache",
        ),
    ] {
        assert_eq!(refusal(&bytes), format!("{cause}{where_}{help}\n"));
    }
}

#[test]
fn a_truncated_component_does_not_compile() {
    let whole = component(HANDLE);
    let report = refusal(&whole[..whole.len() / 2]);
    assert!(report.starts_with("it does not compile: "), "{report}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = PathBuf::from("nowhere/handler.wasm");
    let error = load(&settings(&missing), Embedders::new()).err().unwrap();
    let report = report(&error, &missing);
    assert!(report.starts_with("No such file or directory"), "{report}");
    assert!(
        report.ends_with("help: build the handler first, or correct the path; it is relative to the pipeline file\n")
    );
    let error = load(&settings(root()), Embedders::new()).err().unwrap();
    assert!(error.report().contains("caused by: it is not a plain file\n"), "{}", error.report());
}

#[test]
fn imports_that_are_not_granted_are_named() {
    for (import, cause, help) in [
        (
            "wasi:http/outgoing-handler@0.2.6",
            "it imports `wasi:http/outgoing-handler@0.2.6`, which transform `embed` does not grant",
            "name the hosts that it may reach: `transforms.embed.allow: { http: [api.example.com] }`. ",
        ),
        (
            "wasi:keyvalue/store@0.2.0",
            "it imports `wasi:keyvalue/store@0.2.0`, which transform `embed` does not grant",
            "a handler may import `pgstream:host`, the plain parts of WASI 0.2, and `wasi:http` where hosts are granted, ",
        ),
        (
            "wasi:cli/environment@0.3.0",
            "it imports `wasi:cli/environment@0.3.0`, which transform `embed` does not grant",
            "a handler may import ",
        ),
        ("env", "it imports `env`, which transform `embed` does not grant", "a handler may import "),
        (
            "pgstream:host/log@0.2.0",
            "it imports `pgstream:host/log@0.2.0`, this host speaks pgstream:host 0.1",
            "build it against `wit/` of this host, or run it in a host of its version",
        ),
        (
            "pgstream:host/metrics@0.1.4",
            "it imports `pgstream:host/metrics@0.1.4`, which this host does not have",
            "build it against `wit/` of this host, or run it in a newer one",
        ),
    ] {
        let report = refusal(&component(&format!("(import \"{import}\" (instance)) {HANDLE}")));
        let expected = format!("{cause}\n  where: `transforms.embed.component`\n  help: {help}");
        assert!(report.starts_with(&expected), "{report}\n{expected}");
    }
}

#[test]
fn a_function_that_an_interface_does_not_have_is_named() {
    let import = "(import \"pgstream:host/log@0.1.0\" (instance (export \"shout\" (func))))";
    let report = refusal(&component(&format!("{import} {HANDLE}")));
    assert!(report.starts_with("it does not fit this host: ") && report.contains("`shout`"), "{report}");
    assert!(
        report.ends_with("help: build it against `wit/` of this host, which speaks pgstream:host 0.1\n"),
        "{report}"
    );
}

#[test]
fn a_component_without_our_export_is_refused() {
    let report = refusal(&component(""));
    assert!(report.starts_with("it exports no function `handle`, but nothing\n"), "{report}");
    let other = HANDLE.replace("(export \"handle\" (func $handle))", "(export \"run\" (func $handle))");
    let report = refusal(&component(&other));
    assert!(report.starts_with("it exports no function `handle`, but `run`\n"), "{report}");
    let report = refusal(&component(HANDLE));
    assert!(report.starts_with("it does not fit this host: "), "{report}");
}

#[test]
fn a_component_that_starts_larger_than_its_limit_is_refused() {
    let report =
        refusal(&component(&format!("(core module $big (memory 2048)) (core instance (instantiate $big)) {HANDLE}")));
    assert!(report.starts_with("it starts with 128 MiB of memory, the limit is 64 MiB\n"), "{report}");
    assert!(report.ends_with("help: raise `transforms.embed.limits.memory`\n"), "{report}");
}

#[test]
fn a_component_with_more_memories_or_tables_than_an_instance_has_room_for_is_refused() {
    for (field, count, what) in [("(memory 1)", 3, "3 Wasm linear memories"), ("(table 1 funcref)", 5, "5 tables")] {
        let instances = "(core instance (instantiate $more))".repeat(count);
        let report = refusal(&component(&format!("(core module $more {field}) {instances} {HANDLE}")));
        assert!(
            report.starts_with(&format!("it does not compile: The component transitively contains {what}")),
            "{report}"
        );
    }
}

#[test]
fn more_instances_than_the_engine_has_room_for_are_refused() {
    let Some(component) = guest("echo") else { return };
    let mut settings = settings(&component);
    settings.workers = 300;
    let engine = Engine::new(None).unwrap();
    let error = Transform::load(
        &pgstream_host::transform::Tenant::lone(&engine),
        &engine,
        "embed",
        &settings,
        Embedders::new(),
    )
    .err()
    .unwrap();
    assert_eq!(error.fault(), Fault::Environment);
    assert_eq!(
        error.report(),
        "error: handler `embed` did not start\n  \
         caused by: this process has no room for another instance\n  \
         caused by: maximum concurrent limit of 256 for component instances reached\n  \
         help: use fewer `workers`, or run fewer pipelines in one host\n"
    );
}

#[test]
fn a_compiled_component_is_kept_and_used_again() {
    let Some(component) = guest("evil") else { return };
    let cache = tempfile::tempdir().unwrap();
    let files = || walk(cache.path());
    let load = || {
        let engine = Engine::new(Some(cache.path())).unwrap();
        Transform::load(
            &pgstream_host::transform::Tenant::lone(&engine),
            &engine,
            "embed",
            &settings(&component),
            Embedders::new(),
        )
        .unwrap()
    };
    load();
    let first = files();
    assert!(!first.is_empty());
    load();
    assert_eq!(files().len(), first.len(), "the second host compiled it again");
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .filter(|path| path.extension().is_none())
        .collect()
}
