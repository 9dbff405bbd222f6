//! All that a host file says of the API: where it listens, and who may ask what.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

/// Access to the API of the host. Without it there is a Unix socket for the host's own user, and no TCP port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Address and port of a TCP listener, such as `127.0.0.1:7433`. None if it is left out. One that others can reach needs
    /// `tokens`.
    pub listen: Option<Listen>,
    /// File of the Unix socket for the host's own user. Default: `api.sock` in `$RUNTIME_DIRECTORY`, or in
    /// `$XDG_RUNTIME_DIR/pgstream-host`.
    pub socket: Option<PathBuf>,
    /// Those who may ask through TCP, and what they may do.
    pub tokens: Vec<ApiToken>,
    /// Names by which the listener is reached, beside its own address and those of this machine. A request under another name
    /// is refused: it may come from a web page that points its own name here.
    pub hosts: Vec<String>,
    /// The detail with which `/metrics` tells parts from each other. Default: `component` up to 100 pipelines, `pipeline` up to 1,000,
    /// `tenant` beyond.
    pub detail: Option<MetricsDetail>,
}

/// Somebody who may ask, known by a token.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// A name for whoever has it, for the log.
    pub name: String,
    /// A file with the token: at least 32 printable characters on one line. Others than its owner and group may have no access.
    pub file: PathBuf,
    /// All that they may do.
    pub may: Vec<ApiRight>,
    /// The tenant whose pipelines they see. Default: all.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// A right to ask something of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiRight {
    /// `/metrics`.
    Metrics,
    /// States, counters and errors of pipelines; and `/metrics`.
    Read,
    /// Values of rows: a dead letter with its event.
    Values,
    /// To pause, resume and restart pipelines, to reload, and to replay and drop dead letters.
    Act,
}

/// The detail with which metrics tell parts from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricsDetail {
    /// Each transform, embedder and sink by itself.
    Component,
    /// Each pipeline by itself.
    Pipeline,
    /// Each tenant by itself; of a pipeline only whether it runs.
    Tenant,
}

impl MetricsDetail {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Component, "component"), (Self::Pipeline, "pipeline"), (Self::Tenant, "tenant")];
}

/// An address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

/// The text is no address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address with a port, such as `127.0.0.1:7433` or `[::1]:7433`")]
pub struct ListenError;

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        text.parse().map(Self).map_err(|_| ListenError)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["127.0.0.1:7433"] })
    }
}
