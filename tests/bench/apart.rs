//! Measurements in a process of their own, whose memory is their own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::Value as Json;

/// Runs this program once more, for one measurement that `arms::one` knows by its name.
pub(crate) fn apart(what: &str, file: &Path) -> Result<Json> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--bench", "--only", what]).arg(file);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "measuring {what} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}
