//! `log`: from the server's log through a handler that does next to nothing to nowhere, against `pg_recvlogical`.

use anyhow::Result;

use super::Bench;
use crate::flow::{self, Flow};
use crate::report::{Figure, Target};
use crate::rig::Recorded;
use crate::rounds::contest;

pub(super) async fn hundred(bench: &Bench) -> Result<Vec<Figure>> {
    let recorded = bench.documents().await?;
    let what = "log → handler → nowhere, 100 rows a transaction";
    Ok(vec![against_receiver(bench, recorded, "log", what).await?.target(Target::AtLeast(0.95))])
}

pub(super) async fn singles(bench: &Bench) -> Result<Vec<Figure>> {
    let recorded = bench.rig().await?.record("singles", bench.scale(200_000, 50_000), 1)?;
    let what = "log → handler → nowhere, 1 row a transaction";
    Ok(vec![against_receiver(bench, &recorded, "log-singles", what).await?.target(Target::AtLeast(0.90))])
}

async fn against_receiver(bench: &Bench, recorded: &Recorded, arm: &'static str, what: &str) -> Result<Figure> {
    let (rig, host, handler) = (bench.rig().await?, bench.host().await?, flow::guest("noop")?);
    let flow = Flow { handler: &handler, embeds: false, sink: "type: blackhole" };
    let ours = async || flow::run(host, rig, recorded, &flow).await;
    let theirs = async || rig.receive(recorded).await;
    let contest = contest(bench.rounds(), ours, theirs).await?;
    Ok(Figure::ratio(arm, what, contest, "pg_recvlogical", "rows"))
}
