//! `pgstream-host run`: opens the pipelines and runs them until a signal.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{complain, load, pipeline_files, progress, signals, tenants};
use crate::config::model;
use crate::error::{Error, Fault, Result};
use crate::host::{self, Host};
use crate::source::postgres;
use crate::telemetry::Bars;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Runs pipelines of several tenants, each within what this file grants it.
    #[arg(long, value_name = "HOST.YAML")]
    host: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments, bars: Bars) -> Result<ExitCode> {
    if let Some(file) = &arguments.host {
        return tenants::run(file, &arguments.files, bars).await;
    }
    let mut settings = Vec::new();
    let mut refused = None;
    for file in pipeline_files(&arguments.files)? {
        match load(&file) {
            Ok(pipeline) => settings.push(pipeline),
            Err(code) => refused = Some(code),
        }
    }
    if let Some(code) = refused {
        return Ok(code);
    }
    refuse_twins(&settings)?;

    let stop = signals::stop_on_first_exit_on_second();
    let host = Host::new()?;
    let mut pipelines = Vec::new();
    for pipeline in &settings {
        tokio::select! {
            opened = host.open(pipeline) => pipelines.push(opened?),
            () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
        }
    }
    let progress = progress::show(host::status(&pipelines), bars);
    let ended = host::run(pipelines, stop, complain).await;
    progress.end();
    Ok(ended.map_or_else(|error| ExitCode::from(error.fault().exit_code()), |()| ExitCode::SUCCESS))
}

/// Two pipelines of one name could not be told apart, and two would fight over one slot.
fn refuse_twins(pipelines: &[model::Pipeline]) -> Result<()> {
    let (mut names, mut slots) = (HashSet::new(), HashMap::new());
    for pipeline in pipelines {
        let (name, model::Source::Postgres(source)) = (&pipeline.name, &pipeline.source.1);
        if !names.insert(name) {
            let what = format!("two of the files name their pipeline `{name}`");
            return Err(Error::new(Fault::Config, what)
                .help("slot and publication are named after the pipeline: give each file a `name` of its own"));
        }
        let slot = postgres::slot_of(name, source)?;
        if let Some(other) = slots.get(&slot) {
            let what = format!("the pipelines `{other}` and `{name}` would both read {slot}");
            return Err(Error::new(Fault::Config, what)
                .help("give one of them another `name`, or a `slot` and a `publication` of its own"));
        }
        slots.insert(slot, name);
    }
    Ok(())
}
