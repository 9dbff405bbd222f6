//! `log`: from the server's log through a handler that does next to nothing to nowhere, against `pg_recvlogical`.

use anyhow::Result;

use super::Bench;
use crate::flow::{self, Flow};
use crate::report::{Figure, Target};
use crate::rig::Recorded;
use crate::rounds::{Spread, contest};

pub(super) async fn hundred(bench: &Bench) -> Result<Vec<Figure>> {
    let recorded = bench.documents().await?;
    let targets = Targets { rate: 1.5, cpu: 2.5, wakes: Some(20.0) };
    against_receiver(bench, recorded, "log", "log → handler → nowhere, 100 rows a transaction", targets).await
}

pub(super) async fn singles(bench: &Bench) -> Result<Vec<Figure>> {
    let recorded = bench.rig().await?.record("singles", bench.scale(200_000, 50_000), 1)?;
    let targets = Targets { rate: 1.2, cpu: 8.0, wakes: None };
    against_receiver(bench, &recorded, "log-singles", "log → handler → nowhere, 1 row a transaction", targets).await
}

struct Targets {
    /// Rows per second against the yardstick's.
    rate: f64,
    /// µs of CPU time for a row.
    cpu: f64,
    /// Wake-ups for 1,000 rows.
    wakes: Option<f64>,
}

async fn against_receiver(
    bench: &Bench,
    recorded: &Recorded,
    arm: &'static str,
    what: &str,
    targets: Targets,
) -> Result<Vec<Figure>> {
    let (rig, host, handler) = (bench.rig().await?, bench.host().await?, flow::guest("noop")?);
    let flow = Flow { handler: &handler, embeds: false, sink: "type: blackhole" };
    let (mut cpu, mut wakes, mut opening) = (Vec::new(), Vec::new(), Vec::new());
    let ours = async || {
        let ran = flow::run(host, rig, recorded, &flow).await?;
        cpu.push(ran.cpu);
        wakes.push(ran.wakes);
        opening.push(ran.opening * 1e3);
        Ok(ran.rate)
    };
    let theirs = async || rig.receive(recorded).await;
    let contest = contest(bench.rounds(), ours, theirs).await?;
    let woken = Figure::new(arm, "wake-ups of the host's threads", Spread::of(wakes), "/1,000 rows");
    Ok(vec![
        Figure::ratio(arm, what, contest, "pg_recvlogical", "rows").target(Target::AtLeast(targets.rate)),
        Figure::new(arm, "the host's CPU time", Spread::of(cpu), "µs/row").target(Target::AtMost(targets.cpu)),
        match targets.wakes {
            Some(most) => woken.target(Target::AtMost(most)),
            None => woken,
        },
        Figure::new(arm, "until the pipeline is open, before", Spread::of(opening), "ms"),
    ])
}
