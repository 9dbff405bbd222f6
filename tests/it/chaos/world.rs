//! The world of a run: a Postgres, the ways to it and to the sink, the sink itself, and the host, tended as systemd would.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pgstream_host::demo::Cluster;
use pgstream_host::lsn::Lsn;
use rustix::process::Signal;

use crate::sinks::contract::Points;
use crate::sinks::{qdrant, qdrant_edge};
use crate::support::oracle::{DIMENSION, TABLE, pgvector_points, transform};
use crate::support::program::{Folder, PATIENCE, Running, pgstream, root};
use crate::support::proxy::{Proxy, Way};
use crate::support::qdrant_server::QdrantServer;
use crate::support::{Database, connect};

/// The handler of the pipeline.
const HANDLER: &str = "plugins/documents-rust/documents.wasm";

/// Rows from before the pipeline, so that their copy is under fire, too.
const ROWS_BEFORE: u32 = 1_200;

/// Where the points go in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pgvector,
    Qdrant,
    QdrantEdge,
}

pub(super) struct World<'c> {
    pub(super) cluster: &'c mut Cluster,
    pub(super) kind: Kind,
    /// The pipeline begins anew by itself when its slot is gone.
    pub(super) resnapshots: bool,
    /// Of the table.
    pub(super) database: String,
    /// Of the points, if the sink is pgvector.
    pub(super) vectors: String,
    /// The way to the source.
    pub(super) source: Proxy,
    /// The way to the sink, if it is a server.
    pub(super) sink: Proxy,
    pub(super) qdrant: QdrantServer,
    pub(super) host: Running,
    /// How often the host was started again because it had ended with an error.
    pub(super) restarts: u64,
    /// How often that was because it found no room on its disk.
    pub(super) full: u64,
    /// How long a condition may take: a debug build takes minutes for the rows of the largest transactions.
    pub(super) patience: Duration,
    file: PathBuf,
    folder: Folder,
    /// How often the settings and the component were changed.
    changes: u8,
}

impl<'c> World<'c> {
    /// Makes all of it, in databases of the run's own, with a pipeline that has just been started.
    pub(super) async fn start(cluster: &'c mut Cluster, kind: Kind, rereads: bool, resnapshots: bool) -> Self {
        let database = Database::create(cluster).await;
        let vectors = Database::create(cluster).await;
        database.client.batch_execute(TABLE).await.unwrap();
        let rows = format!(
            "INSERT INTO documents SELECT i, 'old', 'an old row ' || i FROM generate_series(1, {ROWS_BEFORE}) i"
        );
        database.client.batch_execute(&rows).await.unwrap();
        let postgres = ([127, 0, 0, 1], cluster.port()).into();
        let qdrant = QdrantServer::start(None);
        let source = Proxy::start(postgres).await;
        let sink = Proxy::start(if kind == Kind::Qdrant { qdrant.address() } else { postgres }).await;
        let folder = Folder::new();
        let through = |database: &Database, proxy: &Proxy| {
            database.url.replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port()))
        };
        let create = format!("create: {{ dimension: {DIMENSION}, distance: dot }}");
        let to = match kind {
            Kind::Pgvector => format!("type: pgvector, url: \"{}\", table: points", through(&vectors, &sink)),
            Kind::Qdrant => {
                format!("type: qdrant, url: \"http://127.0.0.1:{}\", collection: points, timeout: 5s", sink.port())
            }
            Kind::QdrantEdge => format!("type: qdrant-edge, path: {}", folder.path("store").display()),
        };
        let pipeline = format!(
            "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"{}\", tables: [public.documents], \
             snapshot: initial, toast: {}, on_slot_lost: {}, heartbeat: 1s, batch: {{ max_events: 200 }} }}\n{}\
             sinks:\n  points: {{ {to}, inputs: [embed], {create} }}\n",
            database.name.replace('_', "-"),
            through(&database, &source),
            if rereads { "reread" } else { "keep" },
            if resnapshots { "resnapshot" } else { "stop" },
            transform(),
        );
        std::fs::copy(root().join(HANDLER), folder.path("handler.wasm")).unwrap();
        let component = root().join(HANDLER).display().to_string();
        let file = folder.write("chaos.yaml", &pipeline.replace(&component, "handler.wasm"));
        let host = Running::spawn(host(&file));
        let (database, vectors) = (database.name, vectors.name);
        Self {
            cluster,
            kind,
            resnapshots,
            database,
            vectors,
            source,
            sink,
            qdrant,
            host,
            restarts: 0,
            full: 0,
            patience: PATIENCE,
            file,
            folder,
            changes: 0,
        }
    }

    /// Waits until the condition holds, and meanwhile starts the host again where it could not start.
    pub(super) async fn until(&mut self, what: &str, mut holds: impl AsyncFnMut(&mut Self) -> bool) {
        let started = Instant::now();
        while !holds(self).await {
            self.tend();
            assert!(
                started.elapsed() < self.patience,
                "{what}: not within {:?}; the host said\n{}",
                self.patience,
                self.host.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A host that finds no server when it starts, or no room on its disk, says so and ends; whoever runs it starts it again.
    /// Any other end is a defect.
    pub(super) fn tend(&mut self) {
        if let Some(exit) = self.host.exit() {
            let log = self.host.log();
            let full = log.contains("File too large");
            // A defect of Postgres' decoding that another session may not meet; it must not pass for a stream that ended well.
            let unmapped = log.contains("could not map filenumber");
            assert!(
                !exit.success() && (full || unmapped || log.contains("cannot start")),
                "the host ended by itself ({exit}):\n{log}"
            );
            self.full += u64::from(full);
            self.restarts += 1;
            self.start_host();
        }
    }

    /// Changes the component, or what the source gathers, and has the host read it. Answers whether it has.
    pub(super) async fn reload(&mut self, component: bool) -> bool {
        self.changes += 1;
        let (path, content) = if component {
            let mut bytes = std::fs::read(root().join(HANDLER)).unwrap();
            bytes.extend([0, 3, 1, b'n', self.changes]); // a custom section
            (self.folder.path("handler.wasm"), bytes)
        } else {
            let text = std::fs::read_to_string(&self.file).unwrap();
            let (before, after) = text.split_once("max_events: ").unwrap();
            let rest = after.split_once(' ').unwrap().1;
            (self.file.clone(), format!("{before}max_events: {} {rest}", 200 + u32::from(self.changes)).into_bytes())
        };
        let beside = self.folder.path("new");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(beside, path).unwrap();
        // Not while it starts, and has no ear for signals. While its sink is down, one that starts anew never comes to run.
        let given_up = self.restarts + 3;
        self.until("the host runs", async |world: &mut Self| {
            world.host.log().contains(": running") || world.restarts > given_up
        })
        .await;
        if !self.host.log().contains(": running") {
            return false;
        }
        let (pid, before) = (self.host.pid(), self.host.log().len());
        self.host.signal(Signal::HUP);
        self.until("the host reads its files", async |world: &mut Self| {
            let log = world.host.log();
            world.host.pid() != pid || log.get(before..).unwrap_or_default().contains("reload: reading")
        })
        .await;
        self.host.pid() == pid
    }

    /// In place of the one before, which has ended.
    pub(super) fn start_host(&mut self) {
        self.host = Running::spawn(host(&self.file));
    }

    /// SIGKILL. A kernel resets the connections of a process that is gone, also those in a blackhole.
    pub(super) fn kill_host(&mut self) {
        self.host.kill();
        self.source.cut();
        self.sink.cut();
    }

    /// Whether somebody reads the slot. False while the server is down.
    pub(super) fn streams(&self) -> bool {
        self.ask(
            // Not the session that makes the slot, which may wait for a large transaction to end.
            "SELECT count(*) > 0 FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
             WHERE s.database = current_database() AND a.backend_type = 'walsender'",
        )
        .is_some_and(|active| active == "t")
    }

    /// Runs SQL in the table's database past every proxy. None if the server does not answer.
    pub(super) fn ask(&self, sql: &str) -> Option<String> {
        self.cluster.psql(&self.database, sql).ok()
    }

    /// Name of the slot.
    pub(super) fn slot(&self) -> String {
        format!("pgstream_{}", self.database)
    }

    /// Runs a command of the program on the pipeline, to its end.
    pub(super) fn command(&self, name: &str) -> std::process::Output {
        pgstream([name]).arg(&self.file).output().unwrap()
    }

    /// Starts to bring all rows once more, if the server can be asked.
    pub(super) fn ask_for_copies(&self) -> std::process::Child {
        let mut command = pgstream(["backfill"]);
        command.arg(&self.file).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    }

    /// Waits until everything that was committed is confirmed, and every copy done; then ends the host in order.
    pub(super) async fn settle(&mut self) {
        let end = self.ask("SELECT pg_current_wal_insert_lsn()").unwrap();
        let end: Lsn = end.parse().unwrap();
        self.until("everything is confirmed", async |world: &mut Self| {
            let confirmed =
                world.ask("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()");
            confirmed.is_some_and(|lsn| lsn.parse::<Lsn>().is_ok_and(|lsn| lsn >= end))
        })
        .await;
        self.until("every copy is done", async |world: &mut Self| {
            world
                .ask("SELECT count(*) FROM pgstream.copies WHERE done_at IS NULL AND error IS NULL")
                .is_some_and(|open| open == "0")
        })
        .await;
        self.host.signal(Signal::TERM);
        let (status, log) = self.host.ended().await;
        assert!(status.success(), "{log}");
    }

    /// What the sink holds, read past the host, which has ended.
    pub(super) async fn points(&self) -> Points {
        match self.kind {
            Kind::Pgvector => pgvector_points(&connect(&self.cluster.url(&self.vectors)).await, "points").await,
            Kind::Qdrant => qdrant::dump(&qdrant::client(&self.qdrant.url(), None), "points").await,
            Kind::QdrantEdge => qdrant_edge::dump(&self.folder.path("store")),
        }
    }

    /// All ways open, nothing full.
    pub(super) fn heal(&self) {
        self.source.set(Way::Open);
        self.sink.set(Way::Open);
    }
}

/// A write beyond what a file may hold fails, instead of ending the process: as on a full disk.
fn host(file: &std::path::Path) -> Command {
    let program = pgstream(["run"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" run \"$1\""]).arg(program.get_program()).arg(file);
    command.current_dir(program.get_current_dir().unwrap()).env("NO_COLOR", "1").stdin(std::process::Stdio::null());
    command
}
