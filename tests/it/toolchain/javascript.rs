//! JavaScript and TypeScript: a new project builds and passes its tests, the tutorial holds, mistakes are told, and the edges
//! of an engine that was put to sleep at the build.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use pgstream_host::command::Action;
use pgstream_host::config::Span;
use pgstream_host::error::Fault;
use pgstream_host::event::{Operation, Value};
use pgstream_host::transform::{Output, Transform};
use serde_json::{Value as Json, json};

use super::{fail, has_tools, host, kept, lengths, new_project, root, succeed, text, tutorial};
use crate::guests::{Change, batch, load, relation, settings};

/// The component of `edges.js`. None where Node.js is missing.
fn edges() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("edges", include_str!("edges.js"))).as_deref()
}

/// The component of `asker.js`. None where Node.js is missing.
pub(crate) fn asker() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| build("asker", include_str!("asker.js"))).as_deref()
}

fn build(name: &str, source: &str) -> Option<PathBuf> {
    let project = has_tools(&["node", "npm"]).then(|| kept(&format!("{name}-js")))?;
    let sdk = root().join("plugins/sdk/js");
    let package = json!({
        "name": name, "type": "module", "main": "handler.js",
        "dependencies": { "pgstream-handler": format!("file:{}", sdk.display()) },
        "devDependencies": { "componentize-qjs": "0.4.5", "esbuild": "0.28.2" },
    });
    std::fs::write(project.join("package.json"), package.to_string()).unwrap();
    std::fs::write(project.join("handler.js"), source).unwrap();
    succeed(host(["build"]).arg(&project));
    Some(project.join(format!("{name}.wasm")))
}

fn edgy() -> Option<Transform> {
    let mut settings = settings(edges()?);
    settings.limits.deadline = Span(Duration::from_secs(10));
    settings.embedders = vec!["default".into()];
    Some(load(&settings, lengths()).unwrap())
}

const META: &str =
    r#"{"n": 123456789012345678901234567890, "d": 0.12345678901234567891, "h": "\ud800", "e": [1e400, 1.50]}"#;

async fn apply(transform: &Transform, words: &[&str], meta: &str) -> pgstream_host::error::Result<Output> {
    let table = relation("things", &[("id", "int8", true), ("what", "text", false), ("meta", "jsonb", false)]);
    let row = |id: usize, word| vec![Value::Int(id as i64), Value::Text(word), Value::Json(meta)];
    let rows = words.iter().enumerate();
    let changes: Vec<_> = rows.map(|(at, word)| Change::new(&table, Operation::Insert, row(at, word))).collect();
    transform.apply(batch(&changes)).await
}

/// What is asked for by the one event, among others that are handled all the same.
async fn answered(transform: &Transform, word: &str, meta: &str) -> Vec<Action> {
    let output = apply(transform, &["upsert", word, "upsert"], meta).await;
    let output = output.unwrap_or_else(|error| panic!("`{word}`: {}", error.report()));
    assert_eq!(output.rejections.len(), 0, "`{word}`: {:?}", output.rejections);
    let ours = output.commands.into_iter().filter(|command| command.position.ordinal == 1);
    ours.map(|command| command.action).collect()
}

/// The payload that was written, as it was written.
async fn written(transform: &Transform, word: &str, meta: &str) -> String {
    match &answered(transform, word, meta).await[..] {
        [Action::Patch { payload, .. }] => payload.clone(),
        [Action::Upsert(point)] => point.payload.clone(),
        other => panic!("`{word}` was answered with {other:?}"),
    }
}

async fn payload(transform: &Transform, word: &str) -> Json {
    serde_json::from_str(&written(transform, word, "{}").await).unwrap()
}

async fn rejected(transform: &Transform, word: &str) -> String {
    let output = apply(transform, &["upsert", word, "upsert"], "{}").await;
    let output = output.unwrap_or_else(|error| panic!("`{word}`: {}", error.report()));
    let answered: Vec<_> = output.commands.iter().map(|command| command.position.ordinal).collect();
    assert_eq!(answered, [0, 2], "`{word}`");
    let [rejection] = &output.rejections[..] else { panic!("`{word}`: {:?}", output.rejections) };
    assert_eq!(rejection.event, 1);
    rejection.reason.clone()
}

async fn failed(transform: &Transform, words: &[&str]) -> String {
    let error = apply(transform, words, "{}").await.err().unwrap_or_else(|| panic!("{words:?} did not fail"));
    assert_eq!(error.fault(), Fault::Handler, "{}", error.report());
    error.report()
}

#[tokio::test]
async fn what_an_async_function_answers_counts_for_its_event_whoever_waits_for_it() {
    let Some(edges) = edgy() else { return };
    assert_eq!(payload(&edges, "forgotten").await, json!({ "what": "forgotten", "ready": true }));
    for word in ["microtask", "racing", "open"] {
        assert_eq!(answered(&edges, word, "{}").await, [Action::Delete { id: "1".into() }], "{word}");
    }
    let all = json!({
        "one": 1, "two": 2, "settled": [{"status": "rejected", "reason": 3}, {"status": "fulfilled", "value": 4}], "any": 6,
        "from": [7, 8], "caught": "nine", "last": 10, "tried": 12,
    });
    assert_eq!(payload(&edges, "all").await, all);
}

#[tokio::test]
async fn what_fails_behind_the_handlers_back_rejects_its_event() {
    let Some(edges) = edgy() else { return };
    let reason = rejected(&edges, "rejecting").await;
    assert!(reason.starts_with("TypeError: floating (handler.js:"), "{reason}");
    let reason = rejected(&edges, "throwing").await;
    assert!(reason.starts_with("TypeError: in a job (handler.js:"), "{reason}");
    let reason = rejected(&edges, "waiting").await;
    assert!(reason.starts_with("it waits for a promise that nothing can fulfil"), "{reason}");
    assert!(failed(&edges, &["upsert", "stopping"]).await.contains("stopped later"));
}

#[tokio::test]
async fn an_answer_that_is_none_stops_with_what_to_write() {
    let Some(edges) = edgy() else { return };
    for (word, said) in [
        ("promised", "`onEvent` returned a promise: write `export function onEvent(event, out)` without `async`"),
        ("generator", "`onEvent` returned a generator, which never began: write"),
        ("listed", "`onEvent` returned an array: answers are given with `out.upsert(…)`"),
        ("object", "`onEvent` returned an object: answers are given with"),
    ] {
        let told = failed(&edges, &["upsert", word]).await;
        assert!(told.contains(said), "`{word}`: {told}");
    }
    assert_eq!(answered(&edges, "seen", "{}").await, []);
}

#[tokio::test]
async fn what_is_answered_after_its_event_stops() {
    let Some(edges) = edgy() else { return };
    let told = failed(&edges, &["keep", "late", "upsert"]).await;
    assert!(told.contains("`out` was used after its event was over"), "{told}");
    assert_eq!(answered(&edges, "upsert", "{}").await.len(), 1);
}

#[tokio::test]
async fn each_instance_has_times_and_random_numbers_of_its_own() {
    let (Some(edges), Some(other)) = (edgy(), edgy()) else { return };
    let (one, two) = (payload(&edges, "chance").await, payload(&other, "chance").await);
    let again = payload(&edges, "chance").await;
    for name in ["random", "uuid", "bytes"] {
        assert!(one[name] != two[name] && one[name] != again[name], "`{name}`: {one} {two}");
    }
    for name in ["random", "uuid"] {
        assert_ne!(one["begun"][name], two["begun"][name], "what the top level drew: {one} {two}");
        assert_eq!(one["begun"][name], again["begun"][name]);
    }
    assert_eq!(one["more"], true);
    assert_eq!(one["uuid"].as_str().unwrap().as_bytes()[14], b'4');
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as f64;
    for time in [&one["begun"]["now"], &one["now"], &one["clocks"][0]] {
        assert!((time.as_f64().unwrap() - now).abs() < 600_000.0, "it is {now}, the guest says {one}");
    }
    assert!((0.0..600_000.0).contains(&one["begun"]["clock"].as_f64().unwrap()), "{one}");
}

#[tokio::test]
async fn a_rejection_says_where() {
    let Some(edges) = edgy() else { return };
    let line = |text: &str| 1 + include_str!("edges.js").lines().position(|line| line.contains(text)).unwrap();
    let reason = rejected(&edges, "fail").await;
    assert_eq!(reason, format!("RangeError: deep down (handler.js:{})", line("\"deep down\"")));
    let reason = rejected(&edges, "cause").await;
    assert_eq!(reason, format!("outer: inner (handler.js:{})", line("\"outer\"")));
    assert_eq!(rejected(&edges, "text").await, "only text");
}

#[tokio::test]
async fn what_the_engine_does_not_know_is_an_error_and_no_wrong_answer() {
    let Some(edges) = edgy() else { return };
    assert!(rejected(&edges, "zone").await.contains("there are no time zones here but UTC"));
    for word in ["german", "number", "collate"] {
        assert!(rejected(&edges, word).await.contains("there is no Intl here"), "{word}");
    }
    assert_eq!(answered(&edges, "utc", "{}").await, [Action::Delete { id: "01/01/1970".into() }]);
    assert_eq!(answered(&edges, "upper", "{}").await, [Action::Delete { id: "Iab".into() }]);
}

#[tokio::test]
async fn json_goes_through_as_postgres_sent_it() {
    let Some(edges) = edgy() else { return };
    let deep = |depth: usize, core: &str| format!("{}{core}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    for meta in [META, &deep(200, "1e400"), &deep(200, "1"), &deep(5000, "1")] {
        assert_eq!(written(&edges, "meta", meta).await, format!(r#"{{"meta":{meta}}}"#));
    }
    assert!(written(&edges, "row", META).await.contains(&format!(r#""meta":{META}"#)));
    let parts = r#"{"n":123456789012345678901234567890,"d":0.12345678901234567891,"h":"�","e":[1e400, 1.50],"more":1}"#;
    for word in ["parts", "changed"] {
        assert_eq!(written(&edges, word, META).await, parts, "{word}");
    }
}

#[tokio::test]
async fn a_full_instance_ends_and_the_next_is_fine() {
    let Some(edges) = edgy() else { return };
    for _ in 0..2 {
        assert!(failed(&edges, &["hoard"]).await.contains("memory"));
    }
    assert_eq!(answered(&edges, "upsert", "{}").await.len(), 1);
}

#[tokio::test]
async fn the_gaps_are_those_that_the_page_names() {
    let Some(edges) = edgy() else { return };
    let seen = payload(&edges, "globals").await;
    let seen: Vec<_> = seen["names"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
    let page = super::page("docs/handlers/javascript.md");
    let gaps = page.lines().find(|line| line.starts_with("Missing: ")).expect("a line that says what is missing");
    let gaps: Vec<_> = gaps.split('`').skip(1).step_by(2).collect();
    assert!(gaps.len() > 20, "{gaps:?}");
    for gap in gaps {
        assert!(!seen.contains(&gap), "`{gap}` is there");
    }
}

#[test]
fn the_same_source_makes_the_same_component() {
    let Some(edges) = edges() else { return };
    let again = tempfile::tempdir().unwrap();
    let out = again.path().join("again.wasm");
    succeed(host(["build"]).arg(edges.parent().unwrap()).arg("--out").arg(&out));
    assert!(std::fs::read(edges).unwrap() == std::fs::read(out).unwrap(), "two builds differ");
}

#[test]
fn the_sdk_and_the_example_pass_their_own_tests() {
    if !has_tools(&["node"]) {
        return;
    }
    for folder in ["plugins/sdk/js", "plugins/documents-js"] {
        let said = succeed(std::process::Command::new("node").arg("--test").current_dir(root().join(folder)));
        assert!(said.contains("pass") && !said.contains("# tests 0"), "{folder}: {said}");
    }
}

#[test]
fn the_tutorial_holds() {
    if has_tools(&["node", "npm"]) {
        tutorial("docs/handlers/javascript.md", &[]);
    }
}

#[test]
fn a_new_project_builds_and_passes_its_tests() {
    if !has_tools(&["node", "npm"]) {
        return;
    }
    for language in ["javascript", "TypeScript"] {
        let (_scratch, project) = new_project("built", language);
        succeed(host(["build"]).current_dir(&project));
        succeed(host(["test"]).current_dir(&project));

        let extension = if language == "javascript" { "js" } else { "ts" };
        let source = project.join(format!("handler.{extension}"));
        let fine = std::fs::read_to_string(&source).unwrap();
        std::fs::write(&source, fine.replace("switch", "swish")).unwrap();
        let output = host(["build"]).current_dir(&project).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(&format!("handler.{extension}")), "{}", text(&output.stderr));
        std::fs::write(
            &source,
            format!("{fine}\nfunction begin(): void {{\n  throw new Error(\"no\");\n}}\nbegin();\n"),
        )
        .unwrap();
        if extension == "ts" {
            let output = host(["build"]).current_dir(&project).output().unwrap();
            let line = fine.lines().count() + 3;
            assert!(text(&output.stderr).contains(&format!("handler.ts:{line}")), "{}", text(&output.stderr));
        }
    }
}

/// npm puts what a workspace's member needs beside the workspace.
#[test]
fn a_member_of_a_workspace_builds() {
    if !has_tools(&["node", "npm"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("package.json"), r#"{ "private": true, "workspaces": ["member"] }"#).unwrap();
    let project = scratch.path().join("member");
    succeed(host(["new", "--lang", "js"]).arg(&project));
    succeed(host(["build"]).current_dir(&project));
    assert!(project.join("member.wasm").is_file());
}

#[test]
fn without_npm_it_says_what_to_install() {
    let (_scratch, project) = new_project("missing", "js");
    let said = fail(host(["build"]).current_dir(&project).env("PATH", "/nowhere"), 3);
    assert!(said.contains("`npm` is not installed") && said.contains("nodejs.org"), "{said}");
}
