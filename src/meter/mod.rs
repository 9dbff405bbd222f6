//! Meters: numbers that are counted where the work is done, and read when somebody asks. A leaf
//! that every layer may import.
//!
//! No event pays for them: each is an atomic that is touched once a batch, a call or a write,
//! without a lock, a look-up or an allocation. A pipeline's meters outlive its restarts, and go
//! with it when it is gone for good.

mod number;

mod metric;

mod source;

mod parts;

mod letters;

mod pipeline;

pub use letters::LetterMeter;
pub use metric::{ALL, Fold, Metric, MetricKind};
pub use number::{Counter, Gauge, Histogram, HistogramReading, Reading, Stopwatch, TimeSum};
pub use parts::{
    EmbedderMeter, EngineMeter, HttpOutcome, ReloadMeter, ReloadResult, RequestOutcome, SinkMeter, StartReason,
    TenantMeter, TransformMeter,
};
pub use pipeline::{FlowMeter, PipelineMeter};
pub use source::{Connected, CopyCount, ReconnectReason, SlotReading, SourceMeter};

/// The metrics by name, for whoever fills them in.
pub mod metrics {
    pub use super::metric::table::*;
}
