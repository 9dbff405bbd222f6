//! The loop with a source and sinks that the test holds in its hands: order, confirmation, back-pressure, stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pgstream_host::embedder::{Embedder, Vectors};
use pgstream_host::error::{Fault, Result};
use pgstream_host::event::{Batch, Cell};
use pgstream_host::lsn::{Lsn, Position};

use crate::support::by_hand::{Slow, World, end_of, insert, settled, with_content};
use crate::support::program::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn commands_arrive_in_commit_order_however_long_each_batch_takes() {
    let world = World::new(1);
    for lsn in 1..=40 {
        world.source.push(insert(lsn, lsn as i64, "text"));
    }
    let run = world.start(Slow::EvenTexts);
    eventually("everything is confirmed", async || world.source.confirmed() == end_of(40)).await;
    let positions: Vec<u64> = world.sinks[0].positions().iter().map(|position| position.lsn.0).collect();
    assert_eq!(positions, (1..=40).collect::<Vec<_>>());
    run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_confirmed_before_the_slowest_sink_holds_it() {
    let world = World::new(2);
    world.sinks[1].close_gate();
    world.source.push(insert(1, 1, "text"));
    world.source.push(Batch::marker(Lsn(5000)));
    let run = world.start(Slow::Never);
    eventually("the quick sink has it", async || world.sinks[0].positions().len() == 1).await;
    eventually("the slow sink was asked", async || world.sinks[1].tries() == 1).await;
    assert_eq!(world.source.confirmed(), Lsn::INVALID, "neither the row nor the keepalive behind it");
    world.sinks[1].open_gate();
    eventually("both are confirmed", async || world.source.confirmed() == Lsn(5000)).await;
    run.stop().await.unwrap();
}

/// What comes again may stand elsewhere: what was on its way before says nothing of it, nor does a keepalive behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_when_the_stream_begins_anew_is_confirmed_by_itself() {
    let world = World::new(1);
    world.sinks[0].close_gate();
    let before = [insert(1, 1, "text"), insert(2, 2, "text"), Batch::marker(Lsn(5000))];
    before.into_iter().for_each(|batch| world.source.push(batch));
    world.source.push(insert(2, 2, "text").beginning_anew());
    let run = world.start(Slow::Never);
    eventually("all is on its way", async || world.source.taken() == 4 && world.sinks[0].tries() == 1).await;
    world.sinks[0].open_gate();
    eventually("the sink has all", async || world.sinks[0].positions().len() == 3).await;
    run.stop().await.unwrap();
    assert_eq!(world.source.confirmations(), [Lsn::INVALID, end_of(2)], "anew, and then once");
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_failures_of_a_sink_are_repeated_and_nothing_overtakes() {
    let world = World::new(1);
    world.sinks[0].fail(3, Fault::Transient);
    for lsn in 1..=3 {
        world.source.push(insert(lsn, 7, &format!("version {lsn}")));
    }
    let run = world.start(Slow::Never);
    eventually("everything is confirmed", async || world.source.confirmed() == end_of(3)).await;
    let positions: Vec<u64> = world.sinks[0].positions().iter().map(|position| position.lsn.0).collect();
    assert_eq!(positions, [1, 2, 3]);
    assert!(world.sinks[0].tries() >= 4);
    run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definite_failure_of_a_sink_stops_the_pipeline_and_confirms_nothing() {
    let world = World::new(2);
    world.sinks[1].fail(1, Fault::Environment);
    world.source.push(insert(1, 1, "text"));
    let error = world.start(Slow::Never).ended().await.unwrap_err();
    assert_eq!(error.fault(), Fault::Environment);
    let report = error.report();
    assert!(report.starts_with("error: pipeline `test` stopped\n  caused by: the test asked for it"), "{report}");
    assert!(report.contains("where: sink `sink1`"), "{report}");
    assert_eq!(world.source.confirmed(), Lsn::INVALID);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_stops_the_reading_at_a_budget_of_bytes() {
    let world = World::new(1);
    world.sinks[0].close_gate();
    let megabyte = "word ".repeat(200_000);
    for lsn in 1..=200 {
        world.source.push(insert(lsn, lsn as i64, &megabyte));
    }
    let run = world.start(Slow::Never);
    eventually("the sink was asked", async || world.sinks[0].tries() == 1).await;
    let taken = settled(|| world.source.taken()).await;
    assert!(taken < 100, "{taken} batches of 1 MB were taken in although the sink takes none");
    world.sinks[0].open_gate();
    eventually("everything is confirmed", async || world.source.confirmed() == end_of(200)).await;
    run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_was_received_and_confirms_it() {
    let world = World::new(1);
    world.sinks[0].close_gate();
    world.source.push(insert(1, 1, "text"));
    let run = world.start(Slow::Never);
    eventually("the sink was asked", async || world.sinks[0].tries() == 1).await;
    run.stop.cancel();
    world.sinks[0].open_gate();
    run.ended().await.unwrap();
    assert_eq!(world.source.confirmed(), end_of(1));
    assert!(world.source.closed(), "the source says good-bye");
    assert!(world.sinks[0].closed(), "and so do the sinks");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_already_holds_is_not_written_again() {
    let world = World::new(1);
    world.sinks[0].holds(Position { lsn: Lsn(3), ordinal: 0 });
    for lsn in 1..=5 {
        world.source.push(insert(lsn, lsn as i64, "text"));
    }
    let run = world.start(Slow::Never);
    eventually("everything is confirmed", async || world.source.confirmed() == end_of(5)).await;
    let positions: Vec<u64> = world.sinks[0].positions().iter().map(|position| position.lsn.0).collect();
    assert_eq!(positions, [4, 5]);
    run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_that_nobody_keeps_stops_the_pipeline() {
    let world = World::new(1);
    world.source.push(with_content(1, 1, |_| Cell::Unchanged));
    let error = world.start(Slow::Never).ended().await.unwrap_err();
    assert_eq!(error.fault(), Fault::Handler);
    let report = error.report();
    assert!(report.contains("handler `embed` rejected an event, and no sink takes `embed.rejected`"), "{report}");
    assert!(report.contains("inputs: [embed.rejected]"), "the help says what to add: {report}");
    assert_eq!(world.source.confirmed(), Lsn::INVALID);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_good_during_a_stop_is_said() {
    let world = World::new(1);
    world.sinks[0].close_gate();
    world.sinks[0].fail(1, Fault::Environment);
    world.source.push(insert(1, 1, "text"));
    let run = world.start(Slow::Never);
    eventually("the sink was asked", async || world.sinks[0].tries() == 1).await;
    run.stop.cancel();
    world.source.push(insert(2, 2, "text"));
    settled(|| world.source.taken()).await; // the loop takes in nothing any more: it drains
    world.sinks[0].open_gate();
    let error = run.ended().await.unwrap_err();
    assert!(error.report().contains("caused by: the test asked for it"), "{error:?}");
    assert_eq!(world.source.confirmed(), Lsn::INVALID);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_wait_for_an_embedder_end_with_their_pipeline() {
    let world = World::new(1);
    world.sinks[0].fail(1, Fault::Environment);
    world.sinks[0].close_gate();
    let asking = Arc::new(AtomicUsize::new(0));
    let run = world.start(SilentAfterOne { calls: AtomicUsize::new(0), asking: Arc::clone(&asking) });
    world.source.push(insert(1, 1, "text"));
    eventually("the sink was asked", async || world.sinks[0].tries() == 1).await;
    world.source.push(insert(2, 2, "text"));
    eventually("the second batch waits", async || asking.load(Ordering::SeqCst) == 1).await;
    world.sinks[0].open_gate();
    run.ended().await.unwrap_err();
    eventually("nobody waits any more", async || asking.load(Ordering::SeqCst) == 0).await;
}

/// Answers once; what is asked later waits for ever.
struct SilentAfterOne {
    calls: AtomicUsize,
    asking: Arc<AtomicUsize>,
}

#[async_trait]
impl Embedder for SilentAfterOne {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        struct Asking(Arc<AtomicUsize>);
        impl Drop for Asking {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        if self.calls.fetch_add(1, Ordering::SeqCst) > 0 {
            self.asking.fetch_add(1, Ordering::SeqCst);
            let _asking = Asking(Arc::clone(&self.asking));
            std::future::pending::<()>().await;
        }
        Ok(Vectors { dimension: 2, data: [1.0, 0.0].repeat(texts.len()) })
    }

    async fn dimension(&self) -> Result<usize> {
        Ok(2)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_stuck_holds_up_a_stop_for_the_drain_limit_only() {
    let mut world = World::new(1);
    world.drain_limit = Some(Duration::from_millis(100));
    world.sinks[0].close_gate();
    world.source.push(insert(1, 1, "text"));
    let run = world.start(Slow::Never);
    eventually("the sink was asked", async || world.sinks[0].tries() == 1).await;
    run.stop().await.unwrap();
    assert!(world.source.closed() && !world.sinks[0].closed());
    assert_eq!(world.source.confirmed(), Lsn::INVALID);
}
