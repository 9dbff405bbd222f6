//! `/metrics`: what the host counts, in the text formats that Prometheus reads.

mod collect;

mod page;

mod process;

use std::sync::Arc;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::config::model::MetricsDetail;
use crate::error::{Error, Fault, Result};
use crate::host::{Host, Supervisor};

/// The page that is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// The detail. By the number of pipelines if that is not said.
    pub(super) detail: Option<MetricsDetail>,
    /// The one tenant that it is about.
    pub(super) tenant: Option<String>,
    /// In the format OpenMetrics; else in that which people and older servers read.
    pub(super) open_metrics: bool,
}

/// The content type of the page.
pub(super) fn content_type(open_metrics: bool) -> &'static str {
    match open_metrics {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => prometheus_text::CONTENT_TYPE,
    }
}

/// Renders the page. Takes some time where there are many pipelines: for a thread of its own.
///
/// # Errors
/// `Bug` if it cannot be written down.
pub(super) fn render(host: &Host, supervisor: &Supervisor, wanted: &Wanted) -> Result<String> {
    supervisor.want_letter_counts();
    let pipelines = supervisor.list();
    let detail = wanted.detail.unwrap_or(match pipelines.len() {
        ..=100 => MetricsDetail::Component,
        101..=1000 => MetricsDetail::Pipeline,
        _ => MetricsDetail::Tenant,
    });
    let page = collect::collect(host, supervisor.reloads(), &pipelines, wanted.tenant.as_deref()).folded(detail);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::new(page)));
    let mut text = String::new();
    let encoded = match wanted.open_metrics {
        true => text::encode(&mut text, &registry),
        false => prometheus_text::encode(&mut text, &registry),
    };
    encoded.map_err(|error| Error::new(Fault::Bug, "the metrics cannot be written down").because(error))?;
    Ok(text)
}
