//! `OpenEmbedders`: the embedders of a pipeline, which outlive its restarts, as they remember what was paid for.

use std::sync::Arc;

use indexmap::IndexMap;

use super::Embedders;
use crate::components::PipelineSettings;
use crate::embedder::{self, Embedder, EmbedderKind};
use crate::error::Result;

/// Embedders that a pipeline has opened, with the settings that they were opened with.
#[derive(Clone, Default)]
pub(super) struct OpenEmbedders(IndexMap<String, (Box<dyn EmbedderKind>, Arc<dyn Embedder>)>);

impl OpenEmbedders {
    /// The embedders of the settings. Those that are open, and have the same settings, stay open.
    pub(super) fn of(&mut self, settings: &PipelineSettings) -> Result<Embedders> {
        let mut opened = IndexMap::new();
        for (name, wanted) in &settings.embedders {
            let there = self.0.get(name).filter(|(before, _)| before == wanted).map(|(_, open)| Arc::clone(open));
            let open = there.map_or_else(|| embedder::open(name, &**wanted), Ok)?;
            opened.insert(name.clone(), (wanted.clone(), open));
        }
        self.0 = opened;
        Ok(self.0.iter().map(|(name, (_, open))| (name.clone(), Arc::clone(open))).collect())
    }
}
