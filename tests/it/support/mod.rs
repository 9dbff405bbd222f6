//! What many tests need: Postgres servers and databases of their own, Qdrant's protocol, the program itself.

pub(crate) mod by_hand;
pub(crate) mod oracle;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod qdrant_server;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pgstream_host::demo::{Cluster, Options};
use tokio_postgres::{Client, NoTls};

/// The Postgres 18 that the tests of this process share. Never reconfigure or stop it: take a [`private_cluster`].
pub(crate) fn postgres() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| private_cluster(18, &Options::fast()))
}

/// As [`postgres`], of version 16.
pub(crate) fn postgres16() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| private_cluster(16, &Options::fast()))
}

/// As [`postgres`], of version 15, Debian's, which has no pgvector. None, with a word on why, where it is not installed.
pub(crate) fn postgres15() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    let there = || Path::new("/usr/lib/postgresql/15/bin/postgres").exists() || std::env::var_os("CI").is_some();
    let start = || {
        if there() {
            return Some(private_cluster(15, &Options::fast()));
        }
        eprintln!("skipped: `apt-get install postgresql-15` to test with Postgres 15");
        None
    };
    SHARED.get_or_init(start).as_ref()
}

/// The shared servers of all versions that the tests know.
pub(crate) fn versions() -> Vec<&'static Cluster> {
    [postgres(), postgres16()].into_iter().chain(postgres15()).collect()
}

/// A server for one test alone, to stop, restart and reconfigure. Blocks for some seconds.
pub(crate) fn private_cluster(major: u32, options: &Options) -> Cluster {
    Cluster::start(&postgres_bin(major), options).unwrap()
}

/// A server whose synchronous standby never comes: who sets `synchronous_commit` to `on` waits, everybody else does not. It is so
/// from the start, as nobody can tell when a running server has begun to wait. [`standby_arrives`] ends it.
pub(crate) fn cluster_without_its_standby() -> Cluster {
    let alone = Options::fast().setting("synchronous_standby_names", "nobody").setting("synchronous_commit", "local");
    private_cluster(18, &alone)
}

/// The standby of [`cluster_without_its_standby`] is no longer waited for.
pub(crate) fn standby_arrives(cluster: &Cluster) {
    cluster.set("synchronous_standby_names", "").unwrap();
}

/// Folder of Postgres' binaries; fetches them on a fresh machine.
pub(crate) fn postgres_bin(major: u32) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/get-postgres.sh");
    let output = Command::new(script).arg(major.to_string()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script} {major} failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// A fresh, empty database of the shared Postgres 18.
pub(crate) async fn fresh_database() -> Database {
    Database::create(postgres()).await
}

/// As [`fresh_database`], with the table that the example handlers read.
pub(crate) async fn documents() -> Database {
    let database = fresh_database().await;
    let table = "CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)";
    database.client.batch_execute(table).await.unwrap();
    database
}

/// A database for one test, and a connection to it. Nothing needs to be cleaned up: it goes with its server.
pub(crate) struct Database {
    /// Its name, unique in this process.
    pub(crate) name: String,
    /// With user and password.
    pub(crate) url: String,
    /// A superuser's connection.
    pub(crate) client: Client,
}

impl Database {
    /// Makes a database in `cluster`.
    pub(crate) async fn create(cluster: &Cluster) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        connect(&cluster.url("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = cluster.url(&name);
        let client = connect(&url).await;
        Self { name, url, client }
    }
}

impl Database {
    /// The URL of a new role for a pipeline named after this database, over tables that are there: the smallest one, as
    /// docs/postgres.md has it. What it may not make is made for it: the schema `pgstream`, the publication, and for sinks
    /// the extension `vector`, where the server has it, and a place for tables in `public`.
    pub(crate) async fn smallest_role(&self, tables: &[&str]) -> String {
        let Self { name, client, .. } = self;
        let role = format!("{name}_pipeline");
        let url = format!("postgres://{role}:p@{}", self.url.split_once('@').unwrap().1);
        if client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&role]).await.unwrap().is_some() {
            return url; // made already, and for the same tables
        }
        let (all, each) = (tables.join(", "), tables.join(", ONLY "));
        let sql = format!(
            "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'p';
             GRANT USAGE, CREATE ON SCHEMA public TO {role};
             GRANT SELECT ON {all} TO {role};
             CREATE SCHEMA pgstream AUTHORIZATION {role};
             CREATE PUBLICATION pgstream_{name} FOR TABLE ONLY {each}
                 WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);"
        );
        client.batch_execute(&sql).await.unwrap();
        let vector = "SELECT FROM pg_available_extensions WHERE name = 'vector'";
        if client.query_opt(vector, &[]).await.unwrap().is_some() {
            client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector").await.unwrap();
        }
        url
    }
}

/// A connection whose driver runs on the current runtime.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
