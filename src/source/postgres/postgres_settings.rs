//! `PostgresSettings`: the keys of a source of type `postgres` in a pipeline file, and what they reach.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::SourceBatch;
use crate::config::{
    ComponentKind, MAX_IDENTIFIER, PostgresLogin, Problems, Resource, Secret, Size, Span, example_name,
    is_whole_identifier, qualified,
};

/// Streams the committed changes of tables from Postgres' write-ahead log.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
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
    /// The rows to bring over that are there already. `initial`: all rows of each table, once; `never`: only changes
    /// from now on.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// The fate of large values that an UPDATE left alone and that Postgres does not send. `keep`: they reach the
    /// handler as unchanged, and the sinks keep what they have; `reread`: they are read from the table.
    #[serde(default)]
    pub toast: Toast,
    /// The thing to do when changes went past the pipeline: the slot was dropped, given up by the server, or moved or made again by
    /// somebody else, the publication was changed, or the database comes from a backup. `stop`: stop and say so;
    /// `resnapshot`: make a new slot, clear the sinks and copy all rows again, also with `snapshot: never`.
    #[serde(default)]
    pub on_slot_lost: OnSlotLost,
    /// Lets a standby that is promoted take the slot over; needs Postgres 17 or later, and `sync_replication_slots` on the
    /// standby. `false` leaves a slot as it is.
    #[serde(default)]
    pub failover: bool,
    /// The time between two messages that are written into the log, so that the server lets go of log also where only other tables are
    /// written: `10ms` or more; `0s` for never.
    #[schemars(extend("x-maximum" = "1h"))]
    #[serde(default = "PostgresSettings::default_heartbeat")]
    pub heartbeat: Span,
    /// Name of the replication slot. Default: the pipeline's name with `-` as `_`, after `pgstream_`.
    #[serde(default)]
    pub slot: Option<String>,
    /// Name of the publication. Default: as for `slot`.
    #[serde(default)]
    pub publication: Option<String>,
    /// Bytes of one row. A larger one stops the pipeline before it is read; Postgres' own limit is 1GiB.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1GiB"))]
    #[serde(default = "PostgresSettings::default_max_row")]
    pub max_row: Size,
    /// When a batch closes.
    #[serde(default)]
    pub batch: SourceBatch,
}

impl PostgresSettings {
    /// Oftener would be load on the server for nothing: a slot does not fall behind as quickly.
    pub(crate) const SHORTEST_HEARTBEAT: Span = Span(Duration::from_millis(10));

    /// More than the memory that a handler has to read it with, unless it is given more.
    pub(crate) fn default_max_row() -> Size {
        Size(256 << 20)
    }

    fn default_heartbeat() -> Span {
        Span(Duration::from_secs(10)) // seldom enough to cost nothing, often enough to see that the way is open
    }
}

/// The rows to bring over that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// All rows of each table, once, also of one that is added later.
    Initial,
    /// None: only changes made from now on.
    #[default]
    Never,
}

/// The thing to do when changes went past the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSlotLost {
    /// Stop, and say what happened and what to type.
    #[default]
    Stop,
    /// Make a new slot, clear the sinks, and copy all rows again.
    Resnapshot,
}

/// The fate of large values that an UPDATE left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Toast {
    /// They reach the handler as unchanged.
    #[default]
    Keep,
    /// They are read from the table: a query for each batch that lacks some.
    Reread,
}

impl ComponentKind for PostgresSettings {
    const TYPE: &'static str = "postgres";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        problems.postgres_url(&["url"], self.url.expose());
        if let Some(url) = &self.read_url {
            problems.postgres_url(&["read_url"], url.expose());
        }
        let mut seen = HashSet::new();
        for (index, table) in self.tables.iter().enumerate() {
            let path = ["tables", &index.to_string()];
            if problems.table(&path, table, true) && !seen.insert(qualified(table)) {
                problems.at(&path, format!("`{table}` stands twice in `tables`"), "remove one of the two");
            }
        }
        if !self.heartbeat.0.is_zero() && self.heartbeat < Self::SHORTEST_HEARTBEAT {
            let help = format!("write a value from {} on, or `0s` for never", Self::SHORTEST_HEARTBEAT);
            problems.at(&["heartbeat"], "`heartbeat` is out of range", help);
        }
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if let Some(slot) = self.slot.as_ref().filter(|slot| !is_whole_identifier(slot) || !slot.chars().all(lower)) {
            let message = "Postgres does not allow this name of a replication slot";
            let help = format!(
                "use lower-case letters, digits and `_`, at most {MAX_IDENTIFIER}; such as `{}`",
                slot_like(slot)
            );
            problems.at(&["slot"], message, help);
        }
        if self.publication.as_ref().is_some_and(|name| !is_whole_identifier(name)) {
            let message = format!("a publication's name has 1 to {MAX_IDENTIFIER} characters");
            problems.at(&["publication"], message, "");
        }
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self {
            url,
            password_file,
            trusted_owners: _,
            read_url,
            read_password_file,
            folder,
            tables: _,
            snapshot: _,
            toast: _,
            on_slot_lost: _,
            failover: _,
            heartbeat: _,
            slot,
            publication,
            max_row,
            batch,
        } = self;
        let named = [("slot", slot), ("publication", publication)];
        let named =
            named.into_iter().filter_map(|(key, name)| Some(Resource::SlotName { key, name: name.as_deref()? }));
        let mut resources: Vec<Resource<'_>> = named.collect();
        let mut logins = vec![PostgresLogin { keys: ["url", "password_file"], url, password_file }];
        if let Some(url) = read_url {
            let keys = ["read_url", "read_password_file"];
            logins.push(PostgresLogin { keys, url, password_file: read_password_file });
        }
        resources.push(Resource::Postgres { logins, folder });
        resources.push(Resource::RowBytes { bytes: max_row, usual: Self::default_max_row() });
        resources.push(Resource::BatchBytes { bytes: &mut batch.max_bytes, usual: SourceBatch::default().max_bytes });
        resources
    }
}

fn slot_like(name: &str) -> String {
    example_name(name).replace('-', "_").chars().take(MAX_IDENTIFIER).collect()
}
