//! `pgstream-host setup`, `teardown` and `resnapshot`: publication and slot, made, dropped and made anew on request.

use std::process::ExitCode;

use super::pipeline::PipelineFile;
use super::print_lines;
use crate::config::model;
use crate::error::Result;
use crate::sink;
use crate::source::{able, kind_of};

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
    let kind = kind_of(&settings.source);
    let slot = able(&settings.source.0, kind, kind.slot())?;
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
    let kind = kind_of(&settings.source);
    let mut done = able(&settings.source.0, kind, kind.slot())?.tear_down(&settings.name).await?;
    for (name, sink) in &settings.sinks {
        if arguments.purge {
            let purged = sink::purge(&settings.name, name, sink).await;
            done.extend(purged.map_err(|error| error.at(format!("sink `{name}`")))?);
        }
        done.extend(left(name, sink, arguments.purge));
    }
    let keeps = |sink: &model::Sink| matches!(sink, model::Sink::Pgvector(_) | model::Sink::DeadLetters(_));
    if !arguments.purge && settings.sinks.values().any(keeps) {
        let typed = arguments.file.typed();
        done.push(format!("left: positions and dead letters; `pgstream-host teardown --purge {typed}` removes them"));
    }
    print_lines(done)
}

/// What a sink holds still, and what removes it.
fn left(name: &str, sink: &model::Sink, purged: bool) -> Option<String> {
    let (what, how) = match sink {
        model::Sink::Pgvector(sink) => (format!("table `{}`", sink.table), format!("DROP TABLE {};", sink.table)),
        model::Sink::Qdrant(sink) => {
            let collection = &sink.collection;
            (format!("collection `{collection}`"), format!("DELETE /collections/{collection} of Qdrant's API"))
        }
        model::Sink::QdrantEdge(sink) => {
            (format!("folder `{}`", sink.path.display()), format!("rm -r {}", sink.path.display()))
        }
        model::Sink::File(sink) => (format!("file `{}`", sink.path.display()), format!("rm {}", sink.path.display())),
        model::Sink::DeadLetters(_) if !purged => {
            ("the pipeline's dead letters".to_owned(), "`--purge`, or `pgstream-host dlq drop`".to_owned())
        }
        model::Sink::DeadLetters(_) | model::Sink::Stdout(_) | model::Sink::Blackhole(_) => return None,
    };
    Some(format!("left: {what} of sink `{name}`; to remove it: {how}"))
}

pub(super) async fn resnapshot(arguments: Arguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let kind = kind_of(&settings.source);
    print_lines(able(&settings.source.0, kind, kind.slot())?.begin_anew(&settings.name).await?)
}
