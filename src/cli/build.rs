//! `pgstream-host build`: a component from a project.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{print_json, print_line};
use crate::error::{Error, Fault, Result};
use crate::printable::printable;
use crate::screen;
use crate::toolchain::{self, Project};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The project's folder.
    #[arg(value_name = "FOLDER", default_value = ".")]
    project: PathBuf,
    /// The path of the component; `<name>.wasm` in the project's folder unless said.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let project = Project::open(&arguments.project)?;
    if !arguments.json {
        screen::complain(&format!("building `{}` ({})\n", printable(project.name()), project.language()));
    }
    let built = toolchain::build(&arguments.project, arguments.out.as_deref())?;
    let size = std::fs::metadata(&built.component)
        .map_err(|error| Error::new(Fault::Environment, "the component is gone again").because(error))?
        .len();
    if arguments.json {
        let made = json!({
            "component": built.component,
            "language": project.language().name(),
            "bytes": size,
            "seconds": built.took.as_secs_f64(),
        });
        return print_json(format_args!("{made:#}"));
    }
    let current = std::env::current_dir().unwrap_or_default();
    let shown = built.component.strip_prefix(&current).unwrap_or(&built.component).display();
    print_line(format_args!(
        "{shown}: {}, in {:.1} s",
        bytesize::ByteSize(size).display().iec(),
        built.took.as_secs_f64()
    ))
}
