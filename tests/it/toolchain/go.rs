//! Handlers in Go: the tutorial, the example, and the edges of a language with a collector and goroutines.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use pgstream_host::command::{Action, Embedding};
use pgstream_host::config::Span;
use pgstream_host::error::Fault;
use pgstream_host::event::{Operation, Value};
use pgstream_host::transform::{Output, Transform};
use serde_json::{Value as Json, json};

use super::{caches, has_tools, host, kept, lengths, root, succeed, text, tutorial};
use crate::conformance::{GO, component};
use crate::guests::{Change, Embedders, batch, load, relation, settings, things, words};
use crate::transform::Log;

/// The component of `probe.go`. None where Go is missing.
fn probe() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("probe", include_str!("probe.go"))).as_deref()
}

/// The component of `asker.go`.
pub(crate) fn asker() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("asker", include_str!("asker.go"))).as_deref()
}

fn build(name: &str, source: &str) -> Option<PathBuf> {
    if !has_tools(&["go"]) {
        return None;
    }
    let project = kept(&format!("{name}-go"));
    let sdk = root().join("plugins/sdk/go");
    let module = "github.com/pgstream-host/pgstream-host/plugins/sdk/go";
    let manifest =
        format!("module {name}\n\ngo 1.25\n\nrequire {module} v0.0.0\n\nreplace {module} => {}\n", sdk.display());
    std::fs::write(project.join("go.mod"), manifest).unwrap();
    std::fs::write(project.join("main.go"), source).unwrap();
    succeed(host(["build"]).arg(&project));
    Some(project.join(format!("{name}.wasm")))
}

/// The component of `plugins/documents-go`. None where Go is missing.
pub(crate) fn documents() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| component(GO)).as_deref()
}

fn probing() -> Option<Transform> {
    let mut settings = settings(probe()?);
    settings.embedders = vec!["default".into()];
    settings.config.insert("known".into(), "value".into());
    Some(load(&settings, lengths()).unwrap())
}

async fn hear(probe: &Transform, word: &str) -> String {
    let output = probe.apply(words(&[word])).await.unwrap_or_else(|error| panic!("`{word}`: {}", error.report()));
    assert_eq!(output.rejections.len(), 0, "`{word}`: {:?}", output.rejections);
    match &output.commands[0].action {
        Action::Delete { id } => id.clone(),
        other => panic!("`{word}` was answered with {other:?}"),
    }
}

/// The event among others that are handled all the same.
async fn rejected(probe: &Transform, word: &str) -> String {
    let output = probe.apply(words(&["say:before", word, "say:after"])).await.unwrap();
    let said: Vec<_> =
        output.commands.iter().map(|command| (command.position.ordinal, command.action.clone())).collect();
    let delete = |id: &str| Action::Delete { id: id.into() };
    assert_eq!(said, [(0, delete("before")), (2, delete("after"))], "`{word}`");
    let [rejection] = &output.rejections[..] else { panic!("`{word}`: {:?}", output.rejections) };
    assert_eq!(rejection.event, 1);
    rejection.reason.clone()
}

async fn failed(probe: &Transform, word: &str) -> (Fault, String) {
    let error = probe.apply(words(&[word])).await.err().unwrap_or_else(|| panic!("`{word}` did not fail"));
    (error.fault(), error.report())
}

#[tokio::test]
async fn an_error_and_a_panic_reject_the_one_event() {
    let Some(probe) = probing() else { return };
    let reason = rejected(&probe, "error").await;
    assert!(reason.starts_with("refused in two lines xxx") && reason.len() < 1100, "{reason}");
    assert_eq!(rejected(&probe, "reject").await, "for a reason");
    let reason = rejected(&probe, "panic").await;
    assert!(reason.starts_with("panic: boom (main.go:"), "{reason}");
    let reason = rejected(&probe, "index").await;
    assert!(reason.contains("index out of range [0] with length 0 (main.go:"), "{reason}");
    assert!(rejected(&probe, "nil").await.contains("assignment to entry in nil map"));
    assert_eq!(rejected(&probe, "missing").await, "`public.things` has no column `nothing`, it has `id`, `what`");
    assert_eq!(rejected(&probe, "empty-id").await, "the id is empty: use the row's key");
}

#[tokio::test]
async fn retry_and_stop_concern_the_batch() {
    let Some(probe) = probing() else { return };
    let (fault, said) = failed(&probe, "retry").await;
    assert!(fault == Fault::Transient && said.contains("not now: busy"), "{said}");
    let (fault, said) = failed(&probe, "stop").await;
    assert!(fault == Fault::Handler && said.contains("enough"), "{said}");
}

#[tokio::test]
async fn what_ends_a_call_says_why_and_the_next_call_is_fine() {
    let Some(mut settings) = probe().map(settings) else { return };
    settings.limits.deadline = Span(std::time::Duration::from_millis(500));
    let probe = load(&settings, Embedders::new()).unwrap();
    for (word, expected) in [
        ("spin", "exceeded its deadline"),
        ("spin-aside", "exceeded its deadline"),
        ("memory", "ran out of memory"),
        ("endless-goroutines", "ran out of memory"),
        ("stack", "overflowed its stack"),
        ("panic-aside", "panic: aside"),
        ("deadlock", "all goroutines are asleep - deadlock!"),
        ("exit", "called `exit`"),
        ("goexit", "the handler ended its goroutine"),
    ] {
        let (_, said) = failed(&probe, word).await;
        assert!(said.contains(expected), "`{word}`: {said}");
        assert_eq!(hear(&probe, "say:fine").await, "fine", "after `{word}`");
    }
}

#[tokio::test]
async fn what_a_goroutine_answers_too_late_stops_the_pipeline() {
    for answers in [
        &["answers-later:x"][..],
        &["answers-when-asked:x", "answers-when-asked:y"],
        &["keeps-out", "answers-another:x"],
    ] {
        let Some(probe) = probing() else { return };
        let error = probe.apply(words(answers)).await.expect_err(answers[0]);
        assert_eq!(error.fault(), Fault::Handler);
        let said = error.report();
        assert!(
            said.contains("an event was answered after its handler had returned: wait for the goroutines"),
            "{said}"
        );
        assert_eq!(hear(&probe, "say:fine").await, "fine", "after {answers:?}");
    }
}

#[tokio::test]
async fn goroutines_that_go_on_are_told_of() {
    let log = Log::default();
    let _guard = log.listen();
    let Some(probe) = probing() else { return };
    probe.apply(words(&["answers-when-asked:x"])).await.unwrap();
    assert!(log.text().contains("goroutines that it started go on (1)"), "{}", log.text());
}

#[tokio::test]
async fn the_clock_never_goes_back() {
    let Some(probe) = probing() else { return };
    for _ in 0..20 {
        assert_eq!(hear(&probe, "steps").await, "forward");
    }
}

#[tokio::test]
async fn no_two_instances_are_seeded_alike() {
    let (Some(one), Some(other)) = (probing(), probing()) else { return };
    let (one, other) = (hear(&one, "seeds").await, hear(&other, "seeds").await);
    let same = one.split(' ').zip(other.split(' ')).filter(|(one, other)| one == other).count();
    assert_eq!((one.split(' ').count(), same), (3, 0), "{one} and {other}");
}

#[test]
fn a_component_is_the_same_from_build_to_build() {
    if !has_tools(&["go"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Also where the project lies elsewhere.
    for part in ["documents-go", "sdk/go"] {
        let to = folder.path().join(part);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        succeed(Command::new("cp").arg("-R").arg(root().join("plugins").join(part)).arg(&to));
    }
    let built = [root().join("plugins/documents-go"), folder.path().join("documents-go")].map(|project| {
        let out = folder.path().join("built.wasm");
        succeed(host(["build"]).arg(project).arg("--out").arg(&out));
        std::fs::read(&out).unwrap()
    });
    assert!(built[0] == built[1], "they differ");
}

#[tokio::test]
async fn the_world_outside_is_the_hosts() {
    let Some(probe) = probing() else { return };
    assert_eq!(hear(&probe, "sleep").await, "true");
    assert_eq!(hear(&probe, "moves").await, "moved");
    assert_eq!(hear(&probe, "goroutines").await, "499500");
    assert_eq!(hear(&probe, "config:known").await, "valuetrue");
    assert_eq!(hear(&probe, "config:unknown").await, "false");
    assert_eq!(hear(&probe, "embed:a,bcd,,ä").await, "[[1 0.5] [3 0.5] [0 0.5] [2 0.5]]");
    let outside = hear(&probe, "outside").await;
    assert!(outside.starts_with("open /etc/passwd: ") && outside.contains(" 0 0 open x: "), "{outside}");
    let random = hear(&probe, "random").await;
    assert!(random.len() == 42 && random != hear(&probe, "random").await, "{random}");
    // Real time: after an hour was slept, too.
    for _ in 0..2 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        let told: i64 = hear(&probe, "now").await.parse().unwrap();
        assert!((told - now).abs() < 10_000, "it is {now}, the guest says {told}");
    }
    assert_eq!(hear(&probe, "garbage").await, (200 << 20).to_string());
    probe.apply(words(&["print", "say:x"])).await.unwrap();
}

#[tokio::test]
async fn every_value_comes_back_exact() {
    let Some(probe) = probing() else { return };
    let columns = [
        ("id", "int8", true),
        ("part", "int8", true),
        ("least", "int8", false),
        ("flag", "bool", false),
        ("whole", "float8", false),
        ("nan", "float8", false),
        ("price", "numeric", false),
        ("text", "text", false),
        ("empty", "text", false),
        ("bytes", "bytea", false),
        ("at", "timestamptz", false),
        ("never", "timestamptz", false),
        ("day", "date", false),
        ("noon", "time", false),
        ("uuid", "uuid", false),
        ("json", "jsonb", false),
        ("vector", "vector", false),
        ("other", "inet", false),
        ("null", "text", false),
        ("large", "text", false),
    ];
    let row = |large| {
        vec![
            Value::Int(i64::MAX),
            Value::Int(9007199254740993),
            Value::Int(i64::MIN),
            Value::Bool(true),
            Value::Float(2.0),
            Value::Float(f64::NAN),
            Value::Numeric("12345678901234567890.10"),
            Value::Text("ä\u{1F600}\u{0}\u{2028}<&>\"\\\n"),
            Value::Text(""),
            Value::Bytes(&[0, 255]),
            Value::Timestamp(1_714_564_800_500_000),
            Value::Timestamp(i64::MAX),
            Value::Date(-719_529),
            Value::Time(43_200_000_000),
            Value::Uuid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            Value::Json(r#"{"n": 9007199254740993, "t": "<"}"#),
            Value::Vector(&[0.1, -2.0]),
            Value::Other("10.0.0.1/8"),
            Value::Null,
            large,
        ]
    };
    let table = relation("things", &columns);
    let mut change = Change::new(&table, Operation::Update, row(Value::Unchanged));
    change.old_row = Some(row(Value::Text("old")));
    let output = probe.apply(batch(&[change])).await.unwrap();
    let Action::Upsert(point) = &output.commands[0].action else { panic!("{:?}", output.rejections) };
    assert_eq!(point.id, "[9223372036854775807,9007199254740993]");
    let expected = json!({
        "id": i64::MAX, "part": 9007199254740993i64, "least": i64::MIN, "flag": true, "whole": 2.0, "nan": "NaN",
        "price": "12345678901234567890.10", "text": "ä\u{1F600}\u{0}\u{2028}<&>\"\\\n", "empty": "", "bytes": "\\x00ff",
        "at": "9223372036854775807", "never": "infinity", "day": "-0001-12-31", "noon": "12:00:00",
        "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "json": {"n": 9007199254740993i64, "t": "<"},
        "vector": [0.1f32, -2.0], "other": "10.0.0.1/8", "null": null,
    });
    let mut payload: Json = serde_json::from_str(&point.payload).unwrap();
    let was = payload.as_object_mut().unwrap().remove("was").unwrap();
    assert_eq!(payload["at"], "0/16B3748 0 4294967295 -1");
    payload["at"] = expected["at"].clone();
    assert_eq!(payload, expected);
    assert_eq!((&was["at"], &was["large"]), (&json!("2024-05-01T12:00:00.5Z"), &json!("old")));
    let named: Vec<_> = point.embeddings.iter().map(|(name, embedding)| (name.as_str(), embedding)).collect();
    assert!(
        matches!(&named[..], [("a", Embedding::Dense(_)), ("b", Embedding::Text(_)), ("c", Embedding::Sparse { .. })]),
        "{named:?}"
    );
}

/// The collector runs while the host is passing arguments, again and again; memory levels off below the default limit.
#[tokio::test(flavor = "multi_thread")]
async fn large_batches_many_times_over_leave_no_trace() {
    let Some(component) = documents() else { return };
    let transform = load(&settings(component), Embedders::new()).unwrap();
    let table = relation("documents", &[("id", "int8", true), ("title", "text", false), ("content", "text", false)]);
    let content = "word ".repeat(7);
    let row = |id| vec![Value::Int(id), Value::Text("Title"), Value::Text(&content)];
    let changes: Vec<_> = (0..1000).map(|id| Change::new(&table, Operation::Insert, row(id))).collect();
    let batch = batch(&changes);
    for _ in 0..300 {
        let output: Output = transform.apply(Arc::clone(&batch)).await.unwrap();
        assert_eq!(output.commands.len(), 1000);
    }
}

#[tokio::test]
async fn texts_of_a_megabyte_fit_into_the_default_memory() {
    let Some(component) = documents() else { return };
    let mut settings = settings(component);
    settings.limits.deadline = Span(std::time::Duration::from_secs(10));
    assert_eq!(settings.limits.memory.0, 64 << 20);
    let transform = load(&settings, Embedders::new()).unwrap();
    let table = relation("documents", &[("id", "int8", true), ("content", "text", false)]);
    let content = "wörter 字 ".repeat(1 << 16);
    for id in 0..20 {
        let change = Change::new(&table, Operation::Insert, vec![Value::Int(id), Value::Text(&content)]);
        let output = transform.apply(batch(&[change])).await.unwrap();
        let Action::Replace { points, .. } = &output.commands[0].action else { panic!("no group") };
        assert!(points.len() > 500, "{} points", points.len());
    }
    let empty = Change::new(&things(), Operation::Truncate, vec![]);
    assert_eq!(transform.apply(batch(&[empty])).await.unwrap().commands[0].action, Action::Clear);
}

#[test]
fn a_missing_go_is_told_with_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let output = host(["build", "plugins/documents-go", "--out", "/dev/null/x"]).output().unwrap();
    assert!(!output.status.success());
    let mut command = host(["build", "plugins/documents-go", "--out"]);
    let output = command.arg(folder.path().join("x.wasm")).env("PATH", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("`go` is not installed") && said.contains("https://go.dev/dl"), "{said}");
}

#[test]
fn the_tutorial_is_true_to_the_letter() {
    if has_tools(&["go"]) {
        tutorial("docs/handlers/go.md", &[]);
    }
}

#[test]
fn the_sdk_and_the_example_pass_their_own_tests() {
    if !has_tools(&["go"]) {
        return;
    }
    for folder in ["plugins/sdk/go", "plugins/documents-go"] {
        let go = |arguments: &[&str]| {
            let mut command = Command::new("go");
            command.args(arguments).current_dir(root().join(folder)).envs(caches());
            command.env("GOPROXY", "off").env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false");
            succeed(&mut command)
        };
        go(&["vet", "./..."]);
        go(&["test", "./..."]);
    }
}
