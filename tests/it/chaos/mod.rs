//! Chaos: random faults under mixed load, and afterwards every point in the sink is what its row is now.
//!
//! A run follows from its seed: `CHAOS_SEED=7 cargo test --test it -- chaos::` repeats one. `make chaos N=200` makes many.

mod fault;
mod load;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use pgstream_host::demo::{Cluster, Options};

use self::fault::{Fault, schedule};
use self::load::{Load, Written};
use self::world::{Kind, World};
use crate::support::oracle::{Differences, Oracle};
use crate::support::program::PATIENCE;
use crate::support::{connect, private_cluster};

/// Rows of the largest transaction, in CI and in a long session.
const LARGE: u32 = 2_000;
const LARGER: u32 = 200_000;
const LONG_PATIENCE: Duration = Duration::from_secs(900);

/// What runs came to.
#[derive(Debug, Default)]
struct Report {
    runs: u64,
    hits: BTreeMap<Fault, u64>,
    written: Written,
    points: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_the_sinks_hold_exactly_the_table() {
    let first = number("CHAOS_SEED");
    let runs = if first.is_some() { 1 } else { 3 };
    let report = session(first.unwrap_or_else(|| rand::random::<u64>() / 2), runs, 0, LARGE).await;
    if first.is_none() {
        assert_eq!(report.hits.len(), 12, "every fault hit: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as CHAOS_RUNS says: make chaos N=200"]
async fn many_runs() {
    let seed = number("CHAOS_SEED").unwrap_or_else(|| rand::random::<u64>() / 2);
    session(seed, number("CHAOS_RUNS").unwrap_or(10), 4, LARGER).await;
}

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs with the seeds from `seed` on, one sink after the other.
async fn session(seed: u64, runs: u64, more: usize, large: u32) -> Report {
    let options = Options::fast().setting("wal_sender_timeout", "3s").setting("deadlock_timeout", "100ms");
    let mut cluster = private_cluster(18, &options);
    let oracle = Oracle::new();
    let mut report = Report::default();
    for seed in seed..seed + runs {
        run(&mut cluster, &oracle, seed, more, large, &mut report).await;
    }
    let Report { runs, hits, written, points } = &report;
    let Written { transactions, rows, large } = written;
    let faults: u64 = hits.values().sum();
    println!(
        "chaos: {runs} runs, {faults} faults {hits:?}, {transactions} transactions of {rows} rows ({large} large), \
         {points} points compared, 0 missing, 0 surplus, 0 outdated"
    );
    report
}

async fn run(cluster: &mut Cluster, oracle: &Oracle, seed: u64, more: usize, large: u32, report: &mut Report) {
    let kind = [Kind::Pgvector, Kind::Qdrant, Kind::QdrantEdge][(seed % 3) as usize];
    let (rereads, resnapshots) = (seed / 3 % 2 == 1, seed / 6 % 2 == 1);
    // The largest transactions take minutes: one run in ten.
    let large = if seed.is_multiple_of(10) { large } else { large.min(LARGE) };
    println!("CHAOS_SEED={seed} {kind:?} rereads={rereads} resnapshots={resnapshots}");
    let patience = if large > LARGE { LONG_PATIENCE } else { PATIENCE };
    let mut world = World::start(cluster, kind, rereads, resnapshots).await;
    world.patience = patience;
    let url = world.cluster.url(&world.database);
    let load = Load::start(&url, seed, large, rereads);
    let mut copies = Vec::new();
    for step in schedule(seed, kind, more) {
        println!("  after {} transactions {step:?}", load.transactions());
        for fault in world.suffer(step, &load, &mut copies).await {
            *report.hits.entry(fault).or_default() += 1;
        }
    }
    world.heal();
    let written = load.stop().await;
    println!("  {written:?}, {} restarts of a host that had ended", world.restarts);
    world.settle().await;
    for mut copy in copies {
        let _ = copy.kill();
        copy.wait().unwrap();
    }
    let (rows, expected) = oracle.expected(&connect(&url).await).await;
    let found = world.points().await;
    let differences = Differences::between(&expected, &found);
    assert!(differences.is_empty(), "CHAOS_SEED={seed} {kind:?}, {rows} rows: {differences}");
    report.runs += 1;
    report.points += found.len();
    report.written.transactions += written.transactions;
    report.written.rows += written.rows;
    report.written.large += written.large;
}
