//! Reload: what has changed in the files changes in what runs, and nothing else; no row is lost meanwhile, and none is stale.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio_postgres::Client;

use crate::support::oracle::{DIMENSION, Differences, Oracle, TABLE, pgvector_points};
use crate::support::program::{Folder, Running, eventually, pgstream, root};
use crate::support::{Database, connect, fresh_database};

const HANDLER: &str = "plugins/documents-rust/documents.wasm";

/// A pipeline from `table` into pgvector, or what else `sink` says.
fn pipeline(name: &str, table: &str, batch: u32, config: &str, sink: &str) -> String {
    format!(
        "version: 1\nname: {name}\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.{table}], \
         snapshot: initial, batch: {{ max_events: {batch} }} }}\n\
         embedders:\n  words: {{ type: hash, dimension: {DIMENSION} }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: handler.wasm, embedders: [words], workers: 2, \
         config: {{ title_column: \"\", chunk_chars: \"200\"{config} }} }}\n\
         sinks:\n  out: {{ {sink}, inputs: [embed] }}\n"
    )
}

/// The sink in the table's own database.
fn vectors() -> String {
    format!(
        "type: pgvector, url: \"${{DATABASE_URL}}\", table: points, create: {{ dimension: {DIMENSION}, distance: dot }}"
    )
}

fn lines(path: &Path) -> String {
    format!("type: file, path: {}", path.display())
}

/// Puts a component of this number in place, as a deployment does: by renaming.
fn deploy(folder: &Folder, number: u8) {
    let mut component = std::fs::read(root().join(HANDLER)).unwrap();
    component.extend([0, 3, 1, b'n', number]); // a custom section: another file that does the same
    put(folder, "handler.wasm", &component);
}

/// Writes a file as editors do: beside it, then in its place.
fn edit(folder: &Folder, name: &str, content: &str) {
    put(folder, name, content.as_bytes());
}

fn put(folder: &Folder, name: &str, content: &[u8]) {
    let beside = folder.path("new.tmp");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, folder.path(name)).unwrap();
}

/// The server's process that streams to the pipeline of this name.
async fn backend(database: &Database, name: &str) -> Option<i32> {
    let slot = format!("pgstream_{}", name.replace('-', "_"));
    // Not the session that makes the slot.
    let sql = "SELECT s.active_pid FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
               WHERE s.slot_name = $1 AND a.backend_type = 'walsender'";
    database.client.query_opt(sql, &[&slot]).await.unwrap().and_then(|row| row.get(0))
}

async fn streams(database: &Database, name: &str) -> i32 {
    let mut pid = None;
    eventually(&format!("`{name}` streams"), async || {
        pid = backend(database, name).await;
        pid.is_some()
    })
    .await;
    pid.unwrap()
}

/// The server ends a stream's process a moment after the host has closed the connection.
async fn streams_no_more(database: &Database, name: &str) {
    eventually(&format!("`{name}` streams no more"), async || backend(database, name).await.is_none()).await;
}

async fn has(path: &Path, text: &str) {
    let what = format!("{} has `{text}`", path.display());
    eventually(&what, async || std::fs::read_to_string(path).is_ok_and(|lines| lines.contains(text))).await;
}

/// What the host says once it has dealt with a pipeline, from `from` on in its log.
async fn told(host: &mut Running, from: usize, pipeline: &str, what: &str) {
    eventually(&format!("it says of `{pipeline}`: {what}"), async || {
        assert!(host.exit().is_none(), "it ended: {}", host.log());
        let log = host.log();
        let lines = log.get(from..).unwrap_or_default().lines();
        let named = format!("pipeline=\"{pipeline}\"");
        lines.into_iter().any(|line| line.contains(&named) && line.contains(what))
    })
    .await;
}

async fn tables(database: &Database, names: &[&str]) {
    for name in names {
        let table = format!("CREATE TABLE {name} (id bigint PRIMARY KEY, title text, content text)");
        database.client.batch_execute(&table).await.unwrap();
    }
}

async fn insert(database: &Database, table: &str, id: i64, content: &str) {
    let row = format!("INSERT INTO {table} VALUES ({id}, 'title', '{content}')");
    database.client.batch_execute(&row).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_whose_file_changed_is_replaced_and_others_are_not_touched() {
    let (database, folder) = (fresh_database().await, Folder::new());
    tables(&database, &["one", "two", "three"]).await;
    deploy(&folder, 0);
    let names = ["one", "two", "three"].map(|name| format!("{}-{name}", database.name.replace('_', "-")));
    let [one, two, three] = &names;
    let file_of_one = pipeline(one, "one", 100, "", &lines(&folder.path("run/one.jsonl")));
    std::fs::create_dir(folder.path("run")).unwrap();
    std::fs::copy(folder.path("handler.wasm"), folder.path("run/handler.wasm")).unwrap();
    edit(&folder, "run/one.yaml", &file_of_one);
    edit(&folder, "run/two.yaml", &pipeline(two, "two", 100, "", &lines(&folder.path("run/two.jsonl"))));
    let mut host = Running::start(&folder.path("run"), &[("DATABASE_URL", database.url.as_str())]);
    let (first, second) = (streams(&database, one).await, streams(&database, two).await);
    // What a copy would bring comes once more where it was not finished.
    let copied = format!("run{{pipeline={two}}}: all rows of the table are copied");
    eventually("the table is copied", async || host.log().contains(&copied)).await;
    insert(&database, "two", 1, "before").await;
    has(&folder.path("run/two.jsonl"), "before").await;

    edit(&folder, "run/one.yaml", &format!("# only a comment\n{file_of_one}"));
    edit(&folder, "run/two.yaml", &pipeline(two, "two", 100, "", &lines(&folder.path("run/other.jsonl"))));
    edit(&folder, "run/three.yaml", &pipeline(three, "three", 100, "", &lines(&folder.path("run/three.jsonl"))));
    host.signal(Signal::HUP);
    told(&mut host, 0, one, "reload: nothing has changed").await;
    told(&mut host, 0, two, "reload: it was started again with its new settings").await;
    told(&mut host, 0, three, "reload: it was started").await;
    insert(&database, "two", 2, "after").await;
    insert(&database, "three", 1, "new").await;
    has(&folder.path("run/other.jsonl"), "after").await;
    has(&folder.path("run/three.jsonl"), "new").await;
    let other = std::fs::read_to_string(folder.path("run/other.jsonl")).unwrap();
    assert!(!other.contains("before"), "what was confirmed does not come again: {other}");
    assert_eq!(backend(&database, one).await, Some(first), "its stream went on");
    assert_ne!(backend(&database, two).await, Some(second));

    std::fs::remove_file(folder.path("run/one.yaml")).unwrap();
    host.signal(Signal::HUP);
    told(&mut host, 0, one, "its file is gone, and it was stopped").await;
    streams_no_more(&database, one).await;
    insert(&database, "two", 3, "later").await;
    has(&folder.path("run/other.jsonl"), "later").await;
    edit(&folder, "run/one.yaml", &file_of_one);
    host.signal(Signal::HUP);
    streams(&database, one).await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_leaves_what_runs_as_it_is_and_says_why() {
    let (database, folder) = (fresh_database().await, Folder::new());
    tables(&database, &["documents"]).await;
    deploy(&folder, 0);
    let name = database.name.replace('_', "-");
    let good = pipeline(&name, "documents", 100, "", &lines(&folder.path("out.jsonl")));
    edit(&folder, "one.yaml", &good);
    let file = folder.path("one.yaml");
    let environment = [("DATABASE_URL", database.url.as_str())];
    let mut host = Running::start(&file, &environment);
    let pid = streams(&database, &name).await;
    let refusal = "reload: what runs stays as it is, the new settings are refused";

    for bad in [
        good.replace("chunk_chars", "chunk_chars: \"1\", x"),
        good.replace("inputs: [embed]", "inputs: [embde]"),
        String::new(),
    ] {
        let before = host.log().len();
        edit(&folder, "one.yaml", &bad);
        let checked = pgstream(["validate", file.to_str().unwrap()]).envs(environment).output().unwrap();
        if checked.status.success() {
            continue; // only the handler itself knows
        }
        host.signal(Signal::HUP);
        told(&mut host, before, &name, refusal).await;
        let (said, why) = (host.log(), String::from_utf8_lossy(&checked.stderr).into_owned());
        for line in why.lines() {
            assert!(said[before..].contains(line), "`{line}` is not in {said}");
        }
    }
    let before = host.log().len();
    edit(&folder, "one.yaml", &good);
    edit(&folder, "handler.wasm", "this is no component");
    host.signal(Signal::HUP);
    told(&mut host, before, &name, refusal).await;
    assert!(host.log()[before..].contains("cannot be the component of transform `embed`"), "{}", host.log());
    deploy(&folder, 0);

    // Settings that nothing is wrong with but the surroundings: they are tried, and those before come back.
    let before = host.log().len();
    edit(&folder, "one.yaml", &good.replace("public.documents", "public.absent"));
    host.signal(Signal::HUP);
    told(&mut host, before, &name, "reload: it was started again with its new settings").await;
    eventually("it goes back", async || {
        host.log()[before..].contains("the new settings cannot run; the pipeline goes on with those before")
    })
    .await;
    insert(&database, "documents", 1, "still here").await;
    has(&folder.path("out.jsonl"), "still here").await;
    assert_ne!(backend(&database, &name).await, Some(pid));
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_swapped_while_the_replication_connection_stays() {
    let (database, folder) = (fresh_database().await, Folder::new());
    tables(&database, &["documents"]).await;
    deploy(&folder, 0);
    let name = database.name.replace('_', "-");
    let with = |config: &str| pipeline(&name, "documents", 100, config, &lines(&folder.path("out.jsonl")));
    edit(&folder, "one.yaml", &with(""));
    let mut host = Running::start(&folder.path("one.yaml"), &[("DATABASE_URL", database.url.as_str())]);
    let pid = streams(&database, &name).await;
    insert(&database, "documents", 1, "by the first").await;
    has(&folder.path("out.jsonl"), "by the first").await;
    for (number, config) in [(0, ", text_column: title"), (1, ", text_column: title"), (1, ", text_column: content")] {
        let before = host.log().len();
        deploy(&folder, number);
        edit(&folder, "one.yaml", &with(config));
        host.signal(Signal::HUP);
        told(&mut host, before, &name, "reload: its handlers were swapped, the stream went on").await;
    }
    edit(&folder, "one.yaml", &with(", text_column: title"));
    let before = host.log().len();
    host.signal(Signal::HUP);
    told(&mut host, before, &name, "reload: its handlers were swapped, the stream went on").await;
    insert(&database, "documents", 2, "not its text").await;
    has(&folder.path("out.jsonl"), "\"title\":\"title\"").await;
    // A handler that cannot start leaves the one that runs.
    let before = host.log().len();
    edit(&folder, "one.yaml", &with("").replace("workers: 2", "workers: 2, limits: { memory: 1MiB }"));
    host.signal(Signal::HUP);
    told(&mut host, before, &name, "the new settings are refused").await;
    assert_eq!(backend(&database, &name).await, Some(pid), "{}", host.log());
    let (status, log) = host.stop().await;
    assert!(status.success() && log.matches(": streaming").count() == 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing_and_leave_nothing_stale() {
    let seed = std::env::var("RELOAD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("RELOAD_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (database, folder) = (fresh_database().await, Folder::new());
    database.client.batch_execute(TABLE).await.unwrap();
    // Their copy is under way when the first reload comes.
    let rows = "INSERT INTO documents SELECT i, 'old', 'an old row ' || i FROM generate_series(1, 3000) i";
    database.client.batch_execute(rows).await.unwrap();
    deploy(&folder, 0);
    let name = database.name.replace('_', "-");
    let file = |batch: u32| pipeline(&name, "documents", batch, "", &vectors());
    edit(&folder, "one.yaml", &file(50));
    let host = Running::start(&folder.path("one.yaml"), &[("DATABASE_URL", database.url.as_str())]);
    streams(&database, &name).await;
    let load = Load::start(&database.url, seed).await;
    let (mut batch, mut number) = (50, 0);
    for _ in 0..12 {
        let moment = load.transactions() + random.random_range(1..30);
        eventually("the load goes on", async || load.transactions() >= moment).await;
        match random.random_range(0..4) {
            0 => {
                batch = if batch == 50 { 60 } else { 50 };
                edit(&folder, "one.yaml", &file(batch));
            }
            1 => edit(&folder, "one.yaml", "version: 1\nname: [\n"),
            _ => {
                number += 1;
                edit(&folder, "one.yaml", &file(batch));
                deploy(&folder, number);
            }
        }
        let before = host.log().len();
        host.signal(Signal::HUP);
        if random.random_bool(0.3) {
            host.signal(Signal::HUP); // twice at once
        }
        if random.random_bool(0.7) {
            eventually("it is dealt with", async || dealt_with(&host, before)).await;
        }
    }
    edit(&folder, "one.yaml", &file(batch));
    deploy(&folder, 255);
    let before = host.log().len();
    host.signal(Signal::HUP);
    eventually("the last is dealt with", async || dealt_with(&host, before)).await;
    load.stop().await;
    settle(&database, &name).await;
    let (_, expected) = Oracle::new().expected(&database.client).await;
    let found = pgvector_points(&database.client, "points").await;
    let differences = Differences::between(&expected, &found);
    assert!(differences.is_empty(), "RELOAD_SEED={seed}: {differences}\n{}", host.log());
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

/// Whether the host has said since what became of a pipeline.
fn dealt_with(host: &Running, before: usize) -> bool {
    let log = host.log();
    log.get(before..).unwrap_or_default().lines().any(|line| line.contains("reload: ") && line.contains("pipeline="))
}

/// Waits until all that was committed is confirmed, and copied.
async fn settle(database: &Database, name: &str) {
    let end: String = database.client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
    let slot = format!("pgstream_{}", name.replace('-', "_"));
    let sql = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn AND NOT EXISTS (SELECT FROM pgstream.copies WHERE slot = $2 AND done_at IS NULL)
               FROM pg_replication_slots WHERE slot_name = $2";
    eventually("everything is confirmed", async || {
        database.client.query_one(sql, &[&end, &slot]).await.unwrap().get::<_, bool>(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_does_not_hold_up_a_stop_nor_begin_during_one() {
    let (database, folder) = (fresh_database().await, Folder::new());
    database.client.batch_execute(TABLE).await.unwrap();
    deploy(&folder, 0);
    let name = database.name.replace('_', "-");
    edit(&folder, "one.yaml", &pipeline(&name, "documents", 100, "", &vectors()));
    let mut host = Running::start(&folder.path("one.yaml"), &[("DATABASE_URL", database.url.as_str())]);
    database.client.batch_execute("INSERT INTO documents VALUES (1, 'a', 'first')").await.unwrap();
    let count = async || -> i64 {
        database.client.query_one("SELECT count(*) FROM points", &[]).await.map_or(0, |row| row.get(0))
    };
    eventually("the first row is written", async || count().await == 1).await;
    let blocker = connect(&database.url).await;
    blocker.batch_execute("BEGIN; LOCK TABLE points").await.unwrap();
    database.client.batch_execute("INSERT INTO documents VALUES (2, 'a', 'second')").await.unwrap();
    let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted";
    eventually("the write waits", async || database.client.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0))
        .await;
    // It has to drain first, and cannot.
    edit(&folder, "one.yaml", &pipeline(&name, "documents", 90, "", &vectors()));
    host.signal(Signal::HUP);
    host.said("reload: reading the files again").await;
    host.signal(Signal::TERM);
    host.said("stopping").await;
    host.signal(Signal::HUP);
    host.said("stopping: nothing is reloaded any more").await;
    blocker.batch_execute("COMMIT").await.unwrap();
    let (status, log) = host.ended().await;
    assert!(status.success() && !log.contains("reload: it was started"), "{log}");
    assert_eq!(count().await, 2, "what was received was written: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_had_is_given_back_when_its_pipeline_goes() {
    let (database, folder) = (fresh_database().await, Folder::new());
    tables(&database, &["one", "two"]).await;
    let address = database.url.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
    let host_file = |weight: u32, pipelines: u32| {
        format!(
            "version: 1\nembedders:\n  words: {{ type: hash, dimension: {DIMENSION} }}\ntenants:\n  acme: {{ folder: acme, \
             sinks: [file], servers: [\"{address}\"], env: [DATABASE_URL], embedders: {{ words: {{}} }}, weight: {weight}, \
             pipelines: {pipelines}, outlets: {pipelines} }}\n"
        )
    };
    std::fs::create_dir(folder.path("acme")).unwrap();
    deploy(&folder, 0);
    std::fs::copy(folder.path("handler.wasm"), folder.path("acme/handler.wasm")).unwrap();
    let of_acme = |name: &str| {
        let own = format!("  words: {{ type: hash, dimension: {DIMENSION} }}\n");
        let text = pipeline(
            &format!("{}-{name}", database.name.replace('_', "-")),
            name,
            100,
            "",
            &lines(Path::new(&format!("{name}.jsonl"))),
        );
        text.replace(&format!("embedders:\n{own}"), "").replace("version: 1\n", "version: 1\ntenant: acme\n")
    };
    let full = |name: &str| format!("acme-{}-{name}", database.name.replace('_', "-"));
    edit(&folder, "host.yaml", &host_file(1, 1));
    edit(&folder, "acme/one.yaml", &of_acme("one"));
    let arguments = ["run", "--host", folder.path("host.yaml").to_str().unwrap()].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut host = Running::start_with(&arguments, &folder.path("acme"), &[("DATABASE_URL", database.url.as_str())]);
    let pid = streams(&database, &full("one")).await;

    edit(&folder, "acme/two.yaml", &of_acme("two"));
    let before = host.log().len();
    host.signal(Signal::HUP);
    told(&mut host, before, &full("one"), "nothing has changed").await;
    host.said("already has the 1 pipelines that it may have").await;
    std::fs::remove_file(folder.path("acme/one.yaml")).unwrap();
    host.signal(Signal::HUP);
    streams(&database, &full("two")).await;
    streams_no_more(&database, &full("one")).await;

    edit(&folder, "acme/one.yaml", &of_acme("one"));
    edit(&folder, "host.yaml", &host_file(2, 2));
    let before = host.log().len();
    host.signal(Signal::HUP);
    told(&mut host, before, &full("two"), "it was started again with its new settings").await;
    assert_ne!(streams(&database, &full("one")).await, pid);
    edit(&folder, "host.yaml", "version: 1\n");
    host.signal(Signal::HUP);
    host.said("reload: nothing was changed, what runs stays as it is").await;
    insert(&database, "one", 1, "still granted").await;
    has(&folder.path("acme/one.jsonl"), "still granted").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_change_are_noticed_without_a_signal() {
    let (database, folder) = (fresh_database().await, Folder::new());
    tables(&database, &["documents"]).await;
    deploy(&folder, 0);
    let name = database.name.replace('_', "-");
    edit(&folder, "one.yaml", &pipeline(&name, "documents", 100, "", &lines(&folder.path("out.jsonl"))));
    let file = folder.path("one.yaml");
    let mut host = Running::start_with(&["run", "--watch"], &file, &[("DATABASE_URL", database.url.as_str())]);
    let pid = streams(&database, &name).await;
    // The first look may come after the first change: a second one is seen for sure.
    let mut number = 0;
    eventually("a component that changed is noticed", async || {
        number += 1;
        deploy(&folder, number);
        let now = host.log().len();
        for _ in 0..100 {
            if host.log()[now..].contains("its handlers were swapped") {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        false
    })
    .await;
    assert_eq!(backend(&database, &name).await, Some(pid));
    let before = host.log().len();
    edit(&folder, "one.yaml", &pipeline(&name, "documents", 100, "", &lines(&folder.path("other.jsonl"))));
    told(&mut host, before, &name, "it was started again with its new settings").await;
    insert(&database, "documents", 1, "elsewhere").await;
    has(&folder.path("other.jsonl"), "elsewhere").await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_it_is_ready_reloads_and_stops() {
    let (database, folder) = (fresh_database().await, Folder::new());
    tables(&database, &["documents"]).await;
    deploy(&folder, 0);
    let name = database.name.replace('_', "-");
    edit(&folder, "one.yaml", &pipeline(&name, "documents", 100, "", &lines(&folder.path("out.jsonl"))));
    let path = folder.path("notify");
    let (systemd, mut heard) = (tokio::net::UnixDatagram::bind(&path).unwrap(), [0; 100]);
    let environment = [("DATABASE_URL", database.url.as_str()), ("NOTIFY_SOCKET", path.to_str().unwrap())];
    let host = Running::start(&folder.path("one.yaml"), &environment);
    let mut hear = async || {
        let length = systemd.recv(&mut heard).await.unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    };
    assert_eq!(hear().await, "READY=1");
    streams(&database, &name).await;
    host.signal(Signal::HUP);
    let reloading = hear().await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(hear().await, "READY=1");
    host.signal(Signal::TERM);
    assert_eq!(hear().await, "STOPPING=1");
    let (status, log) = host.stop().await;
    assert!(status.success() || status.code() == Some(143), "{log}");
}

/// Rows that come, change and go, a few in each transaction.
struct Load {
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    async fn start(url: &str, seed: u64) -> Self {
        let (stop, transactions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (client, stopped, done) = (connect(url).await, Arc::clone(&stop), Arc::clone(&transactions));
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            while !stopped.load(Ordering::Relaxed) {
                Self::transaction(&client, &mut random).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, transactions, task }
    }

    async fn transaction(client: &Client, random: &mut StdRng) {
        let mut sql = "BEGIN;".to_owned();
        for _ in 0..random.random_range(1..6) {
            let id: i64 = random.random_range(1..4_000);
            sql += &match random.random_range(0..3) {
                0 => format!("DELETE FROM documents WHERE id = {id};"),
                1 => format!("UPDATE documents SET views = views + 1 WHERE id = {id};"),
                _ => format!(
                    "INSERT INTO documents VALUES ({id}, 'new', 'text {}') ON CONFLICT (id) DO UPDATE SET content = excluded.content;",
                    random.random_range(0..1_000_000)
                ),
            };
        }
        client.batch_execute(&(sql + "COMMIT")).await.unwrap();
    }

    fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
