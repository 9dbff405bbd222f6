//! `Api`: takes connections, at most so many and each within limits of time and size, and ends them
//! when the host ends.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::{self, OwnSocket};
use super::caller::Tokens;
use super::gate::{Gate, Way};
use super::peers::Peers;
use super::reload::ReloadOrder;
use super::routes::router;
use super::shared::Shared;
use crate::config::model;
use crate::error::Result;
use crate::host::{Host, Supervisor};

/// Connections at once, through TCP and through the Unix socket by themselves.
const CONNECTIONS: usize = 64;
/// Of them through TCP from one address, so that some are left for others.
const EACH: usize = CONNECTIONS / 2;
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// Headers of a request.
const HEADERS: usize = 64;
/// The time that the head of a request may take, and how long a connection may idle between two.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The time that a connection may live. A reader that takes nothing in would hold it for ever.
const LIFETIME: Duration = Duration::from_secs(600);
/// The time that what is being answered may take once the host ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Databases that are asked for dead letters at a time.
const LETTER_BOXES: usize = 4;
/// After a failure to take a connection, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The API of a host, which listens and does not answer yet.
pub struct Api {
    shared: Shared,
    tcp: Option<TcpListener>,
    unix: Option<OwnSocket>,
    head_time: Duration,
}

/// An API that answers, until this is closed.
pub struct Serving {
    over: CancellationToken,
    tasks: TaskTracker,
}

impl Api {
    /// Listens as `settings` say, for the pipelines of `supervisor`. `stop` is cancelled when the
    /// host is to end. Without a place for a Unix socket there is none.
    ///
    /// # Errors
    /// `Config` if others could ask without a token, or if a token's file is no good; `Environment`
    /// if a port is taken.
    pub async fn open(
        settings: &model::Api,
        host: Host,
        supervisor: Supervisor,
        stop: CancellationToken,
    ) -> Result<Self> {
        let tokens = Tokens::read(&settings.tokens)?;
        let listen = settings.listen.map(|model::Listen(address)| address);
        let tcp = match listen {
            Some(address) => Some(bind::tcp(address, !tokens.is_empty()).await?),
            None => None,
        };
        let unix = match bind::unix(settings) {
            Err(error) if settings.socket.is_some() => return Err(error),
            Err(error) => {
                tracing::warn!(cause = error.chain(), "this host has no socket: `pgstream-host status` cannot ask it");
                None
            }
            Ok(unix) => unix,
        };
        let is_open = listen.is_some_and(|address| !address.ip().is_loopback());
        if is_open {
            tracing::warn!(
                address = listen.map(|address| address.to_string()),
                "others can reach the API, and what they send and get is not encrypted: put a proxy with TLS in front of it"
            );
        }
        let hosts = settings.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let gate = Arc::new(Gate { tokens, hosts, is_open });
        let (began, rendering) = (SystemTime::now(), Arc::new(Semaphore::new(1)));
        let asking = Arc::new(Semaphore::new(LETTER_BOXES));
        let (detail, reloads) = (settings.detail, None);
        let shared = Shared { gate, host, supervisor, stop, began, detail, rendering, asking, reloads };
        Ok(Self { shared, tcp, unix, head_time: HEAD_TIME })
    }

    /// Has the head of a request take no longer than this; 10 s if nobody says so.
    pub fn head_time(self, limit: Duration) -> Self {
        Self { head_time: limit, ..self }
    }

    /// Hands orders to reload to whoever reads the files.
    pub fn reloading(self, orders: mpsc::Sender<ReloadOrder>) -> Self {
        Self { shared: Shared { reloads: Some(orders), ..self.shared }, ..self }
    }

    /// The address at which it listens for TCP, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Answers from now on.
    pub fn serve(self) -> Serving {
        if let Some(address) = self.address() {
            tracing::info!(%address, "the API listens");
        }
        let Self { shared, tcp, unix, head_time } = self;
        let (over, tasks) = (CancellationToken::new(), TaskTracker::new());
        let counting = shared.supervisor.clone().count_letters();
        tasks.spawn(over.clone().run_until_cancelled_owned(counting));
        let door = Door { router: router(Arc::new(shared)), over: over.clone(), tasks: tasks.clone(), head_time };
        if let Some(tcp) = tcp {
            tasks.spawn(door.clone().take_tcp(tcp));
        }
        if let Some(unix) = unix {
            tasks.spawn(door.take_unix(unix));
        }
        tasks.close();
        Serving { over, tasks }
    }
}

impl Serving {
    /// Ends what is being answered, within 2 s, and listens no longer.
    pub async fn close(self) {
        self.over.cancel();
        let _ = tokio::time::timeout(2 * FAREWELL, self.tasks.wait()).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Takes connections.
#[derive(Clone)]
struct Door {
    router: Router,
    over: CancellationToken,
    tasks: TaskTracker,
    head_time: Duration,
}

impl Door {
    async fn take_tcp(self, listener: TcpListener) {
        let (places, peers) = (Arc::new(Semaphore::new(CONNECTIONS)), Peers::new(EACH));
        while let Some(taken) = self.over.run_until_cancelled(listener.accept()).await {
            let Ok((stream, from)) = taken else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // Beyond that many a connection is closed at once, so that those who wait find out.
            let Some(peer) = peers.admit(from.ip()) else { continue };
            let (Ok(place), Ok(at)) = (Arc::clone(&places).try_acquire_owned(), stream.local_addr()) else { continue };
            let _ = stream.set_nodelay(true);
            self.tasks.spawn(self.clone().converse(stream, Way::Tcp { at: at.ip() }, (place, peer)));
        }
    }

    async fn take_unix(self, socket: OwnSocket) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let listener: &UnixListener = &socket.listener;
        let own = rustix::process::geteuid().as_raw();
        while let Some(taken) = self.over.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = taken else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let is_own = stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            if is_own {
                self.tasks.spawn(self.clone().converse(stream, Way::Unix, place));
            }
        }
    }

    /// Answers the requests of one connection. What goes wrong there is nobody else's concern.
    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin, way: Way, _place: impl Send) {
        let service = TowerToHyperService::new(self.router.layer(Extension(way)));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.head_time);
        builder.max_buf_size(HEAD_BYTES).max_headers(HEADERS);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.over.cancelled() => {}
            () = tokio::time::sleep(LIFETIME) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(FAREWELL, connection).await;
    }
}
