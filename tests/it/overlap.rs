//! A sink that takes two writes at once: what shares nothing overlaps, what shares a point does not, and nothing is confirmed
//! before everything that came earlier is durable.

use pgstream_host::lsn::Lsn;

use crate::support::by_hand::{Run, Slow, World, end_of, insert, settled};
use crate::support::program::eventually;

/// A sink with two hands, of which the first is busy with transaction 1 for as long as that fails.
async fn busy_with_the_first() -> (World, Run) {
    let world = World::new(1);
    world.sinks[0].take_two();
    world.sinks[0].stall(Some(1));
    world.source.push(insert(1, 1, "text"));
    let run = world.start(Slow::Never);
    eventually("the first is under way", async || world.sinks[0].tries() > 0).await;
    (world, run)
}

fn written(world: &World) -> Vec<u64> {
    world.sinks[0].positions().iter().map(|position| position.lsn.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_overtakes_confirms_nothing() {
    let (world, run) = busy_with_the_first().await;
    (2..=4).for_each(|lsn| world.source.push(insert(lsn, lsn as i64, "text")));
    eventually("the next has overtaken", async || written(&world) == [2]).await;
    assert_eq!(settled(|| written(&world).len()).await, 1, "there are two hands and no more");
    assert_eq!(world.source.confirmed(), Lsn::INVALID);
    world.sinks[0].stall(None);
    eventually("everything is confirmed", async || world.source.confirmed() == end_of(4)).await;
    assert_eq!(written(&world)[..2], [2, 1]);
    run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_one_point_follow_one_another() {
    let (world, run) = busy_with_the_first().await;
    world.source.push(insert(2, 1, "newer"));
    world.source.push(insert(3, 3, "text"));
    eventually("all were received", async || world.source.taken() == 3).await;
    assert_eq!(settled(|| written(&world).len()).await, 0, "nor does anything pass the one that waits");
    world.sinks[0].stall(None);
    eventually("everything is confirmed", async || world.source.confirmed() == end_of(3)).await;
    assert_eq!(written(&world)[..2], [1, 2]);
    run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_both() {
    let (world, run) = busy_with_the_first().await;
    world.source.push(insert(2, 2, "text"));
    eventually("the next has overtaken", async || written(&world) == [2]).await;
    run.stop.cancel();
    world.sinks[0].stall(None);
    run.ended().await.unwrap();
    assert_eq!(written(&world), [2, 1]);
    assert_eq!(world.source.confirmed(), end_of(2));
    assert!(world.sinks[0].closed());
}
