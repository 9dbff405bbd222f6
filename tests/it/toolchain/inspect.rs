//! `pgstream-host inspect`: what is said about a handler, about what is refused, and about what is no component.

use serde_json::Value as Json;

use super::{fail, host, succeed, text};

const EXAMPLE: &str = "plugins/documents-rust/documents.wasm";

fn names(list: &Json) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect()
}

/// What is said about a component made up of this, with the exit code.
fn inspected(wat: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handler.wasm");
    std::fs::write(&file, wat::parse_str(wat).unwrap()).unwrap();
    let output = host(["inspect"]).args(arguments).arg(&file).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_handler_is_told_in_words() {
    let said = succeed(&mut host(["inspect", EXAMPLE]));
    for part in [
        "is a handler in Rust.",
        "KiB, as machine code ",
        "world      pgstream:host 0.1.0",
        "It can\n  embed ",
        "It cannot\n  reach the network ",
        "  reach files           it does not ask for it\n",
        "  read the environment  it asks for it, but it is empty\n",
        "  wasi:cli/stdout@0.2.6 ",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 140), "{said}");

    let json: Json = serde_json::from_str(&succeed(&mut host(["inspect", "--json", EXAMPLE]))).unwrap();
    assert_eq!((&json["runs"], &json["language"], &json["world"]), (&true.into(), &"Rust".into(), &"0.1.0".into()));
    assert!(names(&json["can"]).contains(&"read config") && names(&json["cannot"]).contains(&"reach the network"));
    assert!(json["compiled_bytes"].as_u64() > json["bytes"].as_u64() && json["memory_bytes"].as_u64() > Some(0));
    let bytes = std::fs::metadata(super::root().join(EXAMPLE)).unwrap().len();
    assert_eq!(json["bytes"].as_u64(), Some(bytes));
}

#[test]
fn what_is_no_component_is_refused_as_loading_refuses_it() {
    let said = fail(&mut host(["inspect", "README.md"]), 2);
    assert_eq!(
        said,
        "error: `README.md` is not a handler\n  caused by: it is not WebAssembly\n  \
         help: name the `.wasm` file that the build of the handler wrote\n"
    );
    assert!(fail(&mut host(["inspect", "nowhere.wasm"]), 2).contains("No such file"));
    let (code, _, said) = inspected("(module)", &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("it is a core module, not a component"), "{said}");
}

#[test]
fn what_would_be_refused_is_described_with_the_reason() {
    let asks = |import: &str| format!("(component (import \"{import}\" (instance)))");
    for (import, reason) in [
        ("wasi:keyvalue/store@0.2.0", "it imports `wasi:keyvalue/store@0.2.0`"),
        ("pgstream:host/log@0.7.0", "it imports `pgstream:host/log@0.7.0`"),
        ("pgstream:host/metrics@0.1.0", "it imports `pgstream:host/metrics@0.1.0`"),
        ("wasi:sockets/tcp@0.3.0", "it imports `wasi:sockets/tcp@0.3.0`"),
        ("wasi:io/poll@0.2.3", "it exports no function `handle`, but nothing"),
    ] {
        let (code, told, said) = inspected(&asks(import), &[]);
        assert_eq!(code, Some(2), "{import}: {said}");
        assert!(said.contains(reason) && said.contains("help: "), "{import}: {said}");
        assert!(told.contains("is a component.") && told.contains(import), "{told}");
    }
    let (_, told, _) = inspected(&asks("wasi:http/outgoing-handler@0.2.3"), &["--json"]);
    let json: Json = serde_json::from_str(&told).unwrap();
    assert!(names(&json["can"]).contains(&"reach the network"), "{json}");
    assert_eq!(json["imports"][0]["given"], "by grant");
    let (_, told, _) = inspected(&asks("wasi:sockets/tcp@0.2.3"), &["--json"]);
    let json: Json = serde_json::from_str(&told).unwrap();
    assert!(names(&json["cannot"]).contains(&"reach the network"), "{json}");
    assert_eq!(json["imports"][0]["given"], "empty");
}

#[test]
fn a_file_cannot_speak_to_the_terminal() {
    let wat = "(component (core module (@custom \"producers\" \"\\01\\0cprocessed-by\\01\\07\\1b[2Jbad\\01\\0a\")))";
    let (_, told, _) = inspected(wat, &[]);
    assert!(!told.contains('\u{1b}') && told.contains("\\u{1b}[2Jbad \\n"), "{told:?}");
}
