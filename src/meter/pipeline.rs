//! `PipelineMeter`: all that is counted of a pipeline, from its first start to the end of its last.

use std::sync::Arc;

use super::number::{Counter, Gauge, Histogram, Stopwatch};
use super::{SinkMeter, SourceMeter, TransformMeter};
use crate::error::Fault;

/// All that a pipeline tells of itself. It outlives restarts, so that counters go on.
#[derive(Debug)]
pub struct PipelineMeter {
    /// Of its source.
    pub source: Arc<SourceMeter>,
    /// Of its transforms, in the order of the file.
    pub transforms: Vec<Arc<TransformMeter>>,
    /// Of its sinks, in the order of the file.
    pub sinks: Vec<Arc<SinkMeter>>,
    /// Of its loop.
    pub flow: Arc<FlowMeter>,
}

/// All that the loop of a pipeline tells of itself.
#[derive(Debug)]
pub struct FlowMeter {
    /// From the commit to when all sinks have it, by event. Without rows that were copied or
    /// replayed.
    pub delivery: Histogram,
    /// Bytes of batches that were received and are not durable.
    pub in_flight_bytes: Gauge,
    /// The most that there may be, before the source is not read any more.
    pub in_flight_limit: Gauge,
    /// Those batches.
    pub in_flight_batches: Gauge,
    /// Time in which the source was not read for lack of room.
    pub blocked: Stopwatch,
    /// One step of its loop, between two waits. One that takes long hangs.
    pub turn: Stopwatch,
    /// Ends with an error, in the order of [`Fault::ALL`].
    pub failures: [Counter; Fault::ALL.len()],
}

impl PipelineMeter {
    /// Of a pipeline with these transforms and sinks.
    pub fn new<'a>(
        transforms: impl IntoIterator<Item = &'a str>,
        sinks: impl IntoIterator<Item = &'a str>,
    ) -> Arc<Self> {
        Arc::new(Self {
            source: Arc::default(),
            transforms: transforms.into_iter().map(TransformMeter::new).map(Arc::new).collect(),
            sinks: sinks.into_iter().map(SinkMeter::new).map(Arc::new).collect(),
            flow: Arc::default(),
        })
    }

    /// The same with these transforms and sinks; those that it had before count on.
    pub fn with<'a>(
        &self,
        transforms: impl IntoIterator<Item = &'a str>,
        sinks: impl IntoIterator<Item = &'a str>,
    ) -> Arc<Self> {
        let transform = |name: &str| {
            let known = self.transforms.iter().find(|meter| meter.name == name);
            known.map_or_else(|| Arc::new(TransformMeter::new(name)), Arc::clone)
        };
        let sink = |name: &str| {
            let known = self.sinks.iter().find(|meter| meter.name == name);
            known.map_or_else(|| Arc::new(SinkMeter::new(name)), Arc::clone)
        };
        Arc::new(Self {
            source: Arc::clone(&self.source),
            transforms: transforms.into_iter().map(transform).collect(),
            sinks: sinks.into_iter().map(sink).collect(),
            flow: Arc::clone(&self.flow),
        })
    }

    /// It ended with an error.
    pub fn failed(&self, fault: Fault) {
        self.flow.failures.get(fault as usize).into_iter().for_each(|counter| counter.add(1));
    }

    /// Nothing of it is under way any more.
    pub fn ended(&self) {
        self.source.connected(false);
        self.flow.blocked.stop();
        self.flow.turn.stop();
        self.flow.in_flight_bytes.set(0);
        self.flow.in_flight_batches.set(0);
        for sink in &self.sinks {
            sink.in_flight.set(0);
            sink.waiting.set(0);
        }
    }
}

impl Default for FlowMeter {
    fn default() -> Self {
        Self {
            delivery: Histogram::new(Histogram::FRESHNESS),
            in_flight_bytes: Gauge::default(),
            in_flight_limit: Gauge::default(),
            in_flight_batches: Gauge::default(),
            blocked: Stopwatch::default(),
            turn: Stopwatch::default(),
            failures: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pipeline_keeps_counts_on_and_what_is_new_begins() {
        let first = PipelineMeter::new(["embed"], ["search", "gone"]);
        first.transforms[0].events.add(3);
        first.sinks[0].writes.add(5);
        first.failed(Fault::Transient);
        let next = first.with(["embed", "other"], ["added", "search"]);
        assert_eq!([next.transforms[0].events.get(), next.transforms[1].events.get()], [3, 0]);
        assert_eq!([next.sinks[0].writes.get(), next.sinks[1].writes.get()], [0, 5]);
        assert_eq!(next.flow.failures[Fault::Transient as usize].get(), 1);
    }
}
