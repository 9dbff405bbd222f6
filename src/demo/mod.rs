//! `pgstream-host demo`: the whole product on one machine, with a Postgres of its own.

mod story;

mod stage;

mod page;

mod binaries;

mod cluster;

mod folder;

mod process;

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Fault, Result};
use page::Page;
use stage::Stage;

pub use cluster::{Cluster, Options, Stop};

/// The arguments of `pgstream-host demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Leaves everything running afterwards, to play with, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Folder of the Postgres to start. Default: PGSTREAM_POSTGRES_BIN, what `make setup` fetched, or the system's.
    #[arg(long, value_name = "DIR")]
    postgres: Option<PathBuf>,
}

/// Starts a Postgres and the demo's pipeline, fills a table, searches, changes rows and searches again. Everything
/// that was started and made is gone afterwards, also after Ctrl-C.
///
/// # Errors
/// `Environment` if there is no Postgres to start or the repository's files are not here; whatever ends the pipeline.
pub async fn run(arguments: Arguments) -> Result<()> {
    let bin = binaries::find(arguments.postgres.as_deref(), std::env::var_os("PGSTREAM_POSTGRES_BIN"))?;
    let mut page = Page::stdout();
    page.title("pgstream-host demo", "a table, and its vectors that stay in step");
    page.progress("starting a private Postgres …");
    let (stage, mut running) = tokio::select! {
        biased;
        stopped = interrupted() => return stopped,
        stage = Stage::set_up(&bin) => stage?,
    };
    let told = tokio::select! {
        biased;
        stopped = interrupted() => stopped,
        failed = running.failed() => Err(failed),
        told = show(&stage, &mut page, arguments.keep) => told,
    };
    told.and(running.stop().await)
}

async fn show(stage: &Stage, page: &mut Page, keep: bool) -> Result<()> {
    story::tell(stage, page).await?;
    page.gap();
    if !keep {
        page.text("Everything that the demo made is removed. `make demo KEEP=1` leaves it running to play with.");
        return Ok(());
    }
    page.text("It keeps running until Ctrl-C, which removes everything. In another terminal, in this folder:");
    stage.commands().iter().for_each(|command| page.command(command));
    std::future::pending().await
}

/// Ends with the first SIGINT or SIGTERM.
async fn interrupted() -> Result<()> {
    let listen = |kind| {
        signal(kind).map_err(|cause| Error::new(Fault::Environment, "signals cannot be received").because(cause))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
