//! `DeadLettersSettings`: the keys of a sink of type `dead-letters` in a pipeline file, and what they reach.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ComponentKind, PostgresLogin, Problems, Resource, Secret};

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
