//! What every sink that holds points must do: `contract!(YourStore)` makes a test of each promise.

use std::collections::BTreeMap;

use async_trait::async_trait;
use pgstream_host::command::{Action, Command, Embedding, Point};
use pgstream_host::config::model::{Create, Distance, VectorSpec};
use pgstream_host::error::{Error, Fault, Result};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::sink::{Delivery, Held, Query, Sink, SinkKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

/// A store for one test: how to open the sink on it, and how to read it past the sink.
#[async_trait]
pub(crate) trait Store: Send + Sync + Sized {
    /// An empty store whose table or collection does not exist yet; `create` goes into the sink's settings.
    async fn make(create: Create) -> Self;

    /// The settings of the sink under test.
    fn settings(&self) -> Box<dyn SinkKind>;

    /// The sink under test, on what the store holds by now. Never called while another one is open.
    async fn open(&self) -> Result<Box<dyn Sink>> {
        self.settings().open("documents", "search").await
    }

    /// Every point, as it lies in the store. Never called while a sink is open.
    async fn dump(&self) -> Points;

    /// Which point an id leads to, where several texts mean the same one.
    fn same_point(id: &str) -> String {
        id.to_owned()
    }
}

/// All points of a store by the handler's id.
pub(crate) type Points = BTreeMap<String, Stored>;

/// A point as it lies in a store, without what a sink keeps for itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) group: Option<String>,
    /// Zeros of a sparse vector may be left out.
    pub(crate) vectors: BTreeMap<String, Embedding>,
    pub(crate) payload: Map<String, Value>,
}

/// Makes a `#[tokio::test]` of every promise, for a type that is a [`Store`].
macro_rules! contract {
    ($store:ty) => {
        $crate::sinks::contract::contract! { @each $store:
            each_action_does_what_it_says
            the_same_delivery_twice_changes_nothing
            commands_for_one_id_apply_in_order
            a_group_shrinks_moves_and_goes
            any_commands_in_any_deliveries_come_to_the_same
            an_upsert_leaves_nothing_of_the_former_point
            hostile_ids_groups_and_payloads_are_taken_as_they_are
            ten_thousand_points_in_one_delivery
            a_null_reaches_every_point_of_a_large_group
            a_large_patch_of_many_new_points_fits
            an_empty_delivery_is_fine
            a_clear_leaves_nothing
            a_wrong_dimension_names_both_numbers
            an_unknown_vector_is_named
            what_create_asks_for_must_be_there
            the_nearest_come_first
        }
    };
    (@each $store:ty: $($promise:ident)+) => {
        $(#[tokio::test]
        async fn $promise() {
            $crate::sinks::contract::$promise::<$store>().await;
        })+
    };
}
pub(crate) use contract;

/// Default vector of 4 numbers, `title` of 3, sparse `words`. Dot product, because under cosine Qdrant keeps only
/// the direction of a vector.
fn create() -> Create {
    let title = VectorSpec { dimension: 3, distance: Distance::Dot };
    Create {
        dimension: Some(4),
        distance: Distance::Dot,
        vectors: BTreeMap::from([("title".to_owned(), title)]),
        sparse: vec!["words".to_owned()],
    }
}

pub(crate) async fn each_action_does_what_it_says<S: Store>() {
    let mut run = Run::<S>::start().await;
    run.deliver([upsert("a", 1, r#"{"x":1,"y":1}"#), upsert("b", 2, "{}")]).await;
    run.deliver([replace("g", &[("c", 3, "{}"), ("d", 4, r#"{"x":4}"#)]), replace("h", &[("e", 5, "{}")])]).await;
    run.check("written").await;
    run.deliver([patch("a", r#"{"x":{"z":[1]},"w":null}"#), patch("nobody", r#"{"x":1}"#)]).await;
    run.check("patched").await;
    run.deliver([patch_group("g", r#"{"x":9}"#), patch_group("nothing", r#"{"x":9}"#)]).await;
    run.check("patched a group").await;
    run.deliver([delete("b"), delete("nobody")]).await;
    run.check("deleted").await;
    run.deliver([delete_group("g"), delete_group("nothing")]).await;
    run.check("deleted a group").await;
    assert_eq!(run.expected.keys().collect::<Vec<_>>(), ["a", "e"]);
}

pub(crate) async fn the_same_delivery_twice_changes_nothing<S: Store>() {
    let mut run = Run::<S>::start().await;
    run.deliver([upsert("a", 1, "{}"), replace("g", &[("b", 2, "{}"), ("c", 3, "{}")])]).await;
    let delivery = [
        patch("a", r#"{"x":1}"#),
        patch_group("g", r#"{"x":2}"#),
        patch("a", r#"{"x":3}"#),
        delete("c"),
        upsert("d", 4, "{}"),
        replace("h", &[("e", 5, "{}")]),
        delete_group("nothing"),
    ];
    run.deliver(delivery.clone()).await;
    let once = run.check("once").await;
    run.deliver(delivery).await;
    assert_eq!(run.check("twice").await, once);
}

pub(crate) async fn commands_for_one_id_apply_in_order<S: Store>() {
    let mut run = Run::<S>::start().await;
    let story = [
        patch("a", r#"{"early":true}"#),
        upsert("a", 1, r#"{"n":1}"#),
        patch("a", r#"{"n":2,"m":2}"#),
        replace("g", &[("a", 3, r#"{"n":3}"#), ("a", 4, r#"{"n":4}"#)]),
        patch_group("g", r#"{"n":5}"#),
        patch("a", r#"{"m":6}"#),
        delete("a"),
        patch("a", r#"{"late":true}"#),
        upsert("a", 7, r#"{"n":7}"#),
        delete_group("g"),
        patch_group("g", r#"{"n":8}"#),
        patch("a", r#"{"m":9}"#),
    ];
    for length in 1..=story.len() {
        run.deliver(story[..length].to_vec()).await;
        run.check(&format!("the first {length}")).await;
        run.deliver([Action::Clear]).await;
        for action in &story[..length] {
            run.deliver([action.clone()]).await;
        }
        run.check(&format!("the first {length}, one by one")).await;
    }
}

pub(crate) async fn a_group_shrinks_moves_and_goes<S: Store>() {
    let mut run = Run::<S>::start().await;
    let chunks = |n: u8| -> Action {
        let points = (0..n).map(|i| point(&format!("doc#{i}"), i, r#"{"of":"doc"}"#)).collect();
        Action::Replace { group: "doc".into(), points }
    };
    run.deliver([chunks(5), replace("other", &[("other#0", 9, "{}")])]).await;
    run.deliver([chunks(2)]).await;
    assert_eq!(run.check("shrunk").await.len(), 3);
    run.deliver([chunks(4), upsert("doc#0", 7, "{}"), chunks(0)]).await;
    assert_eq!(run.check("one point had left the group").await.len(), 2);
    run.deliver([chunks(3), replace("new", &[("doc#1", 8, "{}")]), delete_group("doc")]).await;
    assert_eq!(run.check("another one moved").await.keys().collect::<Vec<_>>(), ["doc#1", "other#0"]);
    run.deliver([replace("new", &[]), delete_group("other")]).await;
    assert!(run.check("gone").await.is_empty());
}

pub(crate) async fn any_commands_in_any_deliveries_come_to_the_same<S: Store>() {
    let mut runner = TestRunner::deterministic();
    let story = prop::collection::vec(prop::collection::vec(action(), 1..12), 1..8);
    let mut run = Run::<S>::start().await;
    for n in 0..40 {
        for delivery in story.new_tree(&mut runner).unwrap().current() {
            run.deliver(delivery).await;
        }
        run.check(&format!("story {n}")).await;
    }
}

pub(crate) async fn an_upsert_leaves_nothing_of_the_former_point<S: Store>() {
    let mut run = Run::<S>::start().await;
    let full = Point {
        id: "a".into(),
        embeddings: vec![
            (String::new(), Embedding::Dense(vec![1.0, 2.0, 3.0, 4.0])),
            ("title".into(), Embedding::Dense(vec![0.5, -0.25, 1e-3])),
            ("words".into(), Embedding::Sparse { indices: vec![0, 7, 999_999_999], values: vec![0.5, -1.0, 2.0] }),
        ],
        payload: r#"{"x":1,"y":2}"#.into(),
    };
    let part = |name: &str, embedding: Embedding| Point {
        id: "a".into(),
        embeddings: vec![(name.into(), embedding)],
        payload: r#"{"z":3}"#.into(),
    };
    let bare = Point { id: "a".into(), embeddings: Vec::new(), payload: "{}".into() };
    run.deliver([Action::Replace { group: "g".into(), points: vec![full] }]).await;
    let stored = run.check("all vectors").await;
    assert_eq!((stored["a"].vectors.len(), stored["a"].group.as_deref()), (3, Some("g")));
    run.deliver([Action::Upsert(part("title", Embedding::Dense(vec![1.0, 0.0, 0.0])))]).await;
    run.check("one vector, no group").await;
    run.deliver([Action::Upsert(part("words", Embedding::Sparse { indices: vec![3], values: vec![1.0] }))]).await;
    run.check("another vector").await;
    run.deliver([Action::Upsert(bare)]).await;
    run.check("no vector").await;
}

pub(crate) async fn hostile_ids_groups_and_payloads_are_taken_as_they_are<S: Store>() {
    let long = "ü".repeat(512);
    let names = [
        "",
        " ",
        " a",
        "a ",
        "A",
        "a",
        "7",
        "007",
        "-7",
        "7.0",
        "18446744073709551615",
        "99999999999999999999",
        "0b6f1c2e-5a0d-4d5c-9f5e-2f6a7b8c9d0e",
        "0B6F1C2E-5A0D-4D5C-9F5E-2F6A7B8C9D0E",
        "0b6f1c2e5a0d4d5c9f5e2f6a7b8c9d0e",
        "'; DROP TABLE points; --",
        "\"quoted\"",
        "back\\slash\\",
        "{a,b}",
        "NULL",
        "null",
        "line\nbreak\ttab",
        "🦀",
        "e\u{301}",
        "é",
        "\u{202e}right to left",
        "%_*?",
        "$1",
        &long,
    ];
    let payload = json!({
        "": 1, "a.b": {"c": [1, 2]}, "x[0]": null, "quote\"key": "'; --", "🦀": "\u{7f}\u{1}\\", "deep": [[[{"é": 0.1}]]],
        "big": i64::MAX, "small": i64::MIN, "text": "line\nbreak",
    });
    let mut run = Run::<S>::start().await;
    let points = |names: &[&str]| names.iter().zip(0..).map(|(name, n)| point(name, n, &payload.to_string())).collect();
    run.deliver([Action::Replace { group: "all".into(), points: points(&names) }]).await;
    run.check("written as one group").await;
    run.deliver(names.iter().map(|name| patch(name, &json!({ "a.b": name, "x[0]": [], "id": name }).to_string())))
        .await;
    run.check("patched").await;
    run.deliver(names.iter().step_by(2).map(|name| delete(name))).await;
    run.check("every other one deleted").await;
    run.deliver(names.iter().zip(0..).map(|(name, n)| replace(name, &[(&format!("in {name}"), n, "{}")]))).await;
    run.deliver(names.iter().map(|name| patch_group(name, &json!({ "group": name }).to_string()))).await;
    run.check("as groups").await;
    run.deliver(names.iter().step_by(3).map(|name| delete_group(name))).await;
    run.check("some groups deleted").await;
}

pub(crate) async fn ten_thousand_points_in_one_delivery<S: Store>() {
    let mut run = Run::<S>::start().await;
    let all = |from: u32, payload: &str| -> Vec<Action> {
        (from..10_000).map(|n| upsert(&format!("point {n}"), (n % 251) as u8, payload)).collect()
    };
    run.deliver(all(0, r#"{"v":1}"#)).await;
    assert_eq!(run.check("new").await.len(), 10_000);
    run.deliver(all(5_000, r#"{"v":2}"#)).await;
    run.check("half of them again").await;
    run.deliver((0..10_000).map(|n| delete(&format!("point {n}")))).await;
    assert!(run.check("deleted").await.is_empty());
}

/// More points than are read at once where a store takes a null for the wish to remove the key.
pub(crate) async fn a_null_reaches_every_point_of_a_large_group<S: Store>() {
    let mut run = Run::<S>::start().await;
    let ids: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
    let points: Vec<_> = ids.iter().map(|id| (id.as_str(), 1, r#"{"x":1,"y":{"z":[1,null]}}"#)).collect();
    run.deliver([replace("g", &points), replace("h", &[("other", 2, r#"{"x":1}"#)])]).await;
    run.deliver([patch_group("g", r#"{"x":null,"w":2}"#), patch("p7", r#"{"y":null}"#)]).await;
    run.check("patched").await;
}

/// Together the points are larger than what some servers take at once.
pub(crate) async fn a_large_patch_of_many_new_points_fits<S: Store>() {
    let mut run = Run::<S>::start().await;
    let ids: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    let points: Vec<_> = ids.iter().map(|id| (id.as_str(), 1, "{}")).collect();
    let large = json!({ "text": "x".repeat(1 << 20) }).to_string();
    run.deliver([replace("g", &points), patch_group("g", &large)]).await;
    run.check("written").await;
    // What is there already is read and written anew.
    run.deliver([patch_group("g", r#"{"more":null}"#)]).await;
    run.check("patched").await;
}

pub(crate) async fn an_empty_delivery_is_fine<S: Store>() {
    let mut run = Run::<S>::start().await;
    run.deliver([]).await;
    run.deliver([upsert("a", 1, "{}")]).await;
    run.deliver([]).await;
    run.deliver([replace("g", &[]), patch("nobody", "{}")]).await;
    assert_eq!(run.check("one point").await.len(), 1);
}

pub(crate) async fn a_clear_leaves_nothing<S: Store>() {
    let mut run = Run::<S>::start().await;
    run.deliver([upsert("a", 1, "{}"), replace("g", &[("b", 2, "{}")])]).await;
    run.deliver([Action::Clear]).await;
    assert!(run.check("cleared").await.is_empty());
    run.deliver([upsert("a", 1, "{}"), Action::Clear, upsert("c", 3, "{}"), patch("a", "{}")]).await;
    assert_eq!(run.check("cleared on the way").await.len(), 1);
}

pub(crate) async fn a_wrong_dimension_names_both_numbers<S: Store>() {
    let mut run = Run::<S>::start().await;
    run.deliver([upsert("a", 1, "{}")]).await;
    let wrong = Point {
        id: "b".into(),
        embeddings: vec![(String::new(), Embedding::Dense(vec![1.0; 5]))],
        payload: r#"{"secret":"swordfish"}"#.into(),
    };
    let error = run.refused([upsert("c", 2, "{}"), Action::Upsert(wrong)]).await;
    assert_eq!(error.fault(), Fault::Handler, "{error:?}");
    let report = error.report();
    for part in ["5", "4", "0/2#1", "help: "] {
        assert!(report.contains(part), "`{part}` is missing in {report}");
    }
    assert!(!report.contains("swordfish"), "{report}");
    run.check("nothing of the delivery was written").await;
    run.deliver([upsert("c", 2, "{}")]).await;
    run.check("the sink still works").await;
}

pub(crate) async fn an_unknown_vector_is_named<S: Store>() {
    let mut run = Run::<S>::start().await;
    let dense = Embedding::Dense(vec![1.0; 3]);
    let sparse = Embedding::Sparse { indices: vec![1], values: vec![1.0] };
    for (name, embedding, part) in [
        ("summary", dense.clone(), "`summary`"),
        ("words", dense, "`words`"),
        ("title", sparse, "`title`"),
        ("id", Embedding::Dense(vec![1.0; 4]), "`id`"),
    ] {
        let point = Point { id: "a".into(), embeddings: vec![(name.into(), embedding)], payload: "{}".into() };
        let error = run.refused([Action::Upsert(point)]).await;
        assert_eq!(error.fault(), Fault::Handler, "{error:?}");
        assert!(error.report().contains(part) && error.advice().is_some(), "{error:?}");
    }
    assert!(run.check("nothing was written").await.is_empty());
}

pub(crate) async fn what_create_asks_for_must_be_there<S: Store>() {
    let none = Create { dimension: None, distance: Distance::Dot, vectors: BTreeMap::new(), sparse: Vec::new() };
    let error = S::make(none).await.open().await.err().unwrap();
    assert_eq!(error.fault(), Fault::Config, "{error:?}");
    assert!(error.advice().is_some(), "{error:?}");
}

pub(crate) async fn the_nearest_come_first<S: Store>() {
    let vectors: [(&str, [f32; 4]); 4] = [
        ("east", [2.0, 0.0, 0.0, 0.0]),
        ("north-east", [3.0, 3.0, 0.0, 0.0]),
        ("north", [0.0, 1.0, 0.0, 0.0]),
        ("west", [-1.0, 0.0, 0.0, 0.0]),
    ];
    for (distance, order, scores) in [
        (Distance::Cosine, ["east", "north-east", "north"], [1.0, 0.5_f32.sqrt(), 0.0]),
        (Distance::Dot, ["north-east", "east", "north"], [3.0, 2.0, 0.0]),
        (Distance::Euclid, ["east", "north", "west"], [-1.0, -(2.0_f32.sqrt()), -2.0]),
    ] {
        let store = S::make(Create { distance, ..create() }).await;
        let mut sink = store.open().await.unwrap();
        sink.resume(ORIGIN).await.unwrap();
        let actions = vectors.map(|(id, vector)| {
            let embeddings = vec![(String::new(), Embedding::Dense(vector.to_vec()))];
            Action::Upsert(Point { id: id.into(), embeddings, payload: json!({ "to": id }).to_string() })
        });
        let no_vector = Action::Upsert(Point { id: "nowhere".into(), embeddings: Vec::new(), payload: "{}".into() });
        write(&mut *sink, 1, actions.into_iter().chain([no_vector])).await.unwrap();
        let values = [1.0, 0.0, 0.0, 0.0];
        let settings = store.settings();
        let searcher = settings.searcher().unwrap();
        let hits = searcher.search(&Query { vector: "", values: &values, limit: 3 }).await.unwrap();
        assert_eq!(hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), order, "{distance:?}");
        for (hit, score) in hits.iter().zip(scores) {
            assert!((hit.score - score).abs() < 1e-5, "{distance:?}: {hit:?}, expected {score}");
            assert_eq!(Value::Object(hit.payload.clone()), json!({ "to": hit.id }));
        }
        assert!(searcher.search(&Query { vector: "title", values: &[1.0; 3], limit: 3 }).await.unwrap().is_empty());
        for (vector, values) in [("", &[1.0; 5][..]), ("summary", &[1.0; 3])] {
            let error = searcher.search(&Query { vector, values, limit: 3 }).await.unwrap_err();
            assert_eq!(error.fault(), Fault::Config, "{error:?}");
        }
        sink.close().await.unwrap();
    }
}

/// What the tests call the stream that positions belong to.
pub(crate) const ORIGIN: &str = "contract";

/// An event of a fixed time.
pub(crate) fn held(position: Position) -> Held {
    Held { position, committed: 1_790_000_000_123_456 }
}

/// Writes one delivery; its events are `0/<delivery>#0` and on.
pub(crate) async fn write(sink: &mut dyn Sink, delivery: u64, actions: impl IntoIterator<Item = Action>) -> Result<()> {
    let at = |ordinal| Position { lsn: Lsn(delivery), ordinal };
    let commands: Vec<Command> =
        actions.into_iter().zip(0..).map(|(action, n)| Command { position: at(n), action }).collect();
    let through = at(commands.len().saturating_sub(1) as u32);
    sink.write(&Delivery { commands: commands.iter().collect(), rejected: Vec::new(), through: held(through) }).await
}

/// A store, the sink on it, and what the store should hold.
struct Run<S> {
    store: S,
    sink: Option<Box<dyn Sink>>,
    deliveries: u64,
    expected: Points,
}

impl<S: Store> Run<S> {
    async fn start() -> Self {
        Self { store: S::make(create()).await, sink: None, deliveries: 0, expected: Points::new() }
    }

    async fn sink(&mut self) -> &mut dyn Sink {
        if self.sink.is_none() {
            let mut sink = self.store.open().await.unwrap();
            sink.resume(ORIGIN).await.unwrap();
            self.sink = Some(sink);
        }
        &mut **self.sink.as_mut().unwrap()
    }

    async fn deliver(&mut self, actions: impl IntoIterator<Item = Action>) {
        let actions: Vec<Action> = actions.into_iter().collect();
        actions.iter().for_each(|action| obey::<S>(&mut self.expected, action));
        self.deliveries += 1;
        let number = self.deliveries;
        write(self.sink().await, number, actions).await.unwrap();
    }

    /// Writes what must be refused.
    async fn refused(&mut self, actions: impl IntoIterator<Item = Action>) -> Error {
        self.deliveries += 1;
        let number = self.deliveries;
        write(self.sink().await, number, actions).await.unwrap_err()
    }

    /// Closes the sink and compares the store with what the commands mean one after the other.
    async fn check(&mut self, when: &str) -> Points {
        if let Some(sink) = self.sink.take() {
            sink.close().await.unwrap();
        }
        let found: Points =
            self.store.dump().await.into_iter().map(|(id, stored)| (S::same_point(&id), stored)).collect();
        if found != self.expected {
            let ids = found.keys().chain(self.expected.keys());
            let differ = ids.filter(|id| found.get(*id) != self.expected.get(*id));
            let differ: BTreeMap<_, _> = differ.map(|id| (id, (found.get(id), self.expected.get(id)))).collect();
            panic!("{when}: found and expected differ: {differ:#?}");
        }
        found
    }
}

/// The meaning of the commands, one after the other. Points are told apart by [`Store::same_point`].
pub(crate) fn obey<S: Store>(points: &mut Points, action: &Action) {
    let same = S::same_point;
    let object = |payload: &str| serde_json::from_str::<Map<String, Value>>(payload).unwrap();
    let write = |points: &mut Points, point: &Point, group: Option<&String>| {
        let vectors = point.embeddings.iter().cloned().collect();
        points.insert(same(&point.id), Stored { group: group.cloned(), vectors, payload: object(&point.payload) });
    };
    match action {
        Action::Upsert(point) => write(points, point, None),
        Action::Patch { id, payload } => {
            if let Some(stored) = points.get_mut(&same(id)) {
                stored.payload.extend(object(payload));
            }
        }
        Action::Replace { group, points: new } => {
            points.retain(|_, stored| stored.group.as_ref() != Some(group));
            new.iter().for_each(|point| write(points, point, Some(group)));
        }
        Action::PatchGroup { group, payload } => {
            for stored in points.values_mut().filter(|stored| stored.group.as_ref() == Some(group)) {
                stored.payload.extend(object(payload));
            }
        }
        Action::Delete { id } => drop(points.remove(&same(id))),
        Action::DeleteGroup { group } => points.retain(|_, stored| stored.group.as_ref() != Some(group)),
        Action::Clear => points.clear(),
    }
}

fn action() -> impl Strategy<Value = Action> {
    let id = || "[a-e]".prop_map(String::from);
    let group = || "[gh]".prop_map(String::from);
    let value = || prop_oneof![4 => (0..100_u32).prop_map(Value::from), 1 => Just(Value::Null)];
    let payload = move || prop::collection::btree_map("[xyz]", value(), 0..3).prop_map(|map| json!(map).to_string());
    let any_point = || (id(), 0..100_u8, payload()).prop_map(|(id, number, payload)| point(&id, number, &payload));
    prop_oneof![
        4 => any_point().prop_map(Action::Upsert),
        6 => (id(), payload()).prop_map(|(id, payload)| Action::Patch { id, payload }),
        6 => (group(), prop::collection::vec(any_point(), 0..4))
            .prop_map(|(group, points)| Action::Replace { group, points }),
        6 => (group(), payload()).prop_map(|(group, payload)| Action::PatchGroup { group, payload }),
        4 => id().prop_map(|id| Action::Delete { id }),
        3 => group().prop_map(|group| Action::DeleteGroup { group }),
        1 => Just(Action::Clear),
    ]
}

/// A point whose vectors tell it apart from others: all three, the default one, or none.
pub(crate) fn point(id: &str, number: u8, payload: &str) -> Point {
    let n = f32::from(number);
    let mut embeddings = vec![(String::new(), Embedding::Dense(vec![n, 1.0, -0.5, n / 16.0]))];
    if number.is_multiple_of(3) {
        embeddings.push(("title".into(), Embedding::Dense(vec![1.0, n, 0.25])));
        let sparse = Embedding::Sparse { indices: vec![1, 10 + u32::from(number)], values: vec![1.0, n + 1.0] };
        embeddings.push(("words".into(), sparse));
    } else if number.is_multiple_of(7) {
        embeddings.clear();
    }
    Point { id: id.into(), embeddings, payload: payload.into() }
}

fn upsert(id: &str, number: u8, payload: &str) -> Action {
    Action::Upsert(point(id, number, payload))
}

fn replace(group: &str, points: &[(&str, u8, &str)]) -> Action {
    let points = points.iter().map(|(id, number, payload)| point(id, *number, payload)).collect();
    Action::Replace { group: group.into(), points }
}

fn patch(id: &str, payload: &str) -> Action {
    Action::Patch { id: id.into(), payload: payload.into() }
}

fn patch_group(group: &str, payload: &str) -> Action {
    Action::PatchGroup { group: group.into(), payload: payload.into() }
}

fn delete(id: &str) -> Action {
    Action::Delete { id: id.into() }
}

fn delete_group(group: &str) -> Action {
    Action::DeleteGroup { group: group.into() }
}
