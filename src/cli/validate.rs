//! `pgstream-host validate`: every problem of the files, and with `--connect` of everything that they name.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::{complain, load, pipeline_files, print, tenants};
use crate::config;
use crate::error::{Error, Result};
use crate::host::Host;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Checks them as pipelines of the tenants that this file names.
    #[arg(long, value_name = "HOST.YAML")]
    host: Option<PathBuf>,
    /// Also opens the source, the sinks and the components; makes nothing on the source.
    #[arg(long)]
    connect: bool,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(file) = &arguments.host {
        return tenants::validate(file, &arguments.files, arguments.connect).await;
    }
    let files = pipeline_files(&arguments.files)?;
    let host = if arguments.connect { Some(Host::new()?) } else { None };
    let mut worst = 0;
    let mut results = Vec::new();
    for file in &files {
        let (code, result) = check(file, host.as_ref(), arguments.json).await?;
        worst = worst.max(code);
        results.push(result);
    }
    if arguments.json {
        print(&format!("{:#}\n", json!({ "ok": worst == 0, "files": results })))?;
    }
    Ok(ExitCode::from(worst))
}

/// Checks one file, prints what it finds unless it is to be JSON, and answers with the exit code and the JSON.
async fn check(file: &Path, host: Option<&Host>, json: bool) -> Result<(u8, Json)> {
    let settings = if json {
        match config::load(file) {
            Ok(settings) => settings,
            Err(diagnostics) => {
                return Ok((2, json!({ "file": file, "ok": false, "problems": diagnostics.problems() })));
            }
        }
    } else {
        match load(file) {
            Ok(settings) => settings,
            Err(_) => return Ok((2, Json::Null)),
        }
    };
    let errors = match host {
        Some(host) => host.check(&settings, None).await,
        None => Vec::new(),
    };
    let code = errors.iter().map(|error| error.fault().exit_code()).max().unwrap_or_default();
    if json {
        let errors: Vec<Json> = errors.iter().map(describe).collect();
        return Ok((code, json!({ "file": file, "ok": code == 0, "errors": errors })));
    }
    errors.iter().for_each(complain);
    if code == 0 {
        let depth = if host.is_some() { "the file and everything it names" } else { "the file" };
        print(&format!("ok: {} ({depth})\n", file.display()))?;
    }
    Ok((code, Json::Null))
}

fn describe(error: &Error) -> Json {
    json!({ "message": error.chain(), "fault": format!("{:?}", error.fault()).to_lowercase(), "help": error.advice() })
}
