//! `Pipeline`: a pipeline file that was read.

use indexmap::IndexMap;

use crate::config::Components;

/// A pipeline: one source, its transforms, and the sinks that they feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline<C: Components> {
    /// Slot and publication are named after it; positions and dead letters are kept under it.
    pub name: String,
    /// The tenant that owns the pipeline; limits come from the host file.
    pub tenant: Option<String>,
    /// Name of the one source.
    pub source_name: String,
    /// The one source.
    pub source: C::Source,
    /// Embedding models that the host calls for the handlers.
    pub embedders: IndexMap<String, C::Embedder>,
    /// Handlers.
    pub transforms: IndexMap<String, C::Transform>,
    /// The sinks that take the commands.
    pub sinks: IndexMap<String, C::Sink>,
}
