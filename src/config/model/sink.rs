//! What a pipeline file says about sinks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Source;
use crate::config::{Secret, Size, Span};

/// A sink by its `type`.
#[derive(Clone, Debug, PartialEq)]
pub enum Sink {
    /// A table with pgvector columns.
    Pgvector(PgvectorSink),
    /// A Qdrant server.
    Qdrant(QdrantSink),
    /// Qdrant's engine inside the host.
    QdrantEdge(QdrantEdgeSink),
    /// A table of rejected events.
    DeadLetters(DeadLettersSink),
    /// JSON lines in a file.
    File(FileSink),
    /// JSON lines on standard output.
    Stdout(StdoutSink),
    /// Nothing: to measure what lies before it.
    Blackhole(BlackholeSink),
}

impl Sink {
    /// Names of the transforms, or of their `.rejected` outputs, that feed the sink.
    pub fn inputs(&self) -> &[String] {
        match self {
            Sink::Pgvector(sink) => &sink.inputs,
            Sink::Qdrant(sink) => &sink.inputs,
            Sink::QdrantEdge(sink) => &sink.inputs,
            Sink::DeadLetters(sink) => &sink.inputs,
            Sink::File(sink) => &sink.inputs,
            Sink::Stdout(sink) => &sink.inputs,
            Sink::Blackhole(sink) => &sink.inputs,
        }
    }

    /// Fills in what a sink takes from the source unless it says otherwise.
    pub(in crate::config) fn complete(&mut self, source: &Source) {
        if let Sink::DeadLetters(sink) = self
            && sink.url.is_none()
            && let Some(source) = source.database()
        {
            sink.url = Some(source.url.clone());
            if sink.trusted_owners.is_empty() {
                sink.trusted_owners.clone_from(&source.trusted_owners);
            }
            sink.password_file = sink.password_file.take().or_else(|| source.password_file.clone());
        }
    }

    /// When a write of the sink begins.
    pub fn batch(&self) -> SinkBatch {
        match self {
            Sink::Pgvector(sink) => sink.batch.clone(),
            Sink::Qdrant(sink) => sink.batch.clone(),
            Sink::QdrantEdge(sink) => sink.batch.clone(),
            Sink::DeadLetters(_) | Sink::File(_) | Sink::Stdout(_) | Sink::Blackhole(_) => SinkBatch::default(),
        }
    }

    /// What the file may say of it; None for kinds that have no such setting.
    pub fn batch_mut(&mut self) -> Option<&mut SinkBatch> {
        match self {
            Sink::Pgvector(sink) => Some(&mut sink.batch),
            Sink::Qdrant(sink) => Some(&mut sink.batch),
            Sink::QdrantEdge(sink) => Some(&mut sink.batch),
            Sink::DeadLetters(_) | Sink::File(_) | Sink::Stdout(_) | Sink::Blackhole(_) => None,
        }
    }
}

/// Writes points as rows of a Postgres table with pgvector columns, and the position in the same transaction.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgvectorSink {
    /// Transforms whose commands it writes.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// `postgres://user:password@host:port/database?sslmode=verify-full`; may be the source's own database.
    pub url: Secret,
    /// A file with the password, relative to the working directory, read again at each connection.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Roles, beside the one in `url`, that may own the table, the extension, and the schema `pgstream`. They could run
    /// code with the rights of the role in `url`.
    #[serde(default)]
    pub trusted_owners: Vec<String>,
    /// The folder that the files named here lie in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// `schema.table` or `table`.
    #[schemars(length(min = 1))]
    pub table: String,
    /// Creates the table if it is missing; without it a missing table is an error.
    #[serde(default)]
    pub create: Option<Create>,
    /// When a write begins.
    #[serde(default)]
    pub batch: SinkBatch,
}

/// Writes points to a collection of a Qdrant server, over gRPC.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QdrantSink {
    /// Transforms whose commands it writes.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The server's gRPC address, such as `http://localhost:6334`; `https` for TLS.
    pub url: String,
    /// Sent with each request; leave out for servers without one.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// The collection's name.
    #[schemars(length(min = 1))]
    pub collection: String,
    /// Creates the collection if it is missing; without it a missing collection is an error.
    #[serde(default)]
    pub create: Option<Create>,
    /// How long one request may take.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    #[serde(default = "QdrantSink::default_timeout")]
    pub timeout: Span,
    /// When a write begins.
    #[serde(default)]
    pub batch: SinkBatch,
}

impl QdrantSink {
    fn default_timeout() -> Span {
        Span(Duration::from_secs(30))
    }
}

/// Keeps points in a folder, with Qdrant's engine inside the host: no server to run.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QdrantEdgeSink {
    /// Transforms whose commands it writes.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The folder, relative to the working directory; made if missing.
    pub path: PathBuf,
    /// The folder that it lies in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// The vectors of the collection.
    pub create: Create,
    /// When a write begins.
    #[serde(default)]
    pub batch: SinkBatch,
}

/// Keeps rejected events in the table `pgstream.dead_letters` of a Postgres database, from where `pgstream-host dlq` shows,
/// replays and drops them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersSink {
    /// The rejected events that it keeps, as `<transform>.rejected`.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// `postgres://user:password@host:port/database?sslmode=verify-full`. Default: the source's database.
    #[serde(default)]
    pub url: Option<Secret>,
    /// A file with the password, relative to the working directory, read again at each connection. Default: the source's, with
    /// the source's `url`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Roles, beside the one in `url`, that may own the schema `pgstream` and its table. They could run
    /// code with the rights of the role in `url`. Default: the source's, with the source's `url`.
    #[serde(default)]
    pub trusted_owners: Vec<String>,
    /// The folder that the files named here lie in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// Letters of the pipeline that are kept. One more stops it: each stands for a row that the sinks lack.
    #[schemars(range(min = 1, max = 10_000_000))]
    #[serde(default = "DeadLettersSink::default_max_letters")]
    pub max_letters: u64,
}

impl DeadLettersSink {
    fn default_max_letters() -> u64 {
        100_000 // far more than a person looks through, little beside a database
    }
}

/// Appends commands, or rejected events, to a file as JSON lines.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// Transforms whose commands it writes, or `<transform>.rejected`.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The file, relative to the working directory; made if missing.
    pub path: PathBuf,
    /// The folder that it lies in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

/// Prints commands, or rejected events, as JSON lines.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutSink {
    /// Transforms whose commands it prints, or `<transform>.rejected`.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// How much of a long vector is printed.
    #[serde(default)]
    pub vectors: Vectors,
}

/// How much of a long vector is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vectors {
    /// The first numbers, and how many follow: enough to see that there is one.
    #[default]
    Short,
    /// All numbers.
    Whole,
}

/// Takes everything and keeps nothing.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlackholeSink {
    /// Transforms whose commands it takes, or `<transform>.rejected`.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
}

/// The vectors of a table or collection.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Length of the default, unnamed vector.
    #[schemars(range(min = 1, max = 65_535))]
    #[serde(default)]
    pub dimension: Option<usize>,
    /// How the default vector is compared.
    #[serde(default)]
    pub distance: Distance,
    /// Further, named vectors.
    #[serde(default)]
    pub vectors: BTreeMap<String, VectorSpec>,
    /// Names of sparse vectors.
    #[serde(default)]
    pub sparse: Vec<String>,
}

/// A named vector.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorSpec {
    /// Length of the vector.
    #[schemars(range(min = 1, max = 65_535))]
    pub dimension: usize,
    /// How it is compared.
    #[serde(default)]
    pub distance: Distance,
}

/// How vectors are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// By angle.
    #[default]
    Cosine,
    /// By dot product.
    Dot,
    /// By Euclidean distance.
    Euclid,
}

/// When a write to a sink begins: at whichever limit comes first.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkBatch {
    /// How many points are gathered before a write begins. A removal counts as one; the source's batches are not cut.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_points: usize,
    /// How many bytes are gathered before a write begins.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    pub max_bytes: Size,
    /// How long a write waits for more to be gathered. Zero: what has arrived is written at once.
    #[schemars(extend("x-maximum" = "1m"))]
    pub linger: Span,
}

impl Default for SinkBatch {
    fn default() -> Self {
        Self { max_points: 4000, max_bytes: Size(8 << 20), linger: Span(Duration::ZERO) }
    }
}
