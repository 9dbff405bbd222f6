//! The body of a request that changes something: JSON, of bounded size, sent in bounded time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::view;

/// The longest body that is read.
pub(super) const LONGEST: usize = 64 << 10;
/// The time that it may take to be sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads what is asked for. An empty body stands for `{}`.
///
/// # Errors
/// The answer to a request that asks for nothing that is known.
pub(super) async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Box<Response>> {
    let refused = |status, code: &str, message: String| {
        Box::new(view::problem(status, code, &message, "send JSON, with `Content-Type: application/json`"))
    };
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // A form of another site's page cannot send this type without being asked about it first.
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON, and say so".to_owned();
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
    }
    let body = Limited::new(request.into_body(), LONGEST).collect();
    let bytes = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let message = format!("the body did not arrive, or is longer than {} KiB", LONGEST >> 10);
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
        }
        Err(_) => {
            let message = format!("the body did not arrive within {} s", PATIENCE.as_secs());
            return Err(refused(StatusCode::REQUEST_TIMEOUT, "timeout", message));
        }
    };
    let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
    serde_json::from_slice(bytes).map_err(|cause| {
        // Line and column, and names of keys: nothing of a row stands in what is asked for.
        refused(StatusCode::BAD_REQUEST, "body", format!("the body is not what can be asked for: {cause}"))
    })
}
