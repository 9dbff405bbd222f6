//! The pipeline file: what is accepted, and the exact text of what is said about everything else.

use std::path::{Path, PathBuf};

use pgstream_host::components::{PipelineSettings, REGISTRY};
use pgstream_host::config::{self, Diagnostics, model};
use pgstream_host::embedder::OpenAiEmbedder;
use pgstream_host::source::postgres::PostgresSettings;
use pgstream_host::transform::WasmTransform;
use proptest::prelude::*;

/// Set to anything to write the expected texts anew.
const BLESS: &str = "BLESS";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn files(name: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

/// The environment that the files of `tests/config` are read with.
fn variable(name: &str) -> Option<String> {
    match name {
        "DATABASE_URL" => Some("postgres://app:env-secret@localhost/shop".to_owned()),
        "NOT_A_NUMBER" => Some("env-secret".to_owned()),
        "YAML" => Some("{ type: hash }".to_owned()),
        _ => None,
    }
}

/// Reads a file as it would be named on the command line from inside `tests/config`.
fn parse(path: &Path) -> Result<PipelineSettings, Diagnostics> {
    let text = std::fs::read_to_string(path).unwrap();
    let named = path.strip_prefix(folder("")).unwrap().to_str().unwrap();
    config::parse(&REGISTRY, named, &text, path.parent().unwrap(), &variable)
}

/// Compares with the text at `path`, or writes it there if the person at the keyboard said so.
fn expect(path: &Path, actual: &str) {
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; look at it, then run again with {BLESS}=1", path.display());
}

#[test]
fn broken_files_are_answered_word_for_word() {
    let files = files("bad", "yaml");
    assert!(files.len() >= 30, "only {} broken files", files.len());
    for path in files {
        let diagnostics = parse(&path).expect_err(&path.display().to_string());
        let text = diagnostics.render(false).replace(&format!("{}/", folder("bad").display()), "bad/");
        expect(&path.with_extension("err"), &text);
        assert!(!text.contains("env-secret") && !text.contains("file-secret"), "{} shows a secret", path.display());
        assert_eq!(pgstream_host::error::Error::from(diagnostics).fault().exit_code(), 2);
    }
}

#[test]
fn good_files_are_read() {
    for path in files("ok", "yaml") {
        if let Err(diagnostics) = parse(&path) {
            panic!("{}", diagnostics.render(false));
        }
    }
}

#[test]
fn schema_and_reference_are_those_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = serde_json::to_string_pretty(&config::schema(&REGISTRY)).unwrap() + "\n";
    expect(&root.join("pipelines/schema.json"), &schema);

    let page = root.join("docs/configuration.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (begin, end) = ("<!-- settings: made from the code; a test fails when stale -->\n", "<!-- end of settings -->");
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    expect(&page, &format!("{before}{begin}\n{}\n{end}{after}", config::reference(&REGISTRY)));
}

#[test]
fn a_good_file_says_what_it_says() {
    let pipeline = parse(&folder("ok").join("full.yaml")).unwrap();
    assert_eq!((pipeline.name.as_str(), pipeline.tenant.as_deref()), ("documents-2", Some("acme")));
    assert_eq!(config::default_slot(&pipeline.name), "pgstream_documents_2");

    let source = pipeline.source.as_kind::<PostgresSettings>().unwrap();
    assert_eq!(
        (pipeline.source_name.as_str(), source.url.expose()),
        ("shop", "postgres://app:env-secret@localhost/shop")
    );
    assert_eq!(source.tables, ["public.documents", "public.chunk_*"]);
    assert_eq!((source.batch.max_events, source.batch.max_bytes.0), (1000, 4 << 20));

    let small = pipeline.embedders["small"].as_kind::<OpenAiEmbedder>().unwrap();
    assert_eq!((&small.api_key, small.dimension), (&None, Some(384)));

    let embed = pipeline.transforms["embed"].as_kind::<WasmTransform>().unwrap();
    assert_eq!(embed.component, folder("ok").join("../handler.wasm"));
    let config: Vec<_> = embed.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [("chunk", "800"), ("flag", "true"), ("price", "costs $5 or $5"), ("text_column", "content")];
    assert_eq!(config[..4], expected);
    assert_eq!(config[4], ("version", "1.10"), "numbers reach the handler as they are written");

    let hosts: Vec<_> = embed.allow.http.iter().map(|host| host.host.to_string()).collect();
    assert_eq!(hosts, ["api.example.com", "https://internal.example:8443", "http://127.0.0.1:8080"]);
    assert_eq!((embed.allow.http[2].headers.len(), embed.allow.http[2].private.len()), (2, 2));
    assert_eq!((embed.limits.http.requests, embed.limits.http.received.0), (10, 4 << 20));

    let sinks: Vec<_> = pipeline.sinks.keys().map(String::as_str).collect();
    assert_eq!(sinks, ["table", "search", "folder", "parked", "screen", "nothing"], "in the order of the file");
    let (table, search) = (pipeline.sinks["table"].batch(), pipeline.sinks["search"].batch());
    assert_eq!((table.max_points, search.max_points, search.max_bytes.0), (500, 100, 8 << 20));

    let shown = format!("{pipeline:?}");
    assert!(!shown.contains("secret\"") && !shown.contains("hunter2") && !shown.contains("env-secret"), "{shown}");
}

#[test]
fn defaults_are_those_of_the_model() {
    let pipeline = parse(&folder("ok").join("least.yaml")).unwrap();
    let source = pipeline.source.as_kind::<PostgresSettings>().unwrap();
    assert_eq!(source.batch, model::SourceBatch::default());
    let embed = pipeline.transforms["embed"].as_kind::<WasmTransform>().unwrap();
    assert_eq!((embed.workers, &embed.limits), (1, &model::Limits::default()));
}

#[test]
fn diagnostics_are_also_json_and_colours_are_on_request() {
    let diagnostics = parse(&folder("bad").join("unknown-field.yaml")).unwrap_err();
    let json = serde_json::to_value(&diagnostics).unwrap();
    assert_eq!(json["file"], "bad/unknown-field.yaml");
    assert_eq!(json["problems"][0]["line"], 7);
    assert_eq!(json["problems"][0]["column"], 5);
    assert_eq!(json["problems"][0]["help"], "did you mean `tables`?");
    assert!(diagnostics.render(true).contains("\x1b[1;31merror\x1b[0m"));
    assert!(!diagnostics.render(false).contains('\x1b'));
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_too() {
    for (path, expected) in [
        (folder("missing.yaml"), "there is no such file"),
        (folder("bad"), "it is a folder"),
        (folder("ok/least.yaml"), ""),
    ] {
        let message = config::load(&REGISTRY, &path).err().map_or(String::new(), |error| error.to_string());
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.is_empty(), expected.is_empty(), "{message}");
    }
}

/// The least file, with something before it and something beside its source's tables.
fn least(before: &str, tables: &str) -> Result<PipelineSettings, Diagnostics> {
    let text = std::fs::read_to_string(folder("ok/least.yaml")).unwrap();
    let text = before.to_owned() + &text.replace("[\"public.*\"]", tables);
    config::parse(&REGISTRY, "least.yaml", &text, &folder("ok"), &variable)
}

fn messages(result: Result<PipelineSettings, Diagnostics>) -> Vec<String> {
    result.err().into_iter().flat_map(|all| all.problems().to_vec()).map(|problem| problem.message).collect()
}

#[test]
fn what_a_file_holds_is_counted_with_its_aliases_written_out() {
    let aliases = |value: &str, times: usize| format!("x-a: &a {value}\nx-b: [{}]\n", "*a,".repeat(times));
    let list = format!("[{}]", "1,".repeat(100_000));
    let text = "a".repeat(100_000);
    assert!(messages(least(&aliases("[1, 1]", 1000), "[public.a]")).is_empty());
    for (value, times, what) in [(list, 200_000, "100000 keys and values"), (text, 1000, "4194304 bytes of text")] {
        let file = aliases(&value, times);
        let expected = format!("the file holds more than {what}, those behind aliases counted each time");
        assert_eq!(messages(least(&file, "[public.a]")), [expected.as_str()]);
        let host = config::parse_host(&REGISTRY, "host.yaml", &file, &|_| None).unwrap_err();
        assert!(host.render(false).starts_with(&format!("error: {expected}\n  --> host.yaml\n  help: ")));
    }
    let tables = format!("[{}]", (0..20_000).map(|n| format!("public.t{n}")).collect::<Vec<_>>().join(","));
    assert!(messages(least("", &tables)).is_empty(), "a long list of tables is fine");
}

#[test]
fn what_takes_long_to_look_through_is_refused_unread() {
    let brackets = |count: usize| format!("x-a: {}\n", "[".repeat(count));
    let too_many = ["the file opens more than 1000 brackets, `[` or `{`"];
    assert_eq!(messages(least(&brackets(1_000_000), "[a.b]")), too_many);
    assert_eq!(messages(least(&brackets(200_000).replace('[', "{a: "), "[a.b]")), too_many);
    assert_eq!(messages(least(&brackets(500), "[a.b]")), ["recursion limit exceeded"]);
    for line_break in ["\n", "\r", "\u{85}", "\u{2028}"] {
        let tags: String = (0..50_000).map(|n| format!("%TAG !t{n}! x{line_break}")).collect();
        assert_eq!(messages(least(&(tags + "---\n"), "[a.b]")), ["YAML tags (`!name`) have no meaning here"]);
    }
}

#[test]
fn the_search_for_problems_ends_after_some() {
    let unknown = |count: usize| (0..count).map(|n| format!("unknown{n}: 1\n")).collect::<String>();
    let unset = |count: usize| format!("[{}]", (0..count).map(|n| format!("'${{UNSET{n}}}',")).collect::<String>());
    let twice = |count: usize| format!("[{}]", "public.a,".repeat(count));
    for (before, tables) in [
        (unknown(5000), "[public.a]".to_owned()),
        (String::new(), unset(900)),
        (String::new(), twice(5000)),
        ("name: twice\n".repeat(5000), "[public.a]".to_owned()),
    ] {
        let messages = messages(least(&before, &tables));
        assert_eq!(messages.len(), 51);
        assert_eq!(messages[50], "the search for problems ended with the 50th");
    }
    assert_eq!(messages(least(&unknown(49), "[public.a]")).len(), 49, "all of them, and nothing else");
}

#[test]
fn names_and_lines_without_end_are_told_in_short() {
    let long = "n".repeat(400_000);
    let tricky = "'://://key=key='".repeat(10_000);
    let file = format!(
        "sources:
  ? {long}
  : {{ type: postgres, url: 'postgres://a', tables: [a.b], other: 1 }}
transforms: {{ t: {{ type: wasm, inputs: [{long}o], component: ../handler.wasm }} }}
sinks: {{ s: {{ type: {long}, inputs: [{long}] }} }}
secret: {tricky}
"
    );
    let diagnostics = config::parse(&REGISTRY, "long.yaml", &file, &folder("ok"), &variable).unwrap_err();
    let shown = diagnostics.render(false);
    assert!(diagnostics.problems().len() > 5 && shown.len() < 20_000, "{} bytes", shown.len());
}

#[test]
fn variables_of_ignored_keys_are_needed_only_where_an_alias_brings_them() {
    let before = "x-url: &url ${UNSET}\nx-more: { deep: [1, '${UNSET'] }\n";
    assert!(messages(least(before, "[public.a]")).is_empty());
    let brought = messages(least(before, "[public.a, *url]"));
    assert_eq!(brought, ["environment variable `UNSET` is not set"]);
}

/// Any answer will do, so long as there is one, and it does not show what the environment holds.
fn survives(text: &str) {
    let lookup = |name: &str| Some(format!("env-secret-{name}"));
    if let Err(diagnostics) = config::parse(&REGISTRY, "any.yaml", text, Path::new("."), &lookup) {
        assert!(!diagnostics.problems().is_empty());
        assert!(!diagnostics.render(true).contains("env-secret"), "{diagnostics}");
    }
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "(?s).{0,400}") {
        survives(&text);
    }

    #[test]
    fn any_yaml_like_text_gets_an_answer(text in "([a-z&*$\\{}\\[\\]:,|>?!%@'\"#~ \n\t-]|sources|type: |inputs|\\$\\{A\\}|<<: |\n  ){0,60}") {
        survives(&text);
    }

    #[test]
    fn a_mutilated_file_gets_an_answer(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, "[a-z0-9&*${}\\[\\]:,|>!'\" \n\t-]{0,6}"), 1..6),
    ) {
        let mut chars: Vec<char> = std::fs::read_to_string(folder("ok/full.yaml")).unwrap().chars().collect();
        for (at, removed, inserted) in cuts {
            let at = at.index(chars.len());
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, inserted.chars());
        }
        survives(&chars.into_iter().collect::<String>());
    }
}
