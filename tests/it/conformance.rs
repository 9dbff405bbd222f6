//! One suite for the `documents` example in every language: the same events, the same commands.
//!
//! `tests/conformance/*.yaml` say what is expected; what is too large to be written down is compared with what the example
//! in Rust answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pgstream_host::command::{Action, Command, Point};
use pgstream_host::config::{Size, Span};
use pgstream_host::error::{Error, Fault};
use pgstream_host::event::json::Json;
use pgstream_host::event::{Batch, Operation, Value};
use pgstream_host::toolchain;
use pgstream_host::transform::{Output, Transform};
use pgstream_host::trial;

use crate::guests::{Change, Embedders, batch, engine, guest, load, relation, settings};
use crate::support::program::root;

/// The example in each language.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example {
    name: &'static str,
    /// What it is made of, beside `wit/`.
    sources: &'static [&'static str],
}

/// An interpreter takes seconds for what compiled code does in milliseconds; how long is for the benchmark to tell.
const PATIENT: Span = Span(Duration::from_secs(60));

const RUST: Example = Example { name: "documents-rust", sources: &["plugins/documents-rust", "plugins/sdk/rust"] };
pub(crate) const GO: Example = Example { name: "documents-go", sources: &["plugins/documents-go", "plugins/sdk/go"] };
const JS: Example = Example { name: "documents-js", sources: &["plugins/documents-js", "plugins/sdk/js"] };
pub(crate) const PYTHON: Example =
    Example { name: "documents-python", sources: &["plugins/documents-python", "plugins/sdk/python"] };

#[tokio::test(flavor = "multi_thread")]
async fn rust_conforms() {
    conforms(RUST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_conforms() {
    conforms(GO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_conforms() {
    conforms(JS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_conforms() {
    conforms(PYTHON).await;
}

/// Everything at once, because a component of some languages takes a minute to compile.
async fn conforms(example: Example) {
    let Some(component) = component(example) else { return };
    written_cases(example, &component).await;
    let mut patient = settings(&component);
    patient.limits.deadline = PATIENT;
    let handler = load(&patient, Embedders::new()).unwrap();
    let reference = load(&settings(&rust()), Embedders::new()).unwrap();
    large_texts(example, &handler, &reference).await;
    large_batches(example, &handler, &reference).await;
    memory(example, &component).await;
}

/// Every case of `tests/conformance`.
async fn written_cases(example: Example, component: &Path) {
    let files = trial::files(&[root().join("tests/conformance")]).unwrap();
    assert!(files.len() >= 4, "{files:?}");
    let options = trial::Options {
        component: Some(component.to_owned()),
        bless: std::env::var_os("BLESS").is_some() && example.name == RUST.name,
        ..trial::Options::default()
    };
    let report = trial::run(engine(), &files, &options).await.unwrap();
    assert_eq!(report.exit_code(), 0, "{}:\n{}", example.name, report.render(false));
    assert!(report.counts().0 > 40, "{:?}", report.counts());
}

/// A million characters: many chunks, and one that is as long as the text.
async fn large_texts(example: Example, handler: &Transform, reference: &Transform) {
    let words: String = (0..).map(|number| format!("wörd{number} ")).take(80_000).collect();
    let solid = "🧦".repeat(250_000);
    let documents = documents();
    let rows = [words.as_str(), solid.as_str(), &" ".repeat(1 << 20)];
    for text in rows {
        assert!(text.len() >= 800_000);
        let batch = batch(&[Change::new(
            &documents,
            Operation::Insert,
            vec![Value::Int(1), Value::Text(""), Value::Text(text)],
        )]);
        same(example, handler, reference, &batch).await;
    }
}

/// A thousand events in a batch, many times over on one instance.
async fn large_batches(example: Example, handler: &Transform, reference: &Transform) {
    let documents = documents();
    let texts: Vec<String> = (0..1000).map(|number| format!("Text number {number} with ünïcode 🧦")).collect();
    let changes: Vec<Change<'_>> = texts
        .iter()
        .zip(i64::MAX - 1000..)
        .map(|(text, id)| match id % 4 {
            0 => Change::new(&documents, Operation::Insert, vec![Value::Int(id), Value::Text("T"), Value::Text(text)]),
            1 => Change::new(&documents, Operation::Update, vec![Value::Int(id), Value::Text(text), Value::Unchanged]),
            2 => Change::new(&documents, Operation::Insert, vec![Value::Int(id), Value::Null, Value::Unchanged]),
            _ => Change::new(&documents, Operation::Delete, vec![Value::Int(id), Value::Null, Value::Null]),
        })
        .collect();
    let batch = batch(&changes);
    same(example, handler, reference, &batch).await;
    let first = handler.apply(Arc::clone(&batch)).await.unwrap();
    for round in 0..40 {
        let again = handler.apply(Arc::clone(&batch)).await;
        let again = again.unwrap_or_else(|error| panic!("{} in round {round}: {}", example.name, error.report()));
        assert!(again == first, "{}: round {round} differs", example.name);
    }
}

/// A text that does not fit: the call ends, or the event is rejected; nothing else happens, and the next batch is handled.
async fn memory(example: Example, component: &Path) {
    let mut settings = settings(component);
    settings.limits.memory = Size(64 << 20);
    settings.limits.deadline = PATIENT; // memory is to be the limit that is met first
    let handler = load(&settings, Embedders::new()).unwrap();
    let documents = documents();
    let large = "x".repeat(40 << 20);
    let insert = |text| {
        batch(&[Change::new(&documents, Operation::Insert, vec![Value::Int(1), Value::Null, Value::Text(text)])])
    };
    match handler.apply(insert(&large)).await {
        Err(error) => {
            let said = error.report().to_lowercase();
            assert_eq!(error.fault(), Fault::Handler, "{}: {said}", example.name);
            assert!(said.contains("memory") && said.contains("64 mib"), "{}: {said}", example.name);
        }
        Ok(output) => assert_eq!((output.commands.len(), output.rejections.len()), (0, 1), "{}", example.name),
    }
    let output = handler.apply(insert("small")).await.unwrap();
    assert_eq!(output.commands.len(), 1, "{}: the next batch is handled", example.name);
}

async fn same(example: Example, handler: &Transform, reference: &Transform, batch: &Arc<Batch>) {
    let expected = reference.apply(Arc::clone(batch)).await.unwrap();
    let came = handler.apply(Arc::clone(batch)).await;
    let came = came.unwrap_or_else(|error| panic!("{}: {}", example.name, error.report()));
    assert_same(example, &expected, &came);
}

/// Commands are equal but for the spelling of their payloads.
fn assert_same(example: Example, expected: &Output, came: &Output) {
    let name = example.name;
    assert!(expected.rejections == came.rejections, "{name}: {:?}", came.rejections.first());
    assert_eq!(expected.commands.len(), came.commands.len(), "{name}");
    for (index, (expected, came)) in expected.commands.iter().zip(&came.commands).enumerate() {
        let (bare, payloads) = taken_apart(expected);
        let (other, others) = taken_apart(came);
        assert!(bare == other, "{name}: command {index} differs");
        assert_eq!(payloads.len(), others.len(), "{name}: command {index}");
        for (one, other) in payloads.iter().zip(&others) {
            assert!(one.same(other), "{name}: a payload of command {index} differs");
        }
    }
}

fn taken_apart(command: &Command) -> (Command, Vec<Json>) {
    let mut command = command.clone();
    let mut payloads = Vec::new();
    let mut take = |payload: &mut String| payloads.push(Json::parse(&std::mem::take(payload)).unwrap());
    match &mut command.action {
        Action::Patch { payload, .. } | Action::PatchGroup { payload, .. } => take(payload),
        Action::Upsert(Point { payload, .. }) => take(payload),
        Action::Replace { points, .. } => points.iter_mut().for_each(|point| take(&mut point.payload)),
        Action::Delete { .. } | Action::DeleteGroup { .. } | Action::Clear => {}
    }
    (command, payloads)
}

fn documents() -> Arc<pgstream_host::event::Relation> {
    relation("documents", &[("id", "int8", true), ("title", "text", false), ("content", "text", false)])
}

fn rust() -> PathBuf {
    guest("documents-rust").unwrap_or_else(|| root().join("plugins/documents-rust/documents.wasm"))
}

/// The component of the example, built if what it is made of is newer. None where a tool is missing, with a word on which.
pub(crate) fn component(example: Example) -> Option<PathBuf> {
    if example.name == RUST.name {
        return Some(rust());
    }
    let project = root().join("plugins").join(example.name);
    let handlers = root().join("target/handlers");
    std::fs::create_dir_all(&handlers).unwrap();
    let component = handlers.join(format!("{}.wasm", example.name));
    let sources = example.sources.iter().chain(&["wit"]).filter_map(|folder| newest(&root().join(folder))).max();
    let built = component.metadata().and_then(|metadata| metadata.modified()).ok();
    if built.is_some() && built >= sources {
        return Some(component);
    }
    match toolchain::build(&project, Some(&component)) {
        Ok(_) => Some(component),
        Err(error) if error.fault() == Fault::Environment => skip(example, &report(&error)),
        Err(error) => panic!("{}: {}", example.name, report(&error)),
    }
}

fn report(error: &Error) -> String {
    error.report()
}

fn skip(example: Example, why: &str) -> Option<PathBuf> {
    assert!(std::env::var_os("CI").is_none(), "{} cannot be tested: {why}", example.name);
    eprintln!("skipped: {} cannot be tested: {why}", example.name);
    None
}

/// When something in the folder was written last, but for what tools leave there.
fn newest(folder: &Path) -> Option<SystemTime> {
    const LEFT: [&str; 8] =
        ["node_modules", "target", "__pycache__", ".venv", "build", "dist", "package-lock.json", ".pgstream"];
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let kept = entries.filter(|entry| !LEFT.iter().any(|left| entry.file_name() == *left));
    let times = kept.filter_map(|entry| {
        let path = entry.path();
        if path.is_dir() { newest(&path) } else { path.metadata().ok()?.modified().ok() }
    });
    times.max()
}
