//! `run --host` and `validate --host`: pipelines of several tenants. What is refused is said, and the others go on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::future::join_all;

use super::{complain, fail, print, progress, show, signals};
use crate::config;
use crate::error::{Error, Fault, Result};
use crate::host::{self, Admitted, Host, Refusal, Tenants};
use crate::telemetry::Bars;

/// Folders in folders beyond this are not looked into.
const DEPTH: usize = 8;

pub(super) async fn run(file: &Path, paths: &[PathBuf], bars: Bars) -> Result<ExitCode> {
    let (host, admitted, refused) = match admit(file, paths)? {
        Ok(all) => all,
        Err(code) => return Ok(code),
    };
    let stop = signals::stop_on_first_exit_on_second();
    let opening = join_all(admitted.iter().map(|it| host.open_for(&it.settings, Some(&it.owner))));
    let opened = tokio::select! {
        opened = opening => opened,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let mut worst = if refused > 0 { Fault::Config.exit_code() } else { 0 };
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

pub(super) async fn validate(file: &Path, paths: &[PathBuf], connect: bool) -> Result<ExitCode> {
    let (host, admitted, refused) = match admit(file, paths)? {
        Ok(all) => all,
        Err(code) => return Ok(code),
    };
    let mut worst = if refused > 0 { Fault::Config.exit_code() } else { 0 };
    for it in &admitted {
        let errors = if connect { host.check(&it.settings, Some(&it.owner)).await } else { Vec::new() };
        errors.iter().for_each(complain);
        worst = errors.iter().map(|error| error.fault().exit_code()).fold(worst, u8::max);
        if errors.is_empty() {
            print(&format!("ok: {} (within what its tenant is granted)\n", it.settings.name))?;
        }
    }
    Ok(ExitCode::from(worst))
}

/// The host, the pipelines that keep within its file, and how many do not.
type Admission = (Host, Vec<Admitted>, usize);

/// Opens the host file and admits pipelines. An exit code if the file is wrong, which has been said then.
fn admit(file: &Path, paths: &[PathBuf]) -> Result<std::result::Result<Admission, ExitCode>> {
    let settings = match config::load_host(file) {
        Ok(settings) => settings,
        Err(diagnostics) => return Ok(Err(show(&diagnostics))),
    };
    let (host, mut tenants) = Tenants::open(file, &settings, host::cache_folder().as_deref())?;
    let (mut admitted, mut refused) = (Vec::new(), 0);
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
    for pipeline in files {
        match tenants.admit(&pipeline) {
            Ok(one) => admitted.push(one),
            Err(why) => {
                refused += 1;
                // The others go on; the exit code tells at the end.
                let _ = match why {
                    Refusal::File(diagnostics) => show(&diagnostics),
                    Refusal::Grant(error) => fail(&error.within(format!("`{}` is not run", pipeline.display()))),
                };
            }
        }
    }
    Ok(Ok((host, admitted, refused)))
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
