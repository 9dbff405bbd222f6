//! The server that is read from: tables of rows in its log, and slots that stand before them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use pgstream_host::demo::{Cluster, Options};
use pgstream_host::lsn::Lsn;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use crate::rounds::Spread;

/// What the server is asked for beside the publication: as the host does where it can read all types in binary format.
const OPTIONS: [(&str, &str); 3] = [("proto_version", "1"), ("messages", "true"), ("binary", "true")];

/// A private server.
pub(crate) struct Rig {
    pub(crate) url: String,
    pub(crate) version: String,
    bin: PathBuf,
    cluster: Cluster,
    /// Seconds that `pg_recvlogical` takes for nothing.
    starting: OnceCell<f64>,
}

/// A table whose rows are in the log, after a slot.
pub(crate) struct Recorded {
    /// Its name; that of the slot before its rows is made of it.
    pub(crate) table: String,
    pub(crate) rows: u64,
    /// How many of them are in a transaction.
    each: u64,
    /// The end of the log when all rows were there.
    end: Lsn,
}

impl Rig {
    pub(crate) fn start() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/get-postgres.sh");
        let output = Command::new(script).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "no Postgres");
        let bin = PathBuf::from(String::from_utf8(output.stdout)?.trim());
        let options = Options::fast()
            .setting("max_wal_size", "16GB") // no checkpoint in the middle of a measurement
            .setting("checkpoint_timeout", "1h")
            .setting("autovacuum", "off")
            .setting("track_commit_timestamp", "on"); // what `latency` reads
        let cluster = Cluster::start(&bin, &options)?;
        let rig =
            Self { url: cluster.url("postgres"), version: String::new(), bin, cluster, starting: OnceCell::new() };
        rig.sql("CREATE EXTENSION vector")?;
        Ok(Self { version: rig.sql("SHOW server_version")?, ..rig })
    }

    pub(crate) fn sql(&self, sql: &str) -> Result<String> {
        Ok(self.cluster.psql("postgres", sql)?)
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Makes a table, its publication, through which all read it, and a slot. Rows come with [`record`](Self::record), or
    /// later.
    pub(crate) fn table(&self, name: &str) -> Result<()> {
        self.sql(&format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, title text, content text, category text, author text, tags text,
                                  views int, updated_at timestamptz);
             CREATE PUBLICATION bench_{name} FOR TABLE {name} WITH (publish_via_partition_root = true)"
        ))?;
        self.slot_before(name)
    }

    /// SQL for rows of about 300 bytes in 8 columns.
    pub(crate) fn insert(table: &str, from: &str, to: &str) -> String {
        format!(
            "INSERT INTO {table} SELECT n, 'Title ' || n, repeat(md5(n::text) || ' ', 6), 'category', 'author', 'tag',
               n % 1000, now() FROM generate_series({from}, {to}) n"
        )
    }

    /// Makes a table with so many rows, `each` of them in a transaction.
    pub(crate) fn record(&self, table: &str, rows: u64, each: u64) -> Result<Recorded> {
        eprintln!("  writing {rows} rows, {each} in a transaction …");
        self.table(table)?;
        self.fill(table, rows, each)
    }

    /// Writes the rows of a table anew, behind a new slot. Who reads them then need not read what was written since, into
    /// the sink for instance: a walsender would keep a core busy with it.
    pub(crate) fn renew(&self, Recorded { table, rows, each, .. }: &Recorded) -> Result<Recorded> {
        self.sql(&format!("TRUNCATE {table}"))?;
        self.drop_slot(&format!("before_{table}"))?;
        self.slot_before(table)?;
        self.fill(table, *rows, *each)
    }

    fn fill(&self, table: &str, rows: u64, each: u64) -> Result<Recorded> {
        let insert = Self::insert(table, "low", &format!("low + {each} - 1"));
        self.sql(&format!("DO $$ BEGIN FOR low IN 1..{rows} BY {each} LOOP {insert}; COMMIT; END LOOP; END $$"))?;
        let end = self.sql("SELECT pg_current_wal_insert_lsn()")?.parse()?;
        Ok(Recorded { table: table.to_owned(), rows, each, end })
    }

    fn slot_before(&self, table: &str) -> Result<()> {
        self.sql(&format!("SELECT pg_create_logical_replication_slot('before_{table}', 'pgoutput')")).map(drop)
    }

    /// A slot of its own for one reading, before the table's rows.
    pub(crate) fn slot(&self, table: &str) -> Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let slot = format!("reading_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("SELECT pg_copy_logical_replication_slot('before_{table}', '{slot}')"))?;
        Ok(slot)
    }

    pub(crate) fn drop_slot(&self, slot: &str) -> Result<()> {
        // A walsender whose client is gone lets go of its slot a moment later.
        let sql = format!("SELECT pg_drop_replication_slot('{slot}')");
        let began = Instant::now();
        loop {
            match self.sql(&sql) {
                Err(error) if began.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Rows per second of `pg_recvlogical`, which writes them to nowhere. Its start, which it is measured with in front of
    /// an empty log, does not count.
    pub(crate) async fn receive(&self, recorded: &Recorded) -> Result<f64> {
        let idle = self.starting.get_or_try_init(async || {
            let table = &recorded.table;
            self.slot_before("nothing")?;
            let end = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'before_nothing'";
            let end = self.sql(end)?.parse()?;
            let mut starts = Vec::new();
            for _ in 0..3 {
                starts.push(self.receive_from("nothing", table, end).await?);
            }
            anyhow::Ok(Spread::of(starts).median)
        });
        let idle = *idle.await?;
        let took = self.receive_from(&recorded.table, &recorded.table, recorded.end).await?;
        Ok(recorded.rows as f64 / (took - idle))
    }

    /// Seconds that `pg_recvlogical` takes from a slot before `start` to the end.
    async fn receive_from(&self, start: &str, table: &str, end: Lsn) -> Result<f64> {
        let slot = self.slot(start)?;
        let mut command = tokio::process::Command::new(self.bin.join("pg_recvlogical"));
        command.args(["--dbname", &self.url, "--start", "--no-loop", "--file", "/dev/null", "--slot", &slot]);
        for (option, value) in OPTIONS {
            command.args(["-o", &format!("{option}={value}")]);
        }
        command.args(["-o", &format!("publication_names=bench_{table}"), &format!("--endpos={end}")]);
        let began = Instant::now();
        let status = command.status().await.context("pg_recvlogical")?;
        let took = began.elapsed();
        ensure!(status.success(), "pg_recvlogical failed");
        self.drop_slot(&slot)?;
        Ok(took.as_secs_f64())
    }

    /// What the server sends for the table's rows, message by message.
    pub(crate) async fn capture(&self, recorded: &Recorded) -> Result<Vec<Bytes>> {
        let options: String = OPTIONS.iter().map(|(option, value)| format!(", '{option}', '{value}'")).collect();
        let Recorded { table, end, .. } = recorded;
        let sql = format!(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('before_{table}', '{end}', NULL,
               'publication_names', 'bench_{table}'{options})"
        );
        let rows = self.client().await?.query(&sql, &[]).await?;
        // One piece, cut without copies, as it is when it comes out of a socket.
        let mut all = BytesMut::new();
        let lengths: Vec<usize> = rows
            .iter()
            .map(|row| {
                let message: &[u8] = row.get(0);
                all.extend_from_slice(message);
                message.len()
            })
            .collect();
        let mut all = all.freeze();
        Ok(lengths.into_iter().map(|length| all.split_to(length)).collect())
    }
}
