//! The settings of a sink of type `pgvector`, and what the host asks of them.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::PgvectorSink;
use crate::config::model::{Create, SinkBatch};
use crate::config::{Accepts, ComponentKind, PostgresLogin, Problems, Resource, Secret};
use crate::error::Result;
use crate::postgres::Url;
use crate::sink::{Leftover, Look, Searcher, Sink, SinkKind, WrittenPlace};

/// Writes points as rows of a Postgres table with pgvector columns, and the position in the same transaction.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PgvectorSettings {
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

impl ComponentKind for PgvectorSettings {
    const TYPE: &'static str = "pgvector";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        problems.postgres_url(&["url"], self.url.expose());
        problems.plain_table(&["table"], &self.table);
        problems.create(self.create.as_ref());
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _, url, password_file, trusted_owners: _, folder, table, create: _, batch } = self;
        vec![
            Resource::Table { key: "table", name: table },
            Resource::Postgres {
                logins: vec![PostgresLogin { keys: ["url", "password_file"], url, password_file }],
                folder,
            },
            batch.resource(),
        ]
    }
}

#[async_trait]
impl SinkKind for PgvectorSettings {
    fn accepts() -> Accepts {
        Accepts::Commands
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, pipeline: &str, name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(PgvectorSink::open(pipeline, name, self).await?))
    }

    async fn look(&self) -> Result<Look> {
        PgvectorSink::look(self).await
    }

    fn leftover(&self, _purged: bool) -> Option<Leftover> {
        Some(Leftover { what: format!("table `{}`", self.table), how: format!("DROP TABLE {};", self.table) })
    }

    fn parse(&self) -> Result<()> {
        self.url().map(drop)
    }

    fn batch(&self) -> SinkBatch {
        self.batch.clone()
    }

    fn create(&self) -> Option<&Create> {
        self.create.as_ref()
    }

    fn writes(&self) -> Option<WrittenPlace<'_>> {
        Some(WrittenPlace::Table { database: Box::new(self.url().ok()?), name: &self.table })
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn purge(&self, pipeline: &str, name: &str) -> Result<Vec<String>> {
        PgvectorSink::forget(pipeline, name, self).await?;
        Ok(vec![format!("the position of sink `{name}` is removed")])
    }

    fn searcher(&self) -> Option<&dyn Searcher> {
        Some(self)
    }
}

impl PgvectorSettings {
    fn url(&self) -> Result<Url> {
        Url::parse(&self.url, self.password_file.clone())
    }
}
