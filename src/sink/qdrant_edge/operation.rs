//! A `WriteSet` as steps for the engine, which run one after the other.

use std::collections::HashMap;

use qdrant_edge::{
    Condition, CreateIndex, FieldCondition, FieldIndexOperations, Filter, HasIdCondition, JsonPath, Match, Payload,
    PayloadFieldSchema, PayloadOps, PayloadSchemaType, PointId as EngineId, PointInsertOperations, PointOperations,
    PointStructPersisted, SetPayloadOp, SparseVector, UpdateOperation, VectorPersisted, VectorStructPersisted,
};
use serde_json::{Map, Value};

use crate::command::{Embedding, Point};
use crate::error::{Error, Fault, Result};
use crate::sink::chunks::chunks;
use crate::sink::point_id::{GROUP_KEY, PointId};
use crate::sink::spaces::Spaces;
use crate::sink::{GroupDelete, Patch, PatchRun, Upsert, WriteSet, stored};

/// Points in one operation, and so in one record of the engine's log.
const MAX_POINTS: usize = 1000;

/// Bytes of the points in one operation, roughly.
const MAX_BYTES: usize = 8 << 20;

/// One thing to do.
pub(super) enum Step {
    Operation(UpdateOperation),
    /// Lay these keys over the payload of each point that the filter finds, and write it anew. The
    /// engine's own patch takes a null for the wish to remove the key.
    Merge {
        filter: Filter,
        patch: Map<String, Value>,
    },
}

/// The steps for everything that is to do, each made when it is asked for. Points are written
/// before what they replace is deleted, as in the other Qdrant sink: if the engine refuses them,
/// what was there before still is.
pub(super) fn steps<'a>(set: &'a WriteSet<'a>, spaces: &'a Spaces) -> impl Iterator<Item = Result<Step>> + Send {
    let clear = set.clear.then(|| Ok(delete(Filter::new())));
    let upserts = chunks(set.upserts.iter().map(|upsert| (upsert, upsert.bytes())), MAX_POINTS, MAX_BYTES);
    let patches = set.patches.iter().flat_map(|run| {
        let (patches, by): (_, By) = match run {
            PatchRun::Ids(patches) => (patches, by_id),
            PatchRun::Groups(patches) => (patches, by_group),
        };
        patches.iter().map(move |it| patch(it, by))
    });
    clear
        .into_iter()
        .chain(upserts.map(|upserts| upsert(&upserts, spaces)))
        .chain(set.delete_groups.chunks(MAX_POINTS).map(delete_groups))
        .chain(set.delete_ids.chunks(MAX_POINTS).map(delete_ids))
        .map(|operation| operation.map(Step::Operation))
        .chain(patches.filter_map(Result::transpose))
}

fn upsert(upserts: &[&Upsert<'_>], spaces: &Spaces) -> Result<UpdateOperation> {
    let point = |upsert: &&Upsert<'_>| {
        spaces.admit(upsert.point, upsert.position)?;
        Ok(PointStructPersisted {
            id: engine_id(&upsert.point.id),
            vector: vectors(upsert.point),
            payload: Some(Payload(stored::payload(upsert)?)),
        })
    };
    let points = PointInsertOperations::PointsList(upserts.iter().map(point).collect::<Result<_>>()?);
    Ok(UpdateOperation::PointOperation(PointOperations::UpsertPoints(points)))
}

fn delete_groups(groups: &[GroupDelete<'_>]) -> Result<UpdateOperation> {
    let names = groups.iter().map(|group| group.group.to_owned()).collect();
    let mut filter = Filter::new_must(in_groups(names)?);
    // To spare a point of another group changes nothing: it was just written under that group.
    let keep: Vec<_> = groups.iter().flat_map(|group| &group.keep).map(|id| engine_id(id)).collect();
    if !keep.is_empty() {
        filter.must_not = Some(vec![has_id(keep)]);
    }
    Ok(delete(filter))
}

fn delete_ids(ids: &[&str]) -> Result<UpdateOperation> {
    let ids = ids.iter().map(|id| engine_id(id)).collect();
    Ok(UpdateOperation::PointOperation(PointOperations::DeletePoints { ids }))
}

/// None if there is nothing in the patch.
fn patch(patch: &Patch<'_>, by: By) -> Result<Option<Step>> {
    let payload = stored::handlers(&patch.payload.text()?, patch.position)?;
    if payload.is_empty() {
        return Ok(None);
    }
    let filter = Filter::new_must(by(patch.target)?);
    if payload.values().any(Value::is_null) {
        return Ok(Some(Step::Merge { filter, patch: payload }));
    }
    let set = SetPayloadOp { payload: Payload(payload), points: None, filter: Some(filter), key: None };
    Ok(Some(Step::Operation(UpdateOperation::PayloadOperation(PayloadOps::SetPayload(set)))))
}

/// A function that makes the condition for the points that a patch names: by id or by group.
type By = fn(&str) -> Result<Condition>;

/// By filter: a list of ids would make a missing point an error.
fn by_id(id: &str) -> Result<Condition> {
    Ok(has_id(vec![engine_id(id)]))
}

fn by_group(name: &str) -> Result<Condition> {
    in_groups(vec![name.to_owned()])
}

/// Gives a point a payload in place of the one it has.
pub(super) fn overwrite(id: EngineId, payload: Map<String, Value>) -> UpdateOperation {
    let set = SetPayloadOp { payload: Payload(payload), points: Some(vec![id]), filter: None, key: None };
    UpdateOperation::PayloadOperation(PayloadOps::OverwritePayload(set))
}

/// Indexes the key by which groups are found.
pub(super) fn index_groups() -> Result<UpdateOperation> {
    Ok(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(CreateIndex {
        field_name: group_key()?,
        field_schema: Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Keyword)),
    })))
}

pub(super) fn group_key() -> Result<JsonPath> {
    GROUP_KEY.parse().map_err(|()| Error::new(Fault::Bug, format!("`{GROUP_KEY}` is not a payload key")))
}

/// The id of a point that the engine found.
pub(super) fn host_id(id: EngineId) -> PointId {
    match id {
        EngineId::NumId(number) => PointId::Number(number),
        EngineId::Uuid(uuid) => PointId::Uuid(uuid),
    }
}

fn engine_id(id: &str) -> EngineId {
    match PointId::of(id) {
        PointId::Number(number) => EngineId::NumId(number),
        PointId::Uuid(uuid) => EngineId::Uuid(uuid),
    }
}

fn vectors(point: &Point) -> VectorStructPersisted {
    let named = point.embeddings.iter().map(|(name, embedding)| {
        let vector = match embedding {
            Embedding::Dense(values) => VectorPersisted::Dense(values.clone()),
            Embedding::Sparse { indices, values } => {
                VectorPersisted::Sparse(SparseVector { indices: indices.clone(), values: values.clone() })
            }
            Embedding::Text(_) => VectorPersisted::Dense(Vec::new()), // refused by `Spaces::admit`
        };
        (name.clone(), vector)
    });
    VectorStructPersisted::Named(named.collect::<HashMap<_, _>>())
}

fn delete(filter: Filter) -> UpdateOperation {
    UpdateOperation::PointOperation(PointOperations::DeletePointsByFilter(filter))
}

fn has_id(ids: Vec<EngineId>) -> Condition {
    Condition::HasId(ids.into_iter().collect::<HasIdCondition>())
}

fn in_groups(names: Vec<String>) -> Result<Condition> {
    Ok(Condition::Field(FieldCondition::new_match(group_key()?, Match::from(names))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Action, Command};
    use crate::lsn::Position;

    #[test]
    fn a_large_patch_of_many_points_never_stands_in_memory_for_all_of_them() {
        let point = |n: u32| Point { id: n.to_string(), embeddings: Vec::new(), payload: "{}".to_owned() };
        let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20));
        let group = || "g".to_owned();
        let actions = [
            Action::Replace { group: group(), points: (0..20).map(point).collect() },
            Action::PatchGroup { group: group(), payload },
        ];
        let commands = actions.map(|action| Command { position: Position::default(), action });
        let commands: Vec<&Command> = commands.iter().collect();
        let (set, spaces) = (WriteSet::coalesce(&commands), Spaces::default());
        let points = steps(&set, &spaces).filter_map(|step| match step.unwrap() {
            Step::Operation(UpdateOperation::PointOperation(PointOperations::UpsertPoints(
                PointInsertOperations::PointsList(points),
            ))) => Some(points.len()),
            _ => None,
        });
        assert_eq!(points.collect::<Vec<_>>(), [7, 7, 6]);
    }
}
