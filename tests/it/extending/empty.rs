//! The source `empty`: comes to its end without an event.

use std::sync::Arc;

use async_trait::async_trait;
use pgstream_host::config::{ComponentKind, Problems, Resource, SourceDatabase};
use pgstream_host::error::Result;
use pgstream_host::event::Batch;
use pgstream_host::lsn::Lsn;
use pgstream_host::meter::SourceMeter;
use pgstream_host::source::{
    AdministerSlot, Capability, Claim, CopyRows, Fed, Lag, OpenTap, ReadBack, SampleRow, Source, SourceKind, Written,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Comes to its end without an event.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmptySettings {
    /// The name under which sinks store positions.
    pub(super) origin: String,
}

impl ComponentKind for EmptySettings {
    const TYPE: &'static str = "empty";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        if self.origin.is_empty() {
            problems.at(&["origin"], "`origin` is empty", "write any word");
        }
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { origin: _ } = self;
        Vec::new()
    }
}

#[async_trait]
impl SourceKind for EmptySettings {
    fn claim(&self, _pipeline: &str) -> Result<Option<Claim>> {
        Ok(None)
    }

    fn reads_back(&self, _written: &Written<'_>) -> Option<ReadBack> {
        None
    }

    fn reads_state(&self) -> Option<ReadBack> {
        None
    }

    async fn open(&self, _pipeline: &str, _sinks: Vec<Fed>, meter: Arc<SourceMeter>) -> Result<Box<dyn Source>> {
        meter.connected(true);
        Ok(Box::new(Empty { origin: self.origin.clone() }))
    }

    async fn check(&self, _pipeline: &str, _sinks: Vec<Fed>) -> Result<()> {
        Ok(())
    }

    async fn samples(&self, _pipeline: &str) -> Result<Vec<SampleRow>> {
        Ok(Vec::new())
    }

    fn database(&self) -> Option<SourceDatabase> {
        None
    }

    fn slot(&self) -> Capability<'_, dyn AdministerSlot> {
        Err("an empty source keeps no place")
    }

    fn rows(&self) -> Capability<'_, dyn CopyRows> {
        Err("an empty source has no rows")
    }

    fn tap(&self) -> Capability<'_, dyn OpenTap> {
        Err("an empty source has no events")
    }
}

struct Empty {
    origin: String,
}

#[async_trait]
impl Source for Empty {
    fn origin(&self) -> &str {
        &self.origin
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        Ok(None)
    }

    fn confirm(&self, _lsn: Lsn) {}

    fn is_in_order_of_time(&self) -> bool {
        true
    }

    fn lag(&self) -> Lag {
        Lag::default()
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
