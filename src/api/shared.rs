//! `Shared`: all that the answers are made of, and the pipelines of which a caller may know.

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::gate::SharedGate;
use super::reload::ReloadOrder;
use super::view;
use crate::config::model::MetricsDetail;
use crate::host::{Host, PipelineHandle, Supervisor};

/// All that the answers are made of.
pub(super) struct Shared {
    pub(super) gate: SharedGate,
    pub(super) host: Host,
    pub(super) supervisor: Supervisor,
    /// Cancelled once the process is to end.
    pub(super) stop: CancellationToken,
    pub(super) began: SystemTime,
    pub(super) detail: Option<MetricsDetail>,
    /// One page of metrics is made at a time: it takes as long as there are pipelines.
    pub(super) rendering: Arc<Semaphore>,
    /// Questions to databases of dead letters at a time.
    pub(super) asking: Arc<Semaphore>,
    /// The way to whoever reads the files.
    pub(super) reloads: Option<mpsc::Sender<ReloadOrder>>,
}

/// The pipeline of this name, if the caller may know of it.
pub(super) fn find(shared: &Shared, caller: &Caller, name: &str) -> Result<PipelineHandle, Box<Response>> {
    seen(shared, caller).into_iter().find(|handle| handle.name() == name).ok_or_else(|| {
        let what = "this host runs no pipeline of that name";
        Box::new(view::problem(StatusCode::NOT_FOUND, "pipeline", what, "`/api/v1/status` lists those that it runs"))
    })
}

/// The pipelines that the caller may know of. Of a stranger's answer all count, and none is named.
pub(super) fn seen(shared: &Shared, caller: &Caller) -> Vec<PipelineHandle> {
    let mut all = shared.supervisor.list();
    if let Some(tenant) = caller.tenant() {
        all.retain(|handle| handle.tenant() == Some(tenant));
    }
    all
}
