//! What may not get worse unnoticed: how often rows make the host allocate, and how many instructions decoding them takes. Runs
//! with the tests, and counts no time.
//!
//! Decoding is counted exactly. On the whole path batches close as bytes arrive, so there it is a number with a margin.

use std::process::ExitCode;

use anyhow::Result;
use pgstream_host::host::Host;

use crate::arms::{decode, instructions};
use crate::counting::{self, Allocated};
use crate::flow::{self, Flow};
use crate::rig::Rig;

/// Rows whose decoding is counted, and the allocations that they may make: those of a batch, of which there are ten.
const DECODED: u64 = 10_000;
const DECODING: u64 = 115;
/// Rows on the whole path, and what one may take: calls of the allocator, and bytes.
const ROWS: u64 = 50_000;
const PATH_CALLS: f64 = 1.8;
const PATH_BYTES: f64 = 1600.0;

/// Fails if something is beyond its bound, and prints everything either way.
pub(crate) async fn run() -> Result<ExitCode> {
    let rig = Rig::start()?;
    let mut kept = true;
    let mut bound = |what: &str, found: f64, most: f64| {
        kept &= found <= most;
        println!("{what}: {found:.3}, at most {most}{}", if found <= most { "" } else { "  <-- TOO MANY" });
    };

    let messages = rig.capture(&rig.record("decoded", DECODED, 100)?).await?;
    decode::ours(&messages)?;
    counting::start();
    let decoded = decode::ours(&messages);
    let Allocated { calls, .. } = counting::stop();
    decoded?;
    bound(&format!("allocations while {DECODED} rows are decoded"), calls as f64, DECODING as f64);

    match instructions::decoding(&rig).await? {
        Some(each) => bound("instructions to decode a row", each, instructions::AT_MOST),
        None => println!("instructions were not counted: valgrind is not installed"),
    }

    match flow::guest("noop") {
        Err(why) => println!("the whole path was not counted: {why}"),
        Ok(handler) => {
            let (host, recorded) = (Host::new()?, rig.record("documents", ROWS, 100)?);
            let flow = Flow { handler: &handler, embeds: false, sink: "type: blackhole" };
            flow::run(&host, &rig, &recorded, &flow).await?; // the handler is compiled now
            counting::start();
            let ran = flow::run(&host, &rig, &recorded, &flow).await;
            let Allocated { calls, bytes } = counting::stop();
            ran?;
            let each = |sum: u64| sum as f64 / ROWS as f64;
            bound("allocations per row on the whole path", each(calls), PATH_CALLS);
            bound("bytes allocated per row on the whole path", each(bytes), PATH_BYTES);
        }
    }
    if kept {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "error: rows cost the host more than they did\n  help: find out what; if it pays, raise the bound in tests/bench/guard.rs or arms/instructions.rs and say why"
    );
    Ok(ExitCode::FAILURE)
}
