//! The settings that several kinds of sinks share.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Resource, Size, Span};

/// The vectors of a table or collection.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Length of the default, unnamed vector.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default)]
    pub dimension: Option<usize>,
    /// The way in which default vectors are compared.
    #[serde(default)]
    pub distance: Distance,
    /// Further, named vectors.
    #[serde(default)]
    pub vectors: BTreeMap<String, VectorSpec>,
    /// Names of sparse vectors.
    #[serde(default)]
    pub sparse: Vec<String>,
}

/// A named vector.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorSpec {
    /// Length of the vector.
    #[schemars(range(min = 1, max = 65_535))]
    pub dimension: usize,
    /// The way in which its vectors are compared.
    #[serde(default)]
    pub distance: Distance,
}

/// The way in which vectors are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// By angle.
    #[default]
    Cosine,
    /// By dot product.
    Dot,
    /// By Euclidean distance.
    Euclid,
}

/// When a write to a sink begins: at whichever limit comes first.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkBatch {
    /// The number of points that are gathered before a write begins. A removal counts as one; the source's batches are not cut.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_points: usize,
    /// The number of bytes that are gathered before a write begins.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    pub max_bytes: Size,
    /// The time that a write waits for more to be gathered. Zero: what has arrived is written at once.
    #[schemars(extend("x-maximum" = "1m"))]
    pub linger: Span,
}

impl Default for SinkBatch {
    fn default() -> Self {
        Self { max_points: 4000, max_bytes: Size(8 << 20), linger: Span(Duration::ZERO) }
    }
}

impl SinkBatch {
    /// The memory that a batch may take.
    pub fn resource(&mut self) -> Resource<'_> {
        Resource::BatchBytes { bytes: &mut self.max_bytes, usual: Self::default().max_bytes }
    }
}
