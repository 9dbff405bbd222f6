//! `connect`: an ordinary SQL session, on the same sockets and with the same settings as
//! replication.

use std::fmt::Write as _;
use std::future::{Ready, ready};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{ChannelBinding as DriverBinding, SslMode as DriverSslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as Binding, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, Config};

use super::error::{failed, refused};
use super::url::ChannelBinding;
use super::{Encryption, Ladder, NO_TRANSACTION_TIMEOUT, PIN, SESSION, Socket, Url, in_time, ours};
use crate::error::Result;

/// Opens a session and sets it up so that no setting of the role or the database changes its
/// meaning, and that nothing of the schema `pgstream` is another's. The connection is driven by a
/// task of its own until the client is dropped. `application_name` is what `pg_stat_activity`
/// shows, unless the URL has one of its own.
///
/// # Errors
/// `Transient` if the server cannot be reached or is starting, `Environment` or `Config` if it
/// refuses the login, or if somebody else has made what bears our names.
pub async fn connect(url: &Url, application_name: &str) -> Result<Client> {
    let login = async {
        let mut ladder = Ladder::new(url);
        loop {
            match log_in(url, ladder.rung(), application_name).await {
                Err(error) if ladder.climb(&error) => {}
                result => break result,
            }
        }
    };
    let inspected = async {
        let client = login.await?;
        ours::inspect(&client).await?;
        Ok(client)
    };
    in_time(url, Box::pin(inspected)).await
}

async fn log_in(url: &Url, encryption: Encryption, application_name: &str) -> Result<Client> {
    let headline = || format!("cannot log in to `{}` at `{}`", url.database, url.address);
    let socket = Socket::open(url, encryption).await?;
    let mut config = Config::new();
    config.user(&url.user).dbname(&url.database);
    config.application_name(url.application_name.as_deref().unwrap_or(application_name));
    if let Some(options) = &url.options {
        config.options(options);
    }
    if let Some(password) = url.password().await? {
        config.password(password.expose());
    }
    config.channel_binding(match url.channel_binding {
        ChannelBinding::Disable => DriverBinding::Disable,
        ChannelBinding::Prefer => DriverBinding::Prefer,
        ChannelBinding::Require => DriverBinding::Require,
    });
    // The socket speaks TLS already, or is meant not to: the driver must not negotiate, only learn the binding.
    config.ssl_mode(DriverSslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    let (client, connection) = config.connect_raw(socket, Opened).await.map_err(|error| failed(headline(), error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an SQL session ended");
        }
    });
    // `ALTER ROLE … SET role` would take the login's own rights away, which are those that advice is about.
    let mut settings = format!("{PIN}SET ROLE NONE;{NO_TRANSACTION_TIMEOUT}{}", ours::trusting(&url.trusted_owners));
    for (name, value) in SESSION {
        // Writing to a string cannot fail.
        let _ = write!(settings, "SET {name} = '{value}';");
    }
    client.batch_execute(&settings).await.map_err(|error| failed(headline(), error))?;
    Ok(client)
}

/// Asks the server to cancel what the session of this token waits for. The answer comes to the
/// session, if there is one.
///
/// # Errors
/// `Transient` if the server cannot be reached.
pub async fn cancel(url: &Url, token: CancelToken) -> Result<()> {
    let asked = async {
        let socket = Socket::open(url, Ladder::new(url).rung()).await?;
        let what = || format!("cannot cancel a query at `{}`", url.address);
        token.cancel_query_raw(socket, Opened).await.map_err(|error| failed(what(), error))
    };
    in_time(url, asked).await
}

/// Bytes that one read brings: few, as answers are short.
const CHUNK: usize = 8 << 10;

/// Hands an open [`Socket`] to the driver as if TLS had just been started on it.
struct Opened;

impl TlsConnect<Socket> for Opened {
    type Stream = Guarded;
    type Error = io::Error;
    type Future = Ready<io::Result<Guarded>>;

    fn connect(self, socket: Socket) -> Self::Future {
        ready(Ok(Guarded { socket, ahead: BytesMut::new(), ended: false }))
    }
}

/// A socket whose refusals reach whoever waits for an answer. Of an error while reading the driver
/// tells nobody but the task that drives the connection, so a refusal is put into the stream as
/// what it passes on: an error of the server.
struct Guarded {
    socket: Socket,
    /// Bytes that were read and are not handed on yet, such as half the head of a message.
    ahead: BytesMut,
    /// Nothing comes behind it.
    ended: bool,
}

impl TlsStream for Guarded {
    fn channel_binding(&self) -> Binding {
        self.socket.binding().map_or_else(Binding::none, |hash| Binding::tls_server_end_point(hash.to_vec()))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let unjudged = if self.ended { 0 } else { self.socket.unjudged() };
            let whole = self.ahead.len().saturating_sub(unjudged).min(buf.remaining());
            if whole > 0 {
                buf.put_slice(&self.ahead.split_to(whole));
                return Poll::Ready(Ok(()));
            }
            if self.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            match std::task::ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk)) {
                Ok(()) if chunk.filled().is_empty() => return Poll::Ready(Ok(())),
                Ok(()) => self.ahead.extend_from_slice(chunk.filled()),
                Err(error) => {
                    self.ahead = refused(error)?;
                    self.ended = true;
                }
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
