//! `pgstream-host run`: opens the pipelines and runs them until a signal.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;

use super::files::pipeline_files;
use super::pipeline::own;
use super::progress::Progress;
use super::{show, signals, tenants};
use crate::config::model;
use crate::error::{Error, Fault, Result};
use crate::host::{Host, PipelineSpec, Restart, Supervisor};
use crate::source::{Claim, kind_of};
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
    let mut pipelines = Vec::new();
    let mut refused = None;
    let mut twins = Twins::default();
    for file in pipeline_files(&arguments.files, 0)? {
        match own(&file)? {
            Ok(settings) => {
                twins.refuse(&settings)?;
                pipelines.push(PipelineSpec { settings: settings.into(), owner: None });
            }
            Err(diagnostics) => refused = Some(show(&diagnostics)),
        }
    }
    if let Some(code) = refused {
        return Ok(code);
    }
    let down = supervise(Host::of_this_program()?, Restart::OneOfSeveral, pipelines, bars).await?;
    Ok(ExitCode::from(worst(&down)))
}

/// Runs pipelines until a signal, or until all have ended. Answers the fault of each that is down at the end.
pub(super) async fn supervise(
    host: Host,
    restart: Restart,
    pipelines: Vec<PipelineSpec>,
    bars: Bars,
) -> Result<Vec<Fault>> {
    let stop = signals::stop_on_first_exit_on_second();
    let supervisor = Supervisor::new(host, restart, stop, Progress::show(bars));
    for pipeline in pipelines {
        supervisor.start(pipeline)?;
    }
    supervisor.ended().await;
    Ok(supervisor.down())
}

/// The exit code of a process in which pipelines with these faults are down at the end.
pub(super) fn worst(down: &[Fault]) -> u8 {
    down.iter().map(|fault| fault.exit_code()).max().unwrap_or_default()
}

/// Tells pipelines that could not be told apart, and those that would fight over one slot.
#[derive(Default)]
pub(super) struct Twins {
    names: HashSet<String>,
    claims: HashMap<String, String>,
}

impl Twins {
    /// Refuses `pipeline` if it is the twin of one that was asked about before.
    pub(super) fn refuse(&mut self, pipeline: &model::Pipeline) -> Result<()> {
        let name = &pipeline.name;
        if !self.names.insert(name.clone()) {
            let what = format!("two of the files name their pipeline `{name}`");
            return Err(Error::new(Fault::Config, what)
                .help("slot and publication are named after the pipeline: give each file a `name` of its own"));
        }
        // A source that cannot be read is told of by who opens it.
        let Ok(Some(Claim { what, help })) = kind_of(&pipeline.source).claim(name) else { return Ok(()) };
        if let Some(other) = self.claims.get(&what) {
            let what = format!("the pipelines `{other}` and `{name}` would both read {what}");
            return Err(Error::new(Fault::Config, what).help(format!("give one of them {help}")));
        }
        self.claims.insert(what, name.clone());
        Ok(())
    }
}
