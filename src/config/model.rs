//! What a pipeline file says: one struct per kind of component. They parse the file, and are its schema and reference.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Components, Holds, Secret, Size, Span};

mod api;
mod host;
mod jsonl;
mod network;
mod sink;

pub use api::{Api, ApiRight, ApiToken, Listen, ListenError, MetricsDetail};
pub use host::{Budget, Compile, HostFile, Tenant};
pub use jsonl::{JsonlSource, LineFormat, OnBadLine};
pub use network::{Allow, HttpHost, HttpLimits, Network, NetworkError, Origin};
pub use sink::{Create, Distance, SinkBatch, VectorSpec};

/// A pipeline: one source, its transforms, and the sinks that they feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline<C: Components> {
    /// Slot and publication are named after it; positions and dead letters are kept under it.
    pub name: String,
    /// Who owns the pipeline; limits come from the host file.
    pub tenant: Option<String>,
    /// Name and settings of the one source.
    pub source: (String, C::Source),
    /// Embedding models that the host calls for the handlers.
    pub embedders: IndexMap<String, C::Embedder>,
    /// Handlers.
    pub transforms: IndexMap<String, C::Transform>,
    /// Where the commands go.
    pub sinks: IndexMap<String, C::Sink>,
}

/// A source by its `type`.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Postgres' write-ahead log.
    Postgres(PostgresSource),
    /// Lines of JSON.
    Jsonl(JsonlSource),
}

/// Streams the committed changes of tables from Postgres' write-ahead log.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSource {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`. The role needs REPLICATION.
    pub url: Secret,
    /// A file with the password, relative to the working directory, read again at each connection; for passwords that rotate.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Roles, beside the one in `url`, that may own the schema `pgstream` and its tables. They could run
    /// code with the rights of the role in `url`.
    #[serde(default)]
    pub trusted_owners: Vec<String>,
    /// A second login to the same database, for the sessions that read tables: copies, `toast: reread`, replays. What the tables'
    /// owners have hung on them then runs with the rights of that role. It needs SELECT on the tables and nothing else.
    #[serde(default)]
    pub read_url: Option<Secret>,
    /// A file with the password of `read_url`, as `password_file`.
    #[serde(default)]
    pub read_password_file: Option<PathBuf>,
    /// The folder that the files named here lie in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// Tables as `schema.table`; `*` in the table's name stands for any characters. A part with a dot stands in double quotes.
    #[schemars(length(min = 1))]
    pub tables: Vec<String>,
    /// Which rows that are there already to bring over. `initial`: all rows of each table, once; `never`: only changes
    /// from now on.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// What becomes of large values that an UPDATE left alone and that Postgres does not send. `keep`: they reach the
    /// handler as unchanged, and the sinks keep what they have; `reread`: they are read from the table.
    #[serde(default)]
    pub toast: Toast,
    /// What to do when changes went past the pipeline: the slot was dropped, given up by the server, or moved or made again by
    /// somebody else, the publication was changed, or the database comes from a backup. `stop`: stop and say so;
    /// `resnapshot`: make a new slot, clear the sinks and copy all rows again, also with `snapshot: never`.
    #[serde(default)]
    pub on_slot_lost: OnSlotLost,
    /// Whether a standby that is promoted takes the slot over; needs Postgres 17 or later, and `sync_replication_slots` on the
    /// standby. `false` leaves a slot as it is.
    #[serde(default)]
    pub failover: bool,
    /// How often a message is written into the log, so that the server lets go of log also where only other tables are
    /// written: `10ms` or more; `0s` for never.
    #[schemars(extend("x-maximum" = "1h"))]
    #[serde(default = "PostgresSource::default_heartbeat")]
    pub heartbeat: Span,
    /// Name of the replication slot. Default: the pipeline's name with `-` as `_`, after `pgstream_`.
    #[serde(default)]
    pub slot: Option<String>,
    /// Name of the publication. Default: as for `slot`.
    #[serde(default)]
    pub publication: Option<String>,
    /// Bytes of one row. A larger one stops the pipeline before it is read; Postgres' own limit is 1GiB.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1GiB"))]
    #[serde(default = "PostgresSource::default_max_row")]
    pub max_row: Size,
    /// When a batch closes.
    #[serde(default)]
    pub batch: SourceBatch,
}

impl PostgresSource {
    /// What the default names of slot and publication begin with.
    pub const SLOT_PREFIX: &str = "pgstream_";
    /// Oftener would be load on the server for nothing: a slot does not fall behind as quickly.
    pub(crate) const SHORTEST_HEARTBEAT: Span = Span(Duration::from_millis(10));

    /// More than the memory that a handler has to read it with, unless it is given more.
    pub(crate) fn default_max_row() -> Size {
        Size(256 << 20)
    }

    fn default_heartbeat() -> Span {
        Span(Duration::from_secs(10)) // seldom enough to cost nothing, often enough to see that the way is open
    }

    /// The name of slot and publication of `pipeline` where the file gives none.
    pub fn default_slot(pipeline: &str) -> String {
        format!("{}{}", Self::SLOT_PREFIX, pipeline.replace('-', "_"))
    }
}

/// Which rows that are there already to bring over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// All rows of each table, once, also of one that is added later.
    Initial,
    /// None: only changes made from now on.
    #[default]
    Never,
}

/// What to do when changes went past the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSlotLost {
    /// Stop, and say what happened and what to type.
    #[default]
    Stop,
    /// Make a new slot, clear the sinks, and copy all rows again.
    Resnapshot,
}

/// What becomes of large values that an UPDATE left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Toast {
    /// They reach the handler as unchanged.
    #[default]
    Keep,
    /// They are read from the table: a query for each batch that lacks some.
    Reread,
}

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
    /// How long an unfilled batch waits for more events.
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

/// How the SDKs' `id` of an event is made.
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

/// How many events may end among the rejected, be it that the handler refused them or that they broke it. Beyond it the
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

/// What one call of a handler may use up; beyond it the call ends, not the host.
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
    /// What a call may do over HTTP, with the hosts of `allow.http`.
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

impl Holds<JsonlSource> for Source {
    fn hold(settings: JsonlSource) -> Self {
        Self::Jsonl(settings)
    }
}

impl Holds<PostgresSource> for Source {
    fn hold(settings: PostgresSource) -> Self {
        Self::Postgres(settings)
    }
}
