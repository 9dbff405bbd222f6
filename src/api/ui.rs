//! The page of the host: files in the binary, served to whoever asks. What it shows, it asks for
//! with the visitor's token.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;

use super::shared::Shared;

/// Nothing but its own files is loaded, and nobody but the host is asked: not even what a row or a
/// name holds could change that.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Arc<Shared>> {
    let file = |kind: &'static str, text: &'static str| get(async move || page(kind, text));
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("ui/index.html")))
        .route("/ui/app.js", file("text/javascript; charset=utf-8", include_str!("ui/app.js")))
        .route("/ui/app.css", file("text/css; charset=utf-8", include_str!("ui/app.css")))
        .route("/ui/icon.svg", file("image/svg+xml", include_str!("ui/icon.svg")))
}

fn page(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}
