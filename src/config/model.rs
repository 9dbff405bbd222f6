//! The settings of a pipeline file: one struct per kind of component. They parse the file, and are its schema and reference.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Span};

mod api;
mod host;
mod network;
mod pipeline;
mod sink;

pub use api::{Api, ApiRight, ApiToken, Listen, ListenError, MetricsDetail};
pub use host::{Budget, Compile, HostFile, Tenant};
pub use network::{Allow, HttpHost, HttpLimits, Network, NetworkError, Origin};
pub use pipeline::Pipeline;
pub use sink::{Create, Distance, SinkBatch, VectorSpec};

/// When a batch of events closes: at whichever limit comes first.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceBatch {
    /// Events in a batch.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_events: usize,
    /// Bytes of a batch.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    pub max_bytes: Size,
    /// The time that an unfilled batch waits for more events.
    #[schemars(extend("x-maximum" = "1m"))]
    pub linger: Span,
}

impl Default for SourceBatch {
    fn default() -> Self {
        Self {
            max_events: 1000,                       // where the boundary's cost per call has become small
            max_bytes: Size(4 << 20),               // bounds the memory of a batch of wide rows
            linger: Span(Duration::from_millis(1)), // a burst is gathered, and nobody waits
        }
    }
}

/// The way in which the SDKs make the `id` of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// Of the row's key, with the table's name before it for tables that joined others: rows with equal keys have points of
    /// their own.
    #[default]
    Auto,
    /// Of the row's key alone: rows of several tables with equal keys are meant to share a point, or there are none.
    Key,
}

/// The number of events that may end among the rejected, be it that the handler refused them or that they broke it. Beyond it the
/// pipeline stops, instead of draining what a broken handler cannot take into the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rejections {
    /// Rejected events that are tolerated; as many as `per`, or more, is no limit.
    #[schemars(range(max = 1_000_000))]
    pub max: usize,
    /// Over how many of the last events of the transform they are counted.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub per: usize,
}

impl Default for Rejections {
    fn default() -> Self {
        Self { max: 100, per: 10_000 } // one in a hundred, over enough events that a bad import is not yet an alarm
    }
}

/// The limits of one call of a handler; beyond them the call ends, not the host.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of an instance.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "4GiB"))]
    pub memory: Size,
    /// Time that a call may compute; waiting for an embedder or an answer does not count.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    pub deadline: Span,
    /// Bytes that a call may answer.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    pub output: Size,
    /// The limits of a call over HTTP, with the hosts of `allow.http`.
    pub http: HttpLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Size(64 << 20),
            deadline: Span(Duration::from_secs(1)),
            output: Size(16 << 20),
            http: HttpLimits::default(),
        }
    }
}
