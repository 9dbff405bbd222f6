//! Handler projects as their authors meet them; and `tutorial`, which does what a page of `docs/handlers` says, to the letter.
//!
//! Each language has a file of its own here, which begins with `if !has_tools(&["go"]) { return; }`.

mod fresh;
pub(crate) mod go;
mod inspect;
pub(crate) mod javascript;
pub(crate) mod python;
mod rust;
mod tutorial;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use async_trait::async_trait;
use pgstream_host::embedder::{Embedder, Vectors};
use pgstream_host::error::Result;

use crate::guests::Embedders;
use crate::support::program::{pgstream, root};
use tutorial::tutorial;

/// An embedder `default` of texts' lengths, twice.
fn lengths() -> Embedders {
    struct Lengths;

    #[async_trait]
    impl Embedder for Lengths {
        async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
            let data = texts.iter().flat_map(|text| [text.len() as f32, 0.5]).collect();
            Ok(Vectors { dimension: 2, data })
        }
    }

    let lengths: Arc<dyn Embedder> = Arc::new(Lengths);
    Embedders::from([("default".to_owned(), lengths)])
}

/// A folder that stays from one test run to the next: what tools fetch and compile is kept in it.
fn kept(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("handlers").join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Where the languages' tools keep what they fetch, so that nothing is fetched twice and nothing lands in the user's own
/// folders.
fn caches() -> Vec<(&'static str, PathBuf)> {
    vec![("XDG_CACHE_HOME", kept("cache")), ("CARGO_TARGET_DIR", kept("cargo"))]
}

/// Whether these programs are on `PATH`. If not, says so, and fails where everything must be tested.
fn has_tools(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &&&str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let missing: Vec<_> = tools.iter().filter(|tool| !is_there(tool)).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "missing: {missing:?}");
        eprintln!("skipped: missing {missing:?}");
    }
    missing.is_empty()
}

/// The program, with the caches above.
fn host<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = pgstream(arguments);
    command.envs(caches());
    command
}

/// A new project, in a folder that goes with the test.
fn new_project(name: &str, language: &str) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let project = scratch.path().join(name);
    succeed(host(["new", "--lang", language]).arg(&project));
    (scratch, project)
}

/// Runs to the end; answers with standard output, or fails with all that was said.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs to the end, which must be this exit code; answers with standard error.
fn fail(command: &mut Command, code: i32) -> String {
    let output: Output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A page of the documentation.
fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn bad_names_and_folders_are_refused_and_nothing_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let new = |folder: &str| {
        let mut command = host(["new", "--lang", "rust"]);
        command.arg(folder).current_dir(scratch.path());
        command
    };
    for name in ["My-Handler", "my_handler", "1st", "class", "sdk", "my handler", "-x", "ä", "shop", "out"] {
        let said = fail(new("folder").arg(format!("--name={name}")), 2);
        assert!(said.contains("cannot be the name of a handler"), "{said}");
    }
    assert!(std::fs::read_dir(&scratch).unwrap().next().is_none());

    std::fs::create_dir(scratch.path().join("full")).unwrap();
    std::fs::write(scratch.path().join("full/file"), "mine").unwrap();
    assert!(fail(&mut new("full"), 2).contains("the folder `full` is not empty"));
    assert!(fail(&mut new("full/file"), 2).contains("is there already, and is no folder"));
    assert_eq!(std::fs::read_to_string(scratch.path().join("full/file")).unwrap(), "mine");
    assert!(fail(host(["new", "x", "--lang", "cobol"]).current_dir(&scratch), 2).contains("python"));

    std::fs::create_dir(scratch.path().join("empty")).unwrap();
    succeed(&mut new("empty"));
    assert!(scratch.path().join("empty/Cargo.toml").is_file());

    // The component is not built yet, and that is all that is missing.
    let longest = "a".repeat(54);
    for name in [longest.as_str(), "words"] {
        succeed(new(name).arg(format!("--name={name}")));
        let mut validate = host(["validate"]);
        validate.arg(scratch.path().join(name).join("pipeline.yaml")).env("DATABASE_URL", "postgres://me@localhost/x");
        let said = fail(&mut validate, 2);
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        assert!(said.contains("build the handler first"), "{said}");
    }
    assert!(fail(&mut new(&format!("{longest}a")), 2).contains("more than 54 characters"));
}

#[test]
fn a_folder_without_a_handler_is_not_built() {
    let scratch = tempfile::tempdir().unwrap();
    let said = fail(host(["build"]).current_dir(&scratch), 2);
    assert!(said.contains("no handler is in") && said.contains("pgstream-host new"), "{said}");
    assert!(fail(host(["build", "nowhere"]).current_dir(&scratch), 2).contains("there is no folder `nowhere`"));
    for file in ["go.mod", "Cargo.toml"] {
        std::fs::write(scratch.path().join(file), "").unwrap();
    }
    let said = fail(host(["build"]).current_dir(&scratch), 2);
    assert!(said.contains("it has `Cargo.toml` and `go.mod`"), "{said}");
}
