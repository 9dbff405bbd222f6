//! What a pipeline file says of a sink of type `dead-letters`, and what the host asks of it.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{DeadLetters, Filter, Letters};
use crate::config::{Accepts, ComponentKind, PostgresLogin, Problems, Resource, Secret, SourceDatabase};
use crate::error::Result;
use crate::postgres::Url;
use crate::sink::{Leftover, Look, Sink, SinkKind};

/// Keeps rejected events in the table `pgstream.dead_letters` of a Postgres database, from where `pgstream-host dlq` shows,
/// replays and drops them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersSettings {
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
    #[serde(default = "DeadLettersSettings::default_max_letters")]
    pub max_letters: u64,
}

impl DeadLettersSettings {
    fn default_max_letters() -> u64 {
        100_000 // far more than a person looks through, little beside a database
    }
}

impl ComponentKind for DeadLettersSettings {
    const TYPE: &'static str = "dead-letters";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        if let Some(url) = &self.url {
            problems.postgres_url(&["url"], url.expose());
        }
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self { inputs: _, url, password_file, trusted_owners: _, folder, max_letters: _ } = self;
        let logins = url
            .as_ref()
            .map(|url| PostgresLogin { keys: ["url", "password_file"], url, password_file })
            .into_iter()
            .collect();
        vec![Resource::Postgres { logins, folder }]
    }
}

#[async_trait]
impl SinkKind for DeadLettersSettings {
    fn accepts() -> Accepts {
        Accepts::Rejected
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    async fn open(&self, pipeline: &str, _name: &str) -> Result<Box<dyn Sink>> {
        Ok(Box::new(DeadLetters::open(pipeline, self).await?))
    }

    async fn look(&self) -> Result<Look> {
        DeadLetters::look(self).await.map(|()| Look::default())
    }

    fn leftover(&self, purged: bool) -> Option<Leftover> {
        let how = "`--purge`, or `pgstream-host dlq drop`".to_owned();
        (!purged).then(|| Leftover { what: "the pipeline's dead letters".to_owned(), how })
    }

    fn parse(&self) -> Result<()> {
        self.url.as_ref().map_or(Ok(()), |url| Url::parse(url, self.password_file.clone()).map(drop))
    }

    fn complete(&mut self, source: Option<&SourceDatabase>, problems: &mut Problems<'_, '_>) {
        if self.url.is_none() {
            let Some(source) = source else {
                let help = "add `url: postgres://…`; or let a sink of `type: file` take them";
                problems.at(&[], "the source has no database that could keep dead letters", help);
                return;
            };
            self.url = Some(source.url.clone());
            if self.trusted_owners.is_empty() {
                self.trusted_owners.clone_from(&source.trusted_owners);
            }
            self.password_file = self.password_file.take().or_else(|| source.password_file.clone());
        }
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn purge(&self, pipeline: &str, _name: &str) -> Result<Vec<String>> {
        let letters = Letters::open(pipeline, self).await?.drop(&Filter::default()).await?;
        Ok(vec![format!("{letters} dead letters are removed")])
    }
}
