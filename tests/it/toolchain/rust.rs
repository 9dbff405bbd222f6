//! Rust: a new project builds, and says what is wrong when it does not.

use std::process::Command;

use super::{caches, fail, has_tools, host, new_project, succeed, text, tutorial};

#[test]
fn a_new_project_builds_to_where_it_is_wanted() {
    if !has_tools(&["cargo"]) {
        return;
    }
    let (scratch, project) = new_project("rust-built", "rust");
    let said = succeed(host(["build"]).current_dir(&project));
    assert!(said.starts_with("rust-built.wasm: ") && said.contains(" KiB, in "), "{said}");
    let component = project.join("rust-built.wasm");
    let bytes = std::fs::read(&component).unwrap();
    assert!(bytes.starts_with(b"\0asm\x0d\0\x01\0") && bytes.len() < 400_000, "{} bytes", bytes.len());
    for path in [scratch.path().to_str().unwrap(), "/.cargo/", "/rustup/", env!("CARGO_MANIFEST_DIR")] {
        assert!(!bytes.windows(path.len()).any(|part| part == path.as_bytes()), "the component holds `{path}`");
    }

    let out = scratch.path().join("made/for/it.wasm");
    let said = succeed(host(["build", "--json", "--out"]).arg(&out).arg(&project));
    let made: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((made["language"].as_str(), made["bytes"].as_u64()), (Some("rust"), Some(bytes.len() as u64)));
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    // Unchanged source makes the same component, from nothing, too.
    let again = scratch.path().join("again.wasm");
    let mut build = host(["build", "--out"]);
    succeed(build.arg(&again).arg(&project).env("CARGO_TARGET_DIR", scratch.path().join("fresh")));
    assert!(std::fs::read(&again).unwrap() == bytes, "they differ");

    // What does not compile is shown, and the component that was there stays.
    let source = project.join("src/lib.rs");
    let fine = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, fine.replace("out.clear()", "out.explode()")).unwrap();
    let output = host(["build"]).current_dir(&project).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("no method named `explode`") && said.contains("src/lib.rs:"), "{said}");
    assert!(!said.contains("compiler-artifact"), "{said}");
    assert_eq!(std::fs::read(&component).unwrap(), bytes);
    assert_eq!(
        std::fs::read_dir(&project)
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().contains(".wasm") })
            .count(),
        1,
        "nothing unfinished is left"
    );
}

#[test]
fn without_cargo_it_says_what_to_install() {
    let (_scratch, project) = new_project("rust-missing", "rust");
    let said = fail(host(["build"]).current_dir(&project).env("PATH", "/nowhere"), 3);
    assert!(said.contains("`cargo` is not installed") && said.contains("https://sh.rustup.rs"), "{said}");
}

#[test]
fn a_new_project_passes_its_own_tests() {
    if !has_tools(&["cargo"]) {
        return;
    }
    let (_scratch, project) = new_project("rust-tested", "rust");
    succeed(host(["build"]).current_dir(&project));
    let said = succeed(host(["test"]).current_dir(&project));
    assert!(said.contains('3'), "three cases ran: {said}");
    succeed(Command::new("cargo").args(["test", "--quiet"]).envs(caches()).current_dir(&project));
    let said = succeed(host(["inspect", "--json", "rust-tested.wasm"]).current_dir(&project));
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&told["runs"], &told["language"]), (&true.into(), &"Rust".into()));
}

#[test]
fn the_tutorial_is_true_to_the_letter() {
    if has_tools(&["cargo"]) {
        tutorial("docs/handlers/rust.md", &[]);
    }
}
