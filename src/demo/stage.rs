//! `Stage`: the private Postgres, the table in it, and the pipeline that runs beside the story.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::SinkExt;
use tokio::task::{JoinError, JoinHandle};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use super::process::environment;
use super::{Cluster, Options};
use crate::components::{PipelineSettings, REGISTRY};
use crate::config;
use crate::error::{Error, Fault, Result};
use crate::host::{self, Embedders, Host};
use crate::pipeline::Status;
use crate::sink::{Hit, Query};

/// Files and database of the demo. The files are looked for from the folder in which the demo is
/// started.
const PIPELINE: &str = "pipelines/demo.yaml";
const DOCUMENTS: &str = "pipelines/demo/documents.csv";
const DATABASE: &str = "demo";

/// Long texts are stored apart and uncompressed, so that an UPDATE which leaves them alone does not
/// send them.
const TABLE: &str = "
    CREATE TABLE public.documents (
        id bigint PRIMARY KEY, title text, content text, category text, author text, updated_at timestamptz
    );
    ALTER TABLE public.documents ALTER content SET STORAGE EXTERNAL;";
/// The smallest role that a pipeline needs, as docs/postgres.md has it, and what others make for
/// it.
const ROLE: &str = "
    GRANT USAGE ON SCHEMA public TO pipeline;
    CREATE SCHEMA pgstream AUTHORIZATION pipeline;
    CREATE PUBLICATION pgstream_demo FOR TABLE ONLY public.documents
        WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);";

/// The longest time that a step may take on a slow machine before the demo says that something is
/// wrong.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// The pipeline beside the story.
pub(super) struct Running {
    task: JoinHandle<Result<()>>,
    stop: CancellationToken,
}

pub(super) struct Stage {
    status: Arc<Status>,
    settings: PipelineSettings,
    sink: String,
    client: Client,
    store: Folder,
    cluster: Cluster,
    bin: PathBuf,
}

impl Stage {
    /// Starts the server, makes the empty table, and starts the pipeline: the slot must be there
    /// before the rows.
    pub(super) async fn set_up(bin: &Path) -> Result<(Self, Running)> {
        let start = {
            let bin = bin.to_owned();
            move || Cluster::start(&bin, &Options::durable())
        };
        let cluster = tokio::task::spawn_blocking(start).await.map_err(panicked)??;
        cluster.psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        let login = format!("CREATE ROLE pipeline LOGIN REPLICATION PASSWORD '{}';", cluster.password());
        cluster.psql(DATABASE, &format!("{TABLE} {login} {ROLE}"))?;
        let client = connect(&cluster.url(DATABASE)).await?;

        let store = Folder::make(bin, None)?;
        let settings = settings(&cluster.url_of("pipeline", DATABASE), &store_path(&store))?;
        let sink = settings.sinks.keys().next().cloned().unwrap_or_default();
        let pipeline = Host::of_this_program()?.open(&settings, &host::Owner::of_everything()).await?;
        let status = pipeline.status();
        let stop = CancellationToken::new();
        let task = tokio::spawn(pipeline.run(stop.clone()));
        let stage = Self { status, settings, sink, client, store, cluster, bin: bin.to_owned() };
        Ok((stage, Running { task, stop }))
    }

    /// Fills the table in one transaction. Answers the number of rows.
    pub(super) async fn fill(&self) -> Result<u64> {
        let rows = std::fs::read(DOCUMENTS).map_err(|cause| missing(DOCUMENTS, cause))?;
        let copy = "COPY public.documents FROM STDIN (FORMAT csv, HEADER true)";
        let load = async {
            let mut table = Box::pin(self.client.copy_in(copy).await?);
            table.send(Bytes::from(rows)).await?;
            table.as_mut().finish().await
        };
        load.await.map_err(|cause| environment("the table could not be filled").because(cause))
    }

    /// Runs a statement with values. Answers the number of rows that it changed.
    pub(super) async fn execute(
        &self,
        statement: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<u64> {
        let executed = self.client.execute(statement, values).await;
        executed.map_err(|cause| environment("the private Postgres refused a statement").because(cause))
    }

    /// Returns the number of commands that the sink has made durable since the start: one for each
    /// row, as long as rows are only inserted.
    pub(super) fn arrived(&self) -> u64 {
        self.status.sinks.first().map_or(0, |sink| sink.commands())
    }

    /// The points nearest to a text.
    pub(super) async fn search(&self, text: &str, limit: usize) -> Result<Vec<Hit>> {
        let embedder = host::embedder_of(&self.settings, &Embedders::new(), &self.sink, "")?;
        let vectors = embedder.embed(&[text]).await?;
        let query = Query { vector: "", values: &vectors.data, limit };
        match self.settings.sinks.get(&self.sink).and_then(|sink| sink.searcher()) {
            Some(searcher) => searcher.search(&query).await,
            None => Ok(Vec::new()),
        }
    }

    /// Asks `done` until it answers something, for as long as the pipeline may reasonably take.
    pub(super) async fn until<T>(&self, what: &str, mut done: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = done().await? {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                let error = Error::new(Fault::Transient, format!("{what} did not happen within {PATIENCE:?}"));
                let trouble = self.status.sinks.iter().find_map(|sink| sink.trouble());
                return Err(match trouble {
                    Some(trouble) => error.because(std::io::Error::other(trouble)),
                    None => error,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Describes the parts that run here, in a few words each.
    pub(super) fn parts(&self) -> Result<[(&'static str, String); 4]> {
        let version = self.cluster.psql(DATABASE, "SHOW server_version")?;
        let port = self.cluster.port();
        Ok([
            ("Postgres", format!("version {version}, private, on 127.0.0.1:{port}")),
            ("pipeline", format!("{PIPELINE}: public.documents → WASM handler → embedder → Qdrant")),
            ("embedder", "offline, compares words and not their meaning; a model is one line of YAML".to_owned()),
            ("store", "Qdrant's engine, embedded: a folder, no server".to_owned()),
        ])
    }

    /// Commands to play with it from another terminal.
    pub(super) fn commands(&self) -> [String; 4] {
        let program = std::env::args().next().unwrap_or_else(|| "pgstream-host".to_owned());
        [
            format!("export DATABASE_URL='{}'", self.cluster.url(DATABASE)),
            format!("export PGSTREAM_DEMO_STORE='{}'", store_path(&self.store)),
            format!("{} \"$DATABASE_URL\"", self.bin.join("psql").display()),
            format!("{program} search {PIPELINE} \"my jacket leaks at the shoulders\""),
        ]
    }
}

impl Running {
    /// Ends when the pipeline does, which it must not before it is told to.
    pub(super) async fn failed(&mut self) -> Error {
        match (&mut self.task).await.map_err(panicked) {
            Ok(Err(error)) | Err(error) => error,
            Ok(Ok(())) => Error::new(Fault::Bug, "the pipeline ended without being asked to"),
        }
    }

    /// Lets the pipeline finish what it has received. Nothing if it has ended already.
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        if self.task.is_finished() { Ok(()) } else { self.task.await.map_err(panicked)? }
    }
}

/// The demo's pipeline file, with the demo's own server and store in place of the environment's.
fn settings(url: &str, store: &str) -> Result<PipelineSettings> {
    let text = std::fs::read_to_string(PIPELINE).map_err(|cause| missing(PIPELINE, cause))?;
    let lookup = |name: &str| match name {
        "DATABASE_URL" => Some(url.to_owned()),
        "PGSTREAM_DEMO_STORE" => Some(store.to_owned()),
        _ => std::env::var(name).ok(),
    };
    let folder = Path::new(PIPELINE).parent().unwrap_or(Path::new(""));
    config::parse(&REGISTRY, PIPELINE, &text, folder, &lookup).map_err(|problems| {
        Error::new(Fault::Config, format!("`{PIPELINE}` has {} problems", problems.problems().len()))
            .because(std::io::Error::other(problems.render(false)))
            .help(format!("`DATABASE_URL=postgres:// pgstream-host validate {PIPELINE}` shows each with its line"))
    })
}

fn store_path(store: &Folder) -> String {
    store.path().join("store").display().to_string()
}

async fn connect(url: &str) -> Result<Client> {
    let connected = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) =
        connected.map_err(|cause| environment("the private Postgres refused a connection").because(cause))?;
    tokio::spawn(connection);
    // As in every session of ours: nobody else's functions and tables are found by name alone.
    let pinned = client.batch_execute("SET search_path = pg_catalog, pg_temp").await;
    pinned.map_err(|cause| environment("the private Postgres refused a setting").because(cause))?;
    Ok(client)
}

fn missing(path: &str, cause: std::io::Error) -> Error {
    environment(format!("could not read `{path}`"))
        .because(cause)
        .help("start the demo in the repository's folder: `make demo`")
}

fn panicked(cause: JoinError) -> Error {
    Error::new(Fault::Bug, "a part of the demo panicked").because(cause)
}
