//! `pgstream-host run`: opens the pipelines and runs them until a signal. Reads their files again on SIGHUP, or when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::pipelines::Pipelines;
use super::progress::Progress;
use super::signals::{self, Signals};
use super::watch::FileWatch;
use super::{complain, notify, show};
use crate::api::{Api, ReloadAnswer, ReloadOrder, reload_orders};
use crate::config::model;
use crate::error::{Error, Fault, Result};
use crate::host::{
    CarriedOut, FileReading, Host, Outcome, PipelineHandle, PipelineSpec, Refusal, ReloadProblem, Reloaded, Restart,
    Supervisor,
};
use crate::meter::ReloadResult;
use crate::telemetry::{self, Bars};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Runs pipelines of several tenants, each within what this file grants it.
    #[arg(long, value_name = "HOST.YAML")]
    host: Option<PathBuf>,
    /// Reloads when a file or a component changes, as on SIGHUP.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    api: ApiArguments,
}

/// The ways in which others ask the host how it is doing.
#[derive(Debug, clap::Args)]
pub(super) struct ApiArguments {
    /// Answers at this address too, such as 127.0.0.1:7433: /metrics, /health, /ready and, with a token, /api/v1/status.
    /// Stands over `api.listen` of the host file.
    #[arg(long, value_name = "ADDRESS")]
    api: Option<model::Listen>,
    /// A file with a token that may read all that the API tells.
    #[arg(long, value_name = "FILE")]
    api_token: Option<PathBuf>,
}

impl ApiArguments {
    /// All that a host file says, with what was typed over it.
    fn over(self, mut file: model::Api) -> model::Api {
        file.listen = self.api.or(file.listen);
        file.tokens.extend(self.api_token.map(|file| model::ApiToken {
            name: "--api-token".to_owned(),
            file,
            may: vec![model::ApiRight::Read],
            tenant: None,
        }));
        file
    }
}

pub(super) async fn run(arguments: Arguments, bars: Bars) -> Result<ExitCode> {
    let Arguments { files, host, watch, api } = arguments;
    let (host, mut pipelines) = match Pipelines::open(files, host)? {
        Ok(opened) => opened,
        Err(diagnostics) => return Ok(show(&diagnostics)),
    };
    let (mut specs, mut refused) = (Vec::new(), 0);
    for FileReading { file, read } in pipelines.read()? {
        match read {
            Ok(spec) => specs.push(spec),
            // Without tenants it is all of them or none.
            Err(Refusal::Grant(error)) if !pipelines.have_tenants() => return Err(error),
            Err(refusal) => {
                // The others go on; the exit code tells at the end.
                refused = Fault::Config.exit_code();
                complain_of_file(refusal, &file);
            }
        }
    }
    if refused > 0 && !pipelines.have_tenants() {
        return Ok(ExitCode::from(refused));
    }
    let host = host.map_or_else(Host::of_this_program, Ok)?;
    let Signals { stop, reload } = signals::stop_or_reload();
    let restart = if pipelines.have_tenants() { Restart::Always } else { Restart::OneOfSeveral };
    let supervisor = Supervisor::new(host.clone(), restart, stop.clone(), Progress::show(bars));
    let (ask, mut orders) = reload_orders();
    let api = Api::open(&api.over(pipelines.api()), host.clone(), supervisor.clone(), stop.clone()).await?;
    let api = api.reloading(ask).serve();
    limit_lines(&specs);
    let mut components: Vec<PathBuf> = specs.iter().flat_map(PipelineSpec::components).cloned().collect();
    for spec in specs {
        supervisor.start(spec)?;
    }
    let mut changes = FileWatch::new(watch);
    loop {
        notify::ready();
        let mut order = None;
        let look = || pipelines.watched().into_iter().chain(components.iter().cloned()).collect();
        tokio::select! {
            () = stop.cancelled() => break,
            // Whoever watches wants to mend the file of what has failed.
            () = supervisor.ended(), if !watch => break,
            () = reload.notified() => {}
            () = changes.wait(look) => {}
            Some(asked) = orders.recv() => order = Some(asked),
        }
        notify::reloading();
        let reloading = read_again(&mut pipelines, &host, &supervisor, &mut components, order);
        tokio::select! {
            () = stop.cancelled() => break,
            bad = reloading => if let Some(bad) = bad && pipelines.have_tenants() { refused = bad },
        }
    }
    notify::stopping();
    supervisor.ended().await;
    // Last, so that whoever asks sees the pipelines end.
    api.close().await;
    Ok(ExitCode::from(worst(&supervisor.down()).max(refused)))
}

/// Reads the files again, and makes what runs what they say, or what somebody has ordered. Answers the exit code of what was
/// refused; none if nothing was to be done.
async fn read_again(
    pipelines: &mut Pipelines,
    host: &Host,
    supervisor: &Supervisor,
    components: &mut Vec<PathBuf>,
    order: Option<ReloadOrder>,
) -> Option<u8> {
    let only_plan = order.as_ref().is_some_and(|order| order.plan);
    let running: Vec<PipelineSpec> = supervisor.list().iter().map(PipelineHandle::spec).collect();
    let problems = match tokio::task::block_in_place(|| pipelines.read_again(host, &running)) {
        Ok(Ok((readings, tenants))) => {
            let order = match order.map(|order| judge(order, supervisor, &readings)) {
                Some(None) => return None,
                Some(carried_out) => carried_out,
                None => None,
            };
            pipelines.adopt(tenants);
            let specs: Vec<PipelineSpec> =
                readings.iter().filter_map(|reading| reading.read.as_ref().ok().cloned()).collect();
            *components = specs.iter().chain(&running).flat_map(PipelineSpec::components).cloned().collect();
            limit_lines(&specs);
            let done = supervisor.reload(readings).await;
            let carried_out: Vec<CarriedOut> = done.iter().map(CarriedOut::from).collect();
            // Counted and said before the answer, so that whoever asked finds both.
            let refused = told(supervisor, done);
            if let Some((order, hash)) = order {
                order.answer(ReloadAnswer::Done { hash, done: carried_out });
            }
            return Some(refused);
        }
        Ok(Err(diagnostics)) => {
            show(&diagnostics);
            ReloadProblem::of_file(&diagnostics)
        }
        Err(error) => {
            complain(&error);
            vec![(&error).into()]
        }
    };
    if let Some(order) = order {
        order.answer(ReloadAnswer::Refused(problems));
    }
    if only_plan {
        return None;
    }
    supervisor.reloads().ended(ReloadResult::Refused);
    Some(nothing_changes())
}

/// Answers an order for which nothing is to be done. Else hands it back, with the hash of what is.
fn judge(order: ReloadOrder, supervisor: &Supervisor, readings: &[FileReading]) -> Option<(ReloadOrder, String)> {
    let plan = supervisor.plan(readings);
    if order.plan {
        order.answer(ReloadAnswer::Planned(plan));
        return None;
    }
    if order.hash.as_ref().is_some_and(|hash| *hash != plan.hash) {
        order.answer(ReloadAnswer::Stale { hash: plan.hash });
        return None;
    }
    tracing::info!(by = order.by, "reload: somebody asked for it");
    Some((order, plan.hash))
}

/// Says what of a reload was refused, and counts it. Answers the exit code.
fn told(supervisor: &Supervisor, done: Vec<Reloaded>) -> u8 {
    let changed = done.iter().any(|done| !matches!(done.outcome, Outcome::Unchanged));
    let mut refused = 0;
    for Reloaded { pipeline, file, outcome } in done {
        match outcome {
            Outcome::Refused(refusal) => complain_of_file(refusal, &file.unwrap_or_default()),
            Outcome::Kept(errors) => {
                for error in &errors {
                    super::complain_of(pipeline.as_deref(), error);
                }
            }
            _ => continue,
        }
        refused = Fault::Config.exit_code();
    }
    supervisor.reloads().ended(match (refused > 0, changed) {
        (true, _) => ReloadResult::Refused,
        (false, true) => ReloadResult::Applied,
        (false, false) => ReloadResult::Unchanged,
    });
    refused
}

fn nothing_changes() -> u8 {
    tracing::warn!("reload: nothing was changed, what runs stays as it is");
    Fault::Config.exit_code()
}

/// Bounds what the log takes about the pipelines of each tenant.
fn limit_lines(specs: &[PipelineSpec]) {
    let mut lines: BTreeMap<&str, (u32, Vec<String>)> = BTreeMap::new();
    for PipelineSpec { settings, owner, .. } in specs {
        if let (Some(tenant), Some(most)) = (owner.name(), owner.log_lines()) {
            lines.entry(tenant).or_insert((most, Vec::new())).1.push(settings.name.clone());
        }
    }
    for (most, pipelines) in lines.into_values() {
        telemetry::limit(pipelines, most);
    }
}

fn complain_of_file(refusal: Refusal, file: &Path) {
    match refusal {
        Refusal::File(diagnostics) => drop(show(&diagnostics)),
        Refusal::Grant(error) => complain(&not_run(error, file)),
    }
}

/// The error of a file that its tenant's grants do not allow.
pub(super) fn not_run(error: Error, file: &Path) -> Error {
    error.within(format!("`{}` is not run", file.display()))
}

/// The exit code of a process in which pipelines with these faults are down at the end.
fn worst(down: &[Fault]) -> u8 {
    down.iter().map(|fault| fault.exit_code()).max().unwrap_or_default()
}
