//! `pgstream-host validate`: every problem of the files, and with `--connect` of everything that they name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::pipelines::Pipelines;
use super::run::not_run;
use super::{complain, print_json, print_line, show};
use crate::config::Diagnostics;
use crate::error::{Error, Fault, Result};
use crate::host::{self, FileReading, Host, PipelineSpec, Refusal};

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
    let Arguments { files, host: host_file, connect, json } = arguments;
    let named = host_file.clone().unwrap_or_default();
    let (host, mut pipelines) = match Pipelines::open(files, host_file)? {
        Ok(opened) => opened,
        Err(diagnostics) => return report(vec![wrong(&named, &diagnostics, json)], json),
    };
    let host = match (connect, host) {
        (true, Some(host)) => Some(host),
        (true, None) => Some(Host::of_this_program()?),
        (false, _) => None,
    };
    let depth = if connect { "the file and everything it names" } else { "the file" };
    let mut results = Vec::new();
    for FileReading { file, read } in pipelines.read()? {
        results.push(match read {
            Ok(PipelineSpec { settings, owner, .. }) => {
                let errors = match &host {
                    Some(host) => host.check(&settings, &owner).await,
                    None => host::review(&settings),
                };
                let what = match owner.name() {
                    Some(_) => format!("{} (within what its tenant is granted)", settings.name),
                    None => format!("{} ({depth})", file.display()),
                };
                describe(&file, &errors, &what, json)?
            }
            Err(Refusal::File(diagnostics)) => wrong(&file, &diagnostics, json),
            Err(Refusal::Grant(error)) if pipelines.have_tenants() => {
                let (_, result) = describe(&file, &[not_run(error, &file)], "", json)?;
                (Fault::Config.exit_code(), result)
            }
            Err(Refusal::Grant(error)) => describe(&file, &[error], "", json)?,
        });
    }
    report(results, json)
}

/// Prints the results if they are to be JSON, and answers with the worst of the exit codes that stand beside them.
fn report(results: Vec<(u8, Json)>, as_json: bool) -> Result<ExitCode> {
    let worst = results.iter().map(|(code, _)| *code).max().unwrap_or_default();
    if as_json {
        let files: Vec<Json> = results.into_iter().map(|(_, result)| result).collect();
        print_json(format_args!("{:#}", json!({ "ok": worst == 0, "files": files })))?;
    }
    Ok(ExitCode::from(worst))
}

/// The exit code and the JSON for a file with mistakes. Prints them, unless it is to be JSON.
fn wrong(file: &Path, diagnostics: &Diagnostics, as_json: bool) -> (u8, Json) {
    if !as_json {
        show(diagnostics);
    }
    (Fault::Config.exit_code(), json!({ "file": file, "ok": false, "problems": diagnostics.problems() }))
}

/// The exit code and the JSON for a file with these errors. Prints them, or that `what` is ok, unless it is to be JSON.
fn describe(file: &Path, errors: &[Error], what: &str, as_json: bool) -> Result<(u8, Json)> {
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
