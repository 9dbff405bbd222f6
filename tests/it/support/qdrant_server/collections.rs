//! The collections of a `QdrantServer`: a shard of the engine each.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use qdrant_client::qdrant as wire;
use qdrant_client::qdrant::points_update_operation::{self as update, Operation};
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_edge::{
    CreateIndex, Distance, EdgeConfig, EdgeShard, EdgeSparseVectorParams, EdgeVectorParams, FieldIndexOperations,
    NamedQuery, OperationError, PayloadFieldSchema, PayloadOps, PayloadSchemaType, PointInsertOperations,
    PointOperations, QueryEnum, ScrollRequest, SearchRequest, SetPayloadOp, UpdateOperation, VectorInternal,
    WithPayloadInterface, WithVector,
};
use tempfile::TempDir;
use tonic::Status;

use super::convert;

type Answer<T> = Result<T, Status>;

#[derive(Default)]
pub(super) struct Store {
    collections: RwLock<HashMap<String, Arc<Collection>>>,
    /// Points that every answer to a query has besides; bytes, and values of a list, in the payload of the first.
    pub(super) flood: RwLock<(usize, usize, usize)>,
}

struct Collection {
    shard: EdgeShard,
    params: wire::CollectionParams,
    _folder: TempDir,
}

impl Store {
    pub(super) fn create(&self, request: wire::CreateCollection) -> Answer<wire::CollectionOperationResponse> {
        let mut collections = self.collections.write().unwrap();
        let name = request.collection_name.clone();
        if collections.contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        collections.insert(name, Arc::new(Collection::create(request)?));
        Ok(wire::CollectionOperationResponse { result: true, time: 0.0 })
    }

    pub(super) fn remove(&self, request: wire::DeleteCollection) -> Answer<wire::CollectionOperationResponse> {
        let result = self.collections.write().unwrap().remove(&request.collection_name).is_some();
        Ok(wire::CollectionOperationResponse { result, time: 0.0 })
    }

    pub(super) fn exists(&self, request: wire::CollectionExistsRequest) -> Answer<wire::CollectionExistsResponse> {
        let exists = self.collections.read().unwrap().contains_key(&request.collection_name);
        Ok(wire::CollectionExistsResponse { result: Some(wire::CollectionExists { exists }), time: 0.0 })
    }

    pub(super) fn info(&self, request: wire::GetCollectionInfoRequest) -> Answer<wire::GetCollectionInfoResponse> {
        let collection = self.find(&request.collection_name)?;
        let info = collection.shard.info();
        let schema = info.payload_schema.keys().map(|key| {
            let schema = wire::PayloadSchemaInfo {
                data_type: wire::PayloadSchemaType::Keyword.into(),
                ..wire::PayloadSchemaInfo::default()
            };
            (key.to_string(), schema)
        });
        let config = wire::CollectionConfig { params: Some(collection.params.clone()), ..Default::default() };
        let info = wire::CollectionInfo {
            config: Some(config),
            payload_schema: schema.collect(),
            points_count: Some(info.points_count as u64),
            ..Default::default()
        };
        Ok(wire::GetCollectionInfoResponse { result: Some(info), time: 0.0 })
    }

    pub(super) fn upsert(&self, request: wire::UpsertPoints) -> Answer<wire::PointsOperationResponse> {
        let list = update::PointStructList { points: request.points, ..Default::default() };
        self.apply(&request.collection_name, Operation::Upsert(list)).map(response)
    }

    pub(super) fn delete(&self, request: wire::DeletePoints) -> Answer<wire::PointsOperationResponse> {
        let delete = update::DeletePoints { points: request.points, ..Default::default() };
        self.apply(&request.collection_name, Operation::DeletePoints(delete)).map(response)
    }

    pub(super) fn set_payload(&self, request: wire::SetPayloadPoints) -> Answer<wire::PointsOperationResponse> {
        let wire::SetPayloadPoints { payload, points_selector, .. } = request;
        let set = update::SetPayload { payload, points_selector, ..Default::default() };
        self.apply(&request.collection_name, Operation::SetPayload(set)).map(response)
    }

    pub(super) fn overwrite_payload(&self, request: wire::SetPayloadPoints) -> Answer<wire::PointsOperationResponse> {
        let wire::SetPayloadPoints { payload, points_selector, .. } = request;
        let set = update::OverwritePayload { payload, points_selector, ..Default::default() };
        self.apply(&request.collection_name, Operation::OverwritePayload(set)).map(response)
    }

    pub(super) fn update_batch(&self, request: wire::UpdateBatchPoints) -> Answer<wire::UpdateBatchResponse> {
        let operations = request.operations.into_iter().filter_map(|operation| operation.operation);
        let result =
            operations.map(|operation| self.apply(&request.collection_name, operation)).collect::<Answer<_>>()?;
        Ok(wire::UpdateBatchResponse { result, ..Default::default() })
    }

    pub(super) fn create_field_index(
        &self,
        request: wire::CreateFieldIndexCollection,
    ) -> Answer<wire::PointsOperationResponse> {
        assert_eq!(request.field_type(), wire::FieldType::Keyword);
        let index = CreateIndex {
            field_name: convert::path(&request.field_name)?,
            field_schema: Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Keyword)),
        };
        let operation = UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index));
        self.find(&request.collection_name)?.shard.update(operation).map_err(status)?;
        Ok(response(completed()))
    }

    pub(super) fn scroll(&self, request: wire::ScrollPoints) -> Answer<wire::ScrollResponse> {
        let collection = self.find(&request.collection_name)?;
        let selected = |selector: Option<bool>| selector.unwrap_or(false);
        let scroll = ScrollRequest {
            offset: request.offset.map(convert::id).transpose()?,
            limit: request.limit.map(|limit| limit as usize),
            filter: request.filter.map(convert::filter).transpose()?,
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: WithVector::Bool(selected(request.with_vectors.map(|selector| {
                use wire::with_vectors_selector::SelectorOptions;
                matches!(selector.selector_options, Some(SelectorOptions::Enable(true)))
            }))),
            order_by: None,
        };
        let (points, next) = collection.shard.scroll(scroll).map_err(status)?;
        Ok(wire::ScrollResponse {
            next_page_offset: next.map(convert::wire_id),
            result: points.into_iter().map(convert::retrieved).collect(),
            ..Default::default()
        })
    }

    pub(super) fn query(&self, request: wire::QueryPoints) -> Answer<wire::QueryResponse> {
        use wire::{query::Variant, vector_input};
        let Some(wire::Query { variant: Some(Variant::Nearest(input)) }) = request.query else {
            return Err(Status::unimplemented("queries other than the nearest"));
        };
        let Some(vector_input::Variant::Dense(dense)) = input.variant else {
            return Err(Status::unimplemented("vectors other than dense ones"));
        };
        let search = SearchRequest {
            query: QueryEnum::Nearest(NamedQuery { query: VectorInternal::Dense(dense.data), using: request.using }),
            filter: request.filter.map(convert::filter).transpose()?,
            params: None,
            limit: request.limit.unwrap_or(10) as usize,
            offset: request.offset.unwrap_or(0) as usize,
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: None,
            score_threshold: None,
        };
        let found = self.find(&request.collection_name)?.shard.search(search).map_err(status)?;
        let mut result: Vec<_> = found.into_iter().map(convert::scored).collect();
        let (points, bytes, values) = *self.flood.read().unwrap();
        if points > 0 {
            let values = wire::Value::from(vec![wire::Value::default(); values]);
            result.push(wire::ScoredPoint {
                payload: HashMap::from([("x".repeat(bytes), values)]),
                ..Default::default()
            });
            result.resize(result.len() + points - 1, wire::ScoredPoint::default());
        }
        Ok(wire::QueryResponse { result, ..Default::default() })
    }

    fn find(&self, name: &str) -> Answer<Arc<Collection>> {
        let collections = self.collections.read().unwrap();
        let missing = || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        collections.get(name).cloned().ok_or_else(missing)
    }

    fn apply(&self, collection: &str, operation: Operation) -> Answer<wire::UpdateResult> {
        let collection = self.find(collection)?;
        let operation = match operation {
            Operation::Upsert(list) => {
                let points = list.points.into_iter().map(convert::point).collect::<Answer<Vec<_>>>()?;
                UpdateOperation::PointOperation(PointOperations::UpsertPoints(PointInsertOperations::PointsList(
                    points,
                )))
            }
            Operation::DeletePoints(delete) => {
                UpdateOperation::PointOperation(match convert::selector(delete.points)? {
                    (Some(ids), _) => PointOperations::DeletePoints { ids },
                    (_, filter) => PointOperations::DeletePointsByFilter(filter.unwrap_or_default()),
                })
            }
            Operation::SetPayload(set) => {
                let (points, filter) = convert::selector(set.points_selector)?;
                let payload = convert::payload(set.payload);
                let set = SetPayloadOp { payload, points, filter, key: None };
                UpdateOperation::PayloadOperation(PayloadOps::SetPayload(set))
            }
            Operation::OverwritePayload(set) => {
                let (points, filter) = convert::selector(set.points_selector)?;
                let payload = convert::payload(set.payload);
                let set = SetPayloadOp { payload, points, filter, key: None };
                UpdateOperation::PayloadOperation(PayloadOps::OverwritePayload(set))
            }
            _ => return Err(Status::unimplemented("this operation of a batch")),
        };
        collection.shard.update(operation).map_err(status)?;
        Ok(completed())
    }
}

impl Collection {
    fn create(request: wire::CreateCollection) -> Answer<Self> {
        let mut config = EdgeConfig::default();
        let dense = match request.vectors_config.as_ref().and_then(|config| config.config.clone()) {
            Some(Config::Params(params)) => HashMap::from([(String::new(), params)]),
            Some(Config::ParamsMap(map)) => map.map,
            None => HashMap::new(),
        };
        for (name, params) in dense {
            let distance = match params.distance() {
                wire::Distance::Cosine => Distance::Cosine,
                wire::Distance::Euclid => Distance::Euclid,
                wire::Distance::Dot => Distance::Dot,
                wire::Distance::Manhattan => Distance::Manhattan,
                wire::Distance::UnknownDistance => return Err(Status::invalid_argument("a distance is needed")),
            };
            config.vectors.insert(name, EdgeVectorParams::builder(params.size as usize, distance).build());
        }
        for name in request.sparse_vectors_config.iter().flat_map(|config| config.map.keys()) {
            config.sparse_vectors.insert(name.clone(), EdgeSparseVectorParams::default());
        }
        let folder = tempfile::tempdir().unwrap();
        let shard = EdgeShard::new(folder.path(), config).map_err(status)?;
        let params = wire::CollectionParams {
            vectors_config: request.vectors_config,
            sparse_vectors_config: request.sparse_vectors_config,
            ..Default::default()
        };
        Ok(Self { shard, params, _folder: folder })
    }
}

fn completed() -> wire::UpdateResult {
    wire::UpdateResult { operation_id: Some(0), status: wire::UpdateStatus::Completed.into() }
}

fn response(result: wire::UpdateResult) -> wire::PointsOperationResponse {
    wire::PointsOperationResponse { result: Some(result), ..Default::default() }
}

fn status(error: OperationError) -> Status {
    let text = error.to_string();
    match error {
        OperationError::PointIdError { .. } => Status::not_found(text),
        OperationError::ServiceError { .. } => Status::internal(text),
        _ => Status::invalid_argument(format!("Wrong input: {text}")),
    }
}
