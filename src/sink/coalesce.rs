//! `WriteSet`: what a run of commands comes to, in phases in which no two operations touch the same
//! point.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::payload;
use crate::command::{Action, Command, Point};
use crate::error::Result;
use crate::lsn::Position;
use crate::sabotage::Breakage;

/// The operations that are left to do after commands that cancel or complete each other were put
/// together.
///
/// A sink carries out the fields in the order in which they stand here, each one finished before
/// the next begins; the outcome is that of the commands one after the other, and also if `upserts`
/// come right after `clear`, as long as `keep` is spared. Inside a field no two operations touch
/// the same point, so they may run at once. Repeating a `WriteSet` that was carried out in part,
/// from its start, is safe.
///
/// One order of phases is enough, because the points that belong to a group change only if those
/// very points are written, deleted or cleared. So the points that a command finds under a group
/// are those that the store held before all commands, less those written or deleted since, plus
/// those written since under that group. The former can go first, and the latter are known here.
#[derive(Debug, Default)]
pub struct WriteSet<'a> {
    /// Remove every point.
    pub clear: bool,
    /// Remove every point that the store holds under these groups.
    pub delete_groups: Vec<GroupDelete<'a>>,
    /// Remove these points; none of them is among `upserts`.
    pub delete_ids: Vec<&'a str>,
    /// Write these points whole.
    pub upserts: Vec<Upsert<'a>>,
    /// Patch points that are in the store; one run after the other.
    pub patches: Vec<PatchRun<'a>>,
}

/// A group of which the store keeps nothing but what is about to be written anew.
#[derive(Debug)]
pub struct GroupDelete<'a> {
    /// The group.
    pub group: &'a str,
    /// Ids in `upserts` that will belong to the group. Sparing them saves work and the moment in
    /// which a reader would miss them; the outcome is the same without.
    pub keep: Vec<&'a str>,
}

/// A point to write whole, with the group that it then belongs to.
#[derive(Debug)]
pub struct Upsert<'a> {
    /// Id and embeddings; its payload is in `payload`, with later patches.
    pub point: &'a Point,
    /// The group, if the point came with one. None takes the point out of the group that it had.
    pub group: Option<&'a str>,
    /// The payload to write.
    pub payload: Payload<'a>,
    /// The event that the point answers, to name in an error.
    pub position: Position,
}

/// Patches of one kind, by id or by group: each of them names another point or group.
#[derive(Debug)]
pub enum PatchRun<'a> {
    /// By id of the point. A point that is not there stays away.
    Ids(Vec<Patch<'a>>),
    /// By group.
    Groups(Vec<Patch<'a>>),
}

/// Top-level keys to overwrite.
#[derive(Debug)]
pub struct Patch<'a> {
    /// Id or group, according to the run.
    pub target: &'a str,
    /// The keys and their values.
    pub payload: Payload<'a>,
    /// The event that the (first) patch answers, to name in an error.
    pub position: Position,
}

/// A JSON object with the patches that came after it; they are merged when the text is asked for.
#[derive(Debug)]
pub struct Payload<'a> {
    base: &'a str,
    own: Layers<'a>,
    /// Patches of the group, shared by all its points: a patch of a large group costs no memory per
    /// point until the text is asked for. Whoever asks for many must let go of those before.
    shared: Option<Arc<Layers<'a>>>,
}

/// Patches by their place among the commands.
type Layers<'a> = Vec<(usize, &'a str)>;

impl Upsert<'_> {
    /// Roughly the memory that the point takes once its payload is merged, in bytes; rather too
    /// many.
    pub fn bytes(&self) -> usize {
        self.point.bytes() + self.payload.patches().map(|(_, patch)| patch.len()).sum::<usize>()
    }
}

impl<'a> Payload<'a> {
    fn patches(&self) -> impl Iterator<Item = &(usize, &'a str)> {
        self.own.iter().chain(self.shared.iter().flat_map(|shared| shared.iter()))
    }

    /// The object as JSON text; borrowed when there is nothing to merge.
    pub fn text(&self) -> Result<Cow<'a, str>> {
        let shared = self.shared.as_deref().map_or(&[][..], Vec::as_slice);
        let (mut own, mut shared) = (self.own.iter().peekable(), shared.iter().peekable());
        let in_order = std::iter::from_fn(|| match (own.peek(), shared.peek()) {
            (Some((mine, _)), Some((theirs, _))) if theirs < mine => shared.next(),
            (None, _) => shared.next(),
            _ => own.next(),
        });
        payload::merge(self.base, in_order.map(|(_, patch)| *patch))
    }
}

impl<'a> WriteSet<'a> {
    /// Puts commands together. Nothing is copied, and no JSON is looked at before
    /// [`Payload::text`].
    pub fn coalesce(commands: &[&'a Command]) -> Self {
        let mut pending = Pending::default();
        for (place, command) in commands.iter().enumerate() {
            pending.apply(place, command);
        }
        pending.finish()
    }

    /// Tells if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.clear
            && self.delete_groups.is_empty()
            && self.delete_ids.is_empty()
            && self.upserts.is_empty()
            && self.patches.is_empty()
    }
}

/// The outcome of the commands so far.
#[derive(Default)]
struct Pending<'a> {
    clear: bool,
    /// The fate of each id that a command wrote or deleted, by its last such command.
    points: IndexMap<&'a str, Fate<'a>>,
    /// Groups that were replaced or deleted: all that they hold from then on is among `points`.
    groups: IndexMap<&'a str, Members<'a>>,
    runs: Vec<Run<'a>>,
}

enum Fate<'a> {
    Written(Written<'a>),
    Deleted,
}

struct Written<'a> {
    point: &'a Point,
    group: Option<&'a str>,
    patches: Layers<'a>,
    position: Position,
}

#[derive(Default)]
struct Members<'a> {
    /// Ids written under the group since it was last replaced. Some may have been taken out since.
    ids: Vec<&'a str>,
    /// Patches of the group since then.
    patches: Layers<'a>,
}

struct Run<'a> {
    kind: Kind,
    patches: IndexMap<&'a str, (Position, Layers<'a>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ids,
    Groups,
}

impl<'a> Pending<'a> {
    fn apply(&mut self, place: usize, command: &'a Command) {
        let position = command.position;
        match &command.action {
            Action::Upsert(point) => self.write(point, None, position),
            Action::Patch { id, payload } => match self.points.get_mut(id.as_str()) {
                Some(Fate::Written(written)) => written.patches.push((place, payload)),
                Some(Fate::Deleted) => {}
                None => self.record(Kind::Ids, id, (place, payload), position),
            },
            Action::Replace { group, points } => {
                self.empty(group);
                for point in points {
                    self.write(point, Some(group), position);
                }
            }
            Action::PatchGroup { group, payload } => match self.groups.get_mut(group.as_str()) {
                Some(members) => members.patches.push((place, payload)),
                None => self.record(Kind::Groups, group, (place, payload), position),
            },
            Action::Delete { id } => {
                self.points.insert(id, Fate::Deleted);
            }
            Action::DeleteGroup { group } => self.empty(group),
            Action::Clear => *self = Self { clear: true, ..Self::default() },
        }
    }

    fn write(&mut self, point: &'a Point, group: Option<&'a str>, position: Position) {
        self.points.insert(&point.id, Fate::Written(Written { point, group, patches: Vec::new(), position }));
        if let Some(members) = group.and_then(|group| self.groups.get_mut(group)) {
            members.ids.push(&point.id);
        }
    }

    fn empty(&mut self, group: &'a str) {
        let members = std::mem::take(self.groups.entry(group).or_default());
        for id in members.ids {
            if let Some(fate) = self.points.get_mut(id)
                && matches!(fate, Fate::Written(written) if written.group == Some(group))
            {
                *fate = Fate::Deleted;
            }
        }
    }

    /// A patch for what may be in the store.
    fn record(&mut self, kind: Kind, target: &'a str, patch: (usize, &'a str), position: Position) {
        // After a clear the store holds nothing but what is pending.
        if self.clear {
            return;
        }
        if self.runs.last().is_none_or(|run| run.kind != kind) {
            self.runs.push(Run { kind, patches: IndexMap::new() });
        }
        if let Some(run) = self.runs.last_mut() {
            run.patches.entry(target).or_insert_with(|| (position, Vec::new())).1.push(patch);
        }
    }

    fn finish(self) -> WriteSet<'a> {
        let Self { clear, points, groups, runs } = self;
        let patches = runs.into_iter().filter_map(|run| {
            let kind = run.kind;
            run.finish(|target| match kind {
                Kind::Ids => points.contains_key(target),
                Kind::Groups => groups.contains_key(target),
            })
        });
        let mut set = WriteSet { clear, patches: patches.collect(), ..WriteSet::default() };
        let mut keep: HashMap<&str, Vec<&str>> = HashMap::new();
        let shared: HashMap<&str, Arc<Layers<'_>>> = groups
            .iter()
            .filter(|(_, members)| !members.patches.is_empty())
            .map(|(group, members)| (*group, Arc::new(members.patches.clone())))
            .collect();
        for (id, fate) in points {
            match fate {
                Fate::Deleted if clear => {}
                Fate::Deleted => set.delete_ids.push(id),
                Fate::Written(Written { point, group, patches: own, position }) => {
                    let shared = group.and_then(|group| shared.get(group)).map(Arc::clone);
                    if let Some(group) = group {
                        keep.entry(group).or_default().push(id);
                    }
                    let payload = Payload { base: &point.payload, own, shared };
                    set.upserts.push(Upsert { point, group, payload, position });
                }
            }
        }
        if !clear && !Breakage::GroupLeftovers.is_on() {
            let delete = |group| GroupDelete { group, keep: keep.remove(group).unwrap_or_default() };
            set.delete_groups = groups.into_keys().map(delete).collect();
        }
        set
    }
}

impl<'a> Run<'a> {
    /// Without the targets that were written or deleted later, which the phase before has settled.
    fn finish(self, overtaken: impl Fn(&str) -> bool) -> Option<PatchRun<'a>> {
        let left: Vec<Patch<'a>> = self
            .patches
            .into_iter()
            .filter(|(target, _)| !overtaken(target))
            .filter_map(|(target, (position, mut layers))| {
                let (_, base) = (!layers.is_empty()).then(|| layers.remove(0))?;
                Some(Patch { target, payload: Payload { base, own: layers, shared: None }, position })
            })
            .collect();
        match self.kind {
            _ if left.is_empty() => None,
            Kind::Ids => Some(PatchRun::Ids(left)),
            Kind::Groups => Some(PatchRun::Groups(left)),
        }
    }
}

#[cfg(test)]
mod tests;
