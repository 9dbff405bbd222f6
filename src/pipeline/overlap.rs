//! `Touched`: what a delivery changes, to know which deliveries may be under way at the same time.

use std::hash::{BuildHasher, Hash};

use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::command::{Action, Command};

/// The points and groups of a delivery, by hash: two that share one may be taken for one that they
/// do not share, and then only wait for each other.
#[derive(Debug, Default)]
pub(super) struct Touched {
    names: FxHashSet<u64>,
    /// It also changes, or reads, what it does not name.
    more: bool,
}

impl Touched {
    pub(super) fn by<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Self {
        let mut touched = Self::default();
        for command in commands {
            match &command.action {
                Action::Replace { group, .. } | Action::DeleteGroup { group } => touched.add(Name::Group(group)),
                Action::Delete { id } => touched.add(Name::Point(id)),
                // A sink may have to read before it patches: what it reads must not change meanwhile.
                Action::Patch { .. } | Action::PatchGroup { .. } | Action::Clear => touched.more = true,
                Action::Upsert(_) => {}
            }
            command.points().iter().for_each(|point| touched.add(Name::Point(&point.id)));
        }
        touched
    }

    /// Tells if the outcome is the same in whatever order the parts of both deliveries are carried
    /// out. False, too, if that is not certain.
    ///
    /// A removed group also changes points that are not named: those that the store holds under it.
    /// That does no harm. If the other delivery names such a point, it writes it whole, outside of
    /// this group, or removes it; and that is what becomes of it in any order, because the removal
    /// of a group passes over what is not, or no longer, in it.
    pub(super) fn is_apart_from(&self, other: &Self) -> bool {
        !self.more && !other.more && self.names.is_disjoint(&other.names)
    }

    fn add(&mut self, name: Name<'_>) {
        self.names.insert(FxBuildHasher.hash_one(name));
    }
}

#[derive(Hash)]
enum Name<'a> {
    Point(&'a str),
    Group(&'a str),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::command::Point;
    use crate::lsn::Position;
    use crate::sink::WriteSet;

    /// The group of each point, and who wrote it.
    type Store = BTreeMap<String, (Option<String>, String)>;

    /// One request of a sink that has no transactions.
    #[derive(Clone, Debug)]
    enum Step {
        Write(String, (Option<String>, String)),
        Remove(String),
        RemoveGroup(String, Vec<String>),
    }

    fn carry_out(store: &mut Store, step: &Step) {
        match step {
            Step::Write(id, point) => drop(store.insert(id.clone(), point.clone())),
            Step::Remove(id) => drop(store.remove(id)),
            Step::RemoveGroup(group, keep) => {
                store.retain(|id, (of, _)| of.as_ref() != Some(group) || keep.contains(id))
            }
        }
    }

    fn steps(commands: &[Command]) -> Vec<Step> {
        let set = WriteSet::coalesce(&commands.iter().collect::<Vec<_>>());
        let writes = set.upserts.iter().map(|upsert| {
            let point = (upsert.group.map(str::to_owned), upsert.point.payload.clone());
            Step::Write(upsert.point.id.clone(), point)
        });
        let groups = set.delete_groups.iter().map(|delete| {
            Step::RemoveGroup(delete.group.to_owned(), delete.keep.iter().map(|id| (*id).to_owned()).collect())
        });
        let removes = set.delete_ids.iter().map(|id| Step::Remove((*id).to_owned()));
        writes.chain(groups).chain(removes).collect()
    }

    fn point() -> impl Strategy<Value = Point> {
        ("[a-f]", 0..100_u32).prop_map(|(id, number)| Point { id, embeddings: vec![], payload: number.to_string() })
    }

    fn commands() -> impl Strategy<Value = Vec<Command>> {
        let action = prop_oneof![
            point().prop_map(Action::Upsert),
            ("[g-k]", prop::collection::vec(point(), 0..3))
                .prop_map(|(group, points)| Action::Replace { group, points }),
            "[a-f]".prop_map(|id| Action::Delete { id }),
            "[g-k]".prop_map(|group| Action::DeleteGroup { group }),
        ];
        let command = action.prop_map(|action| Command { position: Position::default(), action });
        prop::collection::vec(command, 1..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_apart_may_be_under_way_at_once(
            store in prop::collection::btree_map("[a-f]", (prop::option::of("[g-k]"), Just("old".to_owned())), 0..6),
            one in commands(),
            other in commands(),
            turns in prop::collection::vec(any::<bool>(), 0..24),
        ) {
            prop_assume!(Touched::by(&one).is_apart_from(&Touched::by(&other)));
            let (mut expected, mut mixed) = (store.clone(), store);
            let (first, then) = (steps(&one), steps(&other));
            first.iter().chain(&then).for_each(|step| carry_out(&mut expected, step));

            let (mut first, mut then) = (first.iter(), then.iter());
            for turn in turns {
                let step = if turn { first.next() } else { then.next() };
                step.into_iter().for_each(|step| carry_out(&mut mixed, step));
            }
            first.chain(then).for_each(|step| carry_out(&mut mixed, step));
            prop_assert_eq!(mixed, expected);
        }
    }

    fn touched(action: Action) -> Touched {
        Touched::by(&[Command { position: Position::default(), action }])
    }

    #[test]
    fn what_names_one_point_or_group_is_not_apart_and_what_names_none_is_apart_from_nothing() {
        let named = |name: &str| name.to_owned();
        let point = |id: &str| Point { id: named(id), embeddings: vec![], payload: named("{}") };
        let delete = || touched(Action::Delete { id: named("a") });
        assert!(delete().is_apart_from(&touched(Action::Upsert(point("b")))));
        assert!(delete().is_apart_from(&touched(Action::DeleteGroup { group: named("a") })), "a group, not a point");
        assert!(!delete().is_apart_from(&touched(Action::Upsert(point("a")))));
        let replace = touched(Action::Replace { group: named("g"), points: vec![point("a")] });
        assert!(!delete().is_apart_from(&replace));
        assert!(!touched(Action::DeleteGroup { group: named("g") }).is_apart_from(&replace));
        for more in [
            Action::Clear,
            Action::Patch { id: named("z"), payload: named("{}") },
            Action::PatchGroup { group: named("z"), payload: named("{}") },
        ] {
            assert!(!touched(more).is_apart_from(&delete()));
        }
    }
}
