//! `pgstream-host reload`: has a host read its files again, and says what became of each pipeline.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::reach::{Reach, order};
use super::{print_json, print_lines};
use crate::error::{Fault, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only says what would be done, and a hash of it.
    #[arg(long, conflicts_with = "hash")]
    plan: bool,
    /// Does what was planned under this hash, and nothing if the files have changed since.
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Prints the answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(Arguments { plan, hash, reach, json }: Arguments) -> Result<ExitCode> {
    let host = reach.only_host().await?;
    let told = match order(&host, "/api/v1/reload", &json!({ "plan": plan, "hash": hash })).await? {
        Ok(told) => told,
        Err(code) => return Ok(code),
    };
    let steps: Vec<&Value> = told["pipelines"].as_array().into_iter().flatten().collect();
    let refused = steps.iter().any(|step| matches!(step["action"].as_str(), Some("refuse" | "refused")));
    if json {
        print_json(&told)?;
    } else {
        let last = plan
            .then(|| format!("to do just that: pgstream-host reload --hash {}", told["hash"].as_str().unwrap_or("?")));
        print_lines(steps.into_iter().flat_map(lines).chain(last))?;
    }
    Ok(if refused { ExitCode::from(Fault::Config.exit_code()) } else { ExitCode::SUCCESS })
}

fn lines(step: &Value) -> Vec<String> {
    let text = |key: &str| step[key].as_str().map(str::to_owned);
    let name = text("pipeline").or_else(|| text("file")).unwrap_or_else(|| "?".to_owned());
    let action = text("action").unwrap_or_default();
    let said = match action.as_str() {
        "unchanged" => "nothing has changed",
        "swap" => "its handlers would be swapped, the stream goes on",
        "swapped" => "its handlers were swapped, the stream went on",
        "replace" => "it would be started again with its new settings",
        "replaced" => "it was started again with its new settings",
        "adopt" | "adopted" => "it is paused; its new settings count once it is resumed",
        "start" => "it would be started",
        "started" => "it was started",
        "stop" => "it would be stopped, as its file is gone; its slot stays",
        "stopped" => "it was stopped, as its file is gone; its slot stays",
        "refuse" => "its new settings would be refused, what runs stays as it is",
        "refused" => "its new settings are refused, what runs stays as it is",
        other => other,
    };
    let changes: Vec<&str> = step["changes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let changes = if changes.is_empty() { String::new() } else { format!(" ({})", changes.join(", ")) };
    let mut lines = vec![format!("{name}: {said}{changes}")];
    for problem in step["problems"].as_array().into_iter().flatten() {
        lines.extend(problem["message"].as_str().map(|message| format!("  {message}")));
        lines.extend(problem["help"].as_str().map(|help| format!("  help: {help}")));
    }
    lines
}
