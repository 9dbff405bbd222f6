//! `Acting`: a request to change something about a pipeline, once it is known that whoever asks may.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::caller::Caller;
use super::shared::{Shared, find};
use super::{body, view};
use crate::config::model::ApiRight;
use crate::host::PipelineHandle;

/// A request about the pipeline in its path, by somebody who may act.
pub(super) struct Acting<T> {
    pub(super) handle: PipelineHandle,
    /// Whoever asks, for the log.
    pub(super) by: String,
    /// The body.
    pub(super) asked: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Acting<T> {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, shared: &Arc<Shared>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Some(caller) = parts.extensions.get::<Caller>().cloned() else {
            let what = "nobody has looked at who asks";
            return Err(view::problem(StatusCode::INTERNAL_SERVER_ERROR, "bug", what, "report it"));
        };
        shared.gate.demand(&caller, ApiRight::Act).map_err(|refused| *refused)?;
        let name = Path::<String>::from_request_parts(&mut parts, shared).await;
        let Path(name) =
            name.map_err(|_| view::problem(StatusCode::BAD_REQUEST, "path", "the path is no text", "escape it"))?;
        let handle = find(shared, &caller, &name).map_err(|refused| *refused)?;
        let asked = body::read(Request::from_parts(parts, body)).await.map_err(|refused| *refused)?;
        Ok(Self { handle, by: caller.who(), asked })
    }
}
