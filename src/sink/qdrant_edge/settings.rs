//! The settings of a sink of type `qdrant-edge`, and what the host asks of them.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{QdrantEdge, search};
use crate::config::model::{Create, SinkBatch};
use crate::config::{Accepts, ComponentKind, Problems, Resource};
use crate::error::Result;
use crate::sink::{Hit, Leftover, Look, Query, Searcher, Sink, SinkKind};

/// Keeps points in a folder, with Qdrant's engine inside the host: no server to run.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QdrantEdgeSettings {
    /// Transforms whose commands it writes.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The folder, relative to the working directory; made if missing.
    pub path: PathBuf,
    /// The folder that it lies in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// The vectors of the collection.
    pub create: Create,
    /// When a write begins.
    #[serde(default)]
    pub batch: SinkBatch,
}

impl ComponentKind for QdrantEdgeSettings {
    const TYPE: &'static str = "qdrant-edge";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        problems.create(Some(&self.create));
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _, path, folder, create: _, batch } = self;
        vec![Resource::Path { key: "path", path, folder }, batch.resource()]
    }
}

#[async_trait]
impl SinkKind for QdrantEdgeSettings {
    fn accepts() -> Accepts {
        Accepts::Commands
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, _pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(QdrantEdge::open(self).await?))
    }

    async fn look(&self) -> Result<Look> {
        QdrantEdge::look(self).await
    }

    fn leftover(&self, _purged: bool) -> Option<Leftover> {
        let path = self.path.display();
        Some(Leftover { what: format!("folder `{path}`"), how: format!("rm -r {path}") })
    }

    fn batch(&self) -> SinkBatch {
        self.batch.clone()
    }

    fn create(&self) -> Option<&Create> {
        Some(&self.create)
    }

    fn searcher(&self) -> Option<&dyn Searcher> {
        Some(self)
    }
}

#[async_trait]
impl Searcher for QdrantEdgeSettings {
    async fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>> {
        search(self, query).await
    }
}
