//! Events of which a sink refuses what the handler made: each is found in its write and set aside, nothing is confirmed before
//! it is kept, and nobody else notices.

use pgstream_host::config::model::Rejections;
use pgstream_host::error::{Code, Fault};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::transform::WasmTransform;

use crate::guests::{Embedders, guest, load, settings, words_at};
use crate::support::by_hand::{Run, Shelf, World};
use crate::support::program::eventually;

/// A pipeline with `plugins/evil`: the first sinks take commands, the last one what is rejected.
struct Trial {
    world: World,
    run: Run,
}

impl Trial {
    /// None where guests cannot be built.
    fn start(sinks: usize, refused: &[&str], change: impl FnOnce(&mut WasmTransform)) -> Option<Self> {
        let mut settings = settings(&guest("evil")?);
        change(&mut settings);
        let world = World::new(sinks);
        world.sinks[0].refuse(refused);
        let transform = load(&settings, Embedders::new()).unwrap();
        let keeper = sinks - 1;
        let run = world.run_wired(transform, Embedders::new(), &settings, |index| match sinks {
            1 => (true, false),
            _ => (index != keeper, index == keeper),
        });
        Some(Self { world, run })
    }

    fn push(&self, lsn: u64, words: &[&str]) {
        self.world.source.push(words_at(lsn, words));
    }

    async fn confirmed(&self, lsn: u64) {
        eventually("it is confirmed", async || self.world.source.confirmed() == end_of(lsn)).await;
    }
}

/// The ordinals of the events whose commands a sink has, as often as it has them.
fn written(sink: &Shelf) -> Vec<u32> {
    sink.commands().iter().map(|command| command.position.ordinal).collect()
}

fn end_of(lsn: u64) -> Lsn {
    Lsn(lsn + 0xB8)
}

fn at(lsn: u64, ordinal: u32) -> Position {
    Position { lsn: Lsn(lsn), ordinal }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_that_a_sink_refuses_is_set_aside_and_the_rest_is_written_in_order() {
    let Some(trial) = Trial::start(3, &["bad"], |_| ()) else { return };
    trial.push(1000, &["say a", "say b", "say bad", "say c", "panic", "say d", "say e", "say bad", "say f"]);
    trial.push(2000, &["say g", "say bad"]);
    trial.confirmed(2000).await;
    assert_eq!(written(&trial.world.sinks[0]), [0, 1, 3, 5, 6, 8, 0]);
    assert_eq!(written(&trial.world.sinks[1]), [0, 1, 2, 3, 5, 6, 7, 8, 0, 1], "the other sink takes them all");
    assert_eq!(trial.world.sinks[0].through(), at(2000, 1), "the position comes to the end, past what was refused");

    let mut letters = trial.world.sinks[2].letters();
    letters.sort_by_key(|letter| letter.position);
    let found: Vec<_> = letters.iter().map(|letter| (letter.position, letter.code, letter.sink.as_deref())).collect();
    let by_sink = |position| (position, Code::Sink, Some("sink0"));
    let expected = [by_sink(at(1000, 2)), (at(1000, 4), Code::Trap, None), by_sink(at(1000, 7)), by_sink(at(2000, 1))];
    assert_eq!(found, expected);
    let letter = &letters[0];
    assert_eq!((letter.transform.as_str(), letter.reason.as_str()), ("embed", "the store refuses a point"));
    assert_eq!((letter.table.as_str(), letter.key.as_str()), ("public.things", r#"{"id":2}"#));
    assert_eq!(letter.handler.len(), 64, "{}", letter.handler);
    assert!(letter.event.contains(r#""what":"say bad""#), "{}", letter.event);
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_goes_on_where_the_next_write_has_what_it_needs() {
    let Some(trial) = Trial::start(2, &["bad"], |_| ()) else { return };
    let (sink, keeper) = (&trial.world.sinks[0], &trial.world.sinks[1]);
    sink.take_two();
    // Both writes wait at the gate, which lets one after the other through, in the order in which they came.
    sink.close_gate();
    trial.push(1000, &["say a", "say bad", "say b"]);
    eventually("the first is under way", async || sink.tries() == 1).await;
    trial.push(2000, &["say c"]);
    eventually("the second is under way", async || sink.tries() == 2).await;
    sink.open_gate();
    trial.confirmed(2000).await;
    let mut written: Vec<_> = sink.commands().iter().map(|command| command.position).collect();
    written.sort();
    assert_eq!((written, keeper.letters().len()), (vec![at(1000, 0), at(1000, 2), at(2000, 0)], 1));
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_position_nor_a_confirmation_passes_an_event_that_is_not_yet_kept() {
    let Some(trial) = Trial::start(2, &["bad"], |_| ()) else { return };
    let (sink, keeper) = (&trial.world.sinks[0], &trial.world.sinks[1]);
    // The keeper has the batch itself, which rejects nothing, before its gate closes.
    trial.push(1000, &["say a"]);
    trial.confirmed(1000).await;
    keeper.close_gate();
    trial.push(2000, &["say b", "say bad", "say c"]);
    eventually("the keeper is asked", async || keeper.tries() == 2).await;
    // Of its own batch and of the letter, in either order; whichever waits first, the other sink waits with it.
    eventually("what lies before the event is written", async || sink.through() == at(2000, 0)).await;
    assert_eq!(trial.world.source.confirmed(), end_of(1000));
    assert_eq!(written(&trial.world.sinks[0]), [0, 0]);
    keeper.open_gate();
    trial.confirmed(2000).await;
    assert_eq!((written(&trial.world.sinks[0]), keeper.letters().len()), (vec![0, 0, 2], 1));
    assert_eq!(sink.through(), at(2000, 2));
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_stays_before_the_first_event_of_a_transaction_that_is_refused() {
    let Some(trial) = Trial::start(2, &["bad"], |_| ()) else { return };
    let (sink, keeper) = (&trial.world.sinks[0], &trial.world.sinks[1]);
    keeper.close_gate();
    trial.push(1000, &["say bad", "say b"]);
    eventually("the keeper is asked", async || keeper.tries() == 1).await;
    eventually("the sink has refused it", async || sink.tries() >= 2).await;
    assert!(sink.through() < at(1000, 0), "{}", sink.through());
    keeper.open_gate();
    trial.confirmed(1000).await;
    assert_eq!(written(&trial.world.sinks[0]), [1]);
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_passing_while_the_event_is_looked_for_is_repeated() {
    let Some(trial) = Trial::start(2, &["bad"], |_| ()) else { return };
    trial.world.sinks[0].fail(1, Fault::Transient);
    trial.world.sinks[1].fail(2, Fault::Transient);
    trial.push(1000, &["say a", "say bad", "say b"]);
    trial.confirmed(1000).await;
    assert_eq!((written(&trial.world.sinks[0]), trial.world.sinks[1].letters().len()), (vec![0, 2], 1));
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_in_so_many_stop_the_pipeline_whoever_refused_them() {
    let few = |settings: &mut WasmTransform| settings.rejections = Rejections { max: 3, per: 100 };
    let Some(trial) = Trial::start(2, &["bad"], few) else { return };
    trial.push(1000, &["say bad", "panic", "say bad", "say a"]);
    trial.confirmed(1000).await;
    assert_eq!(trial.world.sinks[1].letters().len(), 3, "as many as are allowed");
    trial.push(2000, &["say b", "say bad", "say c"]);
    let error = trial.run.ended().await.unwrap_err();
    let report = error.report();
    let expected = "error: pipeline `test` stopped\n  \
                    caused by: more than 3 of the last 100 events of handler `embed` were rejected\n  \
                    caused by: the store refuses a point\n  \
                    where: event 0/7D0#1, table `public.things`, sink `sink0`\n";
    assert!(report.starts_with(expected), "{report}");
    assert_eq!(trial.world.source.confirmed(), end_of(1000));
    assert_eq!(trial.world.sinks[1].letters().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_taker_the_pipeline_stops_at_the_event_and_names_it() {
    let Some(trial) = Trial::start(1, &["bad"], |_| ()) else { return };
    trial.push(1000, &["say a", "say bad", "say b"]);
    let error = trial.run.ended().await.unwrap_err();
    assert_eq!(error.fault(), Fault::Data);
    assert_eq!(
        error.report(),
        "error: pipeline `test` stopped\n  \
         caused by: sink `sink0` refuses what handler `embed` made of an event, and no sink takes `embed.rejected`\n  \
         caused by: the store refuses a point\n  \
         where: event 0/3E8#1, table `public.things`, sink `sink0`\n  \
         help: mend the point\n        \
         nothing from this event on was confirmed. To set such events aside and go on, add a sink to the pipeline:\n          \
         rejected: { type: dead-letters, inputs: [embed.rejected] }\n"
    );
    assert_eq!(trial.world.source.confirmed(), Lsn::INVALID);
    assert_eq!(written(&trial.world.sinks[0]), [0], "what lies before it may be there, nothing from it on is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_fails_for_good_ends_the_pipeline() {
    let Some(trial) = Trial::start(2, &["bad"], |_| ()) else { return };
    trial.world.sinks[1].fail(1, Fault::Environment);
    trial.push(1000, &["say bad"]);
    let report = trial.run.ended().await.unwrap_err().report();
    assert!(report.contains("caused by: the test asked for it") && report.contains("where: sink `sink1`"), "{report}");
    assert_eq!(trial.world.source.confirmed(), Lsn::INVALID);
}
