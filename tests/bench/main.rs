//! `make bench`: the whole path against the fastest reader there is, on the same log, in the same run.
//!
//! Yardstick: `pg_recvlogical` writing the same changes to nowhere. Arms alternate over several rounds, each with a slot
//! of its own that was made before the rows were written, so that both read the same log. Ratios count, seconds do not:
//! the machine is whatever it is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pgstream_host::config;
use pgstream_host::demo::{Cluster, Options};
use pgstream_host::host::Host;
use pgstream_host::lsn::Lsn;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Rows of about 300 bytes in 8 columns, 100 in a transaction; `ROWS` in the environment says how many instead.
const DEFAULT_ROWS: u64 = 200_000;
const ROUNDS: usize = 3;

const TABLE: &str = "
    CREATE TABLE documents (id bigint PRIMARY KEY, title text, content text, category text, author text, tags text,
                            views int, updated_at timestamptz)";

const FILL: &str = "
    CREATE PROCEDURE fill(rows bigint) LANGUAGE plpgsql AS $$
    BEGIN
      FOR n IN 0..rows / 100 - 1 LOOP
        INSERT INTO documents SELECT n * 100 + g, 'Title ' || g, repeat(md5(g::text) || ' ', 6), 'category', 'author',
          'tag', g, now() FROM generate_series(1, 100) g;
        COMMIT;
      END LOOP;
    END $$";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench())
}

async fn bench() -> Result<()> {
    let rows = std::env::var("ROWS").map_or(Ok(DEFAULT_ROWS), |rows| rows.parse().context("`ROWS`"))?;
    let bin = postgres()?;
    let cluster = Cluster::start(&bin, &Options::fast().setting("max_wal_size", "8GB"))?;
    let url = cluster.url("postgres");
    cluster.psql("postgres", TABLE)?;
    cluster.psql("postgres", FILL)?;
    let folder = std::env::temp_dir().join(format!("pgstream-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let host = Host::new()?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let file = folder.join(format!("round{round}.yaml"));
        std::fs::write(&file, pipeline(round, &url))?;
        let settings = config::load(&file).map_err(|problems| anyhow::anyhow!(problems.render(false)))?;
        // Opening makes publication and slot; nothing is read yet.
        rounds.push(host.open(&settings).await?);
        cluster
            .psql("postgres", &format!("SELECT pg_create_logical_replication_slot('yardstick{round}', 'pgoutput')"))?;
    }
    eprintln!("writing {rows} rows …");
    cluster.psql("postgres", &format!("CALL fill({rows})"))?;
    let end = cluster.psql("postgres", "SELECT pg_current_wal_insert_lsn()")?;
    let end: Lsn = end.trim().parse()?;

    let mut figures = Vec::new();
    for (round, pipeline) in rounds.into_iter().enumerate() {
        let yardstick = receive(&bin, &url, round, end)?;
        let (status, stop) = (pipeline.status(), CancellationToken::new());
        let started = Instant::now();
        let running = tokio::spawn(pipeline.run(stop.clone()));
        while status.events() < rows || status.confirmed() < end {
            ensure!(!running.is_finished(), "the pipeline has ended: {:?}", running.await);
            // Moves the log on, so that the server reports what lies behind the last row.
            cluster.psql("postgres", "SELECT pg_log_standby_snapshot()")?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ours = started.elapsed();
        stop.cancel();
        running.await??;
        let ratio = yardstick.as_secs_f64() / ours.as_secs_f64();
        let rate = |time: Duration| rows as f64 / time.as_secs_f64();
        eprintln!(
            "round {round}: pg_recvlogical {:.0} rows/s, host {:.0} rows/s, ratio {ratio:.2}",
            rate(yardstick),
            rate(ours)
        );
        figures.push((rate(yardstick), rate(ours), ratio));
    }
    figures.sort_by(|a, b| a.2.total_cmp(&b.2));
    let median = figures[figures.len() / 2];
    let figure = json!({
        "rows": rows, "rounds": ROUNDS, "cores": std::thread::available_parallelism()?.get(),
        "pg_recvlogical_rows_per_second": median.0.round(), "host_rows_per_second": median.1.round(),
        "ratio": (median.2 * 100.0).round() / 100.0,
        "path": "WAL -> documents handler -> hash embedder, 384 numbers -> blackhole",
    });
    std::fs::remove_dir_all(&folder)?;
    writeln!(std::io::stdout(), "{figure:#}")?;
    Ok(())
}

/// Folder of Postgres' binaries.
fn postgres() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/get-postgres.sh");
    let output = Command::new(script).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "no Postgres");
    Ok(String::from_utf8(output.stdout)?.trim().into())
}

/// How long the bare reader takes for the same log.
fn receive(bin: &Path, url: &str, round: usize, end: Lsn) -> Result<Duration> {
    let started = Instant::now();
    let status = Command::new(bin.join("pg_recvlogical"))
        .args(["--dbname", url, "--start", "--no-loop", "--file", "/dev/null", "--slot"])
        .arg(format!("yardstick{round}"))
        .args(["-o", "proto_version=1", "-o", &format!("publication_names=pgstream_bench{round}")])
        .arg(format!("--endpos={end}"))
        .status()
        .context("pg_recvlogical")?;
    ensure!(status.success(), "pg_recvlogical failed");
    Ok(started.elapsed())
}

fn pipeline(round: usize, url: &str) -> String {
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/documents-rust/documents.wasm");
    format!(
        "version: 1\nname: bench{round}\nsources:\n  db: {{ type: postgres, url: \"{url}\", tables: [public.documents] }}\n\
         embedders:\n  words: {{ type: hash, dimension: 384 }}\n\
         transforms:\n  embed: {{ type: wasm, inputs: [db], component: {}, embedders: [words] }}\n\
         sinks:\n  nowhere: {{ type: blackhole, inputs: [embed] }}\n",
        component.display()
    )
}
