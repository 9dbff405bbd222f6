//! `instructions`: what a processor does to decode a row, counted under callgrind: no clock, and the same on a busy machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Bench, decode};
use crate::report::{Figure, Missing, Target};
use crate::rig::Rig;

const ARM: &str = "instructions";
const ROWS: u64 = 5_000;
/// A tenth more than was counted when this was written, by the build of `make instructions` and by that of `make test`; another
/// compiler differs by less.
pub(crate) const AT_MOST: f64 = if cfg!(debug_assertions) { UNOPTIMISED } else { 2_510.0 };
const UNOPTIMISED: f64 = 31_100.0;

pub(super) async fn run(bench: &Bench) -> Result<(Vec<Figure>, Vec<Missing>)> {
    let Some(each) = decoding(bench.rig().await?).await? else {
        let why = "valgrind is not installed".to_owned();
        return Ok((vec![], vec![Missing { arm: ARM, why, broke: false }]));
    };
    let figure = Figure::once(ARM, "to decode a row and to read its 8 columns", each, "instructions");
    Ok((vec![figure.target(Target::AtMost(AT_MOST))], vec![]))
}

/// Instructions to decode a row. None without valgrind.
pub(crate) async fn decoding(rig: &Rig) -> Result<Option<f64>> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(None);
    }
    let messages = rig.capture(&rig.record("counted", ROWS, 100)?).await?;
    let file = tempfile::NamedTempFile::new()?;
    let mut all = BytesMut::new();
    for message in &messages {
        all.put_u32(u32::try_from(message.len())?);
        all.put_slice(message);
    }
    fs::write(file.path(), &all)?;
    // What reading the file and starting take is in both.
    let (once, twice) = (count("decode-once", file.path())?, count("decode-twice", file.path())?);
    Ok(Some((twice - once) as f64 / ROWS as f64))
}

/// Instructions of this program while it does one thing.
fn count(what: &str, file: &Path) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--bench", "--only", what])
        .arg(file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    let counted = said.lines().find_map(|line| line.split_once("Collected :")).context("valgrind counted nothing")?.1;
    Ok(counted.trim().parse()?)
}

/// In a process of its own: decodes the messages of a file, once or more.
pub(super) fn decode_file(file: &Path, times: usize) -> Result<()> {
    let mut bytes = Bytes::from(fs::read(file)?);
    let mut messages = Vec::new();
    while bytes.has_remaining() {
        let length = bytes.get_u32() as usize;
        messages.push(bytes.split_to(length));
    }
    for _ in 0..times {
        ensure!(decode::ours(&messages)?.0 == ROWS, "rows are missing in the file");
    }
    Ok(())
}
