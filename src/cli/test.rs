//! `pgstream-host test`: events in, the expected commands out, for handlers of any language.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{print, print_json};
use crate::error::Result;
use crate::host::Host;
use crate::screen::Screen;
use crate::trial;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Projects, folders, or test files; of a project the files in `tests`.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// The component to test; by default what the file names, or `<project>/<name>.wasm`.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Only cases with this text in their name.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Writes what the handler answers into the files, as what is expected from now on.
    #[arg(long, visible_alias = "update")]
    bless: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let files = trial::files(&arguments.paths)?;
    let host = Host::of_this_program()?;
    let options = trial::Options { component: arguments.component, filter: arguments.filter, bless: arguments.bless };
    let report = trial::run(host.engine(), &files, &options).await?;
    if arguments.json {
        print_json(format_args!("{:#}", report.json()))?;
    } else {
        let mut screen = Screen::new();
        screen.rendered(&report.render(screen.has_colours()));
        print(screen)?;
    }
    Ok(ExitCode::from(report.exit_code()))
}
