//! The settings of a sink of type `qdrant`, and what the host asks of them.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::QdrantSink;
use crate::config::model::{Create, SinkBatch};
use crate::config::{Accepts, ComponentKind, Problems, Resource, Secret, Span};
use crate::error::{Error, Fault, Result};
use crate::sink::{Hit, Leftover, Look, Query, Searcher, Sink, SinkKind};

/// Writes points to a collection of a Qdrant server, over gRPC.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QdrantSettings {
    /// Transforms whose commands it writes.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The server's gRPC address, such as `http://localhost:6334`; `https` for TLS.
    pub url: String,
    /// Sent with each request; leave out for servers without one.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// The collection's name.
    #[schemars(length(min = 1))]
    pub collection: String,
    /// Creates the collection if it is missing; without it a missing collection is an error.
    #[serde(default)]
    pub create: Option<Create>,
    /// The time that one request may take.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    #[serde(default = "QdrantSettings::default_timeout")]
    pub timeout: Span,
    /// When a write begins.
    #[serde(default)]
    pub batch: SinkBatch,
}

impl QdrantSettings {
    fn default_timeout() -> Span {
        Span(Duration::from_secs(30))
    }
}

impl ComponentKind for QdrantSettings {
    const TYPE: &'static str = "qdrant";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        problems.http_url(&["url"], &self.url, "http://localhost:6334");
        problems.create(self.create.as_ref());
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _, url, api_key: _, collection, create: _, timeout: _, batch } = self;
        vec![
            Resource::Name { key: "collection", name: collection },
            Resource::HttpUrl { key: "url", url },
            batch.resource(),
        ]
    }
}

#[async_trait]
impl SinkKind for QdrantSettings {
    fn accepts() -> Accepts {
        Accepts::Commands
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, _pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(QdrantSink::open(self).await?))
    }

    async fn look(&self) -> Result<Look> {
        QdrantSink::look(self).await
    }

    fn leftover(&self, _purged: bool) -> Option<Leftover> {
        let collection = &self.collection;
        let how = format!("DELETE /collections/{collection} of Qdrant's API");
        Some(Leftover { what: format!("collection `{collection}`"), how })
    }

    fn parse(&self) -> Result<()> {
        self.url.parse::<http::Uri>().map(drop).map_err(|cause| {
            Error::new(Fault::Config, "`url` is not the address of a Qdrant server")
                .because(cause)
                .help("write `url: http://localhost:6334`, or `https://…` for TLS")
        })
    }

    fn batch(&self) -> SinkBatch {
        self.batch.clone()
    }

    fn create(&self) -> Option<&Create> {
        self.create.as_ref()
    }

    fn searcher(&self) -> Option<&dyn Searcher> {
        Some(self)
    }
}

#[async_trait]
impl Searcher for QdrantSettings {
    async fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>> {
        QdrantSink::search(self, query).await
    }
}
