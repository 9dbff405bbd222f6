//! Servers that answer too much, and users who write too much into the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgstream_host::config::{Secret, Size};
use pgstream_host::error::{Error, Fault};
use pgstream_host::postgres::{Url, connect};
use pgstream_host::source::postgres::{self, PostgresSettings, PostgresSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::source::{config, last_word, pipeline};
use crate::support::program::{Folder, Running, eventually, root};
use crate::support::{Database, fresh_database, versions};

/// Only a broken promise waits for it.
const DEADLINE: Duration = Duration::from_secs(90);
/// What a hostile server would send.
const OFFERED: u64 = 1 << 30;
/// What sockets hold on their way, beside what a session takes.
const ON_THE_WAY: u64 = 24 << 20;

/// How far a server behaves before it attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Nothing is said before.
    Startup,
    /// The client need not log in.
    LoggedIn,
    /// The session is ready, and was asked something.
    Asked,
    /// A real server streams.
    Streaming,
}

/// What it sends then, again and again.
#[derive(Clone, Copy, Debug)]
struct Attack {
    name: &'static str,
    message: fn(u64) -> Vec<u8>,
}

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn said(tag: u8, text: &[u8]) -> Vec<u8> {
    message(tag, &[&b"SNOTICE\0VNOTICE\0C00000\0M"[..], text, b"\0\0"].concat())
}

const SETTINGS: Attack = Attack {
    name: "endless settings",
    message: |number| message(b'S', &[format!("name{number}\0").as_bytes(), &[b'x'; 9_000], b"\0"].concat()),
};
const REMARKS: Attack = Attack { name: "endless remarks", message: |_| said(b'N', &[b'x'; 9_000]) };
const ROWS: Attack =
    Attack { name: "endless rows", message: |_| message(b'D', &[&[0, 1, 0, 0, 0x20, 0][..], &[0; 8192]].concat()) };
const SETTING: Attack = claim(b'S', "a setting of 1.5 GB");
const ERROR: Attack = claim(b'E', "an error of 1.5 GB");
const DEMAND: Attack = claim(b'R', "a demand of 1.5 GB");
const ROW: Attack = claim(b'D', "a row of 1.5 GB");

const fn claim(tag: u8, name: &'static str) -> Attack {
    const fn piece(tag: u8) -> fn(u64) -> Vec<u8> {
        match tag {
            b'S' => |number| claimed(b'S', number),
            b'E' => |number| claimed(b'E', number),
            b'R' => |number| claimed(b'R', number),
            _ => |number| claimed(b'D', number),
        }
    }
    Attack { name, message: piece(tag) }
}

/// The head of a message that has no end, and then its body.
fn claimed(tag: u8, number: u64) -> Vec<u8> {
    let body = vec![b'x'; 1 << 16];
    if number > 0 { body } else { [&[tag][..], &1_500_000_000u32.to_be_bytes(), &body].concat() }
}

/// A server that is not to be trusted.
struct Hostile {
    address: String,
    /// Bytes of the attack that went out.
    sent: Arc<AtomicU64>,
    /// How many sessions were attacked.
    attacks: Arc<AtomicU64>,
}

impl Hostile {
    /// Attacks sessions for SQL, or those for replication; the others reach the real server.
    async fn start(real: &str, replication: bool, until: Until, attack: Attack) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sent, attacks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (real, count, times) = (real.to_owned(), Arc::clone(&sent), Arc::clone(&attacks));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (real, count, times) = (real.clone(), Arc::clone(&count), Arc::clone(&times));
                tokio::spawn(async move {
                    // The other side ends it when it has seen enough.
                    let _ = serve(near, &real, replication, until, attack, &count, &times).await;
                });
            }
        });
        Self { address, sent, attacks }
    }

    fn url(&self, database: &Database) -> String {
        let (login, rest) = database.url.split_once('@').unwrap();
        let (_, name) = rest.split_once('/').unwrap();
        format!("{login}@{}/{name}?sslmode=disable&connect_timeout=60", self.address)
    }
}

async fn serve(
    mut near: TcpStream,
    real: &str,
    replication: bool,
    until: Until,
    attack: Attack,
    sent: &AtomicU64,
    attacks: &AtomicU64,
) -> std::io::Result<()> {
    let length = near.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    near.read_exact(&mut startup).await?;
    let replicates = startup.windows(12).any(|bytes| bytes == b"replication\0");
    let startup = [&length.to_be_bytes()[..], &startup].concat();
    if replicates != replication || until == Until::Streaming {
        let mut far = TcpStream::connect(real).await?;
        far.write_all(&startup).await?;
        if replicates != replication {
            return tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop);
        }
        let (mut from_near, mut to_near) = near.split();
        let (mut from_far, mut to_far) = far.split();
        let watch = async {
            let mut bytes = vec![0; 1 << 16];
            loop {
                let length = from_far.read(&mut bytes).await?;
                // CopyBothResponse for a format without columns.
                let begins = bytes[..length].windows(8).position(|it| it == [b'W', 0, 0, 0, 7, 0, 0, 0]);
                to_near.write_all(&bytes[..begins.map_or(length, |at| at + 8)]).await?;
                if length == 0 || begins.is_some() {
                    return std::io::Result::Ok(());
                }
            }
        };
        tokio::select! {
            ended = tokio::io::copy(&mut from_near, &mut to_far) => return ended.map(drop),
            watched = watch => watched?,
        }
    } else if until != Until::Startup {
        near.write_all(&message(b'R', &[0; 4])).await?;
        if until == Until::Asked {
            near.write_all(&message(b'Z', b"I")).await?;
            near.read_u8().await?;
        }
    }
    attacks.fetch_add(1, Ordering::Relaxed);
    let mut all = 0;
    for number in 0.. {
        let piece = (attack.message)(number);
        near.write_all(&piece).await?;
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        all += piece.len() as u64;
        if all >= OFFERED {
            break;
        }
    }
    // To the end of the session: what counts is who ends it.
    near.read_to_end(&mut Vec::new()).await.map(drop)
}

pub(super) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: nothing came of it"))
}

fn refused(what: &str, server: &Hostile, error: &Error, most: u64) {
    let report = error.report();
    assert_eq!(error.fault(), Fault::Environment, "{what}: {report}");
    assert!(report.contains(&format!("`{}`", server.address)), "{what}: it is said which server: {report}");
    assert!(report.contains("the server"), "{what}: {report}");
    let sent = server.sent.load(Ordering::Relaxed);
    assert!(sent <= most + ON_THE_WAY, "{what}: {sent} bytes were taken: {report}");
    assert!(server.attacks.load(Ordering::Relaxed) > 0, "{what}: the server was never asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_ends_is_left_at_each_point_by_each_kind_of_session() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let (_, rest) = database.url.split_once('@').unwrap();
    let (real, _) = rest.split_once('/').unwrap();
    let login = 1 << 20;
    for (until, attack, most) in [
        (Until::Startup, SETTINGS, login),
        (Until::Startup, REMARKS, login),
        (Until::Startup, SETTING, login),
        (Until::Startup, ERROR, login),
        (Until::Startup, DEMAND, login),
        (Until::LoggedIn, SETTINGS, login),
        (Until::LoggedIn, REMARKS, login),
        (Until::LoggedIn, SETTING, login),
        (Until::LoggedIn, ROW, login),
        (Until::Asked, SETTINGS, 8 << 20),
        (Until::Asked, REMARKS, 32 << 20),
        (Until::Asked, ERROR, login),
        (Until::Asked, ROW, login),
    ] {
        let what = format!("{} after {until:?}", attack.name);
        let server = Hostile::start(real, false, until, attack).await;
        let url = Url::parse(&Secret::new(server.url(&database)), None).unwrap();
        let Err(error) = in_time(&what, connect(&url, "test")).await else { panic!("{what}: logged in") };
        refused(&what, &server, &error, most);

        let server = Hostile::start(real, true, until, attack).await;
        let config = config(&server.url(&database), &["t"]);
        let error = in_time(&what, postgres::check(&pipeline(&database), &config)).await.unwrap_err();
        refused(&what, &server, &error, most);
    }
    // Rows that nobody wants are not kept by a session that only sets itself up.
    let server = Hostile::start(real, false, Until::Asked, ROWS).await;
    let url = Url::parse(&Secret::new(server.url(&database)), None).unwrap();
    let Err(error) = in_time("rows", connect(&url, "test")).await else { panic!("logged in") };
    refused("rows", &server, &error, 64 << 20);
    let server = Hostile::start(real, true, Until::Asked, ROWS).await;
    let config = config(&server.url(&database), &["t"]);
    let error = in_time("rows", postgres::check(&pipeline(&database), &config)).await.unwrap_err();
    refused("rows", &server, &error, 8 << 20);
}

/// A pipeline as a process of its own, whose memory can be told from that of others.
struct Host {
    running: Running,
    out: std::path::PathBuf,
    _folder: Folder,
}

impl Host {
    async fn start(database: &Database, url: &str, more: &str) -> Self {
        database
            .client
            .batch_execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text)")
            .await
            .unwrap();
        let folder = Folder::new();
        let out = folder.path("out.jsonl");
        let text = format!(
            "version: 1\nname: {}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.documents]{more} }}\n\
             embedders:\n  words: {{ type: hash, dimension: 16 }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
             sinks:\n  out: {{ type: file, inputs: [embed], path: {} }}\n",
            pipeline(database),
            root().join("plugins/documents-rust/documents.wasm").display(),
            out.display(),
        );
        let file = folder.write("wire.yaml", &text);
        let mut running = Running::start(&file, &[("DATABASE_URL", url)]);
        running.said("streaming").await;
        Self { running, out, _folder: folder }
    }

    /// Writes a row and waits for what is made of it, so that all before it has been read.
    async fn row(&self, database: &Database, id: i64) {
        database.client.execute("INSERT INTO documents VALUES ($1, 'title', 'content')", &[&id]).await.unwrap();
        let sought = format!("\"{id}");
        eventually("the row arrives", async || {
            std::fs::read_to_string(&self.out).is_ok_and(|text| text.contains(&sought))
        })
        .await;
    }

    /// The most memory that it ever had, in bytes. None of one that has ended.
    fn peak(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10)
    }

    /// What it has grown by since it had had `before`. It must still run: of one that has ended nothing is known.
    fn grown(&mut self, before: u64) -> u64 {
        let (ended, now) = (self.running.exit(), self.peak());
        now.unwrap_or_else(|| panic!("the host has ended, {ended:?}: {}", self.running.log())) - before
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_anybody_writes_into_the_log_costs_no_memory() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let mut host = Host::start(&database, &database.url, "").await;
        host.row(&database, 7001).await;
        let before = host.peak().expect("it runs");
        for (transactional, prefix) in [(true, "stranger"), (false, "stranger"), (true, "pgstream")] {
            let sql = format!("SELECT pg_logical_emit_message({transactional}, '{prefix}', repeat('x', 100000000))");
            database.client.batch_execute(&sql).await.unwrap();
        }
        host.row(&database, 7002).await;
        let grown = host.grown(before);
        assert!(grown < 32 << 20, "{grown} bytes more for messages of 100 MB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_larger_than_it_may_be_stops_the_pipeline_with_its_table() {
    for cluster in versions() {
        let database = Database::create(cluster).await;
        let mut host = Host::start(&database, &database.url, ", max_row: 2MiB").await;
        database.client.batch_execute("INSERT INTO documents VALUES (1, 'fits', repeat('x', 1100000))").await.unwrap();
        host.row(&database, 7001).await;
        let before = host.peak().expect("it runs");
        let wide = "INSERT INTO documents VALUES (2, 'wide', repeat('x', 100000000))";
        database.client.batch_execute(wide).await.unwrap();
        let mut grown = 0;
        eventually("the pipeline stops", async || {
            // At its end nothing is known of it any more.
            grown = grown.max(host.peak().map_or(0, |peak| peak - before));
            host.running.exit().is_some()
        })
        .await;
        let log = host.running.log();
        assert!(log.contains("a row of table `public.documents` is larger than `max_row`"), "{log}");
        assert!(log.contains("2MiB is the most") && log.contains("help: raise `max_row` of the source"), "{log}");
        assert!(grown < 32 << 20, "{grown} bytes were taken for it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_while_it_streams_is_bounded_too() {
    let database = fresh_database().await;
    database.client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let (_, rest) = database.url.split_once('@').unwrap();
    let (real, _) = rest.split_once('/').unwrap();
    for (attack, why) in [
        (ROW, "tag 0x44"),
        (ERROR, "an error (tag 0x45)"),
        (SETTINGS, "more than 256 settings"),
        (Attack { name: "a changed row", message: |number| streamed(b'U', number) }, "larger than `max_row`"),
        (Attack { name: "a description", message: |number| streamed(b'R', number) }, "is too long"),
    ] {
        let server = Hostile::start(real, true, Until::Streaming, attack).await;
        let config = PostgresSettings { max_row: Size(1 << 20), ..config(&server.url(&database), &["t"]) };
        let mut source = PostgresSource::connect(&pipeline(&database), &config).await.unwrap();
        let error = in_time(attack.name, last_word(&mut source)).await;
        assert!(error.report().contains(why), "{}: {}", attack.name, error.report());
        let sent = server.sent.load(Ordering::Relaxed);
        assert!(sent <= ON_THE_WAY, "{}: {sent} bytes were taken", attack.name);
    }
}

/// A message of the stream that claims a gigabyte.
fn streamed(tag: u8, number: u64) -> Vec<u8> {
    let body = vec![b'x'; 1 << 16];
    if number > 0 { body } else { [&b"d"[..], &(1u32 << 30).to_be_bytes(), b"w", &[0; 24], &[tag], &body].concat() }
}

#[tokio::test(flavor = "multi_thread")]
async fn remarks_without_end_fill_neither_memory_nor_log() {
    let database = fresh_database().await;
    let (_, rest) = database.url.split_once('@').unwrap();
    let (real, _) = rest.split_once('/').unwrap();
    let attack = Attack { name: "remarks", message: |_| said(b'N', &[b'x'; 9_000]).repeat(7) };
    let server = Hostile::start(real, true, Until::Streaming, attack).await;
    let mut host = Host::start(&database, &server.url(&database), "").await;
    let sent = || server.sent.load(Ordering::Relaxed);
    eventually("it listens", async || sent() > 64 << 20).await;
    let before = host.peak().expect("it runs");
    eventually("it listens on", async || sent() > 256 << 20).await;
    let grown = host.grown(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    assert!(host.running.log().len() < 100_000, "the log has {} bytes", host.running.log().len());
}

/// How deep a server nests the types that it is asked for, before it has enough.
const NESTED: u32 = 200;
/// Its first type.
const OWN: u32 = 100_000;

/// A server that answers every statement with one row of its own making.
struct Liar {
    address: String,
    /// How often it was asked what a type of its own is.
    asked: Arc<AtomicU64>,
    serving: tokio::task::JoinHandle<()>,
}

impl Liar {
    async fn start(columns: &'static [u32], row: &'static [Option<&'static [u8]>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move { lie(near, columns, row, &count).await });
            }
        });
        Self { address, asked, serving }
    }

    /// What comes of a login there.
    async fn met(&self) -> Error {
        let url = format!("postgres://somebody:secret@{}/shop?sslmode=disable&connect_timeout=60", self.address);
        let url = Url::parse(&Secret::new(url), None).unwrap();
        let Err(error) = in_time("a lie", connect(&url, "test")).await else { panic!("logged in") };
        error
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Its types are each one over another one.
async fn lie(mut near: TcpStream, columns: &[u32], row: &[Option<&[u8]>], asked: &AtomicU64) -> std::io::Result<()> {
    let length = near.read_u32().await?;
    near.read_exact(&mut vec![0; length as usize - 4]).await?;
    near.write_all(&[message(b'R', &[0; 4]), message(b'Z', b"I")].concat()).await?;
    let (mut type_of, mut about_types) = (OWN, false);
    loop {
        let tag = near.read_u8().await?;
        let mut body = vec![0; near.read_u32().await? as usize - 4];
        near.read_exact(&mut body).await?;
        let answer = match tag {
            b'Q' => [message(b'C', b"SET\0"), message(b'Z', b"I")].concat(),
            b'P' => {
                about_types = body.windows(7).any(|bytes| bytes == b"typname");
                let told =
                    if about_types { described(&[26], &[19, 18, 26, 26, 26, 19, 26]) } else { described(&[], columns) };
                [message(b'1', b""), told].concat()
            }
            b'B' => {
                let sent = if about_types {
                    asked.fetch_add(1, Ordering::Relaxed);
                    type_of += 1;
                    let kind: &[u8] = if type_of < OWN + NESTED { b"d" } else { b"b" };
                    let (none, next) = (0u32.to_be_bytes(), type_of.to_be_bytes());
                    data_row(&[b"own", kind, &none, &none, &next, b"public", &none].map(Some))
                } else {
                    data_row(row)
                };
                [message(b'2', b""), sent, message(b'C', b"SELECT 1\0")].concat()
            }
            b'S' => message(b'Z', b"I"),
            b'X' => return Ok(()),
            _ => continue,
        };
        near.write_all(&answer).await?;
    }
}

fn data_row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let count = (values.len() as u16).to_be_bytes().to_vec();
    let row = values.iter().fold(count, |row, value| match value {
        Some(value) => [&row[..], &(value.len() as u32).to_be_bytes(), value].concat(),
        None => [&row[..], &u32::MAX.to_be_bytes()].concat(),
    });
    message(b'D', &row)
}

/// What a statement takes and answers.
fn described(parameters: &[u32], columns: &[u32]) -> Vec<u8> {
    let count = |oids: &[u32]| (oids.len() as u16).to_be_bytes().to_vec();
    let takes = parameters.iter().fold(count(parameters), |told, oid| [told, oid.to_be_bytes().to_vec()].concat());
    let answers = columns.iter().fold(count(columns), |told, oid| {
        [&told[..], b"name\0\0\0\0\0\0\0", &oid.to_be_bytes(), &[0, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1]].concat()
    });
    [message(b't', &takes), message(b'T', &answers)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_types_have_no_end_is_not_asked_for_one() {
    let server = Liar::start(&[OWN], &[None]).await;
    let error = server.met().await;
    let report = error.report();
    assert!(report.contains("the server describes a statement with a type of its own (OID 100000)"), "{report}");
    assert_eq!(error.fault(), Fault::Environment, "{report}");
    assert_eq!(server.asked.load(Ordering::Relaxed), 0, "it was asked what its types are");
}

#[tokio::test(flavor = "multi_thread")]
async fn null_or_another_type_where_none_is_expected_is_an_error_that_says_of_which_column() {
    // An empty list of texts, which is what the first column is asked for.
    const NAMES: &[u8] = b"\0\0\0\0\0\0\0\0\0\0\0\x19";
    let null = Liar::start(&[1009, 25, 25], &[None; 3]).await;
    let other = Liar::start(&[23, 25, 25], &[Some(b"\0\0\0\x01"), None, None]).await;
    let few = Liar::start(&[1009], &[Some(NAMES)]).await;
    for (server, column) in [(null, "`0`"), (other, "`0`"), (few, "`1`")] {
        let error = server.met().await;
        let report = error.report();
        let what = format!("the server's answer is not as it was asked for, in its column {column}");
        assert!(report.contains(&what) && report.contains("an answer of the columns name"), "{report}");
        assert_eq!(error.fault(), Fault::Environment, "{report}");
    }
}
