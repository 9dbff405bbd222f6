//! The loop with a source and sinks that the test holds in its hands: order, confirmation, back-pressure, stops.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use indexmap::IndexMap;
use pgstream_host::command::{Action, Command};
use pgstream_host::config::model::{Limits, Rejections, SinkBatch, WasmTransform};
use pgstream_host::embedder::{Embedder, Vectors};
use pgstream_host::error::{Code, Error, Fault, Result};
use pgstream_host::event::{
    Batch, BatchBuilder, Cell, Column, EventHead, Kind, Operation, Place, Relation, ReplicaIdentity,
};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::pipeline::{Outlet, Pipeline, Stage, Tolerance};
use pgstream_host::sink::{DeadLetter, Delivery, Held, Hit, Query, Sink};
use pgstream_host::source::{Lag, Source};
use pgstream_host::transform::{Engine, Transform};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::guests::Embedders;
use crate::support::program::{eventually, root};

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

/// Reads until two readings are equal, with the loop given time to go on in between.
async fn settled(read: impl Fn() -> usize) -> usize {
    let mut last = usize::MAX;
    eventually("it settles", async || {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = read();
        std::mem::replace(&mut last, now) == now
    })
    .await;
    last
}

/// Source and sinks on this side of the loop.
pub(crate) struct World {
    pub(crate) source: Hand,
    pub(crate) sinks: Vec<Shelf>,
    /// Another one than the pipeline's own.
    drain_limit: Option<Duration>,
}

impl World {
    pub(crate) fn new(sinks: usize) -> Self {
        let sinks = (0..sinks).map(|_| Shelf::default()).collect();
        Self { source: Hand::default(), sinks, drain_limit: None }
    }

    pub(crate) fn start(&self, slow: impl Embedder + 'static) -> Run {
        let embedder: Arc<dyn Embedder> = Arc::new(slow);
        let embedders = IndexMap::from([("slow".to_owned(), embedder)]);
        let settings = WasmTransform {
            inputs: vec!["db".into()],
            component: root().join("plugins/documents-rust/documents.wasm"),
            config: Default::default(),
            embedders: vec!["slow".into()],
            columns: None,
            workers: 3,
            limits: Limits::default(),
            rejections: Rejections::default(),
            allow: Default::default(),
        };
        let engine = Engine::new(None).unwrap();
        let transform = Transform::load(&engine, "embed", &settings, embedders.clone()).unwrap();
        self.run(transform, embedders, &settings, false)
    }

    /// Runs `transform`, of which every sink takes the commands, and what is rejected too if that is to be kept.
    pub(crate) fn run(
        &self,
        transform: Transform,
        embedders: Embedders,
        settings: &WasmTransform,
        keeps_rejected: bool,
    ) -> Run {
        let every = |_| (true, keeps_rejected);
        self.run_wired(transform, embedders, settings, every)
    }

    /// As `run`; each sink takes what `wiring` says of it: commands, rejected events.
    pub(crate) fn run_wired(
        &self,
        transform: Transform,
        embedders: Embedders,
        settings: &WasmTransform,
        wiring: impl Fn(usize) -> (bool, bool),
    ) -> Run {
        let keeps_rejected = (0..self.sinks.len()).any(|index| wiring(index).1);
        let tolerance = Tolerance::new(&settings.rejections);
        let (name, workers) = ("embed".into(), settings.workers);
        let stage = Stage { name, transform, workers, embedders, keeps_rejected, tolerance, admissions: vec![] };
        let outlets = self.sinks.iter().enumerate().map(|(index, shelf)| Outlet {
            name: format!("sink{index}"),
            sink: Box::new(shelf.clone()),
            batch: SinkBatch { max_points: 1, ..SinkBatch::default() },
            commands_of: (0..usize::from(wiring(index).0)).collect(),
            rejected_of: (0..usize::from(wiring(index).1)).collect(),
        });
        let pipeline = Pipeline::new("test", Box::new(self.source.clone()), vec![stage], outlets.collect());
        let pipeline = self.drain_limit.into_iter().fold(pipeline, Pipeline::drain_limit);
        let stop = CancellationToken::new();
        Run { task: tokio::spawn(pipeline.run(stop.clone())), stop }
    }
}

pub(crate) struct Run {
    pub(crate) stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Run {
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.ended().await
    }

    pub(crate) async fn ended(self) -> Result<()> {
        self.task.await.unwrap()
    }
}

/// A source that returns what the test puts into it.
#[derive(Clone, Default)]
pub(crate) struct Hand(Arc<HandState>);

#[derive(Default)]
struct HandState {
    batches: Mutex<VecDeque<Batch>>,
    more: Notify,
    taken: Mutex<usize>,
    /// Invalid where the stream began anew.
    confirmations: Mutex<Vec<Lsn>>,
    closed: Mutex<bool>,
}

impl Hand {
    pub(crate) fn push(&self, batch: Batch) {
        self.0.batches.lock().unwrap().push_back(batch);
        self.0.more.notify_one();
    }

    fn taken(&self) -> usize {
        *self.0.taken.lock().unwrap()
    }

    pub(crate) fn confirmed(&self) -> Lsn {
        self.confirmations().pop().unwrap_or_default()
    }

    fn confirmations(&self) -> Vec<Lsn> {
        self.0.confirmations.lock().unwrap().clone()
    }

    fn closed(&self) -> bool {
        *self.0.closed.lock().unwrap()
    }
}

#[async_trait]
impl Source for Hand {
    fn origin(&self) -> &str {
        "hand"
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.0.batches.lock().unwrap().pop_front() {
                *self.0.taken.lock().unwrap() += 1;
                if batch.begins_anew() {
                    self.0.confirmations.lock().unwrap().push(Lsn::INVALID);
                }
                return Ok(Some(batch));
            }
            self.0.more.notified().await;
        }
    }

    fn confirm(&self, lsn: Lsn) {
        assert!(lsn > self.confirmed(), "confirmations only rise");
        self.0.confirmations.lock().unwrap().push(lsn);
    }

    fn lag(&self) -> Lag {
        Lag::default()
    }

    async fn close(self: Box<Self>) -> Result<()> {
        *self.0.closed.lock().unwrap() = true;
        Ok(())
    }
}

/// A sink that remembers what it was given, and fails or waits when the test says so.
#[derive(Clone)]
pub(crate) struct Shelf(Arc<ShelfState>);

struct ShelfState {
    positions: Mutex<Vec<Position>>,
    commands: Mutex<Vec<Command>>,
    letters: Mutex<Vec<DeadLetter>>,
    held: Mutex<Option<Position>>,
    tries: Mutex<usize>,
    failures: Mutex<(usize, Fault)>,
    refused: Mutex<BTreeSet<String>>,
    through: Mutex<Position>,
    gate: Semaphore,
    closed: Mutex<bool>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self(Arc::new(ShelfState {
            positions: Mutex::default(),
            commands: Mutex::default(),
            letters: Mutex::default(),
            held: Mutex::default(),
            tries: Mutex::default(),
            failures: Mutex::new((0, Fault::Bug)),
            refused: Mutex::default(),
            through: Mutex::default(),
            gate: Semaphore::new(1),
            closed: Mutex::default(),
        }))
    }
}

impl Shelf {
    /// Refuses every delivery that deletes one of these points.
    pub(crate) fn refuse(&self, ids: &[&str]) {
        *self.0.refused.lock().unwrap() = ids.iter().map(|id| (*id).to_owned()).collect();
    }

    /// The position that it would have stored.
    pub(crate) fn through(&self) -> Position {
        *self.0.through.lock().unwrap()
    }

    fn positions(&self) -> Vec<Position> {
        self.0.positions.lock().unwrap().clone()
    }

    /// Everything that was written.
    pub(crate) fn commands(&self) -> Vec<Command> {
        self.0.commands.lock().unwrap().clone()
    }

    /// Everything that was rejected.
    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        self.0.letters.lock().unwrap().clone()
    }

    pub(crate) fn tries(&self) -> usize {
        *self.0.tries.lock().unwrap()
    }

    fn closed(&self) -> bool {
        *self.0.closed.lock().unwrap()
    }

    fn holds(&self, position: Position) {
        *self.0.held.lock().unwrap() = Some(position);
    }

    pub(crate) fn fail(&self, times: usize, fault: Fault) {
        *self.0.failures.lock().unwrap() = (times, fault);
    }

    pub(crate) fn close_gate(&self) {
        self.0.gate.try_acquire().unwrap().forget();
    }

    pub(crate) fn open_gate(&self) {
        self.0.gate.add_permits(1);
    }

    fn refuses(&self, command: &Command) -> bool {
        matches!(&command.action, Action::Delete { id } if self.0.refused.lock().unwrap().contains(id))
    }

    fn failure(&self) -> Option<Fault> {
        let mut failures = self.0.failures.lock().unwrap();
        let (left, fault) = *failures;
        failures.0 = left.saturating_sub(1);
        (left > 0).then_some(fault)
    }
}

#[async_trait]
impl Sink for Shelf {
    async fn resume(&mut self, origin: &str) -> Result<Option<Held>> {
        assert_eq!(origin, "hand");
        let held = *self.0.held.lock().unwrap();
        Ok(held.map(|position| Held { position, committed: 0 }))
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        *self.0.tries.lock().unwrap() += 1;
        let _permit = self.0.gate.acquire().await.unwrap();
        match self.failure() {
            Some(fault) => Err(Error::new(fault, "the test asked for it")),
            None if delivery.commands.iter().any(|command| self.refuses(command)) => {
                Err(Error::new(Fault::Data, "the store refuses a point").code(Code::Sink).help("mend the point"))
            }
            None => {
                let now = delivery.through.position;
                let through = std::mem::replace(&mut *self.0.through.lock().unwrap(), now);
                assert!(delivery.rejected.len() == 1 || through <= now, "positions never fall");
                let written = delivery.commands.iter().filter(|command| writes(command));
                self.0.commands.lock().unwrap().extend(delivery.commands.iter().copied().cloned());
                self.0.letters.lock().unwrap().extend(delivery.rejected.iter().copied().cloned());
                self.0.positions.lock().unwrap().extend(written.map(|command| command.position));
                Ok(())
            }
        }
    }

    async fn search(&mut self, _: &Query<'_>) -> Result<Vec<Hit>> {
        Ok(Vec::new())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        *self.0.closed.lock().unwrap() = true;
        Ok(())
    }
}

fn writes(command: &Command) -> bool {
    matches!(command.action, Action::Replace { .. })
}

/// An embedder that takes its time over some batches.
enum Slow {
    Never,
    EvenTexts,
}

#[async_trait]
impl Embedder for Slow {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        static CALLS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let call = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if matches!(self, Slow::EvenTexts) && call.is_multiple_of(2) {
            // Long enough for the next batches to overtake, were they let.
            for _ in 0..2000 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Vectors { dimension: 2, data: [1.0, 0.0].repeat(texts.len()) })
    }
}

/// End of the transaction that commits at `lsn`.
fn end_of(lsn: u64) -> Lsn {
    Lsn(lsn * 10 + 5)
}

fn insert(lsn: u64, id: i64, content: &str) -> Batch {
    let frame = Bytes::copy_from_slice(content.as_bytes());
    with_content(lsn, id, move |builder| {
        let len = frame.len() as u32;
        builder.push_frame(frame);
        Cell::Slice { kind: Kind::Text, place: Place::Frame, start: 0, len }
    })
}

fn with_content(lsn: u64, id: i64, content: impl FnOnce(&mut BatchBuilder) -> Cell) -> Batch {
    let mut builder = BatchBuilder::default();
    let content = content(&mut builder);
    let start = builder.row_start();
    builder.push_cell(Cell::Int(id));
    builder.push_cell(content);
    let head = EventHead {
        operation: Operation::Insert,
        position: Position { lsn: Lsn(lsn), ordinal: 0 },
        commit_time: 0,
        xid: 1,
        snapshot: false,
        replayed: false,
    };
    builder.push_event(&relation(), head, start..start + 2, None);
    builder.end_at(end_of(lsn));
    builder.take()
}

fn relation() -> Arc<Relation> {
    let column = |name: &str, type_name: &str, type_oid, key| Column {
        name: name.into(),
        type_name: type_name.into(),
        type_oid,
        type_modifier: -1,
        key,
    };
    Arc::new(Relation {
        id: 1,
        schema: "public".into(),
        table: "documents".into(),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![column("id", "int8", 20, true), column("content", "text", 25, false)],
    })
}
