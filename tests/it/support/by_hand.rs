//! A source, sinks and an embedder that a test holds in its hands, at the ends of a pipeline's loop.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use indexmap::IndexMap;
use pgstream_host::command::{Action, Command};
use pgstream_host::config::model::{Limits, Rejections, SinkBatch};
use pgstream_host::embedder::{Embedder, Vectors};
use pgstream_host::error::{Code, Error, Fault, Result};
use pgstream_host::event::{
    Batch, BatchBuilder, Cell, Column, EventHead, Kind, Naming, Operation, Place, Relation, ReplicaIdentity,
};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::pipeline::{Meetings, Outlet, Pipeline, Stage, Tolerance, Unembedded};
use pgstream_host::sink::{DeadLetter, Delivery, Held, Sink};
use pgstream_host::source::{Lag, Source};
use pgstream_host::transform::WasmTransform;
use pgstream_host::transform::{Engine, Transform};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::program::{eventually, root};
use crate::guests::Embedders;

/// Source and sinks on this side of the loop.
pub(crate) struct World {
    pub(crate) source: Hand,
    pub(crate) sinks: Vec<Shelf>,
    /// Another one than the pipeline's own.
    pub(crate) drain_limit: Option<Duration>,
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
            folder: None,
            config: Default::default(),
            embedders: vec!["slow".into()],
            columns: None,
            workers: 3,
            limits: Limits::default(),
            rejections: Rejections::default(),
            ids: Default::default(),
            allow: Default::default(),
        };
        let engine = Engine::new(None).unwrap();
        let transform = Transform::load(
            &pgstream_host::transform::Tenant::lone(&engine),
            &engine,
            "embed",
            &settings,
            embedders.clone(),
        )
        .unwrap();
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
        let stage = Stage {
            name,
            transform,
            workers,
            embedders,
            keeps_rejected,
            tolerance,
            meetings: Meetings::new(settings.ids),
            unembedded: Unembedded::default(),
            admissions: vec![],
        };
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

    pub(crate) fn taken(&self) -> usize {
        *self.0.taken.lock().unwrap()
    }

    pub(crate) fn confirmed(&self) -> Lsn {
        self.confirmations().pop().unwrap_or_default()
    }

    pub(crate) fn confirmations(&self) -> Vec<Lsn> {
        self.0.confirmations.lock().unwrap().clone()
    }

    pub(crate) fn closed(&self) -> bool {
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

    fn is_in_order_of_time(&self) -> bool {
        true
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
    stalled: Mutex<Option<Lsn>>,
    refused: Mutex<BTreeSet<String>>,
    through: Mutex<Position>,
    gate: Semaphore,
    two_hands: AtomicBool,
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
            stalled: Mutex::default(),
            refused: Mutex::default(),
            through: Mutex::default(),
            gate: Semaphore::new(1),
            two_hands: AtomicBool::default(),
            closed: Mutex::default(),
        }))
    }
}

impl Shelf {
    /// Refuses every delivery that deletes one of these points.
    pub(crate) fn refuse(&self, ids: &[&str]) {
        *self.0.refused.lock().unwrap() = ids.iter().map(|id| (*id).to_owned()).collect();
    }

    /// Takes two writes at once, and so stores no position.
    pub(crate) fn take_two(&self) {
        self.0.two_hands.store(true, Ordering::Relaxed);
    }

    /// The position that it would have stored.
    pub(crate) fn through(&self) -> Position {
        *self.0.through.lock().unwrap()
    }

    pub(crate) fn positions(&self) -> Vec<Position> {
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

    pub(crate) fn closed(&self) -> bool {
        *self.0.closed.lock().unwrap()
    }

    pub(crate) fn holds(&self, position: Position) {
        *self.0.held.lock().unwrap() = Some(position);
    }

    pub(crate) fn fail(&self, times: usize, fault: Fault) {
        *self.0.failures.lock().unwrap() = (times, fault);
    }

    /// Fails in passing, for as long as this lasts, what ends in the transaction at `lsn`.
    pub(crate) fn stall(&self, lsn: Option<u64>) {
        *self.0.stalled.lock().unwrap() = lsn.map(Lsn);
    }

    pub(crate) fn close_gate(&self) {
        self.0.gate.try_acquire().unwrap().forget();
    }

    pub(crate) fn open_gate(&self) {
        self.0.gate.add_permits(1);
    }

    fn two_hands(&self) -> bool {
        self.0.two_hands.load(Ordering::Relaxed)
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

    fn another(&self) -> Option<Box<dyn Sink>> {
        self.two_hands().then(|| Box::new(self.clone()) as Box<dyn Sink>)
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        *self.0.tries.lock().unwrap() += 1;
        let _permit = self.0.gate.acquire().await.unwrap();
        let stalled = *self.0.stalled.lock().unwrap() == Some(delivery.through.position.lsn);
        match self.failure().or(stalled.then_some(Fault::Transient)) {
            Some(fault) => Err(Error::new(fault, "the test asked for it")),
            None if delivery.commands.iter().any(|command| self.refuses(command)) => {
                Err(Error::new(Fault::Data, "the store refuses a point").code(Code::Sink).help("mend the point"))
            }
            None => {
                let now = delivery.through.position;
                let through = std::mem::replace(&mut *self.0.through.lock().unwrap(), now);
                assert!(self.two_hands() || delivery.rejected.len() == 1 || through <= now, "positions never fall");
                let written = delivery.commands.iter().filter(|command| writes(command));
                self.0.commands.lock().unwrap().extend(delivery.commands.iter().copied().cloned());
                self.0.letters.lock().unwrap().extend(delivery.rejected.iter().copied().cloned());
                self.0.positions.lock().unwrap().extend(written.map(|command| command.position));
                Ok(())
            }
        }
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
pub(crate) enum Slow {
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
pub(crate) fn end_of(lsn: u64) -> Lsn {
    Lsn(lsn * 10 + 5)
}

pub(crate) fn insert(lsn: u64, id: i64, content: &str) -> Batch {
    let frame = Bytes::copy_from_slice(content.as_bytes());
    with_content(lsn, id, move |builder| {
        let len = frame.len() as u32;
        builder.push_frame(frame);
        Cell::Slice { kind: Kind::Text, place: Place::Frame, start: 0, len }
    })
}

pub(crate) fn with_content(lsn: u64, id: i64, content: impl FnOnce(&mut BatchBuilder) -> Cell) -> Batch {
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
        naming: Naming::Alone,
    })
}

/// Reads until two readings are equal, with the loop given time to go on in between.
pub(crate) async fn settled(read: impl Fn() -> usize) -> usize {
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
