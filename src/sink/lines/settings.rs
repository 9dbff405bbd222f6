//! The settings of sinks of type `file` and `stdout`, and what the host asks of them.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lines;
use crate::config::{Accepts, ComponentKind, Problems, Resource};
use crate::error::Result;
use crate::sink::{Leftover, Look, Sink, SinkKind, StoreMarks, WrittenPlace};

/// Appends commands, or rejected events, to a file as JSON lines.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// Transforms whose commands it writes, or `<transform>.rejected`.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The file, relative to the working directory; made if missing.
    pub path: PathBuf,
    /// The folder that it lies in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

impl ComponentKind for FileSettings {
    const TYPE: &'static str = "file";

    fn review(&self, _problems: &mut Problems<'_, '_>) {}

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _, path, folder } = self;
        vec![Resource::Path { key: "path", path, folder }]
    }
}

#[async_trait]
impl SinkKind for FileSettings {
    fn accepts() -> Accepts {
        Accepts::Both
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Lines::file(pipeline, self).await?))
    }

    async fn look(&self) -> Result<Look> {
        Lines::check(self).await.map(|()| Look { marks: StoreMarks::Place, admission: None })
    }

    fn leftover(&self, _purged: bool) -> Option<Leftover> {
        let path = self.path.display();
        Some(Leftover { what: format!("file `{path}`"), how: format!("rm {path}") })
    }

    fn writes(&self) -> Option<WrittenPlace<'_>> {
        Some(WrittenPlace::File(&self.path))
    }
}

/// Prints commands, or rejected events, as JSON lines.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutSettings {
    /// Transforms whose commands it prints, or `<transform>.rejected`.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The part of a long vector that is printed.
    #[serde(default)]
    pub vectors: Vectors,
}

/// The part of a long vector that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vectors {
    /// The first numbers, and how many follow: enough to see that there is one.
    #[default]
    Short,
    /// All numbers.
    Whole,
}

impl ComponentKind for StdoutSettings {
    const TYPE: &'static str = "stdout";

    fn review(&self, _problems: &mut Problems<'_, '_>) {}

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _, vectors: _ } = self;
        Vec::new()
    }
}

#[async_trait]
impl SinkKind for StdoutSettings {
    fn accepts() -> Accepts {
        Accepts::Both
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Lines::stdout(pipeline, self.vectors)))
    }

    async fn look(&self) -> Result<Look> {
        Ok(Look::default())
    }

    fn leftover(&self, _purged: bool) -> Option<Leftover> {
        None
    }
}
