//! `QdrantServer`: Qdrant's protocol over Qdrant's engine, on a loopback port, for tests; and it fails on demand.
//!
//! The services are the ones generated in `qdrant-client`, the collections are shards of `qdrant-edge`. What no test
//! calls answers "unimplemented".

mod collections;
mod convert;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use qdrant_client::qdrant as wire;
use qdrant_client::qdrant::collections_server::{Collections, CollectionsServer};
use qdrant_client::qdrant::points_server::{Points, PointsServer};
use tonic::codegen::BoxFuture;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

use self::collections::Store;

/// As a server takes it by default.
const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// A running server with its collections; both go when it is dropped.
pub(crate) struct QdrantServer {
    address: SocketAddr,
    state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl QdrantServer {
    /// Starts a server on a free port. With a key, calls without it are refused.
    pub(crate) fn start(api_key: Option<&str>) -> Self {
        Self::limited(api_key, MAX_MESSAGE_BYTES)
    }

    /// As `start`; requests of more bytes are refused, as with the setting `max_request_size_mb` of a server.
    pub(crate) fn limited(api_key: Option<&str>, max_bytes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let state = Arc::new(State { api_key: api_key.map(str::to_owned), ..State::default() });
        let incoming = {
            let _inside = runtime.enter();
            TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap()
        };
        let address = incoming.local_addr().unwrap();
        let collections = CollectionsServer::new(Api(Arc::clone(&state)));
        let points = PointsServer::new(Api(Arc::clone(&state))).max_decoding_message_size(max_bytes);
        runtime.spawn(Server::builder().add_service(collections).add_service(points).serve_with_incoming(incoming));
        Self { address, state, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the next `calls` calls fail with `code`. The client itself repeats a call once.
    pub(crate) fn fail(&self, calls: usize, code: Code) {
        self.state.code.store(code as u64, Ordering::SeqCst);
        self.state.failing.store(calls, Ordering::SeqCst);
    }

    /// Lets every call take this long from now on.
    pub(crate) fn slow_down(&self, by: Duration) {
        self.state.delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Lets every answer to a query have so many points besides, and the first of them a payload of so many bytes, with so many values.
    pub(crate) fn flood(&self, points: usize, bytes: usize, values: usize) {
        *self.state.store.flood.write().unwrap() = (points, bytes, values);
    }

    /// How many calls were under way at the same time, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }
}

impl Drop for QdrantServer {
    fn drop(&mut self) {
        // Tests drop it inside their own runtime, where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Default)]
struct State {
    store: Store,
    api_key: Option<String>,
    failing: AtomicUsize,
    code: AtomicU64,
    delay_ms: AtomicU64,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl State {
    /// What stands between a call and the store.
    async fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        if self.api_key.is_some() {
            let given = request.metadata().get("api-key").and_then(|key| key.to_str().ok());
            if given != self.api_key.as_deref() {
                return Err(Status::unauthenticated("Must provide an API key or an Authorization bearer token"));
            }
        }
        let fewer = |failing: usize| failing.checked_sub(1);
        if self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
            let code = i32::try_from(self.code.load(Ordering::SeqCst)).unwrap();
            return Err(Status::new(Code::from(code), "told to fail"));
        }
        let delay = self.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        Ok(request.into_inner())
    }
}

struct Api(Arc<State>);

/// Implements calls of a service by functions of `Store`, and the others not.
macro_rules! calls {
    ($($call:ident($request:ident) -> $response:ident $(= $function:ident)?;)+) => {
        $(fn $call<'s, 'f>(
            &'s self,
            request: Request<wire::$request>,
        ) -> BoxFuture<Response<wire::$response>, Status>
        where
            's: 'f,
            Self: 'f,
        {
            calls!(@body self, request, $call $(, $function)?)
        })+
    };
    (@body $self:ident, $request:ident, $call:ident, $function:ident) => {{
        let state = Arc::clone(&$self.0);
        Box::pin(async move {
            let running = state.running.fetch_add(1, Ordering::SeqCst) + 1;
            state.most.fetch_max(running, Ordering::SeqCst);
            let answer = match state.admit($request).await {
                Ok(request) => state.store.$function(request).map(Response::new),
                Err(status) => Err(status),
            };
            state.running.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }};
    (@body $self:ident, $request:ident, $call:ident) => {{
        let _ = $request;
        Box::pin(async { Err(Status::unimplemented(stringify!($call))) })
    }};
}

impl Collections for Api {
    calls! {
        get(GetCollectionInfoRequest) -> GetCollectionInfoResponse = info;
        list(ListCollectionsRequest) -> ListCollectionsResponse;
        create(CreateCollection) -> CollectionOperationResponse = create;
        update(UpdateCollection) -> CollectionOperationResponse;
        delete(DeleteCollection) -> CollectionOperationResponse = remove;
        update_aliases(ChangeAliases) -> CollectionOperationResponse;
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases(ListAliasesRequest) -> ListAliasesResponse;
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        collection_exists(CollectionExistsRequest) -> CollectionExistsResponse = exists;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}

impl Points for Api {
    calls! {
        upsert(UpsertPoints) -> PointsOperationResponse = upsert;
        delete(DeletePoints) -> PointsOperationResponse = delete;
        get(GetPoints) -> GetResponse;
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        set_payload(SetPayloadPoints) -> PointsOperationResponse = set_payload;
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse = overwrite_payload;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        create_field_index(CreateFieldIndexCollection) -> PointsOperationResponse = create_field_index;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        scroll(ScrollPoints) -> ScrollResponse = scroll;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        count(CountPoints) -> CountResponse;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse = update_batch;
        query(QueryPoints) -> QueryResponse = query;
        query_batch(QueryBatchPoints) -> QueryBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        facet(FacetCounts) -> FacetResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}
