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
use crate::sink::point_id::{GROUP_KEY, PointId};
use crate::sink::spaces::Spaces;
use crate::sink::{PatchRun, WriteSet, stored};

/// Points in one operation, and so in one record of the engine's log.
const MAX_POINTS: usize = 1000;

/// One thing to do.
pub(super) enum Step {
    Operation(UpdateOperation),
    /// Lay these keys over the payload of each point that the filter finds, and write it anew. The engine's own patch
    /// takes a null for the wish to remove the key.
    Merge {
        filter: Filter,
        patch: Map<String, Value>,
    },
}

/// The steps for everything that is to do, with all of it checked. Points are written before what they replace is deleted, as
/// in the other Qdrant sink: if the engine refuses them, what was there before still is.
pub(super) fn steps(set: &WriteSet<'_>, spaces: &Spaces) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut push = |operation| steps.push(Step::Operation(operation));
    if set.clear {
        push(delete(Filter::new()));
    }
    for upserts in set.upserts.chunks(MAX_POINTS) {
        let mut points = Vec::with_capacity(upserts.len());
        for upsert in upserts {
            spaces.admit(upsert.point, upsert.position)?;
            points.push(PointStructPersisted {
                id: engine_id(&upsert.point.id),
                vector: vectors(upsert.point),
                payload: Some(Payload(stored::payload(upsert)?)),
            });
        }
        let points = PointInsertOperations::PointsList(points);
        push(UpdateOperation::PointOperation(PointOperations::UpsertPoints(points)));
    }
    for groups in set.delete_groups.chunks(MAX_POINTS) {
        let names = groups.iter().map(|group| group.group.to_owned()).collect();
        let mut filter = Filter::new_must(in_groups(names)?);
        // To spare a point of another group changes nothing: it was just written under that group.
        let keep: Vec<_> = groups.iter().flat_map(|group| &group.keep).map(|id| engine_id(id)).collect();
        if !keep.is_empty() {
            filter.must_not = Some(vec![has_id(keep)]);
        }
        push(delete(filter));
    }
    for ids in set.delete_ids.chunks(MAX_POINTS) {
        let ids = ids.iter().map(|id| engine_id(id)).collect();
        push(UpdateOperation::PointOperation(PointOperations::DeletePoints { ids }));
    }
    for run in &set.patches {
        let (PatchRun::Ids(patches) | PatchRun::Groups(patches)) = run;
        for patch in patches {
            let payload = stored::handlers(&patch.payload.text()?, patch.position)?;
            if payload.is_empty() {
                continue;
            }
            let condition = match run {
                // By filter: a list of ids would make a missing point an error.
                PatchRun::Ids(_) => has_id(vec![engine_id(patch.target)]),
                PatchRun::Groups(_) => in_groups(vec![patch.target.to_owned()])?,
            };
            let filter = Filter::new_must(condition);
            if payload.values().any(Value::is_null) {
                steps.push(Step::Merge { filter, patch: payload });
                continue;
            }
            let set = SetPayloadOp { payload: Payload(payload), points: None, filter: Some(filter), key: None };
            steps.push(Step::Operation(UpdateOperation::PayloadOperation(PayloadOps::SetPayload(set))));
        }
    }
    Ok(steps)
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
