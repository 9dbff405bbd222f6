//! The settings of a host file: the tenants of a host, and what each of them may have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Api, HttpHost, Limits};
use crate::config::{Components, Size, Span};

/// The host file: who may run pipelines here, and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct HostFile<C: Components> {
    /// Cores that handlers leave to the rest of the host.
    pub reserve_cores: usize,
    /// Bytes of compiled handlers that are kept.
    pub cache: Size,
    /// The memory and time that compiling one handler may take.
    pub compile: Compile,
    /// The ways in which others ask the host how it is doing.
    pub api: Api,
    /// Embedding models that tenants may use by name.
    pub embedders: IndexMap<String, C::Embedder>,
    /// The tenants by name.
    pub tenants: BTreeMap<String, Tenant>,
}

/// The memory and time that compiling one handler may take. It is done in a process of its own, one handler of a tenant at a time.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compile {
    /// Memory of the compiler.
    #[schemars(extend("x-minimum" = "64MiB", "x-maximum" = "1TiB"))]
    pub memory: Size,
    /// CPU time of the compiler, over all its threads.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub time: Span,
}

impl Default for Compile {
    fn default() -> Self {
        Self { memory: Size(2 << 30), time: Span(std::time::Duration::from_secs(120)) }
    }
}

/// An owner of pipelines. What is not granted here does not exist for it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The folder of its pipeline files, relative to the host file. Only a file in it can belong to the tenant, and every
    /// path in such a file leads into it.
    pub folder: PathBuf,
    /// Its part of the CPU time, in proportion to the weights of the others that want to compute.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "Tenant::default_weight")]
    pub weight: u32,
    /// Linear memory of all instances of its handlers together.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1TiB"))]
    #[serde(default = "Tenant::default_memory")]
    pub memory: Size,
    /// Pipelines that it may run.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "Tenant::default_pipelines")]
    pub pipelines: usize,
    /// Workers of all its transforms together.
    #[schemars(range(min = 1, max = 256))]
    #[serde(default = "Tenant::default_workers")]
    pub workers: usize,
    /// Lines per second that all its handlers together may log.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default = "Tenant::default_log_lines")]
    pub log_lines: u32,
    /// HTTP requests that all its handlers together may have under way; further ones wait for their turn.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default = "Tenant::default_requests")]
    pub requests: usize,
    /// Sinks of all its pipelines together, each of which has connections or files of its own.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default = "Tenant::default_outlets")]
    pub outlets: usize,
    /// The most that its transforms may write under `limits`.
    #[serde(default)]
    pub limits: Limits,
    /// The most that its sources and sinks may write as `batch.max_bytes`.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    #[serde(default = "Tenant::default_batch")]
    pub batch: Size,
    /// The most that its sources may write as `max_row`.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1GiB"))]
    #[serde(default = "Tenant::default_max_row")]
    pub max_row: Size,
    /// Types of sinks that it may use.
    #[serde(default)]
    pub sinks: Vec<String>,
    /// The beginning of the names of its collections and tables; a prefix with a `.` also tells the schema. Default: the
    /// tenant's name and `_` or `-`. An empty text allows every name.
    #[serde(default)]
    pub prefixes: Option<Vec<String>>,
    /// Servers that its sources and sinks may connect to: `host`, `host:port`, or the folder of a socket.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Hosts that its transforms may name under `allow.http`, as they are written there; headers are added to each request
    /// and seen by nobody, and addresses off the public internet are `private` here first.
    #[serde(default)]
    pub http: Vec<HttpHost>,
    /// Names of environment variables that its files may refer to; `*` at the end stands for any characters.
    #[serde(default)]
    pub env: Vec<String>,
    /// Embedders of the host that it may use, each within its budget.
    #[serde(default)]
    pub embedders: BTreeMap<String, Budget>,
}

/// The amount that may be embedded. What is beyond it waits for the next period. Texts and bytes that a provider refuses without
/// charging for them do not count, but their requests do.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Texts in a period.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub texts: Option<u64>,
    /// Bytes of texts in a period.
    #[serde(default)]
    pub bytes: Option<Size>,
    /// Requests in a period, those that are refused as well. Default: as many as `texts`, or as `bytes`.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub requests: Option<u64>,
    /// The period. It begins with the first text after the one before.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "31d"))]
    #[serde(default = "Budget::default_per")]
    pub per: Span,
}

impl Tenant {
    fn default_weight() -> u32 {
        1
    }
    fn default_memory() -> Size {
        Size(512 << 20)
    }
    fn default_pipelines() -> usize {
        10
    }
    fn default_workers() -> usize {
        8
    }
    fn default_log_lines() -> u32 {
        100
    }
    fn default_requests() -> usize {
        64
    }
    fn default_outlets() -> usize {
        50
    }
    fn default_batch() -> Size {
        Size(8 << 20)
    }
    fn default_max_row() -> Size {
        Size(64 << 20)
    }
}

impl Budget {
    /// Requests in a period.
    pub fn most_requests(&self) -> u64 {
        self.requests.or(self.texts).or(self.bytes.map(|bytes| bytes.0)).unwrap_or(u64::MAX)
    }

    fn default_per() -> Span {
        Span(std::time::Duration::from_secs(86_400))
    }
}
