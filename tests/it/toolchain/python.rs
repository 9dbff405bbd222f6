//! Handlers in Python: the tutorial, the example, and the edges of an interpreter with exceptions and a memory limit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use pgstream_host::command::{Action, Embedding};
use pgstream_host::config::{Size, Span};
use pgstream_host::error::Fault;
use pgstream_host::event::{Operation, Value};
use pgstream_host::transform::{Output, Transform};
use serde_json::{Value as Json, json};

use super::{fail, has_tools, host, kept, lengths, new_project, root, succeed};
use crate::conformance::{PYTHON, component};
use crate::guests::{Change, Embedders, batch, load, relation, settings, words};
use crate::sdk::changes;
use crate::transform::Log;

/// The component of `edges.py`. None where Python is missing.
fn edges() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("edges", include_str!("edges.py"))).as_deref()
}

/// The component of `asker.py`. None where Python is missing.
pub(crate) fn asker() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("asker", include_str!("asker.py"))).as_deref()
}

fn build(name: &str, source: &str) -> Option<PathBuf> {
    let project = has_tools(&["python3"]).then(|| kept(&format!("{name}-python")))?;
    std::fs::write(project.join("pyproject.toml"), format!("[project]\nname = \"{name}\"\n")).unwrap();
    std::fs::write(project.join("handler.py"), source).unwrap();
    succeed(host(["build"]).arg(&project));
    Some(project.join(format!("{name}.wasm")))
}

/// The component of `plugins/documents-python`. None where Python is missing.
fn documents() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| component(PYTHON)).as_deref()
}

fn edgy() -> Option<Transform> {
    let mut settings = settings(edges()?);
    settings.limits.deadline = Span(std::time::Duration::from_secs(10));
    settings.embedders = vec!["default".into()];
    settings.config.insert("known".into(), "value".into());
    Some(load(&settings, lengths()).unwrap())
}

async fn apply(transform: &Transform, word: &str) -> Output {
    let output = transform.apply(words(&[word])).await.unwrap_or_else(|error| panic!("`{word}`: {}", error.report()));
    assert_eq!(output.rejections.len(), 0, "`{word}`: {:?}", output.rejections);
    output
}

async fn patched(transform: &Transform, word: &str) -> Json {
    match &apply(transform, word).await.commands[0].action {
        Action::Patch { payload, .. } => serde_json::from_str(payload).unwrap(),
        other => panic!("`{word}` was answered with {other:?}"),
    }
}

async fn deleted(transform: &Transform, word: &str) -> String {
    match &apply(transform, word).await.commands[0].action {
        Action::Delete { id } => id.clone(),
        other => panic!("`{word}` was answered with {other:?}"),
    }
}

/// The event among others that are handled all the same.
async fn rejected(transform: &Transform, word: &str) -> String {
    let output = transform
        .apply(words(&["upsert", word, "upsert"]))
        .await
        .unwrap_or_else(|error| panic!("`{word}`: {}", error.report()));
    let answered: Vec<_> = output.commands.iter().map(|command| command.position.ordinal).collect();
    assert_eq!(answered, [0, 2], "`{word}`");
    let [rejection] = &output.rejections[..] else { panic!("`{word}`: {:?}", output.rejections) };
    assert_eq!(rejection.event, 1);
    rejection.reason.clone()
}

async fn failed(transform: &Transform, word: &str) -> (Fault, String) {
    let error = transform.apply(words(&[word])).await.err().unwrap_or_else(|| panic!("`{word}` did not fail"));
    (error.fault(), error.report())
}

#[tokio::test]
async fn an_exception_rejects_the_one_event() {
    let Some(edges) = edgy() else { return };
    let reason = rejected(&edges, "fail").await;
    assert!(reason.starts_with("ValueError: of two lines (handler.py:"), "{reason}");
    assert_eq!(rejected(&edges, "reject").await, "not  this one");
    let reason = rejected(&edges, "recurse").await;
    assert!(reason.starts_with("RecursionError: maximum recursion depth exceeded"), "{reason}");
    assert_eq!(rejected(&edges, "nest").await, "the payload is nested more than 200 deep, or holds itself");
    let reason = rejected(&edges, "leave").await;
    assert!(reason.starts_with("SystemExit: 3 (handler.py:"), "{reason}");
    assert_eq!(rejected(&edges, "missing").await, "`public.things` has no column `colour`, it has `id`, `what`");
    assert!(rejected(&edges, "nan").await.starts_with("item 1 of `scores` of the payload is nan"));
    assert!(rejected(&edges, "surrogate").await.contains("half a character"));
    assert!(rejected(&edges, "half").await.contains("half a character"));
    let reason = rejected(&edges, "late").await;
    assert!(reason.contains("import it at the top of a module"), "{reason}");
    assert!(rejected(&edges, "read /etc/passwd").await.starts_with("FileNotFoundError: "));
}

#[tokio::test]
async fn too_much_memory_ends_the_call_and_the_instance_and_the_next_is_fine() {
    let Some(edges) = edgy() else { return };
    for word in ["hoard", "crumbs", "hoard"] {
        let (fault, said) = failed(&edges, word).await;
        assert_eq!(fault, Fault::Handler);
        assert!(said.starts_with("error: handler `embed` ran out of memory\n"), "{word}: {said}");
        assert!(said.contains("the handler said: MemoryError: the handler ran out of memory"), "{word}: {said}");
    }
    apply(&edges, "upsert").await;
}

#[tokio::test]
async fn a_handler_that_never_ends_is_ended() {
    let Some(mut settings) = edges().map(settings) else { return };
    settings.limits.deadline = Span(std::time::Duration::from_millis(500));
    let edges = load(&settings, Embedders::new()).unwrap();
    let (_, said) = failed(&edges, "spin").await;
    assert!(said.contains("exceeded its deadline"), "{said}");
    // What recurses inside the interpreter is not seen by it.
    let (_, said) = failed(&edges, "compare").await;
    assert!(said.contains("overflowed its stack"), "{said}");
    apply(&edges, "upsert").await;
}

#[tokio::test]
async fn retry_and_stop_concern_the_batch() {
    let Some(edges) = edgy() else { return };
    let (fault, said) = failed(&edges, "retry").await;
    assert!(fault == Fault::Transient && said.contains("soon"), "{said}");
    let (fault, said) = failed(&edges, "stop").await;
    assert!(fault == Fault::Handler && said.contains("never"), "{said}");
    let (_, said) = failed(&edges, "unknown").await;
    assert!(said.contains("has no embedder `nobody`, it has `default`"), "{said}");
}

#[tokio::test]
async fn the_world_outside_is_the_hosts() {
    let Some(edges) = edgy() else { return };
    let seen = patched(&edges, "clock").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((seen["now"].as_f64().unwrap() - now).abs() < 10.0, "it is {now}, the guest says {seen}");
    assert_eq!(deleted(&edges, "configured known").await, "value");
    assert_eq!(deleted(&edges, "configured unknown").await, "default");
    assert_eq!(patched(&edges, "vectors").await, json!({ "vectors": [[1.0, 0.5], [2.0, 0.5]] }));
    // Each instance has random numbers of its own.
    let other = patched(&edgy().unwrap(), "clock").await;
    assert_ne!(seen["random"], other["random"]);
    apply(&edges, "size x").await;
}

#[tokio::test]
async fn what_was_drawn_by_chance_at_the_build_is_drawn_anew_in_each_instance() {
    let (Some(one), Some(other)) = (edgy(), edgy()) else { return };
    let (one, other) = (patched(&one, "chance").await, patched(&other, "chance").await);
    for name in ["module", "unseeded", "uuid", "uuid1", "secret", "node"] {
        assert_ne!(one[name], other[name], "`{name}`");
    }
    assert_eq!(one["seeded"], other["seeded"]);
    assert_eq!(one["environment"], json!({}));
}

#[tokio::test]
async fn an_answer_that_is_none_stops_with_what_to_write() {
    let Some(edges) = edgy() else { return };
    for (word, part) in [
        ("coroutine", "`handle` returned a coroutine, of which nothing ran: write `def` instead of `async def`"),
        ("generator", "`handle` returned a generator, of which nothing ran: leave out `yield`"),
        ("listed", "`handle` returned an object of type list: answers are given with `out.upsert(…)`"),
        ("forgotten", "`later` is `async def`, and nobody awaited it: nothing of it ran"),
        ("held", "`out` was used after its event was over"),
    ] {
        let error = edges.apply(words(&["upsert", word, word])).await.err().unwrap_or_else(|| panic!("`{word}`"));
        assert!(error.fault() == Fault::Handler && error.report().contains(part), "`{word}`: {}", error.report());
    }
    apply(&edges, "upsert").await;
}

#[tokio::test]
async fn the_standard_library_is_whole_though_there_are_no_files() {
    let Some(edges) = edgy() else { return };
    let expected = json!({
        "moment": "2026-01-02 00:00:00", "hour": 12, "euro": "€", "hanzi": "d7d6", "host": "xn--bcher-kva.example",
        "berlin": "2026-07-01 12:00:00+02:00",
    });
    assert_eq!(patched(&edges, "library").await, expected);
}

#[tokio::test]
async fn json_and_integers_go_through_as_they_are() {
    let Some(edges) = edgy() else { return };
    let table = relation("things", &[("id", "int8", true), ("what", "text", false), ("meta", "jsonb", false)]);
    let deep = |depth: usize, core: &str| format!("{}{core}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let odd =
        r#"{"n": 123456789012345678901234567890, "d": 0.12345678901234567891, "h": "\ud800", "e": [1e400, 1.50]}"#;
    for meta in [odd, &deep(200, "1e400"), &deep(200, "1"), &deep(5000, "1")] {
        let row = vec![Value::Int(1), Value::Text("meta"), Value::Json(meta)];
        let output = edges.apply(batch(&[Change::new(&table, Operation::Insert, row)])).await.unwrap();
        let Some(Action::Patch { payload, .. }) = output.commands.first().map(|command| &command.action) else {
            panic!("{:?}", output.rejections)
        };
        assert_eq!(payload, &format!(r#"{{"meta":{meta}}}"#));
    }
    match &apply(&edges, "large").await.commands[0].action {
        Action::Patch { payload, .. } => assert_eq!(payload, &format!(r#"{{"large":1{}}}"#, "0".repeat(400))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_that_draws_by_chance_when_it_is_imported_is_refused_and_the_line_told() {
    if !has_tools(&["python3"]) {
        return;
    }
    let (_scratch, project) = new_project("python-chance", "py");
    let source = project.join("handler.py");
    let fine = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, format!("import uuid\nINSTANCE = uuid.uuid4()\n{fine}")).unwrap();
    let said = fail(host(["build"]).arg(&project), 1);
    assert!(said.contains("handler.py:2 draws something by chance while its module is imported"), "{said}");
}

#[test]
fn a_component_is_told_by_what_it_was_made_of() {
    let Some(edges) = edges() else { return };
    let again = tempfile::tempdir().unwrap();
    let out = again.path().join("again.wasm");
    succeed(host(["build"]).arg(edges.parent().unwrap()).arg("--out").arg(&out));
    let hash = |path: &Path| pgstream_host::transform::hash_of(&crate::guests::settings(path)).unwrap();
    assert_eq!(hash(edges), hash(&out));
    let mut other = std::fs::read(&out).unwrap();
    other.push(0);
    std::fs::write(&out, other).unwrap();
    assert_ne!(hash(edges), hash(&out));
}

#[test]
fn the_dependencies_of_poetry_are_read() {
    if !has_tools(&["python3"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        std::fs::write(scratch.path().join("pyproject.toml"), text).unwrap();
        std::fs::write(scratch.path().join("handler.py"), "from pgstream import http\n").unwrap();
        let mut command = Command::new("python3");
        command.args(["-I", "-c", include_str!("../../../src/toolchain/read_pyproject.py")]).arg(scratch.path());
        command.output().unwrap()
    };
    let output = read(
        "[tool.poetry.dependencies]\npython = \"^3.11\"\nsix = \"^1.16\"\na = \"^0.2.3\"\nb = { version = \"~1.2\", extras = [\"x\"] }\nc = \"*\"\n",
    );
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    let expected = ["six>=1.16,<2", "a>=0.2.3,<0.3", "b[x]>=1.2,<1.3", "c"];
    assert_eq!(said, json!({ "module": "handler", "dependencies": expected, "http": true }));
    for (text, part) in [
        (
            "[tool.poetry.dependencies]\nx = { git = \"https://example.com/x\" }\n",
            "`x` of [tool.poetry.dependencies]: git",
        ),
        ("[tool.uv.sources]\nx = { path = \"x\" }\n", "[tool.uv.sources]: only uv reads it"),
    ] {
        let output = read(text);
        assert!(!output.status.success());
        assert!(super::text(&output.stderr).contains(part), "{}", super::text(&output.stderr));
    }
}

#[tokio::test]
async fn what_is_printed_and_logged_is_the_hosts_to_show() {
    let Some(component) = edges() else { return };
    let log = Log::default();
    let _guard = log.listen();
    let edges = load(&settings(component), Embedders::new()).unwrap();
    edges.apply(words(&["say", "upsert"])).await.unwrap();
    let lines = log.text();
    for line in [
        " INFO pgstream_host::transform::voice: printed twice",
        " INFO pgstream_host::transform::voice: unfinished",
        " WARN pgstream_host::transform::voice: complained",
        " WARN pgstream_host::transform::voice: warned of it",
        " INFO pgstream_host::transform::voice: told half a character: \\ud800",
    ] {
        assert!(lines.contains(line), "`{line}` is not in\n{lines}");
    }
    assert!(!lines.contains("not wanted") && !lines.contains("read at the build"), "{lines}");
}

#[tokio::test]
async fn every_value_goes_there_and_back_exact() {
    let Some(edges) = edgy() else { return };
    let output = apply(&edges, "values").await;
    let Action::Upsert(point) = &output.commands[0].action else { panic!("no upsert") };
    assert_eq!(point.id, i64::MAX.to_string());
    let payload: Json = serde_json::from_str(&point.payload).unwrap();
    let expected = json!({
        "ints": [i64::MAX, i64::MIN, u64::MAX], "numeric": "0.00000001", "text": "a\u{0}b 🏕 é",
        "lsn": 0x16B_3748, "xid": u32::MAX, "micros": -1, "time": "1969-12-31T23:59:59.999999Z",
    });
    assert_eq!(payload, expected);
    let sparse = Embedding::Sparse { indices: vec![0, u32::MAX], values: vec![1.0, 2.0] };
    let dense = Embedding::Dense(vec![0.5, 1.0]);
    assert_eq!(point.embeddings, [(String::new(), dense), ("sparse".to_owned(), sparse)]);

    let columns = [
        ("id", "int8", true),
        ("part", "int8", true),
        ("what", "text", false),
        ("flag", "bool", false),
        ("whole", "float8", false),
        ("nan", "float8", false),
        ("price", "numeric", false),
        ("text", "text", false),
        ("bytes", "bytea", false),
        ("at", "timestamptz", false),
        ("day", "date", false),
        ("noon", "time", false),
        ("uuid", "uuid", false),
        ("json", "jsonb", false),
        ("vector", "vector", false),
        ("other", "inet", false),
        ("null", "text", false),
        ("large", "text", false),
    ];
    let row = |at, day| {
        vec![
            Value::Int(i64::MAX),
            Value::Int(9007199254740993),
            Value::Text("row"),
            Value::Bool(true),
            Value::Float(2.0),
            Value::Float(f64::NAN),
            Value::Numeric("12345678901234567890.10"),
            Value::Text("ä\u{1F600}\u{0}\u{2028}<&>\"\\\n"),
            Value::Bytes(&[0, 255]),
            at,
            day,
            Value::Time(43_200_000_000),
            Value::Uuid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            Value::Json(r#"{"n": 9007199254740993, "t": "<"}"#),
            Value::Vector(&[0.1, -2.0]),
            Value::Other("10.0.0.1/8"),
            Value::Null,
            Value::Unchanged,
        ]
    };
    let table = relation("things", &columns);
    let fits = row(Value::Timestamp(1_714_564_800_500_000), Value::Date(-719_162));
    let odd = row(Value::Timestamp(i64::MAX), Value::Date(-719_529));
    let changes = [fits, odd].map(|row| Change::new(&table, Operation::Update, row));
    let output = edges.apply(batch(&changes)).await.unwrap();
    let payload = |at: usize| match &output.commands[at].action {
        Action::Patch { id, payload } => (id.as_str(), serde_json::from_str::<Json>(payload).unwrap()),
        other => panic!("{other:?}"),
    };
    let (id, written) = payload(0);
    assert_eq!(id, "[9223372036854775807,9007199254740993]");
    let expected = json!({
        "id": i64::MAX, "part": 9007199254740993i64, "flag": true, "whole": 2.0, "nan": "NaN",
        "price": "12345678901234567890.10", "text": "ä\u{1F600}\u{0}\u{2028}<&>\"\\\n", "bytes": "\\x00ff",
        "at": "2024-05-01T12:00:00.5Z", "day": "0001-01-01", "noon": "12:00:00",
        "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "json": {"n": 9007199254740993i64, "t": "<"},
        "vector": [0.1f32, -2.0], "other": "10.0.0.1/8", "null": null,
    });
    assert_eq!(written, expected);
    let (_, python) = payload(1);
    let read = json!({
        "id": "9223372036854775807", "part": "9007199254740993", "flag": "True", "whole": "2.0", "nan": "nan",
        "price": "Decimal('12345678901234567890.10')", "bytes": "b'\\x00\\xff'",
        "at": "datetime.datetime(2024, 5, 1, 12, 0, 0, 500000, tzinfo=datetime.timezone.utc)",
        "day": "datetime.date(1, 1, 1)", "noon": "datetime.time(12, 0)",
        "uuid": "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "json": "{'n': 9007199254740993, 't': '<'}",
        "vector": "[0.10000000149011612, -2.0]", "other": "'10.0.0.1/8'", "null": "None", "large": "UNCHANGED",
    });
    assert_eq!(python, read);
    // What no `datetime` holds is told; as a payload it is text.
    assert_eq!(output.commands.len(), 2);
    let reason = &output.rejections[0].reason;
    assert_eq!(
        reason,
        "column `at` of `public.things` is infinity, which a datetime cannot hold: use `row.raw(\"at\")`"
    );
}

#[tokio::test]
async fn the_example_does_what_the_one_in_rust_does() {
    let Some(component) = documents() else { return };
    let load = |component: &Path, chars: &str| {
        let mut settings = settings(component);
        settings.config.insert("chunk_chars".into(), chars.into());
        load(&settings, Embedders::new()).unwrap()
    };
    let rust = root().join("plugins/documents-rust/documents.wasm");
    let (ours, theirs) = (load(component, "53"), load(&rust, "53"));
    let texts = [
        "word ".repeat(100),
        "字🏕".repeat(200),
        " \u{3000}\u{1c}leading and \u{85} odd\u{a0}spaces \u{1c} within, and more of it, until it is cut \u{1c}"
            .repeat(3),
        "averyveryverylongwordthathasnogapanywhereinitandgoesonandon ".repeat(5),
        "é".repeat(30) + " " + &"e".repeat(120),
        String::new(),
    ];
    for text in texts {
        let (ours, theirs) = (ours.apply(changes(&text)).await.unwrap(), theirs.apply(changes(&text)).await.unwrap());
        assert_eq!(ours.rejections, theirs.rejections);
        assert_eq!(parsed(&ours), parsed(&theirs), "{text:?}");
    }
    let (ours, theirs) = (load(component, "many"), load(&rust, "many"));
    let said = |error: pgstream_host::error::Error| error.report();
    let (ours, theirs) = (ours.apply(changes("")).await.err(), theirs.apply(changes("")).await.err());
    assert_eq!(ours.map(said), theirs.map(said));
}

/// The commands, with payloads as values: the order of keys and the form of numbers are each language's own.
fn parsed(output: &Output) -> Vec<Json> {
    let value = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    let action = |action: &Action| match action {
        Action::Replace { group, points } => {
            let points: Vec<_> = points
                .iter()
                .map(|point| json!([point.id, format!("{:?}", point.embeddings), value(&point.payload)]))
                .collect();
            json!({ "replace": group, "points": points })
        }
        Action::PatchGroup { group, payload } => json!({ "patch": group, "payload": value(payload) }),
        other => json!(format!("{other:?}")),
    };
    output.commands.iter().map(|command| json!([command.position.ordinal, action(&command.action)])).collect()
}

#[tokio::test]
async fn large_batches_many_times_over_leave_no_trace() {
    let Some(component) = documents() else { return };
    let mut settings = settings(component);
    settings.limits.memory = Size(32 << 20); // half of the default
    settings.limits.deadline = Span(std::time::Duration::from_secs(10));
    let transform = load(&settings, Embedders::new()).unwrap();
    let table = relation("documents", &[("id", "int8", true), ("title", "text", false), ("content", "text", false)]);
    let content = "word ".repeat(7);
    let row = |id| vec![Value::Int(id), Value::Text("Title"), Value::Text(&content)];
    let changes: Vec<_> = (0..1000).map(|id| Change::new(&table, Operation::Insert, row(id))).collect();
    let batch = batch(&changes);
    for _ in 0..100 {
        let output: Output = transform.apply(Arc::clone(&batch)).await.unwrap();
        assert_eq!(output.commands.len(), 1000);
    }
}

#[tokio::test]
async fn texts_of_a_megabyte_fit_into_the_default_memory() {
    let (Some(component), Some(edges)) = (documents(), edgy()) else { return };
    let mut settings = settings(component);
    settings.limits.deadline = Span(std::time::Duration::from_secs(10));
    assert_eq!(settings.limits.memory.0, 64 << 20);
    let transform = load(&settings, Embedders::new()).unwrap();
    let table = relation("documents", &[("id", "int8", true), ("content", "text", false)]);
    let content = "wörter 字🏕 ".repeat(1 << 16);
    for id in 0..10 {
        let change = Change::new(&table, Operation::Insert, vec![Value::Int(id), Value::Text(&content)]);
        let output = transform.apply(batch(&[change])).await.unwrap();
        let Action::Replace { points, .. } = &output.commands[0].action else { panic!("no group") };
        assert!(points.len() > 500, "{} points", points.len());
    }
    let output = apply(&edges, &format!("size {content}")).await;
    let Action::Upsert(point) = &output.commands[0].action else { panic!("no upsert") };
    let payload: Json = serde_json::from_str(&point.payload).unwrap();
    assert_eq!(payload, json!({ "chars": content.chars().count(), "text": content }));
}

#[test]
fn what_keeps_a_project_from_being_built_is_told() {
    if !has_tools(&["python3"]) {
        return;
    }
    let (_scratch, project) = new_project("python-broken", "python");
    let source = project.join("handler.py");
    let fine = std::fs::read_to_string(&source).unwrap();
    let broken = |text: &str| {
        std::fs::write(&source, text).unwrap();
        fail(host(["build"]).arg(&project), 1)
    };
    let said = broken(&fine.replace("from pgstream import Event", "import numpy\nfrom pgstream import Event"));
    assert!(said.contains("No module named 'numpy'") && said.contains("could not be made a component"), "{said}");
    assert!(broken(&fine.replace("@on_event", "")).contains("`handler` has no handler: put `@on_event` before"));
    assert!(!project.join("python-broken.wasm").exists());
    std::fs::remove_file(&source).unwrap();
    assert!(fail(host(["build"]).arg(&project), 1).contains("there is no `handler.py`"));
    std::fs::write(&source, fine).unwrap();

    let said = fail(host(["build"]).arg(&project).env("PATH", "/nowhere"), 3);
    assert!(said.contains("`python3` is not installed") && said.contains("apt install python3 python3-venv"), "{said}");
}

#[test]
fn the_tutorial_is_true_to_the_letter() {
    if has_tools(&["python3"]) {
        super::tutorial("docs/handlers/python.md", &[]);
    }
}

#[test]
fn the_sdk_and_the_example_pass_their_own_tests() {
    if !has_tools(&["python3"]) {
        return;
    }
    let tools = kept("python-mypy");
    if !tools.join("bin/mypy").exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&tools));
        succeed(Command::new(tools.join("bin/python3")).args(["-m", "pip", "install", "--quiet", "mypy==2.4.1"]));
    }
    let cache = kept("python-mypy-cache");
    let sdk = root().join("plugins/sdk/python");
    let python = |folder: &str, arguments: &[&str]| {
        let mut command = Command::new(tools.join("bin/python3"));
        command.args(arguments).current_dir(root().join(folder));
        command.env("PYTHONPATH", &sdk).env("MYPYPATH", &sdk).env("PYTHONDONTWRITEBYTECODE", "1");
        succeed(command.env("MYPY_CACHE_DIR", &cache));
    };
    python("plugins/sdk/python", &["-m", "unittest", "discover", "-s", "tests"]);
    python("plugins/sdk/python", &["-m", "mypy", "--strict", "-p", "pgstream"]);
    python("plugins/documents-python", &["-m", "unittest", "discover", "-s", "tests"]);
    python("plugins/documents-python", &["-m", "mypy", "--strict", "documents.py", "tests"]);
    python("plugins/templates/python", &["-m", "unittest", "tests/test_handler.py"]);
    python("plugins/templates/python", &["-m", "mypy", "--strict", "handler.py", "tests"]);
}
