//! `make figures`: what handlers cost, by language, and what the sandbox costs.
//!
//! Each language is measured in a process of its own, so that its memory is its own. Boundary and handler are told apart
//! by what happened to the rows: for a delete the example handlers do next to nothing, so that its cost is that of bringing
//! eight columns across. A table comes out on standard error, the same figures as JSON on standard output.

#[allow(dead_code)] // shared with the tests
#[path = "../../it/guests.rs"]
mod guests;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use guests::{Change, Embedders, batch, guest, relation, root, settings, words};
use pgstream_host::config::{Size, Span};
use pgstream_host::event::{Batch, Operation, Value};
use pgstream_host::toolchain;
use pgstream_host::transform::{Engine, Transform};
use serde_json::{Value as Json, json};

const LANGUAGES: [&str; 4] = ["rust", "go", "js", "python"];
const BATCHES: [usize; 3] = [1, 100, 1000];
const DIMENSION: usize = 384;
/// How long each cost is measured, at least.
const PATIENCE: Duration = Duration::from_millis(700);
const EVENTS: usize = 100_000;
const CALLS: usize = 200;
const INSTANCES: usize = 64;
const DEADLINE: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let figures = match arguments.iter().position(|argument| argument == "--only") {
        Some(at) => one(arguments.get(at + 1).context("which")?, Path::new(arguments.get(at + 2).context("file")?))?,
        None => all()?,
    };
    println!("{figures:#}");
    Ok(())
}

fn all() -> Result<Json> {
    let mut languages = serde_json::Map::new();
    let mut rust = None;
    for language in LANGUAGES {
        match component(language) {
            Ok(file) => {
                eprintln!("measuring {language} …");
                // Apart too: what the compiler leaves behind is not the handler's memory.
                let compiled = apart("compile", &file)?;
                let mut one = apart(language, &file)?;
                one["compile_ms"] = compiled["compile_ms"].clone();
                languages.insert(language.to_owned(), one);
                rust = rust.or(Some(file));
            }
            Err(why) => eprintln!("skipped {language}: {why:#}"),
        }
    }
    eprintln!("measuring the sandbox …");
    let mut sandbox = json!({});
    match guest("evil") {
        Some(evil) => sandbox["overshoot"] = apart("overshoot", &evil)?,
        None => eprintln!("skipped the overshoot: no target wasm32-wasip2"),
    }
    if let Some(rust) = rust {
        sandbox["instances"] = apart("instances", &rust)?;
    }
    let figures = json!({
        "cores": std::thread::available_parallelism()?.get(),
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "languages": languages,
        "sandbox": sandbox,
    });
    table(&figures);
    Ok(figures)
}

/// The component of the example in this language; made by its own tools, where they are.
fn component(language: &str) -> Result<PathBuf> {
    if language == "rust" {
        return Ok(root().join("plugins/documents-rust/documents.wasm"));
    }
    let file = root().join(format!("target/handlers/documents-{language}.wasm"));
    let project = root().join(format!("plugins/documents-{language}"));
    if !file.is_file() {
        ensure!(project.is_dir(), "there is no `{}`", project.display());
        toolchain::build(&project, Some(&file)).map_err(|error| anyhow!("{}", error.chain()))?;
    }
    Ok(file)
}

/// Runs one measurement in a process of its own.
fn apart(what: &str, file: &Path) -> Result<Json> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["--only", what]).arg(file).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "measuring {what} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn one(what: &str, file: &Path) -> Result<Json> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _entered = runtime.enter();
    match what {
        "compile" => compile(file),
        "overshoot" => runtime.block_on(overshoot(file)),
        "instances" => runtime.block_on(instances(file)),
        _ => runtime.block_on(language(file)),
    }
}

fn load(engine: &Engine, file: &Path, workers: usize) -> Result<Transform> {
    let mut settings = settings(file);
    settings.workers = workers;
    settings.config.insert("text_column".into(), "content".into());
    settings.limits.memory = Size(256 << 20);
    settings.limits.deadline = Span(Duration::from_secs(120));
    settings.limits.output = Size(256 << 20);
    Transform::load(engine, "embed", &settings, Embedders::new()).map_err(failed)
}

fn failed(error: pgstream_host::error::Error) -> anyhow::Error {
    anyhow!("{}", error.report())
}

/// Where the measurements of this run keep machine code.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("figures")
}

fn compile(file: &Path) -> Result<Json> {
    if cache().exists() {
        std::fs::remove_dir_all(cache())?;
    }
    let began = Instant::now();
    drop(load(&Engine::new(Some(&cache())).map_err(failed)?, file, 1)?);
    Ok(json!({ "compile_ms": began.elapsed().as_millis() as u64 }))
}

async fn language(file: &Path) -> Result<Json> {
    let engine = Engine::new(Some(&cache())).map_err(failed)?;
    let first = rows(1, Operation::Insert, false);
    let before = resident()?;
    let began = Instant::now();
    let transform = load(&engine, file, 1)?;
    transform.apply(first).await.map_err(failed)?;
    let cold = began.elapsed();

    let mut costs = Vec::new();
    for (what, operation, vectors) in [
        ("boundary", Operation::Delete, false),
        ("boundary, with a vector", Operation::Delete, true),
        ("document", Operation::Insert, false),
        ("document, with a vector", Operation::Insert, true),
    ] {
        for size in BATCHES {
            let batch = rows(size, operation, vectors);
            let (events, took) = repeat(&transform, &batch, |_, took| took >= PATIENCE).await?;
            let micros = took.as_secs_f64() * 1e6 / events as f64;
            costs.push(json!({ "what": what, "batch": size, "us_per_event": rounded(micros) }));
        }
    }
    let many = rows(1000, Operation::Insert, false);
    repeat(&transform, &many, |events, _| events >= EVENTS).await?;
    Ok(json!({
        "component_kib": std::fs::metadata(file)?.len() / 1024,
        "cold_start_ms": rounded(cold.as_secs_f64() * 1e3),
        "memory_after_100000_events_mib": rounded((resident()?.saturating_sub(before)) as f64 / 1048576.0),
        "costs": costs,
    }))
}

async fn repeat(
    transform: &Transform,
    batch: &Arc<Batch>,
    enough: impl Fn(usize, Duration) -> bool,
) -> Result<(usize, Duration)> {
    let answer = transform.apply(Arc::clone(batch)).await.map_err(failed)?;
    ensure!(answer.rejections.is_empty(), "rejected: {}", answer.rejections[0].reason);
    let (began, mut events) = (Instant::now(), 0);
    while !enough(events, began.elapsed()) {
        transform.apply(Arc::clone(batch)).await.map_err(failed)?;
        events += batch.events().len();
    }
    Ok((events, began.elapsed()))
}

/// By how much a guest that spins is beyond its deadline when its caller hears of it.
async fn overshoot(evil: &Path) -> Result<Json> {
    let engine = Engine::new(None).map_err(failed)?;
    let mut settings = settings(evil);
    settings.limits.deadline = Span(DEADLINE);
    let transform = Transform::load(&engine, "evil", &settings, Embedders::new()).map_err(failed)?;
    let spin = words(&["spin"]);
    let mut over = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        ensure!(transform.apply(Arc::clone(&spin)).await.is_err(), "it did not spin");
        over.push(began.elapsed().saturating_sub(DEADLINE).as_secs_f64() * 1e3);
    }
    over.sort_by(f64::total_cmp);
    let at = |share: f64| rounded(over[((over.len() - 1) as f64 * share) as usize]);
    Ok(
        json!({ "deadline_ms": DEADLINE.as_millis() as u64, "calls": CALLS, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0) }),
    )
}

/// What one more instance takes: of time, beyond the first, and of memory, once it has worked.
async fn instances(file: &Path) -> Result<Json> {
    let cache = tempfile::tempdir()?;
    let engine = Engine::new(Some(cache.path())).map_err(failed)?;
    let first = load(&engine, file, 1)?;
    let began = Instant::now();
    drop(load(&engine, file, 1)?);
    let one = began.elapsed();
    let before = resident()?;
    let began = Instant::now();
    let transform = load(&engine, file, INSTANCES + 1)?;
    let each = began.elapsed().saturating_sub(one) / INSTANCES as u32;
    // All work at once, so that each has had its turn.
    let batch = rows(1000, Operation::Insert, false);
    futures::future::try_join_all((0..4 * INSTANCES).map(|_| transform.apply(Arc::clone(&batch))))
        .await
        .map_err(failed)?;
    let bytes = resident()?.saturating_sub(before) / (INSTANCES + 1);
    drop(first);
    Ok(json!({
        "instantiate_us": rounded(each.as_secs_f64() * 1e6),
        "kib_each": bytes / 1024,
        "per_gib": (1usize << 30) / bytes.max(1),
    }))
}

/// Rows of eight columns and about 300 bytes, with a vector as the ninth if there is to be one.
fn rows(count: usize, operation: Operation, vectors: bool) -> Arc<Batch> {
    let mut columns = vec![
        ("id", "int8", true),
        ("title", "text", false),
        ("content", "text", false),
        ("category", "text", false),
        ("author", "text", false),
        ("tags", "text", false),
        ("views", "int4", false),
        ("updated_at", "timestamptz", false),
    ];
    if vectors {
        columns.push(("embedding", "vector", false));
    }
    let table = relation("documents", &columns);
    let content = "How to dry a tent after a night of rain. ".repeat(5);
    let numbers: Vec<f32> = (0..DIMENSION).map(|n| n as f32 / DIMENSION as f32).collect();
    let change = |id: usize| {
        let mut row = vec![
            Value::Int(id as i64),
            Value::Text("Tents and rain"),
            Value::Text(&content),
            Value::Text("camping"),
            Value::Text("Ada"),
            Value::Text("tent,rain"),
            Value::Int(42),
            Value::Timestamp(1_700_000_000_000_000),
        ];
        if vectors {
            row.push(Value::Vector(&numbers));
        }
        Change::new(&table, operation, row)
    };
    batch(&(0..count).map(change).collect::<Vec<_>>())
}

/// Bytes of this process in memory.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is only measured on Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn table(figures: &Json) {
    eprintln!(
        "\n| language | component | compile | cold start | memory after {EVENTS} events |\n|---|--:|--:|--:|--:|"
    );
    let languages = figures["languages"].as_object().into_iter().flatten();
    for (language, one) in languages.clone() {
        let [size, compile, cold, memory] =
            ["component_kib", "compile_ms", "cold_start_ms", "memory_after_100000_events_mib"].map(|name| &one[name]);
        eprintln!("| {language} | {size} KiB | {compile} ms | {cold} ms | {memory} MiB |");
    }
    eprintln!("\n| µs per event | batch of 1 | of 100 | of 1000 |\n|---|--:|--:|--:|");
    for (language, one) in languages {
        for row in one["costs"].as_array().map_or(&[][..], Vec::as_slice).chunks(BATCHES.len()) {
            let figures: Vec<_> = row.iter().map(|cost| cost["us_per_event"].to_string()).collect();
            let what = row[0]["what"].as_str().unwrap_or_default();
            eprintln!("| {language}: {what} | {} |", figures.join(" | "));
        }
    }
    let (over, instances) = (&figures["sandbox"]["overshoot"], &figures["sandbox"]["instances"]);
    eprintln!("\n| sandbox | figure |\n|---|--:|");
    eprintln!("| past a deadline of {} ms, p50 | {} ms |", over["deadline_ms"], over["p50_ms"]);
    eprintln!("| the same, p99 | {} ms |", over["p99_ms"]);
    eprintln!("| one more instance (Rust) | {} µs |", instances["instantiate_us"]);
    eprintln!("| its memory, at work | {} KiB |", instances["kib_each"]);
    eprintln!("| instances in a GiB | {} |", instances["per_gib"]);
}
