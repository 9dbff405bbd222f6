//! `PipelineGraph`: what of a pipeline feeds what, by the names of its file.

use serde::Serialize;

use super::PipelineHandle;

/// The source and the sinks of a pipeline. Each handler is fed by the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PipelineGraph {
    /// The name of the source.
    pub source: String,
    /// Its type.
    pub kind: &'static str,
    /// The sinks, in the order of the file.
    pub sinks: Vec<GraphSink>,
}

/// A sink, and what feeds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraphSink {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: &'static str,
    /// The transforms whose commands it takes, or whose rejected events, as `chunk.rejected`.
    pub inputs: Vec<String>,
}

impl PipelineHandle {
    /// Returns its source and sinks, and their inputs, with the settings that it runs with.
    pub fn graph(&self) -> PipelineGraph {
        let settings = self.spec().settings;
        let sinks = settings.sinks.iter().map(|(name, sink)| {
            let (name, inputs) = (name.clone(), sink.inputs().to_vec());
            GraphSink { name, kind: sink.kind(), inputs }
        });
        PipelineGraph { source: settings.source_name.clone(), kind: settings.source.kind(), sinks: sinks.collect() }
    }
}
