//! `JsonlSettings`: the keys of a source of type `jsonl` in a pipeline file, and what they reach.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::SourceBatch;
use crate::config::{ComponentKind, Problems, Resource, Size};

/// Reads events from the lines of a file, which may grow, or from standard input: in the form that `tap --record` writes, or
/// in Debezium's envelope.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlSettings {
    /// The file, relative to the working directory; `-` for standard input.
    pub path: PathBuf,
    /// The folder that the file lies in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// The form of the lines. `auto`: either, as each line shows.
    #[serde(default)]
    pub format: LineFormat,
    /// Names of the columns of the key, for lines that do not name them. Of a table it counts those that the table has.
    #[serde(default)]
    pub key: Vec<String>,
    /// Tables as `schema.table`, of which the events are taken. Default: all. With several, ids of points begin with the table's
    /// name; without a list, those of all tables but the first that is met.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Waits for more at the end of the file. `false`: the pipeline ends when all that was read is durable.
    #[serde(default = "JsonlSettings::default_follow")]
    pub follow: bool,
    /// The fate of a line that cannot be read. `reject`: it goes to the sinks that take a transform's `.rejected`, and stops the
    /// pipeline if there is none; `stop`: it stops the pipeline.
    #[serde(default)]
    pub on_bad_line: OnBadLine,
    /// Bytes of one line. A longer one cannot be read.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    #[serde(default = "JsonlSettings::default_max_row")]
    pub max_row: Size,
    /// When a batch closes.
    #[serde(default)]
    pub batch: SourceBatch,
}

impl JsonlSettings {
    /// More than the memory that a handler has to read it with, unless it is given more.
    pub(crate) fn default_max_row() -> Size {
        Size(64 << 20)
    }

    fn default_follow() -> bool {
        true // a pipeline runs until it is stopped
    }

    /// Tells if the lines come from standard input.
    pub fn is_stdin(&self) -> bool {
        is_stdin(&self.path)
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

impl ComponentKind for JsonlSettings {
    const TYPE: &'static str = "jsonl";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        if self.path.as_os_str().is_empty() {
            problems.at(&["path"], "`path` is empty", "name a file, or `-` for standard input");
        }
        for (index, table) in self.tables.iter().enumerate() {
            problems.table(&["tables", &index.to_string()], table, false);
        }
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { path, folder, format: _, key: _, tables: _, follow: _, on_bad_line: _, max_row, batch } = self;
        let key = "path";
        vec![
            if is_stdin(path) { Resource::Stdin { key } } else { Resource::Path { key, path, folder } },
            Resource::RowBytes { bytes: max_row, usual: Self::default_max_row() },
            Resource::BatchBytes { bytes: &mut batch.max_bytes, usual: SourceBatch::default().max_bytes },
        ]
    }
}

/// The form of the lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineFormat {
    /// Either, as each line shows.
    #[default]
    Auto,
    /// As `tap --record` writes them.
    Events,
    /// Debezium's envelope, with or without its schema.
    Debezium,
}

/// The fate of a line that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadLine {
    /// It goes to the sinks that take a transform's `.rejected`; without one the pipeline stops.
    #[default]
    Reject,
    /// The pipeline stops.
    Stop,
}
