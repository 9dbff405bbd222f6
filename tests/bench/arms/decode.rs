//! `decode`: a captured stream through the decoder, against the crate `pg_walstream` on the same bytes.
//!
//! Both read every column of every row as the value that it is: numbers as numbers, texts as checked UTF-8, and both
//! must come to the same sum. The host's decoder does that by itself; `pg_walstream` hands out bytes, so its caller reads
//! them here as cheaply as can be. What it costs without that is a figure of its own.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use pg_walstream::{LogicalReplicationMessage, LogicalReplicationParser, TupleData};
use pgstream_host::decode::{Catalog, Decoder};
use pgstream_host::event::{Batch, BatchBuilder, Value};

use super::Bench;
use crate::counting::{self, Allocated};
use crate::report::{Figure, Target};
use crate::rounds::contest;

/// Events in a batch, as the source makes them by default.
const BATCH: usize = 1000;
/// µs from 1970 to 2000, from which Postgres counts.
const EPOCH: i64 = 946_684_800_000_000;
const YARDSTICK: &str = "pg_walstream";

pub(super) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let recorded = bench.documents().await?;
    let messages = bench.rig().await?.capture(recorded).await?;
    let (rows, sum) = ours(&messages)?;
    ensure!(rows == recorded.rows, "{rows} of {} rows were captured", recorded.rows);
    ensure!(theirs(&messages, typed)? == (rows, sum), "the two decoders read different values");

    let timed = |read: &dyn Fn() -> Result<(u64, u64)>| {
        let began = Instant::now();
        black_box(read()?);
        Ok(rows as f64 / began.elapsed().as_secs_f64())
    };
    let rounds = bench.rounds() + 2;
    let subject = async || timed(&|| ours(&messages));
    let typed_contest = contest(rounds, subject, async || timed(&|| theirs(&messages, typed))).await?;
    let raw_contest = contest(rounds, subject, async || timed(&|| theirs(&messages, raw))).await?;
    let counted = |read: &dyn Fn() -> Result<(u64, u64)>| {
        counting::start();
        let read = read();
        let Allocated { calls, .. } = counting::stop();
        read.map(|_| calls as f64 / rows as f64)
    };
    let (our_calls, their_calls) = (counted(&|| ours(&messages))?, counted(&|| theirs(&messages, typed))?);
    Ok(vec![
        Figure::ratio("decode", "captured stream → values", typed_contest, YARDSTICK, "events")
            .target(Target::AtLeast(1.5)),
        Figure::ratio("decode", "the same; the yardstick's columns left as bytes", raw_contest, YARDSTICK, "events"),
        Figure::once("decode", "allocations, 8 columns", our_calls, "per event").target(Target::AtMost(0.1)),
        Figure::once("decode", "allocations of pg_walstream", their_calls, "per event"),
    ])
}

/// Rows, and the sum of their values.
pub(crate) fn ours(messages: &[Bytes]) -> Result<(u64, u64)> {
    let (mut decoder, mut out) = (Decoder::new(Catalog::default()), BatchBuilder::default());
    let mut read = (0, 0);
    for message in messages {
        decoder.decode(message.clone(), &mut out)?;
        if out.len() >= BATCH {
            add(&out.take(), &mut read)?;
        }
    }
    add(&out.take(), &mut read)?;
    Ok(read)
}

fn add(batch: &Batch, (rows, sum): &mut (u64, u64)) -> Result<()> {
    for event in batch.events() {
        *rows += 1;
        for value in batch.row(event).iter() {
            *sum = sum.wrapping_add(match value {
                Value::Int(number) | Value::Timestamp(number) => number as u64,
                Value::Text(text) => text_sum(text),
                other => bail!("unexpected {other:?}"),
            });
        }
    }
    Ok(())
}

fn text_sum(text: &str) -> u64 {
    text.len() as u64 + u64::from(*text.as_bytes().first().unwrap_or(&0))
}

fn theirs(messages: &[Bytes], read: impl Fn(&TupleData) -> Result<u64>) -> Result<(u64, u64)> {
    let mut parser = LogicalReplicationParser::with_protocol_version(1);
    let (mut rows, mut sum) = (0, 0u64);
    for message in messages {
        match parser.parse_wal_message_bytes(message.clone())?.message {
            LogicalReplicationMessage::Insert { tuple, .. } => {
                rows += 1;
                sum = sum.wrapping_add(read(&tuple)?);
            }
            other => drop(black_box(other)),
        }
    }
    Ok((rows, sum))
}

/// The values of a row, whose types the caller knows.
fn typed(tuple: &TupleData) -> Result<u64> {
    let mut sum = 0u64;
    for (index, column) in tuple.columns.iter().enumerate() {
        let bytes = column.as_bytes();
        let value = match index {
            0 => i64::from_be_bytes(bytes.try_into()?),
            6 => i32::from_be_bytes(bytes.try_into()?).into(),
            7 => i64::from_be_bytes(bytes.try_into()?) + EPOCH,
            _ => text_sum(std::str::from_utf8(bytes).context("text")?) as i64,
        };
        sum = sum.wrapping_add(value as u64);
    }
    Ok(sum)
}

/// Only where the columns lie.
fn raw(tuple: &TupleData) -> Result<u64> {
    Ok(tuple.columns.iter().map(|column| black_box(column.as_bytes()).len() as u64).sum())
}
