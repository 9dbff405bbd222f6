//! Between the types of the protocol and those of the engine.

use std::collections::HashMap;

use qdrant_client::qdrant as wire;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{vector, vector_output, vectors, vectors_output};
use qdrant_edge::{
    Condition, FieldCondition, Filter, HasIdCondition, JsonPath, Match, Payload, PointId, PointStructPersisted, Record,
    ScoredPoint, SparseVector, VectorInternal, VectorPersisted, VectorStructInternal, VectorStructPersisted,
};
use tonic::Status;

type Answer<T> = Result<T, Status>;

pub(super) fn path(key: &str) -> Answer<JsonPath> {
    key.parse().map_err(|()| Status::invalid_argument("not a payload key"))
}

pub(super) fn id(id: wire::PointId) -> Answer<PointId> {
    match id.point_id_options {
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(number)),
        Some(PointIdOptions::Uuid(text)) => match uuid::Uuid::parse_str(&text) {
            Ok(uuid) => Ok(PointId::Uuid(uuid)),
            Err(_) => Err(Status::invalid_argument(format!("Unable to parse UUID: {text}"))),
        },
        None => Err(Status::invalid_argument("No ID options provided")),
    }
}

pub(super) fn wire_id(id: PointId) -> wire::PointId {
    match id {
        PointId::NumId(number) => wire::PointId::from(number),
        PointId::Uuid(uuid) => wire::PointId::from(uuid.to_string()),
    }
}

pub(super) fn payload(payload: HashMap<String, wire::Value>) -> Payload {
    Payload(qdrant_client::Payload::from(payload).into())
}

pub(super) fn point(point: wire::PointStruct) -> Answer<PointStructPersisted> {
    let vector = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        Some(vectors::VectorsOptions::Vector(vector)) => match persisted(vector)? {
            VectorPersisted::Dense(values) => VectorStructPersisted::Single(values),
            _ => return Err(Status::invalid_argument("the default vector is dense")),
        },
        Some(vectors::VectorsOptions::Vectors(named)) => {
            let named = named.vectors.into_iter().map(|(name, vector)| Ok((name, persisted(vector)?)));
            VectorStructPersisted::Named(named.collect::<Answer<_>>()?)
        }
        None => return Err(Status::invalid_argument("Expected some vectors")),
    };
    let missing = || Status::invalid_argument("Empty ID is not allowed");
    Ok(PointStructPersisted { id: id(point.id.ok_or_else(missing)?)?, vector, payload: Some(payload(point.payload)) })
}

fn persisted(vector: wire::Vector) -> Answer<VectorPersisted> {
    match vector.vector {
        Some(vector::Vector::Dense(dense)) => Ok(VectorPersisted::Dense(dense.data)),
        Some(vector::Vector::Sparse(sparse)) => {
            Ok(VectorPersisted::Sparse(SparseVector { indices: sparse.indices, values: sparse.values }))
        }
        _ => Err(Status::unimplemented("vectors other than dense and sparse ones")),
    }
}

/// Ids or a filter.
pub(super) fn selector(selector: Option<wire::PointsSelector>) -> Answer<(Option<Vec<PointId>>, Option<Filter>)> {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(list)) => {
            Ok((Some(list.ids.into_iter().map(id).collect::<Answer<_>>()?), None))
        }
        Some(PointsSelectorOneOf::Filter(selected)) => Ok((None, Some(filter(selected)?))),
        None => Err(Status::invalid_argument("PointSelector is missing")),
    }
}

pub(super) fn filter(filter: wire::Filter) -> Answer<Filter> {
    let all = |conditions: Vec<wire::Condition>| -> Answer<Option<Vec<Condition>>> {
        let conditions = conditions.into_iter().map(condition).collect::<Answer<Vec<_>>>()?;
        Ok((!conditions.is_empty()).then_some(conditions))
    };
    Ok(Filter {
        should: all(filter.should)?,
        must: all(filter.must)?,
        must_not: all(filter.must_not)?,
        min_should: None,
    })
}

fn condition(condition: wire::Condition) -> Answer<Condition> {
    let other = || Status::unimplemented("this condition of a filter");
    Ok(match condition.condition_one_of.ok_or_else(other)? {
        ConditionOneOf::HasId(ids) => {
            let ids = ids.has_id.into_iter().map(id).collect::<Answer<Vec<_>>>()?;
            Condition::HasId(ids.into_iter().collect::<HasIdCondition>())
        }
        ConditionOneOf::Field(field) => {
            let wanted = match field.r#match.and_then(|wanted| wanted.match_value) {
                Some(MatchValue::Keyword(word)) => Match::from(vec![word]),
                Some(MatchValue::Keywords(words)) => Match::from(words.strings),
                _ => return Err(other()),
            };
            Condition::Field(FieldCondition::new_match(path(&field.key)?, wanted))
        }
        ConditionOneOf::Filter(nested) => Condition::Filter(filter(nested)?),
        _ => return Err(other()),
    })
}

pub(super) fn retrieved(record: Record) -> wire::RetrievedPoint {
    wire::RetrievedPoint {
        id: Some(wire_id(record.id)),
        payload: wire_payload(record.payload),
        vectors: record.vector.map(output),
        ..Default::default()
    }
}

pub(super) fn scored(point: ScoredPoint) -> wire::ScoredPoint {
    wire::ScoredPoint {
        id: Some(wire_id(point.id)),
        payload: wire_payload(point.payload),
        score: point.score,
        version: point.version,
        ..Default::default()
    }
}

fn wire_payload(payload: Option<Payload>) -> HashMap<String, wire::Value> {
    qdrant_client::Payload::from(payload.map(|payload| payload.0).unwrap_or_default()).into()
}

fn output(vectors: VectorStructInternal) -> wire::VectorsOutput {
    let options = match vectors {
        VectorStructInternal::Single(values) => {
            vectors_output::VectorsOptions::Vector(one(VectorInternal::Dense(values)))
        }
        VectorStructInternal::Named(named) => {
            let vectors = named.into_iter().map(|(name, vector)| (name, one(vector))).collect();
            vectors_output::VectorsOptions::Vectors(wire::NamedVectorsOutput { vectors })
        }
        VectorStructInternal::MultiDense(_) => panic!("nothing writes multivectors"),
    };
    wire::VectorsOutput { vectors_options: Some(options) }
}

fn one(vector: VectorInternal) -> wire::VectorOutput {
    let vector = match vector {
        VectorInternal::Dense(data) => vector_output::Vector::Dense(wire::DenseVector { data }),
        VectorInternal::Sparse(SparseVector { indices, values }) => {
            vector_output::Vector::Sparse(wire::SparseVector { indices, values })
        }
        VectorInternal::MultiDense(_) => panic!("nothing writes multivectors"),
    };
    wire::VectorOutput { vector: Some(vector), ..Default::default() }
}
