//! `OpenEmbedders`: the embedders of a pipeline, which outlive its restarts, as they remember what
//! was paid for.

use std::sync::Arc;

use indexmap::IndexMap;

use super::Embedders;
use crate::components::PipelineSettings;
use crate::embedder::{self, Embedder, EmbedderKind};
use crate::error::Result;

/// Embedders that a pipeline has opened, by their names.
#[derive(Clone, Default)]
pub(super) struct OpenEmbedders(IndexMap<String, OpenEmbedder>);

/// An embedder, and the settings that it was opened with.
#[derive(Clone)]
struct OpenEmbedder {
    settings: Box<dyn EmbedderKind>,
    embedder: Arc<dyn Embedder>,
}

impl OpenEmbedders {
    /// All that are open.
    pub(super) fn all(&self) -> Vec<Arc<dyn Embedder>> {
        self.0.values().map(|open| Arc::clone(&open.embedder)).collect()
    }

    /// The embedders of the settings. Those that are open, and have the same settings, stay open.
    pub(super) fn of(&mut self, settings: &PipelineSettings) -> Result<Embedders> {
        let mut opened = IndexMap::new();
        for (name, wanted) in &settings.embedders {
            let there = self.0.get(name).filter(|open| &open.settings == wanted).map(|open| Arc::clone(&open.embedder));
            let embedder = there.map_or_else(|| embedder::open(name, &**wanted), Ok)?;
            opened.insert(name.clone(), OpenEmbedder { settings: wanted.clone(), embedder });
        }
        self.0 = opened;
        Ok(self.0.iter().map(|(name, open)| (name.clone(), Arc::clone(&open.embedder))).collect())
    }
}
