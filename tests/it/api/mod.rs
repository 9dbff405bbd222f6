//! The API of a running host: what it counts, what it answers, and what it does not answer.

mod counts;
mod deploy;
mod detail;
mod docs;
mod exposition;
pub(crate) mod gate;
mod letters;
mod page;
mod refusals;
mod status;
mod steer;
mod tenants;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::program::{Folder, Running, pgstream};

use exposition::Exposition;

/// An answer of the API.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends bytes, and takes what comes until the other end hangs up.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses a request early may hang up while it is still written.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Answer::parse(&answer)
}

/// Asks with GET, and with these further headers.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let host = if headers.to_lowercase().contains("host:") { String::new() } else { format!("Host: {address}\r\n") };
    raw(address, format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n").as_bytes()).await
}

/// Asks through the Unix socket.
pub(crate) async fn own(socket: &std::path::Path, path: &str) -> Answer {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    Answer::parse(&answer)
}

/// The page of metrics, read.
pub(crate) async fn metrics(address: SocketAddr) -> Exposition {
    let answer = get(address, "/metrics", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    Exposition::read(&answer.body, false)
}

/// A folder in which the socket of a host is looked for, and no other host's.
pub(crate) struct Home(Folder);

impl Home {
    pub(crate) fn new() -> Self {
        Self(Folder::new())
    }

    /// A command of the program at home here.
    pub(crate) fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = pgstream(arguments);
        command.env("XDG_RUNTIME_DIR", self.0.path("")).env_remove("RUNTIME_DIRECTORY");
        command
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.path("pgstream-host/api.sock")
    }
}

/// Where a host that runs says that its API listens.
pub(crate) async fn listens(host: &mut Running) -> SocketAddr {
    host.said("the API listens").await;
    let log = host.log();
    let line = log.lines().find(|line| line.contains("the API listens")).unwrap();
    let (_, address) = line.split_once("address=").unwrap();
    address.split_whitespace().next().unwrap().parse().unwrap()
}
