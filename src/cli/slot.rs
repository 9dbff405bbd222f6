//! `pgstream-host setup`, `teardown` and `resnapshot`: publication and slot, made, dropped and made anew on request.

use std::process::ExitCode;

use super::pipeline::PipelineFile;
use super::print_lines;
use crate::error::Result;
use crate::sink::Leftover;
use crate::source::able;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PipelineFile,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetupArguments {
    #[command(flatten)]
    file: PipelineFile,
    /// Takes the sinks as they are: also those that were made anew, or filled with another embedding model.
    #[arg(long)]
    accept_sinks: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct TeardownArguments {
    #[command(flatten)]
    file: PipelineFile,
    /// Also removes what is kept of the pipeline beside its sinks: their positions, and the dead letters.
    #[arg(long)]
    purge: bool,
}

pub(super) async fn setup(arguments: SetupArguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let kind = &*settings.source;
    let slot = able(&settings.source_name, kind, kind.slot())?;
    let mut made = slot.set_up(&settings.name).await?;
    if arguments.accept_sinks {
        slot.accept_sinks(&settings.name).await?;
        made.push("the sinks are taken as they are at the next start".to_owned());
    }
    print_lines(made)
}

pub(super) async fn teardown(arguments: TeardownArguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let kind = &*settings.source;
    let mut done = able(&settings.source_name, kind, kind.slot())?.tear_down(&settings.name).await?;
    for (name, sink) in &settings.sinks {
        if arguments.purge {
            let purged = sink.purge(&settings.name, name).await;
            done.extend(purged.map_err(|error| error.at(format!("sink `{name}`")))?);
        }
        let left = sink.leftover(arguments.purge);
        done.extend(left.map(|Leftover { what, how }| format!("left: {what} of sink `{name}`; to remove it: {how}")));
    }
    if !arguments.purge && settings.sinks.values().any(|sink| sink.keeps_records()) {
        let typed = arguments.file.typed();
        done.push(format!("left: positions and dead letters; `pgstream-host teardown --purge {typed}` removes them"));
    }
    print_lines(done)
}

pub(super) async fn resnapshot(arguments: Arguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let kind = &*settings.source;
    print_lines(able(&settings.source_name, kind, kind.slot())?.begin_anew(&settings.name).await?)
}
