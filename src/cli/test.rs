//! `pgstream-host test`: events in, the expected commands out, for handlers of any language.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{complain, print, print_json};
use crate::error::{Error, Fault, Result};
use crate::host::Host;
use crate::screen::{self, Screen};
use crate::toolchain::{self, Project};
use crate::trial;

/// The time between two looks of `--watch` for changes.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Projects, folders, or test files; of a project the files in `tests`.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// The component to test; by default what the file names, or `<project>/<name>.wasm`, built anew if the sources have changed.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Only cases with this text in their name.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Writes what the handler answers into the files, as what is expected from now on.
    #[arg(long, visible_alias = "update")]
    bless: bool,
    /// Goes on: tests again whenever a file of the project changes, until Ctrl-C.
    #[arg(long, conflicts_with = "bless")]
    watch: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let host = Host::of_this_program()?;
    if !arguments.watch {
        return once(&host, &arguments).await;
    }
    let folders: Vec<PathBuf> = arguments.paths.iter().map(|path| folder_of(path)).collect();
    loop {
        let before: Vec<_> = folders.iter().map(|folder| toolchain::changes(folder)).collect();
        if let Err(error) = once(&host, &arguments).await {
            complain(&error);
        }
        screen::complain("waiting for changes; Ctrl-C ends\n");
        while folders.iter().map(|folder| toolchain::changes(folder)).eq(before.iter().cloned()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn once(host: &Host, arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { paths, component, filter, bless, json, .. } = arguments.clone();
    if component.is_none() {
        let folders: Vec<PathBuf> = paths.iter().map(|path| folder_of(path)).collect();
        let fresh = tokio::task::spawn_blocking(move || folders.iter().try_for_each(|folder| refresh(folder)));
        fresh.await.unwrap_or_else(|panic| Err(Error::new(Fault::Bug, "a build was cut off").because(panic)))?;
    }
    let files = trial::files(&paths)?;
    let report = trial::run(host.engine(), &files, &trial::Options { component, filter, bless }).await?;
    if json {
        print_json(format_args!("{:#}", report.json()))?;
    } else {
        let mut screen = Screen::new();
        screen.rendered(&report.render(screen.has_colours()));
        print(screen)?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// The folder of the project that a path is about, if it is one's.
fn folder_of(path: &Path) -> PathBuf {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    match whole.parent() {
        Some(project) if !path.is_dir() && whole.ends_with("tests") => project.to_owned(),
        _ => whole,
    }
}

/// Builds the component of a project if it was built from other sources than those that are there. A component of unchanged sources
/// is left alone, and so is a folder that is no project.
fn refresh(folder: &Path) -> Result<()> {
    if toolchain::detect(folder).is_err() {
        return Ok(());
    }
    let project = Project::open(folder)?;
    let component = project.folder().join(format!("{}.wasm", project.name()));
    if !component.is_file() || !toolchain::is_stale(&project, &component)? {
        return Ok(());
    }
    screen::complain(&format!(
        "building `{}` ({}): its sources have changed since `{}` was built\n",
        project.name(),
        project.language(),
        component.display()
    ));
    toolchain::build(folder, None).map(drop).map_err(|error| {
        error.at(format!("`{}`, which is older than its sources, was not tested", component.display()))
    })
}
