//! The command line's end of the API: one question to a host on this machine, through its Unix socket.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Fault, Result};

/// The time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer: thousands of pipelines.
const LONGEST: usize = 64 << 20;

/// Asks the host that listens at `socket` for the JSON at `path`. None if nobody listens there.
///
/// # Errors
/// `Environment` if it does not answer, or not with what was asked for.
pub async fn ask(socket: &Path, path: &str) -> Result<Option<Value>> {
    let Ok(stream) = UnixStream::connect(socket).await else { return Ok(None) };
    let asked = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::get(path).header(header::HOST, "localhost").body(Body::empty())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await?.to_bytes();
        match status.is_success() {
            true => Ok(serde_json::from_slice(&body)?),
            false => Err(format!("it answered {status}").into()),
        }
    };
    let unanswered = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Fault::Environment, format!("the host at `{}` does not answer", socket.display()))
            .because(cause)
            .help("look into its log; `pgstream-host status FILE` asks the database")
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered.map(Some).map_err(unanswered),
        Err(_) => Err(unanswered(format!("nothing came for {} s", PATIENCE.as_secs()).into())),
    }
}
