//! `Proxy`: a TCP proxy on loopback whose way can be closed, cut, blackholed or slowed, and that counts what that hit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What a slow way takes for each piece.
const SLOW: Duration = Duration::from_millis(15);
/// The most that travels at once.
const PIECE: usize = 16 << 10;

/// What becomes of bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They arrive.
    Open,
    /// There is no way: connections are reset, and new ones too.
    Closed,
    /// They vanish, and so do those that would say that a connection ends; both sides wait.
    Blackhole,
    /// They arrive late.
    Slow,
}

/// A way to a server, for as long as it is not dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    _accepting: AbortOnDropHandle<()>,
}

struct State {
    target: watch::Sender<SocketAddr>,
    way: watch::Sender<Way>,
    /// Rises with each cut.
    cuts: watch::Sender<u64>,
    open: AtomicU64,
    broken: AtomicU64,
    touched: AtomicU64,
}

impl Proxy {
    /// A way to `target`, open.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: watch::Sender::new(target),
            way: watch::Sender::new(Way::Open),
            cuts: watch::Sender::new(0),
            open: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            touched: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Where clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on.
    pub(crate) fn set(&self, way: Way) {
        self.state.way.send_replace(way);
        if way == Way::Closed {
            self.cut();
        }
    }

    /// The URL of a server on 127.0.0.1, by this way.
    pub(crate) fn url(&self, url: &str) -> String {
        let (login, rest) = url.rsplit_once('@').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        format!("{login}@{}/{database}", self.address)
    }

    /// Leads to another server from now on, as a name or an address that moves.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.state.target.send_replace(target);
        self.cut();
    }

    /// Resets every connection. Answers how many there were.
    pub(crate) fn cut(&self) -> u64 {
        let open = self.state.open.load(Ordering::SeqCst);
        self.state.cuts.send_modify(|cuts| *cuts += 1);
        open
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> u64 {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Connections that were reset, so far.
    pub(crate) fn broken(&self) -> u64 {
        self.state.broken.load(Ordering::SeqCst)
    }

    /// Pieces that a blackhole held or a slow way delayed, so far.
    pub(crate) fn touched(&self) -> u64 {
        self.state.touched.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if *state.way.borrow() == Way::Closed {
            state.reset(&[&client]);
            continue;
        }
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut cuts = state.cuts.subscribe();
            let target = *state.target.borrow();
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            let mut client = client;
            let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
            state.open.fetch_add(1, Ordering::SeqCst);
            let ended = {
                let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
                tokio::select! {
                    () = pump(from_client, to_server, &state) => true,
                    () = pump(from_server, to_client, &state) => true,
                    _ = cuts.changed() => false,
                }
            };
            state.open.fetch_sub(1, Ordering::SeqCst);
            if !ended {
                state.reset(&[&client, &server]);
            }
        });
    }
}

impl State {
    /// Lets connections end with a reset instead of a farewell.
    fn reset(&self, ends: &[&TcpStream]) {
        for end in ends {
            // A peer that is gone already needs none.
            let _ = SockRef::from(*end).set_linger(Some(Duration::ZERO));
        }
        self.broken.fetch_add(1, Ordering::SeqCst);
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, state: &State) {
    let mut way = state.way.subscribe();
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await.unwrap_or(0);
        let now = *way.borrow_and_update();
        match now {
            Way::Open | Way::Closed => {}
            Way::Slow => {
                state.touched.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(SLOW).await;
            }
            Way::Blackhole => {
                state.touched.fetch_add(1, Ordering::SeqCst);
                // The sender lives as long as the state.
                let _ = way.wait_for(|way| *way != Way::Blackhole).await;
            }
        }
        let arrived = match length {
            0 => return,
            length => to.write_all(&piece[..length]).await,
        };
        if arrived.is_err() {
            return;
        }
    }
}
