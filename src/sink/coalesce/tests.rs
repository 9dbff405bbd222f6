//! `WriteSet` against the plain meaning of the commands: a map that each command changes in turn.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::command::Embedding;
use crate::lsn::Lsn;

type Store = BTreeMap<String, (Option<String>, Vec<(String, Embedding)>, Map<String, Value>)>;

/// The meaning of the commands, one after the other.
fn obey(store: &mut Store, action: &Action) {
    let write = |store: &mut Store, point: &Point, group: Option<&String>| {
        store.insert(point.id.clone(), (group.cloned(), point.embeddings.clone(), object(&point.payload)));
    };
    match action {
        Action::Upsert(point) => write(store, point, None),
        Action::Patch { id, payload } => {
            if let Some((_, _, held)) = store.get_mut(id) {
                held.extend(object(payload));
            }
        }
        Action::Replace { group, points } => {
            store.retain(|_, (of, _, _)| of.as_ref() != Some(group));
            points.iter().for_each(|point| write(store, point, Some(group)));
        }
        Action::PatchGroup { group, payload } => {
            for (_, _, held) in store.values_mut().filter(|(of, _, _)| of.as_ref() == Some(group)) {
                held.extend(object(payload));
            }
        }
        Action::Delete { id } => drop(store.remove(id)),
        Action::DeleteGroup { group } => store.retain(|_, (of, _, _)| of.as_ref() != Some(group)),
        Action::Clear => store.clear(),
    }
}

/// The first `phases` phases of a set, as its documentation says that a sink carries them out.
fn carry_out(store: &mut Store, set: &WriteSet<'_>, phases: usize) {
    let ids: Vec<&str> = set.upserts.iter().map(|upsert| upsert.point.id.as_str()).collect();
    assert_distinct(ids.iter().chain(&set.delete_ids).copied());
    assert_distinct(set.delete_groups.iter().map(|delete| delete.group));
    if phases > 0 && set.clear {
        store.clear();
    }
    if phases > 1 {
        for GroupDelete { group, keep } in &set.delete_groups {
            assert!(keep.iter().all(|id| ids.contains(id)));
            store.retain(|id, (of, _, _)| of.as_deref() != Some(*group) || keep.contains(&id.as_str()));
        }
    }
    if phases > 2 {
        set.delete_ids.iter().for_each(|id| drop(store.remove(*id)));
    }
    if phases > 3 {
        for Upsert { point, group, payload, .. } in &set.upserts {
            let row = (group.map(str::to_owned), point.embeddings.clone(), object(&payload.text().unwrap()));
            store.insert(point.id.clone(), row);
        }
    }
    for run in set.patches.iter().take(phases.saturating_sub(4)) {
        let (PatchRun::Ids(patches) | PatchRun::Groups(patches)) = run;
        assert_distinct(patches.iter().map(|patch| patch.target));
        for Patch { target, payload, .. } in patches {
            for (id, (group, _, held)) in store.iter_mut() {
                let hit =
                    if matches!(run, PatchRun::Ids(_)) { id == target } else { group.as_deref() == Some(*target) };
                if hit {
                    held.extend(object(&payload.text().unwrap()));
                }
            }
        }
    }
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

fn assert_distinct<'a>(names: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    names.for_each(|name| assert!(seen.insert(name), "{name} twice in one phase"));
}

fn id() -> impl Strategy<Value = String> {
    "[a-d]"
}

fn group() -> impl Strategy<Value = String> {
    "[gh]"
}

fn payload() -> impl Strategy<Value = String> {
    prop::collection::btree_map("[xyz]", 0..100_u32, 0..3).prop_map(|map| serde_json::to_string(&map).unwrap())
}

fn point() -> impl Strategy<Value = Point> {
    (id(), 0..100_u8, payload()).prop_map(|(id, number, payload)| Point {
        id,
        embeddings: vec![(String::new(), Embedding::Dense(vec![f32::from(number)]))],
        payload,
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => point().prop_map(Action::Upsert),
        6 => (id(), payload()).prop_map(|(id, payload)| Action::Patch { id, payload }),
        6 => (group(), prop::collection::vec(point(), 0..4))
            .prop_map(|(group, points)| Action::Replace { group, points }),
        6 => (group(), payload()).prop_map(|(group, payload)| Action::PatchGroup { group, payload }),
        4 => id().prop_map(|id| Action::Delete { id }),
        3 => group().prop_map(|group| Action::DeleteGroup { group }),
        1 => Just(Action::Clear),
    ]
}

fn commands(actions: &[Action]) -> Vec<Command> {
    let at = |ordinal| Position { lsn: Lsn(1), ordinal };
    (0..).zip(actions).map(|(n, action)| Command { position: at(n), action: action.clone() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_what_the_commands_give_one_by_one(
        actions in prop::collection::vec(action(), 0..24),
        cuts in prop::collection::vec(0..24_usize, 0..4),
        interrupted in 0..8_usize,
    ) {
        let (mut expected, mut store) = (Store::new(), Store::new());
        actions.iter().for_each(|action| obey(&mut expected, action));

        let commands = commands(&actions);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(commands.len())).collect();
        cuts.extend([0, commands.len()]);
        cuts.sort_unstable();
        for ends in cuts.windows(2) {
            let part: Vec<&Command> = commands[ends[0]..ends[1]].iter().collect();
            let set = WriteSet::coalesce(&part);
            prop_assert!(!part.is_empty() || set.is_empty());
            // A crash on the way, then the same delivery again: nothing of the first attempt shows.
            carry_out(&mut store, &set, interrupted);
            carry_out(&mut store, &set, usize::MAX);
        }
        prop_assert_eq!(store, expected);
    }
}

fn point_of(id: &str, payload: &str) -> Point {
    Point { id: id.to_owned(), embeddings: Vec::new(), payload: payload.to_owned() }
}

#[test]
fn patches_of_a_group_and_of_its_points_merge_in_order() {
    let patch = |id: &str, payload: &str| Action::Patch { id: id.into(), payload: payload.into() };
    let group = |payload: &str| Action::PatchGroup { group: "g".into(), payload: payload.into() };
    let commands = commands(&[
        group(r#"{"x":0}"#), // the store's points, all of which are about to go
        Action::Replace { group: "g".into(), points: vec![point_of("a", r#"{"x":1}"#), point_of("b", "{}")] },
        group(r#"{"x":2,"y":2}"#),
        patch("a", r#"{"x":3}"#),
        group(r#"{"y":4}"#),
        patch("c", r#"{"x":5}"#),
        patch("c", r#"{"y":6}"#),
    ]);
    let set = WriteSet::coalesce(&commands.iter().collect::<Vec<_>>());
    let texts: Vec<_> = set.upserts.iter().map(|upsert| upsert.payload.text().unwrap()).collect();
    assert_eq!(texts, [r#"{"x":3,"y":4}"#, r#"{"x":2,"y":4}"#]);
    assert_eq!(set.delete_groups[0].keep, ["a", "b"]);
    let [PatchRun::Ids(run)] = set.patches.as_slice() else { panic!("{:?}", set.patches) };
    assert_eq!((run.len(), run[0].target), (1, "c"));
    assert_eq!(run[0].payload.text().unwrap(), r#"{"x":5,"y":6}"#);
}

#[test]
fn a_payload_without_patches_is_borrowed() {
    let commands = commands(&[Action::Upsert(point_of("a", r#"{ "x": 1 }"#))]);
    let set = WriteSet::coalesce(&commands.iter().collect::<Vec<_>>());
    assert!(matches!(set.upserts[0].payload.text().unwrap(), Cow::Borrowed(r#"{ "x": 1 }"#)));
}

#[test]
fn a_clear_forgets_what_came_before_and_what_the_store_held() {
    let commands = commands(&[
        Action::Upsert(point_of("a", "{}")),
        Action::DeleteGroup { group: "g".into() },
        Action::Clear,
        Action::Patch { id: "a".into(), payload: "{}".into() },
        Action::Delete { id: "b".into() },
        Action::Replace { group: "g".into(), points: vec![point_of("c", "{}")] },
    ]);
    let set = WriteSet::coalesce(&commands.iter().collect::<Vec<_>>());
    assert!(set.clear && set.delete_groups.is_empty() && set.delete_ids.is_empty() && set.patches.is_empty());
    assert_eq!(set.upserts[0].point.id, "c");
}
