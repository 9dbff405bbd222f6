//! `run --host` and `validate --host`: pipelines of several tenants. What is refused is said, and the others go on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::files::pipeline_files;
use super::run::{supervise, worst};
use super::validate::{describe, report, wrong};
use super::{complain, show};
use crate::config::{self, Diagnostics};
use crate::error::{Error, Fault, Result};
use crate::host::{self, Admitted, Host, PipelineSpec, Refusal, Restart, Tenants};
use crate::telemetry::{self, Bars};
use crate::transform::Compiler;

/// Folders in folders beyond this are not looked into.
const DEPTH: usize = 8;

pub(super) async fn run(file: &Path, paths: &[PathBuf], bars: Bars) -> Result<ExitCode> {
    let (host, pipelines) = match admit(file, paths)? {
        Ok(all) => all,
        Err(diagnostics) => return Ok(show(&diagnostics)),
    };
    let mut refused = 0;
    let (mut admitted, mut lines) = (Vec::new(), BTreeMap::new());
    for (file, pipeline) in pipelines {
        match pipeline {
            Ok(Admitted { settings, owner }) => {
                let lines = lines.entry(owner.name().to_owned()).or_insert((owner.log_lines(), Vec::new()));
                lines.1.push(settings.name.clone());
                admitted.push(PipelineSpec { settings: settings.into(), owner: Some(owner) });
            }
            Err(why) => {
                // The others go on; the exit code tells at the end.
                refused = Fault::Config.exit_code();
                match why {
                    Refusal::File(diagnostics) => drop(show(&diagnostics)),
                    Refusal::Grant(error) => complain(&not_run(error, &file)),
                }
            }
        }
    }
    for (most, pipelines) in lines.into_values() {
        telemetry::limit(pipelines, most);
    }
    let down = supervise(host, Restart::Always, admitted, bars).await?;
    Ok(ExitCode::from(worst(&down).max(refused)))
}

pub(super) async fn validate(file: &Path, paths: &[PathBuf], connect: bool, as_json: bool) -> Result<ExitCode> {
    let (host, pipelines) = match admit(file, paths)? {
        Ok(all) => all,
        Err(diagnostics) => return report(vec![wrong(file, &diagnostics, as_json)], as_json),
    };
    let mut results = Vec::new();
    for (file, pipeline) in pipelines {
        results.push(match pipeline {
            Ok(Admitted { settings, owner }) => {
                let errors = match connect {
                    true => host.check(&settings, Some(&owner)).await,
                    false => host::review(&settings),
                };
                describe(&file, &errors, &format!("{} (within what its tenant is granted)", settings.name), as_json)?
            }
            Err(Refusal::File(diagnostics)) => wrong(&file, &diagnostics, as_json),
            Err(Refusal::Grant(error)) => {
                let (_, result) = describe(&file, &[not_run(error, &file)], "", as_json)?;
                (Fault::Config.exit_code(), result)
            }
        });
    }
    report(results, as_json)
}

fn not_run(error: Error, file: &Path) -> Error {
    error.within(format!("`{}` is not run", file.display()))
}

/// Admits the pipeline of one file, for a command about it. The problems of a host file that is wrong are a refusal, too.
pub(super) fn admit_one(file: &Path, pipeline: &Path) -> Result<std::result::Result<Admitted, Refusal>> {
    let (_, mut tenants) = match open(file)? {
        Ok(opened) => opened,
        Err(diagnostics) => return Ok(Err(Refusal::File(diagnostics))),
    };
    Ok(tenants.admit(pipeline))
}

fn open(file: &Path) -> Result<std::result::Result<(Host, Tenants), Diagnostics>> {
    match config::load_host(file) {
        Ok(settings) => {
            Tenants::open(file, &settings, host::cache_folder().as_deref(), Compiler::this_program()).map(Ok)
        }
        Err(diagnostics) => Ok(Err(diagnostics)),
    }
}

/// The host, and what became of each pipeline file.
type Admission = (Host, Vec<(PathBuf, std::result::Result<Admitted, Refusal>)>);

/// Opens the host file and admits pipelines.
fn admit(file: &Path, paths: &[PathBuf]) -> Result<std::result::Result<Admission, Diagnostics>> {
    let (host, mut tenants) = match open(file)? {
        Ok(opened) => opened,
        Err(diagnostics) => return Ok(Err(diagnostics)),
    };
    let mut files = pipeline_files(paths, DEPTH)?;
    // The host file often lies beside the tenants' folders.
    let own = file.canonicalize().ok();
    files.retain(|pipeline| own.is_none() || pipeline.canonicalize().ok() != own);
    if files.is_empty() {
        return Err(
            Error::new(Fault::Config, "there is no pipeline file").help("pipeline files end in `.yaml` or `.yml`")
        );
    }
    let admit = |file: PathBuf| {
        let admitted = tenants.admit(&file);
        (file, admitted)
    };
    Ok(Ok((host, files.into_iter().map(admit).collect())))
}
