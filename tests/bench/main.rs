//! `make bench`: what the whole path and its stages cost, each beside a yardstick on the same machine in the same run.
//!
//! Ratios count, seconds do not: the machine is whatever it is. docs/benchmarks.md explains how to read the table.

#![allow(clippy::disallowed_methods, reason = "a measurement may panic on an answer that it does not expect")]

mod apart;
mod arms;
mod counting;
mod flow;
mod guard;
#[allow(dead_code)] // shared with the tests
#[path = "../it/guests.rs"]
mod guests;
mod handler;
mod machine;
mod points;
mod program;
#[allow(dead_code)] // shared with the tests
#[path = "../it/support/qdrant_server/mod.rs"]
mod qdrant_server;
mod report;
mod rig;
mod rounds;
mod rows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;

use arms::{ALL, Bench, one};
use report::Missing;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Measures pgstream-host against yardsticks in the same run.
#[derive(Parser)]
#[command(after_help = "No figure makes it fail unless it is strict; an arm that breaks does.")]
struct Arguments {
    /// Arms to run, parted by commas. Default: all.
    #[arg(long, value_delimiter = ',', value_parser = ALL)]
    arms: Vec<String>,
    /// Fewer rows and rounds, for a look: under three minutes.
    #[arg(long)]
    quick: bool,
    /// Fails if a figure that has a target does not meet it.
    #[arg(long)]
    strict: bool,
    /// Where the JSON goes. Default: target/bench.json.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// One measurement of an arm, with its file, for a process of its own.
    #[arg(long, hide = true, num_args = 2, value_names = ["WHAT", "FILE"])]
    only: Option<Vec<String>>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return as_test();
    }
    let arguments = Arguments::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match arguments.only.as_deref() {
        Some([what, file]) => {
            let runtime = runtime.worker_threads(1).enable_all().build()?;
            println!("{}", runtime.block_on(one(what, Path::new(file)))?);
            Ok(ExitCode::SUCCESS)
        }
        _ => runtime.enable_all().build()?.block_on(measure(&arguments)),
    }
}

/// `cargo test` runs it like its other tests: with the names, or parts of them, of those that are wanted.
fn as_test() -> Result<ExitCode> {
    let mut names = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    if names.peek().is_some() && !names.any(|name| "guard".contains(&name)) {
        return Ok(ExitCode::SUCCESS);
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(guard::run())
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let load = machine::load();
    let bench = Bench::new(arguments.quick);
    let (mut figures, mut missing) = (Vec::new(), Vec::new());
    for arm in ALL {
        if !arguments.arms.is_empty() && !arguments.arms.iter().any(|wanted| wanted == arm) {
            continue;
        }
        eprintln!("{arm}");
        match bench.run(arm).await {
            Ok((measured, lacking)) => {
                figures.extend(measured);
                missing.extend(lacking);
            }
            Err(error) => missing.push(Missing { arm, why: format!("{error:#}"), broke: true }),
        }
    }
    let mut machine = machine::describe(bench.postgres());
    machine["load_at_start"] = json!(load);
    machine["load_at_end"] = json!(machine::load());
    let file = arguments.json.clone().unwrap_or_else(|| target().join("bench.json"));
    let all = report::json(&machine, arguments.quick, &figures, &missing);
    std::fs::write(&file, format!("{all:#}\n")).with_context(|| format!("cannot write `{}`", file.display()))?;
    println!("{machine:#}\n\n{}\nas JSON: {}", report::table(&figures, &missing), file.display());
    let unmet = arguments.strict && figures.iter().any(|figure| figure.met() == Some(false));
    Ok(if unmet || missing.iter().any(|arm| arm.broke) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Cargo's folder for what is built.
fn target() -> &'static Path {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().unwrap_or(scratch)
}
