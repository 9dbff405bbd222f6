//! The shape of a host file: its keys, as reader and schema know them.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::Size;
use super::file::{Section, VERSION};
use super::model::{Api, Compile, Tenant};

/// The tenants that may run pipelines in a host, and what they may use.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the embedders are read by `components`; here they name the key, for reader and schema")]
pub(super) struct Shape {
    /// Version of the file's format.
    #[schemars(extend("const" = VERSION))]
    pub(super) version: u64,
    /// Cores that handlers leave to the rest of the host; one is always theirs.
    #[serde(default)]
    pub(super) reserve_cores: usize,
    /// Bytes of compiled handlers that are kept on disk.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1TiB"))]
    #[serde(default = "Shape::default_cache")]
    pub(super) cache: Size,
    /// The memory and time that compiling one handler may take.
    #[serde(default)]
    pub(super) compile: Compile,
    /// The ways in which others ask the host how it is doing.
    #[serde(default)]
    pub(super) api: Api,
    /// Embedding models that tenants may use by name.
    #[serde(default)]
    pub(super) embedders: Section,
    /// The tenants by name.
    #[schemars(extend("minProperties" = 1))]
    pub(super) tenants: BTreeMap<String, Tenant>,
}

impl Shape {
    fn default_cache() -> Size {
        Size(1 << 30)
    }
}
