//! `QdrantEdge`: points in a folder, with Qdrant's engine inside the host.

mod engine;
mod ground;
mod lock;
mod mark;
mod operation;
mod serve;
mod settings;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use self::engine::Engine;
use self::ground::Ground;
use self::lock::{Lock, Role};
use self::mark::Mark;
use self::serve::Server;
use super::spaces::Spaces;
use super::{Admission, Delivery, Held, Hit, Look, Query, Sink, StoreMarks, WriteSet, blocking};
use crate::error::{Error, Fault, Result};

pub use self::settings::QdrantEdgeSettings;

/// Steps that are made while the engine carries out those before; few, because each may hold
/// megabytes.
const STEPS_AHEAD: usize = 2;

/// The pause of writes after which the optimizer takes its turn; writes wait for it while it runs.
const QUIET: Duration = Duration::from_secs(1);

/// Commands after which the optimizer takes its turn without a pause: what is not indexed yet is
/// searched one by one.
const MAX_UNOPTIMIZED: usize = 50_000;

/// The time that `close` waits for the optimizer. After that the optimizer goes on by itself, and
/// holds the folder until it is done.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// The time that a search waits for a folder that another search has, or a pipeline that is
/// starting.
const SEARCH_PATIENCE: Duration = Duration::from_secs(30);

/// A sink that holds its folder, and answers searches of other processes for as long as it is open.
pub struct QdrantEdge {
    engine: Arc<Engine>,
    server: Server,
    optimizer: Optimizer,
    mark: Arc<Mark>,
}

impl QdrantEdge {
    /// Opens the folder, or makes it. Refused while another pipeline has it open.
    pub async fn open(config: &QdrantEdgeSettings) -> Result<Self> {
        let wanted = Spaces::wanted(&config.create)?;
        let config = config.clone();
        let open = move || {
            let ground = Ground::make(&config)?;
            let lock = Lock::take(&ground)?;
            if !Engine::exists(&ground) {
                Mark::remove(&ground)?;
            }
            let engine = Engine::start(&ground, lock, Some(&wanted))?;
            Ok((Arc::new(engine), Arc::new(Mark::take(&ground)?), ground))
        };
        let (engine, mark, ground) = blocking::run(open).await?;
        let server = Server::start(ground, Arc::clone(&engine))?;
        let optimizer = Optimizer::start(Arc::clone(&engine))?;
        Ok(Self { engine, server, optimizer, mark })
    }

    /// As `open`, but makes nothing: answers what is there, or would be. A folder that is open
    /// already is not opened: whoever has it has checked it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn look(config: &QdrantEdgeSettings) -> Result<Look> {
        let wanted = Spaces::wanted(&config.create)?;
        let config = config.clone();
        let look = move || {
            let ground = Ground::find(&config)?;
            let mut spaces = wanted;
            if Engine::exists(&ground) {
                if let Some(lock) = Lock::try_take(&ground, Role::Search)? {
                    let engine = Engine::start(&ground, lock, None)?;
                    engine.compare(&spaces)?;
                    spaces = engine.spaces().clone();
                    engine.close();
                }
            } else {
                could_be_made(&config.path)?;
            }
            let marks = StoreMarks::Words(Mark::read(&ground).into_iter().collect());
            Ok(Look { marks, admission: Some(admission(spaces)) })
        };
        blocking::run(look).await
    }
}

#[async_trait]
impl Sink for QdrantEdge {
    async fn resume(&mut self, _origin: &str) -> Result<Option<Held>> {
        Ok(None)
    }

    fn admission(&self) -> Option<Admission> {
        Some(admission(self.engine.spaces().clone()))
    }

    fn marks(&self) -> StoreMarks {
        StoreMarks::Words(vec![self.mark.word().to_owned()])
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        delivery.only_commands()?;
        let set = WriteSet::coalesce(&delivery.commands);
        if set.is_empty() {
            return Ok(());
        }
        let (steps, mut made) = tokio::sync::mpsc::channel(STEPS_AHEAD);
        let (engine, mark) = (Arc::clone(&self.engine), Arc::clone(&self.mark));
        let write = blocking::run(move || engine.write(std::iter::from_fn(|| made.blocking_recv())));
        let make = async {
            for step in operation::steps(&set, self.engine.spaces()) {
                // Closed: the engine has failed, and says why.
                if steps.send(step?).await.is_err() {
                    break;
                }
            }
            drop(steps);
            Ok(())
        };
        let (made, written) = tokio::join!(make, write);
        // Where the folder is gone, that is the reason of whatever else was found.
        blocking::run(move || mark.stands()).await?;
        written.and(made)?;
        self.optimizer.wrote(delivery.commands.len());
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let Self { engine, server, optimizer, .. } = *self;
        drop(server);
        blocking::run(move || {
            if optimizer.stop() {
                engine.close();
            }
            Ok(())
        })
        .await
    }
}

fn admission(spaces: Spaces) -> Admission {
    Arc::new(move |point, position| spaces.admit(point, position))
}

/// Checks that the folder, or a file in it, could be made.
fn could_be_made(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let can = match there.is_dir() {
        true => rustix::fs::access(there, access).map_err(std::io::Error::from),
        false => Err(std::io::ErrorKind::NotADirectory.into()),
    };
    can.map_err(|error| {
        Error::new(Fault::Environment, format!("folder `{}` cannot be made", path.display()))
            .because(error)
            .help(format!("`{}` must be writable for the host; or change the sink's `path`", there.display()))
    })
}

/// The nearest points in a folder: from the pipeline that holds it, or from its files if none does.
pub async fn search(config: &QdrantEdgeSettings, query: &Query<'_>) -> Result<Vec<Hit>> {
    let config = config.clone();
    let ground = blocking::run(move || Ground::find(&config)).await?;
    if !Engine::exists(&ground) {
        return Err(Error::new(Fault::Environment, format!("there are no points in folder `{}`", ground.display()))
            .help("start the pipeline first, and search from the same working directory: `pgstream-host run <file>`"));
    }
    let start = Instant::now();
    while start.elapsed() < SEARCH_PATIENCE {
        if let Some(hits) = serve::ask(&ground, query).await? {
            return Ok(hits);
        }
        let folder = ground.clone();
        let open = move || {
            let lock = Lock::try_take(&folder, Role::Search)?;
            lock.map(|lock| Engine::start(&folder, lock, None)).transpose()
        };
        if let Some(engine) = blocking::run(open).await? {
            return search_in(Arc::new(engine), query).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Error::new(Fault::Environment, format!("folder `{}` is in use, and nobody there answers", ground.display()))
        .help("try again; if it stays so, restart the pipeline that writes the folder"))
}

async fn search_in(engine: Arc<Engine>, query: &Query<'_>) -> Result<Vec<Hit>> {
    let (vector, values, limit) = (query.vector.to_owned(), query.values.to_vec(), query.limit);
    blocking::run(move || engine.search(&Query { vector: &vector, values: &values, limit })).await
}

/// The thread that builds the engine's graphs between writes.
struct Optimizer {
    /// Commands written since its last turn.
    pending: Arc<AtomicUsize>,
    news: mpsc::SyncSender<()>,
    ended: mpsc::Receiver<()>,
}

impl Optimizer {
    fn start(engine: Arc<Engine>) -> Result<Self> {
        let pending = Arc::new(AtomicUsize::new(0));
        let (news, heard) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::sync_channel(1);
        let count = Arc::clone(&pending);
        let run = move || {
            optimize(&engine, &count, &heard);
            drop(engine);
            let _ = end.send(()); // nobody waits any more
        };
        std::thread::Builder::new().name("edge-optimizer".to_owned()).spawn(run).map_err(|error| {
            Error::new(Fault::Environment, "no thread for the optimizer of a `qdrant-edge` sink can be started")
                .because(error)
        })?;
        Ok(Self { pending, news, ended })
    }

    fn wrote(&self, commands: usize) {
        self.pending.fetch_add(commands, Ordering::Relaxed);
        let _ = self.news.try_send(()); // full: it will hear; gone: it has said why
    }

    /// Ends the optimizer, and tells if it has stopped in time.
    fn stop(self) -> bool {
        drop(self.news);
        let working = self.ended.recv_timeout(CLOSE_PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if working {
            tracing::info!("the optimizer still works; it can be killed at any time");
        }
        !working
    }
}

fn optimize(engine: &Engine, pending: &AtomicUsize, news: &mpsc::Receiver<()>) {
    while news.recv().is_ok() {
        while pending.load(Ordering::Relaxed) < MAX_UNOPTIMIZED {
            match news.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => break,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
        pending.store(0, Ordering::Relaxed);
        if let Err(error) = engine.optimize() {
            // Searches stay right, only slower.
            tracing::warn!(error = error.report(), "the optimizer of a `qdrant-edge` sink failed");
            return;
        }
    }
}
