//! `Cluster`: a private Postgres server that lives in a folder of its own and dies with this
//! process.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process};

use super::folder::Folder;
use super::process::{Owner, command, environment, not_runnable, run};
use crate::error::Result;

/// The server's superuser.
const USER: &str = "postgres";
/// Tries to start: a port may be taken between the choice and the start, and after an immediate
/// stop the old backends hold the shared memory for some moments.
const ATTEMPTS: u32 = 20;
/// Recovery after an immediate stop of a busy server takes seconds on a slow disk.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A fast stop waits for the checkpoint and for walsenders whose clients are slow to read.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Settings for making a [`Cluster`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    fsync: bool,
    settings: Vec<(String, String)>,
}

impl Options {
    /// Nothing waits for the disk: for tests, which crash servers but not machines.
    pub fn fast() -> Self {
        Self::default()
    }

    /// As a server in production.
    pub fn durable() -> Self {
        Self { fsync: true, ..Self::default() }
    }

    /// Adds a line to `postgresql.conf`; a later one of the same name wins.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The way in which a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, sends the rest of the log to replicas, writes a checkpoint.
    Fast,
    /// Drops everything, as a crash does; the next start recovers.
    Immediate,
}

/// A running Postgres with `wal_level = logical` on a free port of 127.0.0.1. Works as root, too:
/// the server then runs as `nobody`. TCP asks for a password that only [`url`](Cluster::url) knows;
/// the socket lies in a private folder.
///
/// Dropping it stops the server and removes its folder; so does the end of the process, even by
/// SIGKILL.
pub struct Cluster {
    bin: PathBuf,
    folder: Folder,
    port: u16,
    password: String,
    owner: Option<Owner>,
    server: Option<Child>,
}

impl Cluster {
    /// Makes and starts a server from the binaries in the folder `bin`. Blocks until it answers,
    /// about two seconds.
    pub fn start(bin: &Path, options: &Options) -> Result<Self> {
        let owner = Owner::needed()?;
        let mut cluster = Self {
            bin: bin.to_owned(),
            folder: Folder::make(bin, owner)?,
            port: 0,
            password: format!("{:032x}", rand::random::<u128>()),
            owner,
            server: None,
        };
        cluster.initdb()?;
        cluster.configure(options)?;
        cluster.launch()?;
        Ok(cluster)
    }

    /// Makes and starts a standby of this server, which streams from it through the physical slot
    /// `standby`; with `primary_conninfo` naming a database, so that it can bring logical slots
    /// along. Same user and password.
    pub fn standby(&self, options: &Options) -> Result<Self> {
        let folder = Folder::make(&self.bin, self.owner)?;
        let mut backup = self.command("pg_basebackup");
        let socket = self.folder.path().display();
        backup
            .arg(format!("--dbname=host={socket} port={} user={USER} dbname={USER}", self.port))
            .arg(format!("--pgdata={}", folder.path().join("data").display()))
            .args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--write-recovery-conf"])
            .args(["--create-slot", "--slot=standby"]);
        run(backup, None)?;
        let (bin, password) = (self.bin.clone(), self.password.clone());
        let mut standby = Self { bin, folder, port: 0, password, owner: self.owner, server: None };
        standby.configure(options)?;
        standby.launch()?;
        Ok(standby)
    }

    /// `postgres://` URL of a database, with user and password. The name must need no escaping.
    pub fn url(&self, database: &str) -> String {
        self.url_of(USER, database)
    }

    /// As [`url`](Cluster::url), for another role, to be made with the same
    /// [`password`](Cluster::password).
    pub fn url_of(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The TCP port; stays the same over [`start_again`](Cluster::start_again).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The folder of the unix socket; connections through it need no password.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs SQL in a database through `psql` and answers its output: rows as lines, columns parted
    /// by `|`. Stops at the first error, whose text is the cause.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.command("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"])
            .arg(format!("--host={}", self.folder.path().display()))
            .args([format!("--port={}", self.port), format!("--username={USER}"), format!("--dbname={database}")])
            .args(["--file", "-"]);
        let output = run(psql, Some(sql))?;
        Ok(output.trim_end().to_owned())
    }

    /// Sets a parameter with `ALTER SYSTEM` and reloads. One that needs a restart takes effect with
    /// the next start.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.psql(USER, &format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''")))?;
        self.reload()
    }

    /// Makes the server read its configuration files again.
    pub fn reload(&self) -> Result<()> {
        self.psql(USER, "SELECT pg_reload_conf()").map(drop)
    }

    /// Writes a file into the data folder, such as `pg_hba.conf` or `server.key`, so that the
    /// server accepts its owner and mode.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.data().join(name);
        self.write_at(&path, content)
    }

    /// A file of the data folder.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.data().join(name);
        fs::read_to_string(&path)
            .map_err(|cause| environment(format!("could not read `{}`", path.display())).because(cause))
    }

    /// Returns the log of the server; empty if it cannot be read.
    pub fn log(&self) -> String {
        fs::read(self.folder.path().join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Stops the server and waits until it is gone. Its folder stays. Stopped already: nothing.
    pub fn stop(&mut self, how: Stop) -> Result<()> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        let deadline = Instant::now() + STOPPED_WITHIN;
        let mut signalled = kill_process(Pid::from_child(server), signal).map_err(std::io::Error::from);
        while server.try_wait().is_ok_and(|exit| exit.is_none()) {
            if Instant::now() > deadline {
                signalled = kill_process(Pid::from_child(server), Signal::QUIT).map_err(std::io::Error::from);
                let _ = server.wait();
                return Err(environment("Postgres did not stop in time and was killed")
                    .because(signalled.err().unwrap_or_else(|| std::io::Error::other(tail(&self.log())))));
            }
            sleep(POLL);
        }
        self.server = None;
        signalled.map_err(|cause| environment("could not stop Postgres").because(cause))
    }

    /// Starts a stopped server on the same port and data. Blocks until it answers. Running already:
    /// nothing.
    pub fn start_again(&mut self) -> Result<()> {
        if self.server.is_some() { Ok(()) } else { self.launch() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn initdb(&self) -> Result<()> {
        let password = self.folder.path().join("password");
        self.write_at(&password, &self.password)?;
        let mut initdb = self.command("initdb");
        initdb
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
            ])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg(format!("--pgdata={}", self.data().display()));
        run(initdb, None)?;
        fs::remove_file(&password)
            .map_err(|cause| environment(format!("could not remove `{}`", password.display())).because(cause))
    }

    fn configure(&self, options: &Options) -> Result<()> {
        let fsync = if options.fsync { "on" } else { "off" };
        let folder = self.folder.path().display().to_string();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", &folder),
            ("wal_level", "logical"),
            ("max_wal_senders", "100"),
            ("max_replication_slots", "500"), // many tests share a server, and each leaves a slot or two
            ("max_connections", "200"),
            ("shared_buffers", "64MB"),
            ("fsync", fsync),
            ("full_page_writes", fsync),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("lc_messages", "C"),
        ];
        let given = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = self.read("postgresql.conf")?;
        for (name, value) in ours.into_iter().chain(given) {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        self.write("postgresql.conf", &text)
    }

    fn launch(&mut self) -> Result<()> {
        let fixed = self.port != 0;
        let mut last = environment("Postgres did not start");
        for _ in 0..ATTEMPTS {
            if !fixed {
                self.port = free_port()?;
            }
            match self.launch_once() {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            let log = self.log();
            if !["Address already in use", "could not bind", "is still in use", "still running"]
                .iter()
                .any(|passing| tail(&log).contains(passing))
            {
                break;
            }
            sleep(POLL * 20);
        }
        Err(last)
    }

    fn launch_once(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .map_err(|cause| environment("could not open Postgres' log").because(cause))?;
        let mut postgres = self.command("postgres");
        postgres
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = postgres.spawn().map_err(|cause| not_runnable(&self.bin.join("postgres"), cause))?;
        let server = self.server.insert(child);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(Some(exit)) = server.try_wait() {
                self.server = None;
                return Err(environment(format!("Postgres ended while starting ({exit})"))
                    .because(std::io::Error::other(tail(&self.log()))));
            }
            if answers(&self.folder.path().join(format!(".s.PGSQL.{}", self.port))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.stop(Stop::Immediate)?;
                return Err(environment("Postgres does not accept connections")
                    .because(std::io::Error::other(tail(&self.log()))));
            }
            sleep(POLL);
        }
    }

    fn write_at(&self, path: &Path, content: &str) -> Result<()> {
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(content.as_bytes()))
            .and_then(|()| Owner::take(self.owner, path))
            .map_err(|cause| environment(format!("could not write `{}`", path.display())).because(cause))
    }

    fn command(&self, program: &str) -> Command {
        command(self.bin.join(program), self.folder.path(), self.owner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = self.stop(Stop::Immediate);
        if let Some(mut server) = self.server.take().filter(|_| stopped.is_err()) {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("folder", &self.folder.path()).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Outside the range that the kernel hands to outgoing connections, so that nobody takes it while
/// the server is down.
fn free_port() -> Result<u16> {
    (0..1000)
        .map(|_| rand::random_range(10_000..32_000))
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .ok_or_else(|| environment("no free port on 127.0.0.1"))
}

/// Tells if a server takes connections on its socket: it lets a login begin, or answers with
/// another error than 57P03, which it sends while it starts or stops. The socket is asked because
/// another server may have taken the TCP port before ours could; TCP is bound before it.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut startup = BytesMut::new();
        postgres_protocol::message::frontend::startup_message([("user", USER), ("database", USER)], &mut startup)?;
        stream.write_all(&startup)?;
        let mut reply = [0; 256];
        let length = stream.read(&mut reply)?;
        let reply = &reply[..length];
        Ok(reply.starts_with(b"R") || reply.starts_with(b"E") && !reply.windows(5).any(|code| code == b"57P03"))
    };
    ask().unwrap_or(false)
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("; ")
}
