//! `library`: rows to points in a table of the same server, against the Python library pgstream.
//!
//! The library handles one event after the other and writes each in a statement of its own, as its documentation shows. Its
//! vectors are ready; the host makes its own. It only gets through the first rows in the time there is.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Bench, pgvector};
use crate::points;
use crate::report::{Figure, Missing, Target};
use crate::rig::Rig;
use crate::rounds::contest;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench");

pub(super) async fn run(bench: &Bench) -> Result<(Vec<Figure>, Vec<Missing>)> {
    let Some(python) = python().await? else {
        let why = "the Python library pgstream cannot be installed here".to_owned();
        return Ok((Vec::new(), vec![Missing { arm: "library", why, broke: false }]));
    };
    let (rig, recorded, rows) = (bench.rig().await?, bench.articles().await?, bench.scale(5_000, 1_000));
    let mut vectors = tempfile::NamedTempFile::new()?;
    for point in points::of(rig, recorded).await?.iter().take(rows) {
        let numbers: Vec<u8> = point.vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        vectors.write_all(&numbers)?;
    }
    let ours = async || pgvector::host(bench).await;
    let theirs = async || {
        rig.sql(
            "DROP TABLE IF EXISTS library;
             CREATE TABLE library (id text PRIMARY KEY, vector vector(384), payload jsonb)",
        )?;
        write(rig, &python, &recorded.table, rows, vectors.path()).await
    };
    let contest = contest(bench.rounds(), ours, theirs).await?;
    let wrote = pgvector::content(rig, "vector", "library")?;
    ensure!(wrote.starts_with(&format!("{rows}|")), "the library wrote {wrote}");
    let first = format!("{} WHERE id::int <= {rows}", pgvector::STORE);
    ensure!(wrote == pgvector::content(rig, "embedding", &first)?, "the host and the library wrote different points");
    let version = std::process::Command::new(&python).arg("--version").output()?.stdout;
    let what = format!("log → handler → embedder → pgvector; the library in {}", String::from_utf8(version)?.trim());
    let figure = Figure::ratio("library", what, contest, "the Python library pgstream", "rows");
    Ok((vec![figure.target(Target::AtLeast(12.0))], Vec::new()))
}

/// A Python that has the library, if one can be had.
async fn python() -> Result<Option<PathBuf>> {
    let script = Path::new(FOLDER).join("get-library.sh");
    let output = tokio::process::Command::new(script).stderr(Stdio::inherit()).output().await?;
    let python = String::from_utf8(output.stdout)?;
    Ok(output.status.success().then(|| PathBuf::from(python.trim())))
}

/// Points per second of the library, from its first event on.
async fn write(rig: &Rig, python: &Path, table: &str, rows: usize, vectors: &Path) -> Result<f64> {
    let slot = rig.slot(table)?;
    let mut command = tokio::process::Command::new(python);
    command.arg(Path::new(FOLDER).join("library.py"));
    command.args([&rig.url, &slot, &format!("bench_{table}"), table, "library", &rows.to_string()]).arg(vectors);
    let output = command.kill_on_drop(true).stderr(Stdio::inherit()).output().await?;
    ensure!(output.status.success(), "the library ended with {}", output.status);
    let took: f64 = String::from_utf8(output.stdout)?.trim().parse().context("the library's time")?;
    rig.drop_slot(&slot)?;
    Ok(rows as f64 / took)
}
