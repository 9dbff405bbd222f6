//! `pgstream-host pause`, `resume` and `restart`: one pipeline of a host that runs.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::reach::{Reach, order};
use super::{print_json, print_line};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The pipeline's name, as `pgstream-host status` says it.
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    #[command(flatten)]
    reach: Reach,
    /// Prints the pipeline's state as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct PauseArguments {
    #[command(flatten)]
    asked: Arguments,
    /// The reason, for whoever reads the pipeline's state.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) async fn pause(PauseArguments { asked, reason }: PauseArguments) -> Result<ExitCode> {
    steer(asked, "pause", json!({ "reason": reason })).await
}

pub(super) async fn resume(asked: Arguments) -> Result<ExitCode> {
    steer(asked, "resume", json!({})).await
}

pub(super) async fn restart(asked: Arguments) -> Result<ExitCode> {
    steer(asked, "restart", json!({})).await
}

async fn steer(Arguments { pipeline, reach, json }: Arguments, verb: &str, body: Value) -> Result<ExitCode> {
    let host = reach.host_of(&pipeline).await?;
    let path = format!("/api/v1/pipelines/{pipeline}/{verb}");
    let told = match order(&host, &path, &body).await? {
        Ok(told) => told,
        Err(code) => return Ok(code),
    };
    if json {
        return print_json(told);
    }
    let state = told["state"].as_str().unwrap_or("?");
    match told["by"].as_str() {
        Some(by) => print_line(format_args!(
            "{pipeline}: {state} by {by}; its slot stays, and Postgres keeps the log until it is resumed"
        )),
        None => print_line(format_args!("{pipeline}: {state}")),
    }
}
