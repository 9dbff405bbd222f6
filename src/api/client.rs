//! The command line's end of the API: one question to a host, through its Unix socket or through
//! TCP.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Fault, Result};

/// The time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time that it may take to change something: a pipeline that drains may take half a minute,
/// and a swap of handlers too.
const LONG_PATIENCE: Duration = Duration::from_secs(180);
/// Bytes of an answer: thousands of pipelines.
const LONGEST: usize = 64 << 20;

/// A place at which a host is asked.
#[derive(Clone, Debug)]
pub enum Place {
    /// Its Unix socket.
    Unix(PathBuf),
    /// An address, and a token.
    Tcp {
        /// Name or number, and port.
        address: String,
        /// The bearer token that is sent.
        token: Option<String>,
    },
}

/// The answer of a host.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// The JSON in it.
    pub body: Value,
}

impl Place {
    /// The name of it, for people.
    pub fn shown(&self) -> String {
        match self {
            Self::Unix(socket) => socket.display().to_string(),
            Self::Tcp { address, .. } => address.clone(),
        }
    }
}

/// Asks the host at `place` for the JSON at `path`; with `order`, asks it to do that. None if
/// nobody listens there.
///
/// # Errors
/// `Environment` if it does not answer, or not with JSON.
pub async fn ask(place: &Place, path: &str, order: Option<&Value>) -> Result<Option<Answer>> {
    let patience = if order.is_some() { LONG_PATIENCE } else { PATIENCE };
    let asked = async {
        match place {
            Place::Unix(socket) => match UnixStream::connect(socket).await {
                Ok(stream) => converse(stream, request("localhost", None, path, order)?).await.map(Some),
                Err(_) => Ok(None),
            },
            Place::Tcp { address, token } => match TcpStream::connect(address).await {
                Ok(stream) => converse(stream, request(address, token.as_deref(), path, order)?).await.map(Some),
                Err(_) => Ok(None),
            },
        }
    };
    let unanswered = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Fault::Environment, format!("the host at `{}` does not answer", place.shown()))
            .because(cause)
            .help("look into its log; `pgstream-host status FILE` asks the database")
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(answered) => answered.map_err(unanswered),
        Err(_) => Err(unanswered(format!("nothing came for {} s", patience.as_secs()).into())),
    }
}

type Asked<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn request(host: &str, token: Option<&str>, path: &str, order: Option<&Value>) -> Asked<Request<Body>> {
    let mut request = Request::builder().uri(path).header(header::HOST, host);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let Some(order) = order else { return Ok(request.body(Body::empty())?) };
    let request = request.method(Method::POST).header(header::CONTENT_TYPE, "application/json");
    Ok(request.body(Body::from(order.to_string()))?)
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Asked<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await?.to_bytes();
    let body = serde_json::from_slice(&body).map_err(|_| format!("it answered {status}, and no JSON"))?;
    Ok(Answer { status, body })
}
