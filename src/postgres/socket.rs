//! `Socket`: a byte stream to the server, over TCP, TLS or a Unix-domain socket, before anybody has
//! logged in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{lost, sqlstate};
use super::intake::{Intake, Refusal, Room};
use super::paced::Paced;
use super::tls;
use super::url::{Address, SslMode, Url};
use crate::error::{Error, Fault, Result};

/// A dead peer is noticed after this long, on an idle and on a writing connection alike; much less
/// would drop connections over a short loss of the network.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// One rung of the `sslmode` ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// None.
    Plain,
    /// TLS if the server can do it.
    Offered,
    /// Or no connection.
    Required,
}

/// The rungs that a URL's `sslmode` allows, from the first to try.
pub(crate) struct Ladder(&'static [Encryption]);

impl Ladder {
    pub(crate) fn new(url: &Url) -> Self {
        Self(match url.ssl.mode {
            // libpq does not encrypt what never leaves the machine.
            _ if matches!(url.address, Address::Unix(..)) => &[Encryption::Plain],
            SslMode::Disable => &[Encryption::Plain],
            SslMode::Allow => &[Encryption::Plain, Encryption::Required],
            SslMode::Prefer => &[Encryption::Offered, Encryption::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Encryption::Required],
        })
    }

    /// Returns the rung to try now.
    pub(crate) fn rung(&self) -> Encryption {
        self.0.first().copied().unwrap_or(Encryption::Required)
    }

    /// Moves to the next rung if there is one and the server refused the login by a rule
    /// (pg_hba.conf), and tells if it did. A server may have such a rule for encrypted connections
    /// and not for others, or the other way round.
    pub(crate) fn climb(&mut self, error: &Error) -> bool {
        match self.0 {
            [_, rest @ ..] if !rest.is_empty() && sqlstate(error) == Some("28000") => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }
}

/// Gives a login the time that the URL allows.
pub(crate) async fn in_time<T>(url: &Url, login: impl Future<Output = Result<T>>) -> Result<T> {
    let result = tokio::time::timeout(url.connect_timeout, login).await;
    result.unwrap_or_else(|_| Err(unreachable(url, io::ErrorKind::TimedOut.into())))
}

/// A byte stream to the server. Over TLS it knows what SCRAM may be bound to. Messages that are
/// longer than they may be end it.
pub(crate) struct Socket {
    stream: Stream,
    binding: Option<Vec<u8>>,
    intake: Intake,
    /// The reason why nothing more is read, once all that came before it has been read.
    refused: Option<Error>,
}

enum Stream {
    Tcp(Paced<TcpStream>),
    Unix(Paced<UnixStream>),
    Tls(Box<TlsStream<Paced<TcpStream>>>),
}

impl Socket {
    /// Reaches the server and, if asked to, starts TLS. Not bounded in time: the caller's login is,
    /// as a whole.
    pub(crate) async fn open(url: &Url, encryption: Encryption) -> Result<Self> {
        let (host, port) = match &url.address {
            Address::Unix(folder, port) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                let stream = UnixStream::connect(path).await.map_err(|error| unreachable(url, error))?;
                return Ok(Self::over(Stream::Unix(Paced::new(stream)), None));
            }
            Address::Tcp(host, port) => (host.as_str(), *port),
        };
        let mut tcp = TcpStream::connect((host, port)).await.map_err(|error| unreachable(url, error))?;
        keep_alive(&tcp).map_err(|error| unreachable(url, error))?;
        if encryption == Encryption::Plain {
            return Ok(Self::over(Stream::Tcp(Paced::new(tcp)), None));
        }
        if !url.ssl.direct && !ask_for_tls(&mut tcp).await.map_err(|error| unreachable(url, error))? {
            if encryption == Encryption::Required {
                return Err(Error::new(
                    Fault::Environment,
                    format!("the server at `{}` does not offer TLS", url.address),
                )
                .help("turn on `ssl` on the server, or write `?sslmode=prefer` to go without"));
            }
            return Ok(Self::over(Stream::Tcp(Paced::new(tcp)), None));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Error::new(Fault::Config, format!("`{host}` is not a host name")).because(error))?;
        let connector = TlsConnector::from(Arc::new(tls::config(url).await?));
        let tls = connector.connect(name, Paced::new(tcp)).await.map_err(|error| untrusted(url, error))?;
        let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let binding = certificate.and_then(tls::end_point);
        Ok(Self::over(Stream::Tls(Box::new(tls)), binding))
    }

    fn over(stream: Stream, binding: Option<Vec<u8>>) -> Self {
        let private = !matches!(stream, Stream::Tcp(_));
        Self { stream, binding, intake: Intake::new(private), refused: None }
    }

    /// From now on rows may have so many bytes.
    pub(crate) fn set_room(&mut self, room: Room) {
        self.intake.set_room(room);
    }

    /// The next answer may be a stream.
    pub(crate) fn let_stream(&mut self) {
        self.intake.let_stream();
    }

    /// A stream is read from now on, whose pieces are many and small.
    pub(crate) fn pace(&mut self) {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.begin(),
            Stream::Unix(stream) => stream.begin(),
            Stream::Tls(stream) => stream.get_mut().0.begin(),
        }
    }

    /// The number of bytes read last that begin a message that may still be refused.
    pub(crate) fn unjudged(&self) -> usize {
        self.intake.unjudged()
    }

    /// The server certificate's hash, over TLS.
    pub(crate) fn binding(&self) -> Option<&[u8]> {
        self.binding.as_deref()
    }

    /// Tells if nobody between us and the server can read along: it is a Unix socket, or TLS.
    pub(crate) fn is_private(&self) -> bool {
        !matches!(self.stream, Stream::Tcp(_))
    }
}

/// Sends SSLRequest and reads its answer: one byte, and no more, for whatever came with it in plain
/// text would otherwise pass for the first bytes of the encrypted stream.
async fn ask_for_tls(tcp: &mut TcpStream) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    let mut answer = [0];
    tcp.read_exact(&mut answer).await?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the peer does not speak Postgres' protocol")),
    }
}

fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(DEAD_AFTER / 3).with_interval(DEAD_AFTER / 6).with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
    Ok(())
}

fn unreachable(url: &Url, error: io::Error) -> Error {
    lost(format!("cannot reach the database server at `{}`", url.address), error)
        .help("check host and port in `url`, and that the server runs and listens there")
}

fn untrusted(url: &Url, error: io::Error) -> Error {
    let what = format!("no trusted TLS connection to `{}`", url.address);
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let help = match cause {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "name the authority that signed the server's certificate: `sslrootcert=<PEM file>`"
        }
        Some(rustls::Error::InvalidCertificate(_)) => {
            "let `url` name the host as the server's certificate does, or give the server a valid certificate"
        }
        Some(rustls::Error::AlertReceived(_)) => "the server refused ours: check `sslcert` and `sslkey`",
        // Not TLS' own complaint: the connection broke.
        _ => return lost(what, error),
    };
    Error::new(Fault::Environment, what).because(error).help(help)
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Err(io::Error::other(error)));
        }
        let before = buf.filled().len();
        std::task::ready!(match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        if let Err(Refusal { good, error }) = self.intake.pass(buf.filled().get(before..).unwrap_or_default()) {
            buf.set_filled(before + good);
            if good == 0 {
                return Poll::Ready(Err(io::Error::other(error)));
            }
            self.refused = Some(error);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
