//! The load: writers that go on through restarts of the server, with all that makes a transaction hard to follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// What writers pause after a transaction, and what they pause while the host is far behind: it must find the end of the log
/// on a small machine, too.
const PACE: Duration = Duration::from_millis(5);
const SLOW_PACE: Duration = Duration::from_millis(100);
/// Log that waits for the host when it is far behind, in bytes.
const FAR_BEHIND: i64 = 1 << 20;
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Between tries to connect to a server that is down.
const RETRY: Duration = Duration::from_millis(50);
/// Transactions of others that a long one waits for.
const MEANWHILE: u64 = 15;

/// Some writers at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    writers: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    far_behind: AtomicBool,
    transactions: AtomicU64,
    rows: AtomicU64,
    large: AtomicU64,
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) transactions: u64,
    /// Row changes that were committed.
    pub(super) rows: u64,
    /// Transactions of the largest kind among them.
    pub(super) large: u64,
}

impl Load {
    /// Two writers of short transactions, one of long ones, and one that once writes `large` rows in a transaction.
    pub(super) fn start(url: &str, seed: u64, large: u32, moves_large_texts: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let mut writers = JoinSet::new();
        let mut watcher = Writer { url: url.to_owned(), client: None, shared: Arc::clone(&shared) };
        writers.spawn(async move { watcher.watch().await });
        for number in 0..4 {
            let mut random = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(number));
            let mut writer = Writer { url: url.to_owned(), client: None, shared: Arc::clone(&shared) };
            writers.spawn(async move {
                let mut turn = 0_u64;
                while !writer.stopped() {
                    match number {
                        0 | 1 => drop(writer.commit(&short(&mut random, moves_large_texts)).await),
                        2 => writer.long(&mut random).await,
                        _ => turn = writer.large(turn, large).await,
                    }
                    tokio::time::sleep(writer.pace()).await;
                }
            });
        }
        Self { shared, writers }
    }

    /// Committed so far.
    pub(super) fn transactions(&self) -> u64 {
        self.shared.transactions.load(Ordering::Relaxed)
    }

    /// Lets each writer finish what it is at.
    pub(super) async fn stop(self) -> Written {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.writers.join_all().await;
        let Shared { transactions, rows, large, .. } = &*self.shared;
        let [transactions, rows, large] = [transactions, rows, large].map(|count| count.load(Ordering::Relaxed));
        Written { transactions, rows, large }
    }
}

struct Writer {
    url: String,
    client: Option<Client>,
    shared: Arc<Shared>,
}

/// The server refused, or is gone.
struct Failed;

impl Writer {
    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn pace(&self) -> Duration {
        if self.shared.far_behind.load(Ordering::Relaxed) { SLOW_PACE } else { PACE }
    }

    /// Writes nothing, but sees how far the host has come.
    async fn watch(&mut self) {
        let sql = "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)), 0)::bigint
                   FROM pg_replication_slots WHERE database = current_database()";
        while !self.stopped() {
            if let Ok(client) = self.client().await
                && let Ok(row) = client.query_one(sql, &[]).await
            {
                self.shared.far_behind.store(row.get::<_, i64>(0) > FAR_BEHIND, Ordering::Relaxed);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs statements in one transaction.
    async fn commit(&mut self, body: &str) -> Result<(), Failed> {
        let (undone, body) = match body.strip_prefix("UNDO ") {
            Some(body) => (true, body),
            None => (false, body),
        };
        let end = if undone { "ROLLBACK" } else { "COMMIT" };
        let rows = self.run(&format!("BEGIN; {body}; {end}")).await?;
        if !undone {
            self.committed(rows);
        }
        Ok(())
    }

    fn committed(&self, rows: u64) {
        self.shared.transactions.fetch_add(1, Ordering::Relaxed);
        self.shared.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Holds a transaction open while others commit theirs.
    async fn long(&mut self, random: &mut StdRng) {
        let id = random.random_range(600..640);
        let word: u32 = random.random();
        let mut rows = 0;
        for (part, sql) in [
            format!("BEGIN; INSERT INTO documents VALUES ({id}, 'long {word}', 'begun {word}') {OR_REPLACE}"),
            format!("UPDATE documents SET content = 'in between {word}' WHERE id BETWEEN {id} AND {}", id + 3),
            format!("DELETE FROM documents WHERE id = {}", id + 4),
        ]
        .iter()
        .enumerate()
        {
            match self.run(sql).await {
                Ok(changed) => rows += changed,
                Err(Failed) => return,
            }
            let until = self.shared.transactions.load(Ordering::Relaxed) + MEANWHILE;
            while part < 2 && self.shared.transactions.load(Ordering::Relaxed) < until && !self.stopped() {
                tokio::time::sleep(PACE).await;
            }
        }
        let end = if random.random_bool(0.2) { "ROLLBACK" } else { "COMMIT" };
        if self.run(end).await.is_ok() && end == "COMMIT" {
            self.committed(rows);
        }
    }

    /// One large insert, later its update and its deletion: each once, however often the server fails them.
    async fn large(&mut self, turn: u64, rows: u32) -> u64 {
        let last = 10_000 + rows;
        let sql = match turn {
            40 => format!(
                "INSERT INTO documents SELECT g, 'large', 'large text ' || g FROM generate_series(10001, {last}) g"
            ),
            80 => format!("UPDATE documents SET title = 'larger' WHERE id BETWEEN 10001 AND {}", 10_000 + rows / 2),
            120 => format!("DELETE FROM documents WHERE id BETWEEN 10001 AND {}", 10_000 + rows / 3),
            _ => return turn + 1,
        };
        if self.commit(&sql).await.is_err() {
            return turn; // again
        }
        self.shared.large.fetch_add(1, Ordering::Relaxed);
        turn + 1
    }

    /// The open connection, or a new one.
    async fn client(&mut self) -> Result<&Client, Failed> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = None;
            let Ok((client, connection)) = tokio_postgres::connect(&self.url, NoTls).await else {
                tokio::time::sleep(RETRY).await;
                return Err(Failed);
            };
            tokio::spawn(connection);
            client.batch_execute("SET lock_timeout = '300ms'").await.map_err(|_| Failed)?;
            self.client = Some(client);
        }
        self.client.as_ref().ok_or(Failed)
    }

    /// Answers how many rows the statements changed.
    async fn run(&mut self, sql: &str) -> Result<u64, Failed> {
        let client = self.client().await?;
        match client.simple_query(sql).await {
            Ok(messages) => Ok(messages.iter().map(changed).sum()),
            Err(error) => {
                assert!(
                    error.as_db_error().is_none_or(|error| passing(error.code().code())),
                    "the load is wrong: {error:?}: {sql}"
                );
                // A lock that was not to be had, a row that another writer has made: this transaction is off.
                let _ = client.batch_execute("ROLLBACK").await;
                Err(Failed)
            }
        }
    }
}

fn changed(message: &SimpleQueryMessage) -> u64 {
    match message {
        SimpleQueryMessage::CommandComplete(rows) => *rows,
        _ => 0,
    }
}

/// Two writers in each other's way, or a server that is going, with the programs that it runs.
fn passing(code: &str) -> bool {
    matches!(code, "55P03" | "40P01" | "40001" | "23505" | "25P02" | "38000")
        || matches!(&code[..2], "57" | "08" | "53" | "58")
}

const OR_REPLACE: &str = "ON CONFLICT (id) DO UPDATE SET title = excluded.title, content = excluded.content";

/// One short transaction over a small range of keys, so that rows are written again and again.
fn short(random: &mut StdRng, moves_large_texts: bool) -> String {
    let statements: Vec<String> =
        (0..random.random_range(1..4)).map(|_| statement(random, moves_large_texts)).collect();
    let body = statements.join("; ");
    match random.random_range(0..100) {
        // Not below a savepoint: after a reconnect Postgres 18 may fail to decode that ("could not map filenumber").
        98 => format!("TRUNCATE documents; {body}"),
        99 => format!("{body}; TRUNCATE documents"),
        0..5 => format!("UNDO {body}"),
        5..10 => {
            let kept = statement(random, moves_large_texts);
            format!("SAVEPOINT a; {body}; SAVEPOINT b; {kept}; ROLLBACK TO b; {kept}; RELEASE a")
        }
        10..15 => format!("SAVEPOINT a; {body}; ROLLBACK TO a; {}", statement(random, moves_large_texts)),
        _ => body,
    }
}

fn statement(random: &mut StdRng, moves_large_texts: bool) -> String {
    let id: u32 = random.random_range(1..400);
    let word: u32 = random.random();
    match random.random_range(0..1000) {
        0..300 => format!("INSERT INTO documents VALUES ({id}, 't {word}', 'text {word}') {OR_REPLACE}"),
        300..450 => format!("UPDATE documents SET content = 'changed {word}' WHERE id BETWEEN {id} AND {}", id + 5),
        450..520 => format!("UPDATE documents SET views = views + 1, title = 'seen {word}' WHERE id = {id}"),
        520..600 => format!("DELETE FROM documents WHERE id BETWEEN {id} AND {}", id + 2),
        600..680 => {
            // Of a text that is not sent only the table knows what it is.
            let short = if moves_large_texts { "" } else { "AND coalesce(length(content), 0) < 1000" };
            format!(
                "UPDATE documents SET id = {0} WHERE id = {id} {short} AND NOT EXISTS (SELECT FROM documents WHERE id = {0})",
                id + 1000
            )
        }
        680..740 => format!(
            "INSERT INTO documents SELECT g, 'bulk', 'bulk {word} ' || g FROM generate_series(2000, {}) g {OR_REPLACE}",
            2000 + random.random_range(1..60)
        ),
        740..800 => {
            let from = 3000 + random.random_range(0..100);
            format!(
                "DELETE FROM documents WHERE id BETWEEN {from} AND {0}; COPY documents (id, title, content) FROM PROGRAM \
                 'seq {from} {0} | sed \"s/.*/&\\tcopied\\tcopied {word} &/\"'",
                from + 40
            )
        }
        800..850 => format!(
            "INSERT INTO documents SELECT {}, 'toasted', string_agg(md5({word}::text || g), ' ') \
             FROM generate_series(1, {}) g {OR_REPLACE}",
            500 + id % 40,
            random.random_range(90..200)
        ),
        850..930 => format!(
            "UPDATE documents SET views = views + 1 WHERE id BETWEEN {} AND {}",
            500 + id % 40,
            500 + id % 40 + random.random_range(0..4)
        ),
        930..950 => format!("UPDATE documents SET content = NULL WHERE id = {id}"),
        950..970 => format!(
            "UPDATE documents SET id = {0} WHERE id = {1} {2} AND NOT EXISTS (SELECT FROM documents WHERE id = {0})",
            1500 + id % 40,
            500 + id % 40,
            if moves_large_texts { "" } else { "AND coalesce(length(content), 0) < 1000" }
        ),
        _ => "DELETE FROM documents WHERE id BETWEEN 1000 AND 2999".to_owned(),
    }
}
