//! The house rules of ARCHITECTURE.md that a machine can check, each proven on a violation made up for it.

mod knots;
mod prose;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Production lines of a file in `src/`; beyond it a file holds more than one concept.
const MAX_LINES: usize = 400;

/// What each top-level module may import of ours. A new module must be placed here before it compiles in CI.
const IMPORTS: &[(&str, &[&str])] = &[
    ("lsn", &[]),
    ("event", &["lsn"]),
    ("command", &["lsn"]),
    ("printable", &[]),
    ("error", &["lsn", "printable"]),
    ("screen", &["error", "printable"]),
    ("meter", &["error", "lsn"]),
    ("backoff", &[]),
    ("retry", &["backoff", "error"]),
    ("sabotage", &["error"]),
    ("config", &["error", "lsn", "printable"]),
    ("postgres", &["config", "error", "lsn", "printable"]),
    ("decode", &["error", "event", "lsn", "sabotage"]),
    (
        "source",
        &[
            "backoff",
            "config",
            "decode",
            "error",
            "event",
            "lsn",
            "meter",
            "postgres",
            "printable",
            "retry",
            "sabotage",
        ],
    ),
    ("transform", &["command", "config", "embedder", "error", "event", "lsn", "meter", "printable"]),
    ("embedder", &["backoff", "command", "config", "error", "meter", "retry"]),
    ("sink", &["command", "config", "error", "event", "lsn", "postgres", "printable", "sabotage"]),
    (
        "pipeline",
        &[
            "backoff",
            "command",
            "config",
            "embedder",
            "error",
            "event",
            "lsn",
            "meter",
            "retry",
            "sink",
            "source",
            "transform",
            "sabotage",
        ],
    ),
    ("components", &["config", "embedder", "sink", "source", "transform"]),
    (
        "host",
        &[
            "backoff",
            "components",
            "config",
            "embedder",
            "error",
            "meter",
            "pipeline",
            "postgres",
            "printable",
            "retry",
            "sink",
            "source",
            "transform",
        ],
    ),
    ("api", &["config", "embedder", "error", "host", "lsn", "meter"]),
    ("trial", &["command", "components", "config", "embedder", "error", "event", "lsn", "printable", "transform"]),
    ("telemetry", &["error", "printable"]),
    ("toolchain", &["error"]),
    ("demo", &["components", "config", "error", "host", "pipeline", "sink"]),
    (
        "cli",
        &[
            "api",
            "components",
            "config",
            "demo",
            "error",
            "event",
            "host",
            "meter",
            "pipeline",
            "printable",
            "screen",
            "sink",
            "source",
            "telemetry",
            "toolchain",
            "transform",
            "trial",
            "sabotage",
        ],
    ),
    ("main", &["cli", "error", "telemetry"]),
];

/// Files of `transform` that hold any guest, whatever it is for. They know nothing of handlers, so that another kind of guest can be
/// put beside them.
const SANDBOX: &[&str] = &[
    "artifact", "cache", "call", "compiler", "cpu", "effort", "engine", "guest", "http", "limits", "tenant", "voice",
    "wait", "wasi", "words",
];

/// Modules whose parts `pipeline` may name only through the contract: no driver, no kind.
const CONTRACTS: &[&str] = &["source", "transform", "embedder", "sink"];

/// Modules of a kind of source, which only the list of kinds may name, so that nobody takes a kind for the only one.
const KINDS_OF_SOURCE: &[&str] = &["postgres", "jsonl"];

/// Where the kinds of source are listed.
const LIST_OF_SOURCES: &str = "src/components.rs";

/// Third-party crates that only some places may name, so that one of them can be replaced.
const FENCES: &[(&str, &[&str])] = &[
    ("wasmtime", &["src/transform/"]),
    ("wasmtime_wasi", &["src/transform/"]),
    (
        "tokio_postgres",
        &["src/postgres/", "src/source/postgres/", "src/sink/pgvector/", "src/sink/dead_letters/", "src/demo/"],
    ),
    ("postgres_protocol", &["src/postgres/", "src/source/postgres/", "src/sink/pgvector/", "src/demo/"]),
    ("qdrant_client", &["src/sink/qdrant/"]),
    ("qdrant_edge", &["src/sink/qdrant_edge/", "src/components.rs"]), // the latter means our module of that name
    ("wasmtime_wasi_http", &["src/transform/"]),
    ("axum", &["src/api/"]),
    ("hyper", &["src/api/"]),
    ("hyper_util", &["src/api/"]),
    ("prometheus_client", &["src/api/metrics/"]),
    ("reqwest", &["src/embedder/", "src/transform/http/"]),
    ("serde_yaml", &["src/config/"]),
    ("rust_embed", &["src/toolchain/"]),
    ("wasmparser", &["src/transform/", "src/toolchain/"]),
    ("clap", &["src/cli/", "src/demo/", "src/telemetry.rs"]),
    ("clap_complete", &["src/cli/"]),
];

/// Files that may write to the terminal past `screen`, which lets no text of a stranger act on it, and why.
const DOORS: &[(&str, &str)] = &[
    ("src/screen.rs", "is the door"),
    ("src/telemetry.rs", "makes each field of a line printable"),
    ("src/sink/lines/mod.rs", "writes JSON, made printable"),
    ("src/transform/compiler/child.rs", "speaks to the host that started it, through pipes"),
    ("src/demo/page.rs", "tells its own story, of its own rows"),
    ("src/toolchain/tool.rs", "hands on what a compiler says, which runs as the user"),
];

/// Where production code may assume a value: the file, the line's text, and why it cannot fail.
const ASSUMPTIONS: &[(&str, &str, &str)] = &[];

const BANNED_NAMES: &[&str] = &["common", "util", "utils", "core", "base", "helper", "helpers", "manager", "misc"];

/// Texts that give away a machine, or a registry that a lock file may name but nothing else.
const MACHINE_TEXTS: &[&str] = &["/root/", "/home/", "/work/", "/Users/", "://index.crates.io", "://static.crates.io"];

#[test]
fn every_file_keeps_the_house_rules() {
    let files = rust_files();
    assert!(files.len() > 20, "the walk finds the sources");
    let check = |rule: fn(&File) -> Vec<String>| files.iter().flat_map(rule).collect::<Vec<_>>();
    let rules =
        [purpose, length, name, imports, kinds_of_source, sandbox, resources, retries, fences, doors, assumptions];
    let broken: Vec<_> = rules.into_iter().flat_map(check).collect();
    assert!(broken.is_empty(), "{} house rules are broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn nothing_tells_where_it_was_written() {
    let texts = walk(&root()).into_iter().filter_map(|path| File::read(&path)).filter(|file| file.path != TIDY);
    let broken: Vec<_> = texts.flat_map(|file| machine_texts(&file)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_warning_of_the_log_is_explained() {
    let docs = ["docs/delivery.md", "docs/postgres.md", "docs/sources.md", "docs/operating.md"]
        .map(|path| fs::read_to_string(root().join(path)).unwrap())
        .concat();
    let files = walk(&root().join("src")).into_iter().filter_map(|path| File::read(&path));
    let said: Vec<String> = files.flat_map(|file| warnings(&file.text)).collect();
    assert!(said.len() > 30, "the walk finds the warnings");
    let unexplained: Vec<_> = said.iter().filter(|words| !docs.contains(words.as_str())).collect();
    assert!(unexplained.is_empty(), "no page of docs/ on operating a host says what these mean: {unexplained:?}");
    assert_eq!(
        warnings(r#"tracing::warn!(slot = "s", n, "{n} lines \u{2026} were cut; (sic)", n = f(1));"#),
        [" lines "]
    );
}

#[test]
fn every_example_and_every_fixture_is_used_by_a_test() {
    let tests: String = walk(&root().join("tests"))
        .iter()
        .filter_map(|path| File::read(path))
        .filter(|file| file.path != TIDY)
        .map(|file| file.text)
        .collect();
    let shared = ["plugins/sdk", "plugins/templates"];
    let is_handler = |path: &String| !shared.contains(&path.as_str()) && !path.ends_with(".sh");
    let plugins = children("plugins").into_iter().filter(is_handler);
    let pipelines = children("pipelines").into_iter().filter(|path| path.ends_with(".yaml"));
    let unused: Vec<_> = plugins.chain(pipelines).filter(|path| !uses(&tests, path)).collect();
    assert!(unused.is_empty(), "no test names {unused:?}");

    let lonely = without_partner(&children("tests/config/bad"), "yaml", "err");
    assert!(lonely.is_empty(), "a broken file and its golden message belong together: {lonely:?}");
}

#[test]
fn the_modules_of_the_crate_are_those_of_the_table() {
    let lib = File::read(&root().join("src/lib.rs")).unwrap();
    let declared: BTreeSet<_> =
        lib.text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let listed: BTreeSet<_> = IMPORTS.iter().map(|(module, _)| *module).filter(|module| *module != "main").collect();
    assert!(declared.is_subset(&listed), "place {:?} in IMPORTS", declared.difference(&listed));
}

const TIDY: &str = "tests/it/tidy.rs";

/// A text file by its path from the repository's root, with `/`.
struct File {
    path: String,
    text: String,
}

impl File {
    /// None for what is not text.
    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let path = path.strip_prefix(root()).unwrap().to_str()?.replace('\\', "/");
        Some(Self { path, text })
    }

    fn is_production(&self) -> bool {
        let is_test = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        self.path.starts_with("src/") && !is_test
    }

    /// The lines before the tests, with comments blanked so that line numbers stay.
    fn code(&self) -> String {
        let lines = self.production().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The lines before the tests that the file itself holds; `mod tests;` only points at them.
    fn production(&self) -> impl Iterator<Item = &str> {
        let mut lines = self.text.lines().peekable();
        std::iter::from_fn(move || {
            let line = lines.next()?;
            let ends = line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with('{'));
            (!ends).then_some(line)
        })
    }

    /// `["sink", "qdrant"]` for `src/sink/qdrant/mod.rs`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod" && *part != "lib").collect()
    }

    fn broken(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// The first line says what the file owns.
fn purpose(file: &File) -> Vec<String> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//! ").is_some_and(|purpose| purpose.len() > 10);
    if says { vec![] } else { vec![file.broken(1, "the first line must say what the file owns: `//! …`")] }
}

fn length(file: &File) -> Vec<String> {
    let lines = file.production().count();
    if !file.is_production() || lines <= MAX_LINES {
        return vec![];
    }
    vec![file.broken(lines, format!("{lines} lines, at most {MAX_LINES}: part its concepts"))]
}

fn name(file: &File) -> Vec<String> {
    let banned = file.path.split(['/', '.']).find(|part| BANNED_NAMES.contains(part));
    banned.map(|part| file.broken(1, format!("`{part}` says nothing; name what it is about"))).into_iter().collect()
}

/// Imports go down the table only, and `pipeline` knows contracts, never a kind.
fn imports(file: &File) -> Vec<String> {
    let module = file.module();
    let Some(own) = module.first().filter(|_| file.is_production()) else { return vec![] };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| name == own) else {
        return vec![file.broken(1, format!("module `{own}` has no place in IMPORTS"))];
    };
    let mut broken = Vec::new();
    for (line, path) in paths(file, module.len()) {
        let Some(target) = path.first().filter(|target| *target != own) else { continue };
        if !IMPORTS.iter().any(|(name, _)| name == target) {
            continue; // an item of lib.rs
        }
        if !allowed.contains(&target.as_str()) {
            broken.push(file.broken(line, format!("`{own}` must not know `{target}`")));
        }
        if *own == "pipeline" && CONTRACTS.contains(&target.as_str()) && path.len() > 2 {
            let kind = path.get(1).filter(|part| part.starts_with(char::is_lowercase));
            broken.extend(
                kind.map(|kind| file.broken(line, format!("`pipeline` knows `{target}`'s contract, not `{kind}`"))),
            );
        }
    }
    broken.dedup();
    broken
}

/// Nobody but the list of kinds knows which sources there are.
fn kinds_of_source(file: &File) -> Vec<String> {
    let module = file.module();
    if !file.is_production() || file.path == LIST_OF_SOURCES {
        return vec![];
    }
    let own = if module.first() == Some(&"source") { module.get(1) } else { None };
    let named = paths(file, module.len()).into_iter().filter(|(_, path)| {
        let kind = path.get(1).filter(|kind| KINDS_OF_SOURCE.contains(&kind.as_str()));
        path.first().is_some_and(|first| first == "source") && kind.is_some_and(|kind| own != Some(&kind.as_str()))
    });
    let mut broken: Vec<String> = named
        .map(|(line, path)| file.broken(line, format!("`{}` is for the list of kinds to know", path[..2].join("::"))))
        .collect();
    broken.dedup();
    broken
}

/// What holds a guest knows nothing of what the guest is for.
fn sandbox(file: &File) -> Vec<String> {
    let module = file.module();
    let [first, room, ..] = module[..] else { return vec![] };
    if !file.is_production() || first != "transform" || !SANDBOX.contains(&room) {
        return vec![];
    }
    let code = file.code();
    let within = |path: &[String]| path.first().is_some_and(|first| first == "transform");
    let own =
        paths(file, 0).into_iter().filter(|(_, path)| within(path)).map(|(line, path)| (line, path[1..].to_vec()));
    // `super::x` of a file that lies directly in `transform`.
    let siblings = code.match_indices("super::").filter(|(at, _)| module.len() == 2 && starts_path(&code, *at));
    let siblings = siblings.map(|(at, start)| {
        let found = expand(&mut code[at + start.len()..].chars().peekable());
        (code[..at].lines().count(), found)
    });
    let siblings = siblings.flat_map(|(line, found)| found.into_iter().map(move |path| (line, path)));
    let known = |name: &str| SANDBOX.contains(&name) || name == "*" || (module.len() == 2 && name == "super");
    let others = own.chain(siblings).filter(|(_, path)| path.first().is_some_and(|name| !known(name)));
    let named = |(line, path): (usize, Vec<String>)| {
        file.broken(line, format!("the sandbox knows nothing of `{}`, which is of handlers", path.join("::")))
    };
    others.map(named).collect()
}

/// A kind takes all its settings apart to say what they reach, so that a new one does not compile until somebody thought of it.
fn resources(file: &File) -> Vec<String> {
    const SAID: &str = "fn resources(&mut self) -> Vec<Resource<'_>> {";
    let code = file.code();
    let bodies = code.match_indices(SAID).map(|(at, _)| (at, code[at + SAID.len()..].trim_start()));
    let forgetful = bodies.filter(|(_, body)| {
        let fields = body.strip_prefix("let Self {").and_then(|rest| rest.split_once("} = self;"));
        fields.is_none_or(|(fields, _)| fields.contains(".."))
    });
    let line = |at: usize| code[..at].lines().count();
    let listed = file.is_production() && file.path != KIND;
    let broken = forgetful
        .filter(|_| listed)
        .map(|(at, _)| file.broken(line(at), "name each setting: `let Self { … } = self;`"));
    broken.collect()
}

/// Waits between tries grow in one place, which knows for how long a thing has failed.
fn retries(file: &File) -> Vec<String> {
    let code = file.code();
    let waits = code.lines().enumerate().filter(|(_, code)| code.contains(".next_wait()"));
    let others = waits.filter(|_| file.is_production() && file.path != "src/retry.rs");
    others.map(|(index, _)| file.broken(index + 1, "let `Retry` wait: `retry.failed(&error)`")).collect()
}

/// Where the contract of all kinds stands.
const KIND: &str = "src/config/kind.rs";

/// Every path into our crate, from its root, with its line: `crate::a::B`, `super::super::a`, and what groups hold.
fn paths(file: &File, depth: usize) -> Vec<(usize, Vec<String>)> {
    let code = file.code();
    let mut found = Vec::new();
    for start in ["crate::", "pgstream_host::", "super::"] {
        for (at, _) in code.match_indices(start).filter(|(at, _)| starts_path(&code, *at)) {
            let rest = code[at..].trim_start_matches(start);
            let levels = (code.len() - at - rest.len()) / start.len();
            if start == "super::" && levels < depth {
                continue; // stays inside its own top-level module
            }
            let line = code[..at].lines().count().max(1) + usize::from(code[..at].ends_with('\n'));
            found.extend(expand(&mut rest.chars().peekable()).into_iter().map(|path| (line, path)));
        }
    }
    found
}

fn starts_path(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// The paths of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(text: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<Vec<String>> {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_' || *c == '*';
    while text.next_if(|c| c.is_whitespace()).is_some() {}
    if text.next_if_eq(&'{').is_some() {
        let mut all = Vec::new();
        while text.peek().is_some_and(|c| *c != '}') {
            all.extend(expand(text));
            while text.next_if(|c| *c != ',' && *c != '}').is_some() {}
            text.next_if_eq(&',');
            while text.next_if(|c| c.is_whitespace()).is_some() {}
        }
        text.next();
        return all;
    }
    let word: String = std::iter::from_fn(|| text.next_if(is_word)).collect();
    if word.is_empty() {
        return vec![];
    }
    let mut rest = text.clone();
    if rest.next() == Some(':') && rest.next() == Some(':') {
        *text = rest;
        let tails = expand(text);
        return tails.into_iter().map(|tail| std::iter::once(word.clone()).chain(tail).collect()).collect();
    }
    vec![vec![word]]
}

/// Drivers and engines stay in their folder.
fn fences(file: &File) -> Vec<String> {
    let fits = |place: &str| file.path.starts_with(place) || file.path.strip_suffix(".rs") == place.strip_suffix('/');
    let mut broken = Vec::new();
    for (index, code) in file.code().lines().enumerate().filter(|_| file.is_production()) {
        for (krate, places) in FENCES {
            let mut named = code.match_indices(&format!("{krate}::")).map(|(at, _)| at).collect::<Vec<_>>();
            named.retain(|at| starts_path(code, *at));
            if !named.is_empty() && !places.iter().any(|place| fits(place)) {
                broken.push(file.broken(index + 1, format!("`{krate}` is fenced into {}", places.join(", "))));
            }
        }
    }
    broken
}

/// What is shown on a terminal leaves through few doors.
fn doors(file: &File) -> Vec<String> {
    let writes = ["io::stdout()", "io::stderr()", "println!", "print!"];
    let code = file.code();
    let lines =
        code.lines().enumerate().filter(|_| file.is_production() && !DOORS.iter().any(|(path, _)| *path == file.path));
    let past = lines.filter(|(_, code)| writes.iter().any(|call| code.contains(call)));
    past.map(|(index, _)| file.broken(index + 1, "writes to the terminal past `screen`")).collect()
}

/// Outside tests nothing is assumed without a reason in the list.
fn assumptions(file: &File) -> Vec<String> {
    // A parser's own `expect(b'x')` answers with an error.
    let expects = |call: &str, code: &str| code.split(call).skip(1).any(|rest| !rest.starts_with('b'));
    let assumes = |code: &str| {
        code.contains(".unwrap()")
            || code.contains(".unwrap_err()")
            || expects(".expect(", code)
            || expects(".expect_err(", code)
    };
    let listed = |code: &str| ASSUMPTIONS.iter().any(|(path, text, _)| *path == file.path && code.contains(text));
    let code = file.code();
    let lines = code.lines().enumerate().filter(|(_, code)| file.is_production() && assumes(code) && !listed(code));
    lines.map(|(index, _)| file.broken(index + 1, "handle it, or list it in ASSUMPTIONS with the reason")).collect()
}

fn machine_texts(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    let found =
        lines.filter_map(|(index, line)| Some((index, MACHINE_TEXTS.iter().find(|text| line.contains(**text))?)));
    found.map(|(index, text)| file.broken(index + 1, format!("names a machine or a registry: `{text}`"))).collect()
}

/// Whether a test names the file or folder at `path`, by its last part.
fn uses(tests: &str, path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| tests.contains(name))
}

/// How the messages of warnings and errors of the log begin, as far as they are constant; those that are not are left out.
fn warnings(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let calls = ["tracing::warn!(", "tracing::error!("].map(|call| text.split(call).skip(1));
    let messages = calls.into_iter().flatten().filter_map(|rest| {
        let (mut depth, mut quoted, mut last, mut message) = (1, None, ' ', None);
        for (at, c) in rest.char_indices() {
            match (quoted, c) {
                (Some(start), '"') if last != '\\' => {
                    let field = rest[..start].trim_end_matches('"').trim_end().ends_with('=');
                    message = if field { message } else { Some(&rest[start..at]) };
                    quoted = None;
                }
                (Some(_), _) => {}
                (None, '"') => quoted = Some(at + 1),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                (None, _) => {}
            }
            if depth == 0 {
                break;
            }
            last = c;
        }
        let constant = message?.split('{').map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
        let words = constant.map(|part| part.split([';', ':', ',', '`', '\\']).next().unwrap_or_default());
        words.map(str::to_owned).find(|words| words.len() > 6)
    });
    messages.filter(|words| words != "broken on purpose").collect()
}

/// Files that lack their other half, `a.yaml` without `a.err` or the reverse.
fn without_partner(paths: &[String], one: &str, other: &str) -> Vec<String> {
    let has = |stem: &str, ending: &str| paths.contains(&format!("{stem}.{ending}"));
    let complete = |path: &&String| {
        let stem = path.rsplit_once('.').map_or(path.as_str(), |(stem, _)| stem);
        has(stem, one) && has(stem, other)
    };
    paths.iter().filter(|path| !complete(path)).cloned().collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files() -> Vec<File> {
    let folders = ["src", "tests/it"].map(|folder| walk(&root().join(folder)));
    let files = folders.into_iter().flatten().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    files.filter_map(|path| File::read(&path)).collect()
}

/// Every file below `folder`, without what git ignores.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let entries = entries.map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| !path.ends_with("target") && !path.ends_with(".git") && !path.is_symlink());
    kept.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Paths of what lies directly in `folder`.
fn children(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return vec![] };
    let mut names: Vec<_> =
        entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy())).collect();
    names.sort();
    names
}

mod proofs {
    //! Each rule, on a violation made up for it and on its nearest neighbour that is fine.

    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn purpose_must_come_first() {
        assert!(purpose(&file("src/a.rs", "//! What this file owns.\nuse b;")).is_empty());
        assert_eq!(purpose(&file("src/a.rs", "use b;\n//! What this file owns.")).len(), 1);
        assert_eq!(purpose(&file("src/a.rs", "")).len(), 1);
    }

    #[test]
    fn tests_in_the_same_file_do_not_count_towards_its_length() {
        let long = "line\n".repeat(MAX_LINES);
        assert!(length(&file("src/a.rs", &format!("{long}#[cfg(test)]\nmod tests {{\n{long}}}\n"))).is_empty());
        assert!(length(&file("src/a/tests.rs", &long.repeat(2))).is_empty());
        assert_eq!(length(&file("src/a.rs", &format!("#[cfg(test)]\nmod tests;\n{long}"))).len(), 1);
    }

    #[test]
    fn empty_names_are_refused() {
        assert_eq!(name(&file("src/sink/util.rs", "")).len(), 1);
        assert_eq!(name(&file("src/core/mod.rs", "")).len(), 1);
        assert!(name(&file("src/sink/baseline.rs", "")).is_empty());
    }

    #[test]
    fn imports_go_down_only() {
        let broken = |path: &str, text: &str| imports(&file(path, text));
        assert!(broken("src/sink/mod.rs", "use crate::command::Command;").is_empty());
        assert_eq!(
            broken("src/sink/mod.rs", "\nuse crate::source::Source;"),
            ["src/sink/mod.rs:2: `sink` must not know `source`"]
        );
        assert_eq!(broken("src/sink/mod.rs", "use crate::{command::Command, source::{Lag, Source}};").len(), 1);
        assert_eq!(broken("src/lsn.rs", "fn f() -> super::error::Error {}").len(), 1);
        assert_eq!(broken("src/sink/qdrant/mod.rs", "use super::super::decode::Decoder;").len(), 1);
        assert!(broken("src/sink/qdrant/mod.rs", "use super::Sink;").is_empty());
        assert!(broken("src/sink/qdrant/mod.rs", "use super::source::Sink;").is_empty(), "a module of the sink's own");
        assert_eq!(broken("src/event/mod.rs", "use crate::{\n    lsn::Lsn,\n    command::Command,\n};").len(), 1);
        assert_eq!(broken("src/main.rs", "pgstream_host::decode::run();").len(), 1);
        assert_eq!(broken("src/novelty/mod.rs", "").len(), 1, "a module without a place");
        assert!(broken("src/sink/mod.rs", "// use crate::source::Source;").is_empty());
        assert!(broken("src/sink/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::source::Source;\n}").is_empty());
    }

    #[test]
    fn the_pipeline_knows_contracts_only() {
        let broken = |text: &str| imports(&file("src/pipeline/run.rs", text));
        assert!(broken("use crate::sink::{Delivery, Sink};\nlet vectors = crate::embedder::complete(x);").is_empty());
        assert_eq!(broken("use crate::sink::qdrant::Client;").len(), 1);
        assert_eq!(broken("use crate::sink::{\n    Sink,\n    qdrant::{Client, Other as _},\n};").len(), 1);
        assert_eq!(broken("use crate::postgres::Url;").len(), 1);
    }

    #[test]
    fn only_the_list_of_kinds_knows_which_sources_there_are() {
        let broken = |path: &str, text: &str| kinds_of_source(&file(path, text));
        let named = "use crate::source::postgres::{self, Tap};\nuse crate::source::Source;";
        assert_eq!(
            broken("src/cli/tap.rs", named),
            ["src/cli/tap.rs:1: `source::postgres` is for the list of kinds to know"]
        );
        assert_eq!(broken("src/source/jsonl/mod.rs", "use crate::source::postgres::Tap;").len(), 1);
        assert!(broken("src/source/postgres/tap.rs", named).is_empty() && broken(LIST_OF_SOURCES, named).is_empty());
        assert!(
            broken("src/cli/tap.rs", "use crate::source::{Source, SourceKind};\nuse crate::postgres::Url;").is_empty()
        );
    }

    #[test]
    fn the_sandbox_knows_nothing_of_handlers() {
        let broken = |path: &str, text: &str| sandbox(&file(path, text)).len();
        assert_eq!(broken("src/transform/wasi.rs", "use super::imports::State;"), 1);
        assert_eq!(broken("src/transform/http/mod.rs", "use crate::transform::{WasmTransform, voice::Voice};"), 1);
        assert_eq!(broken("src/transform/wasi.rs", "use super::guest::Guest;\nuse crate::transform::words::size;"), 0);
        assert_eq!(broken("src/transform/http/gate.rs", "use super::{Grant, Grants};"), 0, "a room of its own");
        assert_eq!(broken("src/transform/instance.rs", "use super::imports::State;"), 0, "which is a handler's");
    }

    #[test]
    fn a_kind_that_does_not_name_each_setting_is_found() {
        let broken = |body: &str| {
            let text = format!("fn resources(&mut self) -> Vec<Resource<'_>> {{\n    {body}\n    Vec::new()\n}}");
            resources(&file("src/sink/x.rs", &text)).len()
        };
        assert_eq!(broken("let Self { inputs: _, url } = self;"), 0);
        assert_eq!(broken("let Self { url, .. } = self;"), 1);
        assert_eq!(broken("self.url.touch();"), 1);
    }

    #[test]
    fn a_second_place_that_waits_between_tries_is_found() {
        let broken = |path: &str| retries(&file(path, "let wait = backoff.next_wait();")).len();
        assert_eq!((broken("src/sink/x.rs"), broken("src/retry.rs")), (1, 0));
    }

    #[test]
    fn third_parties_stay_behind_their_fence() {
        let broken = |path: &str, text: &str| fences(&file(path, text));
        assert_eq!(broken("src/pipeline/run.rs", "use wasmtime::Store;").len(), 1);
        assert_eq!(broken("src/sink/mod.rs", "let c = qdrant_client::Qdrant::new();").len(), 1);
        assert!(broken("src/sink/qdrant/mod.rs", "use qdrant_client::Qdrant;").is_empty());
        assert!(broken("src/transform/engine.rs", "use wasmtime::Engine;").is_empty());
        assert!(
            broken("src/sink/pgvector.rs", "use tokio_postgres::Client;").is_empty(),
            "a folder may start as a file"
        );
        assert!(
            broken("src/sink/mod.rs", "use crate::sink::wasmtime::Like; // wasmtime::Engine\n//! clap::Args").len()
                == 1
        );
    }

    #[test]
    fn the_terminal_is_reached_through_its_doors() {
        let broken = |path, text| doors(&file(path, text));
        for text in ["fn f() { println!(\"x\") }", "fn f() { std::io::stderr().lock(); }"] {
            assert_eq!(broken("src/cli/x.rs", text).len(), 1, "{text}");
            assert!(broken("src/screen.rs", text).is_empty());
        }
        assert!(broken("src/demo/page.rs", "pub(super) fn stdout() -> Self").is_empty());
    }

    #[test]
    fn nothing_is_assumed_without_a_reason() {
        let broken = |text: &str| assumptions(&file("src/a.rs", text));
        assert_eq!(broken("let x = y.unwrap();").len(), 1);
        assert_eq!(broken("let x = y\n    .expect(\"never\");").len(), 1);
        assert!(broken("self.expect(b'{')?;").is_empty());
        assert!(broken("let x = y.unwrap_or_default();\n// y.unwrap()").is_empty());
        assert!(broken("#[cfg(test)]\nmod tests {\n    y.unwrap();\n}").is_empty());
    }

    #[test]
    fn machines_and_registries_are_found() {
        assert_eq!(machine_texts(&file("README.md", "see /home/ann/pgstream")).len(), 1);
        assert!(machine_texts(&file("README.md", "see ~/pgstream and /etc/passwd")).is_empty());
    }

    #[test]
    fn an_unused_example_and_a_lonely_fixture_are_found() {
        assert!(uses("run(\"pipelines/demo.yaml\")", "pipelines/demo.yaml"));
        assert!(!uses("run(\"pipelines/demo.yaml\")", "pipelines/other.yaml"));
        let paths = ["bad/a.yaml", "bad/a.err", "bad/b.yaml"].map(str::to_owned);
        assert_eq!(without_partner(&paths, "yaml", "err"), ["bad/b.yaml"]);
    }
}
