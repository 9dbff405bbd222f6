//! What can be measured: one file per arm.

mod boundary;
pub(crate) mod decode;
pub(crate) mod instructions;
mod languages;
mod latency;
mod library;
mod log;
mod memory;
mod pgvector;
mod qdrant;
mod sandbox;
mod workers;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use pgstream_host::host::Host;
use serde_json::Value as Json;
use tokio::sync::OnceCell;

use crate::report::{Figure, Missing};
use crate::rig::{Recorded, Rig};

/// Names of all arms, in the order in which they run.
pub(crate) const ALL: [&str; 14] = [
    "decode",
    "instructions",
    "boundary",
    "log",
    "log-singles",
    "pgvector",
    "library",
    "qdrant",
    "latency",
    "memory",
    "transaction",
    "workers",
    "languages",
    "sandbox",
];

/// What arms share.
pub(crate) struct Bench {
    /// Smaller counts and fewer rounds, for a look.
    pub(crate) quick: bool,
    rig: OnceCell<Rig>,
    documents: OnceCell<Recorded>,
    articles: OnceCell<Recorded>,
    host: OnceCell<Host>,
}

impl Bench {
    pub(crate) fn new(quick: bool) -> Self {
        Self {
            quick,
            rig: OnceCell::new(),
            documents: OnceCell::new(),
            articles: OnceCell::new(),
            host: OnceCell::new(),
        }
    }

    /// The figures of an arm, and what of it could not be had here.
    pub(crate) async fn run(&self, arm: &str) -> Result<(Vec<Figure>, Vec<Missing>)> {
        let figures = match arm {
            "decode" => decode::run(self).await,
            "instructions" => return instructions::run(self).await,
            "boundary" => boundary::run(self).await,
            "log" => log::hundred(self).await,
            "log-singles" => log::singles(self).await,
            "pgvector" => pgvector::run(self).await,
            "library" => return library::run(self).await,
            "qdrant" => qdrant::run(self).await,
            "latency" => latency::run(self).await,
            "memory" => memory::steady(self).await,
            "transaction" => memory::transaction(self).await,
            "workers" => workers::run(self).await,
            "languages" => return languages::run(self),
            "sandbox" => sandbox::run(),
            unknown => bail!("there is no arm `{unknown}`"),
        };
        Ok((figures?, Vec::new()))
    }

    /// One of two counts.
    pub(crate) fn scale<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.scale(5, 3)
    }

    pub(crate) async fn rig(&self) -> Result<&Rig> {
        self.rig.get_or_try_init(|| async { Rig::start() }).await
    }

    /// The version of the server, if some arm needed one.
    pub(crate) fn postgres(&self) -> Option<&str> {
        self.rig.get().map(|rig| rig.version.as_str())
    }

    /// The table that most arms read: 100 rows in a transaction.
    pub(crate) async fn documents(&self) -> Result<&Recorded> {
        let rows = self.scale(500_000, 200_000);
        self.documents.get_or_try_init(|| async { self.rig().await?.record("documents", rows, 100) }).await
    }

    /// The table that is written to vector stores.
    pub(crate) async fn articles(&self) -> Result<&Recorded> {
        let rows = self.scale(50_000, 10_000);
        self.articles.get_or_try_init(|| async { self.rig().await?.record("articles", rows, 100) }).await
    }

    pub(crate) async fn host(&self) -> Result<&Host> {
        self.host.get_or_try_init(|| async { Ok(Host::new()?) }).await
    }
}

/// A measurement of some arm that has a process of its own; see [`apart`](crate::apart::apart).
pub(crate) async fn one(what: &str, file: &Path) -> Result<Json> {
    match what {
        "compile" => languages::compile(file),
        "language" => languages::language(file, Duration::from_millis(500)).await,
        "language-quick" => languages::language(file, Duration::from_millis(100)).await,
        "decode-once" => instructions::decode_file(file, 1).map(|()| Json::Null),
        "decode-twice" => instructions::decode_file(file, 2).map(|()| Json::Null),
        "overshoot" => sandbox::overshoot(file).await,
        "instances" => sandbox::instances(file).await,
        unknown => bail!("there is no measurement `{unknown}`"),
    }
}
