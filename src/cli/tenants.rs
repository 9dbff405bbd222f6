//! `run --host` and `validate --host`: pipelines of several tenants. What is refused is said, and the others go on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::future::join_all;
use serde_json::json;

use super::validate::{describe, report};
use super::{complain, progress, show, signals};
use crate::config::{self, Diagnostics};
use crate::error::{Error, Fault, Result};
use crate::host::{self, Admitted, Host, Refusal, Tenants};
use crate::telemetry::Bars;

/// Folders in folders beyond this are not looked into.
const DEPTH: usize = 8;

pub(super) async fn run(file: &Path, paths: &[PathBuf], bars: Bars) -> Result<ExitCode> {
    let (host, pipelines) = match admit(file, paths)? {
        Ok(all) => all,
        Err(diagnostics) => return Ok(show(&diagnostics)),
    };
    let mut worst = 0;
    let mut admitted = Vec::new();
    for (file, pipeline) in pipelines {
        match pipeline {
            Ok(one) => admitted.push(one),
            Err(why) => {
                // The others go on; the exit code tells at the end.
                worst = Fault::Config.exit_code();
                match why {
                    Refusal::File(diagnostics) => drop(show(&diagnostics)),
                    Refusal::Grant(error) => complain(&not_run(error, &file)),
                }
            }
        }
    }
    let stop = signals::stop_on_first_exit_on_second();
    let opening = join_all(admitted.iter().map(|it| host.open_for(&it.settings, Some(&it.owner))));
    let opened = tokio::select! {
        opened = opening => opened,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let mut pipelines = Vec::new();
    for opened in opened {
        match opened {
            Ok(pipeline) => pipelines.push(pipeline),
            Err(error) => {
                complain(&error);
                worst = worst.max(error.fault().exit_code());
            }
        }
    }
    let progress = progress::show(host::status(&pipelines), bars);
    let ended = host::run(pipelines, stop, complain).await;
    progress.end();
    Ok(ExitCode::from(ended.map_or_else(|error| error.fault().exit_code(), |()| worst)))
}

pub(super) async fn validate(file: &Path, paths: &[PathBuf], connect: bool, as_json: bool) -> Result<ExitCode> {
    let wrong = |file: &Path, diagnostics: &Diagnostics| {
        if !as_json {
            show(diagnostics);
        }
        (Fault::Config.exit_code(), json!({ "file": file, "ok": false, "problems": diagnostics.problems() }))
    };
    let (host, pipelines) = match admit(file, paths)? {
        Ok(all) => all,
        Err(diagnostics) => return report(vec![wrong(file, &diagnostics)], as_json),
    };
    let mut results = Vec::new();
    for (file, pipeline) in pipelines {
        results.push(match pipeline {
            Ok(Admitted { settings, owner }) => {
                let errors = if connect { host.check(&settings, Some(&owner)).await } else { Vec::new() };
                describe(&file, &errors, &format!("{} (within what its tenant is granted)", settings.name), as_json)?
            }
            Err(Refusal::File(diagnostics)) => wrong(&file, &diagnostics),
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
        Ok(settings) => Tenants::open(file, &settings, host::cache_folder().as_deref()).map(Ok),
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
    let mut files = Vec::new();
    for path in paths {
        gather(path, 0, &mut files)?;
    }
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

/// The pipeline files of a folder and of those in it, by name. Links to folders are not followed, and neither is what a
/// test, a dependency or the host itself keeps there.
fn gather(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let unreadable =
        |cause| Error::new(Fault::Config, format!("folder `{}` cannot be read", path.display())).because(cause);
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(path).map_err(unreadable)?.collect();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(unreadable)?;
        let path = entry.path();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if kind.is_dir() && depth < DEPTH && !entry.file_name().to_string_lossy().starts_with('.') {
            gather(&path, depth + 1, files)?;
        } else if !kind.is_dir() && yaml && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}
