//! The sink `blackhole`: takes everything and keeps nothing but the count.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Delivery, Held, Leftover, Look, Sink, SinkKind};
use crate::config::{Accepts, ComponentKind, Problems, Resource};
use crate::error::Result;

/// Takes everything and keeps nothing.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlackholeSettings {
    /// Transforms whose commands it takes, or `<transform>.rejected`.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
}

impl ComponentKind for BlackholeSettings {
    const TYPE: &'static str = "blackhole";

    fn review(&self, _problems: &mut Problems<'_, '_>) {}

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _ } = self;
        Vec::new()
    }
}

#[async_trait]
impl SinkKind for BlackholeSettings {
    fn accepts() -> Accepts {
        Accepts::Both
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, _pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Blackhole::default()))
    }

    async fn look(&self) -> Result<Look> {
        Ok(Look::default())
    }

    fn leftover(&self, _purged: bool) -> Option<Leftover> {
        None
    }
}

/// A sink that costs nothing, to measure what lies before it.
#[derive(Debug, Default)]
pub struct Blackhole {
    commands: u64,
    rejected: u64,
}

#[async_trait]
impl Sink for Blackhole {
    async fn resume(&mut self, _origin: &str) -> Result<Option<Held>> {
        Ok(None)
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        self.commands += delivery.commands.len() as u64;
        self.rejected += delivery.rejected.len() as u64;
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        tracing::info!(commands = self.commands, rejected = self.rejected, "blackhole closed");
        Ok(())
    }
}
