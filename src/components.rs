//! The one list of the kinds of components: each line is a kind whose folder says all else.

use crate::config::{self, Registry, model};
use crate::embedder::{self, EmbedderKind, HashEmbedder, OpenAiEmbedder};
use crate::sink::blackhole::BlackholeSettings;
use crate::sink::dead_letters::DeadLettersSettings;
use crate::sink::lines::{FileSettings, StdoutSettings};
use crate::sink::pgvector::PgvectorSettings;
use crate::sink::qdrant::QdrantSettings;
use crate::sink::qdrant_edge::QdrantEdgeSettings;
use crate::sink::{self, SinkKind};
use crate::source::jsonl::JsonlSettings;
use crate::source::postgres::PostgresSettings;
use crate::source::{self, SourceKind};
use crate::transform::{self, TransformKind, WasmTransform};

/// Every kind of component that this program knows, in the order of the documentation.
pub static REGISTRY: Registry<Kinds> = Registry {
    sources: &[source::kind::<PostgresSettings>(), source::kind::<JsonlSettings>()],
    embedders: &[embedder::kind::<HashEmbedder>(), embedder::kind::<OpenAiEmbedder>()],
    transforms: &[transform::kind::<WasmTransform>()],
    sinks: &[
        sink::kind::<PgvectorSettings>(),
        sink::kind::<QdrantSettings>(),
        sink::kind::<QdrantEdgeSettings>(),
        sink::kind::<DeadLettersSettings>(),
        sink::kind::<FileSettings>(),
        sink::kind::<StdoutSettings>(),
        sink::kind::<BlackholeSettings>(),
    ],
};

/// The sections of a pipeline file of this program.
#[derive(Clone, Debug, PartialEq)]
pub enum Kinds {}

impl config::Components for Kinds {
    type Source = Box<dyn SourceKind>;
    type Embedder = Box<dyn EmbedderKind>;
    type Transform = Box<dyn TransformKind>;
    type Sink = Box<dyn SinkKind>;
}

/// A pipeline file that was read.
pub type PipelineSettings = model::Pipeline<Kinds>;

/// A host file that was read.
pub type HostSettings = model::HostFile<Kinds>;
