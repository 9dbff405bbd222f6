//! Searches from other processes while a pipeline holds the folder: one JSON line to ask, one to
//! answer.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::engine::Engine;
use super::ground::Ground;
use crate::error::{Error, Fault, Result};
use crate::sink::{Hit, Query, blocking};

/// The socket in the folder.
const SOCKET: &str = "search.sock";

/// The file that names the socket's place, if the folder's own name is too long for a socket in it.
const ELSEWHERE: &str = "search.addr";

/// `sun_path` holds 104 bytes on some systems, 108 on others, with the zero at the end.
const MAX_SOCKET_PATH: usize = 103;

/// More than the longest vector takes as text.
const MAX_QUESTION: u64 = 4 << 20;

/// More than some thousand points with long payloads take.
const MAX_ANSWER: u64 = 256 << 20;

/// Searches at once; more wait.
const MAX_SEARCHES: usize = 4;

/// The time that the other side may take to ask, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Question {
    vector: String,
    values: Vec<f32>,
    limit: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Hits(Vec<Hit>),
    /// The flaw of the question, and the help.
    Refused(String, Option<String>),
}

/// Answers searches until it is dropped.
pub(super) struct Server {
    task: JoinHandle<()>,
    socket: PathBuf,
    ground: Ground,
}

impl Server {
    /// Listens in the engine's folder. A socket that a crash left behind is replaced.
    pub(super) fn start(ground: Ground, engine: Arc<Engine>) -> Result<Self> {
        let (listener, socket) = listen(&ground).map_err(|error| {
            Error::new(
                Fault::Environment,
                format!("no socket for searches can be made in folder `{}`", ground.display()),
            )
            .because(error)
            .help("the folder must be on a local file system and writable for the host")
        })?;
        let task = tokio::spawn(serve(listener, engine));
        Ok(Self { task, socket, ground })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // What stays is replaced by the next pipeline, and refuses connections until then.
        let _ = fs::remove_file(&self.socket);
        if fs::remove_file(self.ground.join(ELSEWHERE)).is_ok()
            && let Some(private) = self.socket.parent()
        {
            let _ = fs::remove_dir(private);
        }
    }
}

/// Asks the pipeline that holds the folder. None if there is no such pipeline.
pub(super) async fn ask(folder: &Ground, query: &Query<'_>) -> Result<Option<Vec<Hit>>> {
    let socket = match fs::read_to_string(folder.join(ELSEWHERE)) {
        Ok(elsewhere) => PathBuf::from(elsewhere),
        Err(_) => folder.join(SOCKET),
    };
    let Ok(stream) = UnixStream::connect(&socket).await else {
        return Ok(None);
    };
    let question = Question { vector: query.vector.to_owned(), values: query.values.to_vec(), limit: query.limit };
    match exchange(stream, &question).await {
        Ok(Answer::Hits(hits)) => Ok(Some(hits)),
        Ok(Answer::Refused(what, help)) => {
            let error = Error::new(Fault::Config, what);
            Err(match help {
                Some(help) => error.help(help),
                None => error,
            })
        }
        // It may have stopped just now.
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(Error::new(Fault::Environment, "the running pipeline gave no usable answer")
            .because(error)
            .help("run the same version of `pgstream-host` for the pipeline and the search")),
    }
}

fn listen(folder: &Ground) -> io::Result<(UnixListener, PathBuf)> {
    let inside = folder.join(SOCKET);
    let elsewhere = folder.join(ELSEWHERE);
    // Bound where only we can look until its permissions are right, then moved over what is there.
    let own = format!("sock-{}", std::process::id());
    let private = folder.join(&own);
    let longest = folder.named(&own).join("s").as_os_str().len().max(folder.named(SOCKET).as_os_str().len());
    if longest > MAX_SOCKET_PATH {
        let private = std::env::temp_dir().join(format!("pgstream-{:016x}", rand::random::<u64>()));
        let socket = private.join("s");
        let listener = bind(&private, &socket)?;
        fs::write(&elsewhere, socket.as_os_str().as_encoded_bytes())?;
        return Ok((listener, socket));
    }
    match fs::remove_file(&elsewhere) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let _ = fs::remove_dir_all(&private); // of a crashed process that had our number
    let bound = private.join("s");
    let listener = bind(&private, &bound)?;
    fs::rename(&bound, &inside)?;
    fs::remove_dir(&private)?;
    Ok((listener, inside))
}

fn bind(private: &Path, socket: &Path) -> io::Result<UnixListener> {
    DirBuilder::new().mode(0o700).create(private)?;
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, engine: Arc<Engine>) {
    let searches = Arc::new(Semaphore::new(MAX_SEARCHES));
    loop {
        let Ok(permit) = Arc::clone(&searches).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, engine).await {
                        tracing::debug!(%error, "a search over the socket ended early");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no search can be accepted");
                tokio::time::sleep(Duration::from_secs(1)).await; // out of file descriptors, most likely
            }
        }
    }
}

async fn answer(stream: UnixStream, engine: Arc<Engine>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let line = tokio::time::timeout(PATIENCE, read_line(reader, MAX_QUESTION)).await??;
    let answer = match serde_json::from_slice::<Question>(&line) {
        Ok(Question { vector, values, limit }) => {
            let search = move || engine.search(&Query { vector: &vector, values: &values, limit });
            match blocking::run(search).await {
                Ok(hits) => Answer::Hits(hits),
                Err(error) => Answer::Refused(error.to_string(), error.advice().map(str::to_owned)),
            }
        }
        Err(_) => Answer::Refused("the question is not understood".to_owned(), None),
    };
    tokio::time::timeout(PATIENCE, write_line(&mut writer, &answer)).await?
}

async fn exchange(stream: UnixStream, question: &Question) -> io::Result<Answer> {
    let (reader, mut writer) = stream.into_split();
    write_line(&mut writer, question).await?;
    let line = read_line(reader, MAX_ANSWER).await?;
    serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

async fn read_line(reader: impl AsyncReadExt + Unpin, limit: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(reader.take(limit)).read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn write_line<T: Serialize>(writer: &mut (impl AsyncWriteExt + Unpin), value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.flush().await
}
