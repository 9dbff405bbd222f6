//! `languages`: what handlers cost in Rust, Go, JavaScript and Python, each in a process of its own.
//!
//! Boundary and handler are told apart by what happened to the rows: for a delete the example handlers do next to
//! nothing, so that its cost is that of bringing eight columns across.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use pgstream_host::event::Operation;
use pgstream_host::toolchain;
use pgstream_host::transform::Engine;
use serde_json::{Value as Json, json};

use super::Bench;
use crate::apart::apart;
use crate::guests::root;
use crate::handler::{cache, failed, load, repeat};
use crate::machine::Process;
use crate::report::{Figure, Missing};
use crate::rounds::Spread;
use crate::rows::rows;

const ARM: &str = "languages";
const LANGUAGES: [(&str, &str); 4] = [("rust", "Rust"), ("go", "Go"), ("js", "JavaScript"), ("python", "Python")];
const EVENTS: usize = 100_000;
const ROUNDS: usize = 3;
/// What is measured, with which events, with a vector or not, in batches of how many.
const COSTS: [(&str, Operation, bool, usize); 5] = [
    ("boundary, batches of 1", Operation::Delete, false, 1),
    ("boundary, batches of 1000", Operation::Delete, false, 1000),
    ("boundary with a vector, batches of 1000", Operation::Delete, true, 1000),
    ("document, batches of 1000", Operation::Insert, false, 1000),
    ("document with a vector, batches of 1000", Operation::Insert, true, 1000),
];

pub(super) fn run(bench: &Bench) -> Result<(Vec<Figure>, Vec<Missing>)> {
    let (mut figures, mut missing) = (Vec::new(), Vec::new());
    let what = bench.scale("language", "language-quick");
    for (language, title) in LANGUAGES {
        let file = match component(language) {
            Ok(file) => file,
            Err(why) => {
                missing.push(Missing { arm: ARM, why: format!("{title}: {why:#}"), broke: false });
                continue;
            }
        };
        eprintln!("  {title}");
        // Apart too: what the compiler leaves behind is not the handler's memory.
        let compiled = apart("compile", &file)?;
        let mut all = apart(what, &file)?;
        all["compile"] = compiled["compile"].clone();
        let costs = COSTS.map(|(what, ..)| (what, "µs/event"));
        let once =
            [("component", "KiB"), ("compile", "ms"), ("cold start", "ms"), ("memory after 100,000 events", "MiB")];
        for (name, unit) in costs.into_iter().chain(once) {
            let spread = |key: &str| all[name][key].as_f64().or(all[name].as_f64()).unwrap_or(f64::NAN);
            let value = Spread { median: spread("median"), least: spread("least"), most: spread("most") };
            figures.push(Figure::new(ARM, format!("{title}: {name}"), value, unit));
        }
    }
    Ok((figures, missing))
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

/// In a process of its own: how long it takes to compile the component.
pub(super) fn compile(file: &Path) -> Result<Json> {
    if cache().exists() {
        std::fs::remove_dir_all(cache())?;
    }
    let began = Instant::now();
    drop(load(&Engine::new(Some(&cache())).map_err(failed)?, file, 1)?);
    Ok(json!({ "compile": began.elapsed().as_millis() as u64 }))
}

/// In a process of its own, after [`compile`]: all else.
pub(super) async fn language(file: &Path, patience: Duration) -> Result<Json> {
    let engine = Engine::new(Some(&cache())).map_err(failed)?;
    let first = rows(1, Operation::Insert, false);
    let before = Process::current().resident()?;
    let began = Instant::now();
    let transform = load(&engine, file, 1)?;
    transform.apply(first).await.map_err(failed)?;
    let cold = began.elapsed();
    let mut all = json!({ "component": std::fs::metadata(file)?.len() / 1024, "cold start": cold.as_secs_f64() * 1e3 });
    for (what, operation, vectors, size) in COSTS {
        let batch = rows(size, operation, vectors);
        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            let (events, took) = repeat(&transform, &batch, |_, took| took >= patience).await?;
            costs.push(took.as_secs_f64() * 1e6 / events as f64);
        }
        let Spread { median, least, most } = Spread::of(costs);
        all[what] = json!({ "median": median, "least": least, "most": most });
    }
    let many = rows(1000, Operation::Insert, false);
    repeat(&transform, &many, |events, _| events >= EVENTS).await?;
    let grown = Process::current().resident()?.saturating_sub(before);
    all["memory after 100,000 events"] = json!(grown as f64 / 1048576.0);
    Ok(all)
}
