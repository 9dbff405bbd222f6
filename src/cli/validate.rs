//! `pgstream-host validate`: every problem of the files, and with `--connect` of everything that they name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::files::pipeline_files;
use super::pipeline::own;
use super::run::Twins;
use super::{complain, print_json, print_line, show, tenants};
use crate::config::Diagnostics;
use crate::error::{Error, Fault, Result};
use crate::host::{self, Host};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Checks them as pipelines of the tenants that this file names.
    #[arg(long, value_name = "HOST.YAML")]
    host: Option<PathBuf>,
    /// Also opens everything that they name, embeds a word, and sends a row of each table through the handlers. Makes nothing.
    #[arg(long)]
    connect: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { files, host, connect, json } = arguments;
    if let Some(host) = &host {
        return tenants::validate(host, &files, connect, json).await;
    }
    let host = if connect { Some(Host::of_this_program()?) } else { None };
    let mut results = Vec::new();
    let mut twins = Twins::default();
    for file in &pipeline_files(&files, 0)? {
        results.push(check(file, host.as_ref(), &mut twins, json).await?);
    }
    report(results, json)
}

/// Prints the results if they are to be JSON, and answers with the worst of the exit codes that stand beside them.
pub(super) fn report(results: Vec<(u8, Json)>, as_json: bool) -> Result<ExitCode> {
    let worst = results.iter().map(|(code, _)| *code).max().unwrap_or_default();
    if as_json {
        let files: Vec<Json> = results.into_iter().map(|(_, result)| result).collect();
        print_json(format_args!("{:#}", json!({ "ok": worst == 0, "files": files })))?;
    }
    Ok(ExitCode::from(worst))
}

/// Checks one file, prints what it finds unless it is to be JSON, and answers with the exit code and the JSON.
async fn check(file: &Path, host: Option<&Host>, twins: &mut Twins, as_json: bool) -> Result<(u8, Json)> {
    let depth = if host.is_some() { "the file and everything it names" } else { "the file" };
    let errors = match own(file) {
        Ok(Ok(settings)) => {
            let mut errors = match host {
                Some(host) => host.check(&settings, None).await,
                None => host::review(&settings),
            };
            errors.extend(twins.refuse(&settings).err());
            errors
        }
        Ok(Err(diagnostics)) => return Ok(wrong(file, &diagnostics, as_json)),
        Err(error) => vec![error],
    };
    describe(file, &errors, &format!("{} ({depth})", file.display()), as_json)
}

/// The exit code and the JSON for a file with mistakes. Prints them, unless it is to be JSON.
pub(super) fn wrong(file: &Path, diagnostics: &Diagnostics, as_json: bool) -> (u8, Json) {
    if !as_json {
        show(diagnostics);
    }
    (Fault::Config.exit_code(), json!({ "file": file, "ok": false, "problems": diagnostics.problems() }))
}

/// The exit code and the JSON for a file with these errors. Prints them, or that `what` is ok, unless it is to be JSON.
pub(super) fn describe(file: &Path, errors: &[Error], what: &str, as_json: bool) -> Result<(u8, Json)> {
    let code = errors.iter().map(|error| error.fault().exit_code()).max().unwrap_or_default();
    if !as_json {
        errors.iter().for_each(complain);
        if errors.is_empty() {
            print_line(format_args!("ok: {what}"))?;
        }
    }
    let described: Vec<Json> = errors.iter().map(description).collect();
    Ok((code, json!({ "file": file, "ok": errors.is_empty(), "errors": described })))
}

fn description(error: &Error) -> Json {
    json!({ "message": error.chain(), "fault": format!("{:?}", error.fault()).to_lowercase(), "help": error.advice() })
}
