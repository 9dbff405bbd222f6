//! The sink `null`: takes commands, and forgets them.

use async_trait::async_trait;
use pgstream_host::config::{Accepts, ComponentKind, Problems, Resource};
use pgstream_host::error::Result;
use pgstream_host::sink::{Delivery, Held, Leftover, Look, Sink, SinkKind};
use schemars::JsonSchema;
use serde::Deserialize;

/// Takes commands and forgets them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NullSettings {
    /// Transforms whose commands it takes.
    #[schemars(length(min = 1))]
    pub(super) inputs: Vec<String>,
    /// A line for the log when the sink closes.
    #[serde(default)]
    pub(super) farewell: Option<String>,
}

impl ComponentKind for NullSettings {
    const TYPE: &'static str = "null";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        if self.farewell.as_ref().is_some_and(|text| text.contains('\n')) {
            problems.at(&["farewell"], "`farewell` has several lines", "write it on one line");
        }
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _, farewell: _ } = self;
        Vec::new()
    }
}

#[async_trait]
impl SinkKind for NullSettings {
    fn accepts() -> Accepts {
        Accepts::Commands
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, _pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Null { farewell: self.farewell.clone() }))
    }

    async fn look(&self) -> Result<Look> {
        Ok(Look::default())
    }

    fn leftover(&self, _purged: bool) -> Option<Leftover> {
        None
    }
}

struct Null {
    farewell: Option<String>,
}

#[async_trait]
impl Sink for Null {
    async fn resume(&mut self, _origin: &str) -> Result<Option<Held>> {
        Ok(None)
    }

    async fn write(&mut self, _delivery: &Delivery<'_>) -> Result<()> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        if let Some(farewell) = self.farewell {
            tracing::info!(farewell, "null closed");
        }
        Ok(())
    }
}
