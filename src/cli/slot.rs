//! `pgstream-host setup`, `teardown` and `resnapshot`: publication and slot, made, dropped and made anew on request.

use std::process::ExitCode;

use super::pipeline::PipelineFile;
use super::print_lines;
use crate::config::model;
use crate::error::Result;
use crate::source::postgres;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PipelineFile,
}

pub(super) async fn setup(arguments: Arguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let (_, model::Source::Postgres(source)) = &settings.source;
    let made = postgres::setup(&settings.name, source).await?;
    print_lines(made)
}

pub(super) async fn teardown(arguments: Arguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let (_, model::Source::Postgres(source)) = &settings.source;
    let dropped = postgres::teardown(&settings.name, source).await?;
    print_lines(dropped)
}

pub(super) async fn resnapshot(arguments: Arguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let (_, model::Source::Postgres(source)) = &settings.source;
    let made = postgres::resnapshot(&settings.name, source).await?;
    let next = "the next `pgstream-host run` clears the sinks and copies all rows".to_owned();
    print_lines(made.into_iter().chain([next]))
}
