//! `Meetings`: notices that rows of two tables are given the same ids, so that they overwrite and
//! delete each other's points.

use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::command::{Action, Command};
use crate::config::model::Ids;
use crate::event::{Batch, Naming, Relation};

/// Ids that are remembered at most. Beyond it each second one is forgotten: of two large tables
/// with the same keys so many are left that some meet.
const REMEMBERED: usize = 1 << 14;

/// Looks at what a handler asks for, where the source has several tables.
#[derive(Debug)]
pub struct Meetings {
    /// True if ids are meant to meet: then nothing is looked at or said.
    meant: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By an id's hash, the table of the row that wrote it last.
    ids: FxHashMap<u64, u32>,
    /// Only ids are remembered whose hash has none of these bits.
    spared: u64,
    tables: FxHashMap<u32, Arc<Relation>>,
    /// Pairs of tables of which it was said already that they meet.
    told: Vec<(u32, u32)>,
}

impl Meetings {
    /// Nothing seen yet. With `Ids::Key` that ids meet is meant, and nothing is said.
    pub fn new(ids: Ids) -> Self {
        Self { meant: ids == Ids::Key, seen: Mutex::default() }
    }

    /// Looks at the commands that `handler` answered to a batch, and logs which tables meet, once.
    pub(super) fn look(&self, handler: &str, batch: &Batch, commands: &[Command]) {
        let alone = |relation: &Arc<Relation>| relation.naming == Naming::Alone;
        if self.meant || batch.relations().iter().all(alone) {
            return;
        }
        let met = self.seen.lock().unwrap_or_else(PoisonError::into_inner).note(batch, commands);
        for (one, other) in met {
            let help = match (&one.naming, &other.naming) {
                (Naming::Key, Naming::Key) => {
                    "let the handler make ids with the event's `id`, then have the sinks filled anew: \
                     `pgstream-host resnapshot`"
                }
                _ => {
                    "let the handler make ids with the event's `id`, which begins with the table's name, instead of its key"
                }
            };
            tracing::warn!(
                handler,
                tables = format!("{one}, {other}"),
                help = format!(
                    "{help}; or give each table a pipeline and a collection of its own. If it is meant, write \
                     `transforms.{handler}.ids: key`"
                ),
                "rows of two tables are given the same ids, and overwrite or delete each other's points"
            );
        }
    }
}

impl Seen {
    /// The pairs of tables of which it was not said yet that they meet.
    fn note(&mut self, batch: &Batch, commands: &[Command]) -> Vec<(Arc<Relation>, Arc<Relation>)> {
        for relation in batch.relations() {
            self.tables.insert(relation.id, Arc::clone(relation));
        }
        let mut met = Vec::new();
        // Commands stand in the order of their events.
        let mut events = batch.events().iter().peekable();
        for command in commands {
            while events.next_if(|event| event.position < command.position).is_some() {}
            let Some(event) = events.peek() else { break };
            let table = batch.relation(event).id;
            let mut other = None;
            match &command.action {
                Action::Replace { group, .. } => other = other.or(self.write(Name::Group(group), table)),
                Action::Delete { id } => other = other.or(self.remove(Name::Point(id), table)),
                Action::DeleteGroup { group } => other = other.or(self.remove(Name::Group(group), table)),
                // A handler that changes points of another table's rows knows whose they are.
                Action::Upsert(_) | Action::Patch { .. } | Action::PatchGroup { .. } | Action::Clear => {}
            }
            for point in command.points() {
                other = other.or(self.write(Name::Point(&point.id), table));
            }
            met.extend(other.and_then(|other| self.tell(table, other)));
        }
        met
    }

    /// Notes that a row of `table` wrote this. Answers which other table did so before.
    fn write(&mut self, name: Name<'_>, table: u32) -> Option<u32> {
        let hash = hash(name);
        if hash & self.spared != 0 {
            return None;
        }
        let before = match self.ids.entry(hash) {
            Entry::Occupied(mut entry) => Some(entry.insert(table)),
            Entry::Vacant(entry) => {
                entry.insert(table);
                None
            }
        };
        if self.ids.len() > REMEMBERED {
            self.spared = self.spared << 1 | 1;
            self.ids.retain(|hash, _| hash & self.spared == 0);
        }
        before.filter(|&before| before != table)
    }

    /// Forgets what a row of `table` removes, which may then be another table's. Answers whose it
    /// is, if it is another's.
    fn remove(&mut self, name: Name<'_>, table: u32) -> Option<u32> {
        let hash = hash(name);
        match self.ids.get(&hash).copied() {
            Some(before) if before == table => {
                self.ids.remove(&hash);
                None
            }
            before => before,
        }
    }

    fn tell(&mut self, one: u32, other: u32) -> Option<(Arc<Relation>, Arc<Relation>)> {
        let pair = (one.min(other), one.max(other));
        if self.told.contains(&pair) {
            return None;
        }
        self.told.push(pair);
        Some((Arc::clone(self.tables.get(&pair.0)?), Arc::clone(self.tables.get(&pair.1)?)))
    }
}

#[derive(Hash)]
enum Name<'a> {
    Point(&'a str),
    Group(&'a str),
}

/// All of its bits must be good: those that are spared are the lowest.
fn hash(name: Name<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Point;
    use crate::event::{BatchBuilder, EventHead, Operation, ReplicaIdentity};
    use crate::lsn::{Lsn, Position};

    fn table(id: u32) -> Arc<Relation> {
        let (schema, table) = ("public".into(), format!("t{id}"));
        let replica_identity = ReplicaIdentity::Default;
        Arc::new(Relation { id, schema, table, replica_identity, columns: Vec::new(), naming: Naming::Key })
    }

    /// An event of each table, and a command that answers it.
    fn batch(answers: Vec<(u32, Action)>) -> (Batch, Vec<Command>) {
        let (mut out, mut commands) = (BatchBuilder::default(), Vec::new());
        let tables: Vec<Arc<Relation>> = (0..6).map(table).collect();
        for (ordinal, (id, action)) in (0..).zip(answers) {
            let position = Position { lsn: Lsn(1), ordinal };
            let operation = Operation::Insert;
            let head = EventHead { operation, position, commit_time: 0, xid: 1, snapshot: false, replayed: false };
            out.push_event(&tables[id as usize], head, 0..0, None);
            commands.push(Command { position, action });
        }
        (out.take(), commands)
    }

    fn upsert(id: impl ToString) -> Action {
        Action::Upsert(Point { id: id.to_string(), embeddings: vec![], payload: "{}".into() })
    }

    fn met(seen: &mut Seen, answers: Vec<(u32, Action)>) -> Vec<(u32, u32)> {
        let (batch, commands) = batch(answers);
        seen.note(&batch, &commands).iter().map(|(one, other)| (one.id, other.id)).collect()
    }

    #[test]
    fn tables_that_write_or_delete_the_same_point_meet_once() {
        let mut seen = Seen::default();
        assert_eq!(met(&mut seen, vec![(1, upsert(7)), (2, upsert(8)), (1, upsert(7))]), []);
        assert_eq!(met(&mut seen, vec![(2, upsert(9)), (2, upsert(7)), (1, upsert(8))]), [(1, 2)]);
        let delete = |id: &str| Action::Delete { id: id.into() };
        assert_eq!(met(&mut seen, vec![(3, delete("7")), (3, delete("6"))]), [(2, 3)]);
        let group = |group: &str| Action::Replace { group: group.into(), points: vec![] };
        assert_eq!(met(&mut seen, vec![(4, group("7")), (5, group("7"))]), [(4, 5)], "a group, not a point");
    }

    #[test]
    fn a_row_that_moves_from_one_table_to_another_meets_nobody() {
        let mut seen = Seen::default();
        let delete = Action::Delete { id: "7".into() };
        assert_eq!(met(&mut seen, vec![(1, upsert(7)), (1, delete), (2, upsert(7))]), []);
    }

    #[test]
    fn large_tables_with_the_same_keys_meet_though_few_ids_are_remembered() {
        let mut seen = Seen::default();
        assert_eq!(met(&mut seen, (0..200_000).map(|id| (1, upsert(id))).collect()), []);
        assert!(seen.ids.len() <= REMEMBERED);
        let again = (150_000..160_000).map(|id| (2, upsert(id))).collect();
        assert_eq!(met(&mut seen, again), [(1, 2)]);
    }
}
