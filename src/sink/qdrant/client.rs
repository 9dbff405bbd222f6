//! `Client`: the calls to a Qdrant server that the sink makes. What an answer may take is bounded:
//! in bytes, in points, and in time until its end.
//!
//! `qdrant-client` brings messages and their parts; its own client takes answers of any size, for
//! as long as they last.

use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use qdrant_client::qdrant::{
    CollectionOperationResponse, CreateCollection, CreateFieldIndexCollection, GetCollectionInfoRequest,
    GetCollectionInfoResponse, PointsOperationResponse, QueryPoints, QueryResponse, ScrollPoints, ScrollResponse,
    UpdateBatchPoints, UpdateBatchResponse,
};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use super::entries::{Part, count};
use super::fault::{NO_CONNECTION, TOO_MANY_VALUES};
use crate::config::Secret;

/// The time that a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer that says how something went, or what a collection is.
const WORDS: usize = 4 << 20;

/// Bytes of an answer with points, as many as a server takes at once. Whoever wants more asks for
/// fewer points.
const POINTS: usize = 32 << 20;

/// Values in the points of an answer, which are 100 MB or so. Whoever wants more asks for fewer
/// points.
const VALUES: usize = 1_000_000;

/// Bytes of an answer's headers.
const HEADERS: u32 = 64 << 10;

/// A server. Cheap to clone; all clones share the connection.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    key: Option<MetadataValue<Ascii>>,
    /// For one answer, to its end.
    timeout: Duration,
    channel: RwLock<Option<Channel>>,
}

type Answer<T> = Result<T, Status>;

impl Client {
    /// Connects with the first call.
    ///
    /// # Errors
    /// In words, if the URL or the key cannot be one. Neither is repeated.
    pub(super) fn new(url: &str, key: Option<&Secret>, timeout: Duration) -> Result<Self, &'static str> {
        let endpoint = || {
            let endpoint = Endpoint::from_shared(url.to_owned()).ok()?;
            let endpoint = endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_max_header_list_size(HEADERS)
                .user_agent(concat!("pgstream-host/", env!("CARGO_PKG_VERSION")))
                .ok()?;
            match url.starts_with("https://") {
                true => endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).ok(),
                false => Some(endpoint),
            }
        };
        let endpoint = endpoint().ok_or("`url` is not the address of a Qdrant server")?;
        let key = match key.map(|key| key.expose().parse::<MetadataValue<Ascii>>()) {
            None => None,
            Some(Ok(mut key)) => {
                key.set_sensitive(true);
                Some(key)
            }
            Some(Err(_)) => {
                return Err("`api_key` holds what no header can, such as a line break");
            }
        };
        Ok(Self(Arc::new(Inner { endpoint, key, timeout, channel: RwLock::default() })))
    }

    pub(super) async fn collection_info(
        &self,
        request: impl Into<GetCollectionInfoRequest>,
    ) -> Answer<GetCollectionInfoResponse> {
        self.call("/qdrant.Collections/Get", request.into(), Room::words()).await
    }

    pub(super) async fn create_collection(
        &self,
        request: impl Into<CreateCollection>,
    ) -> Answer<CollectionOperationResponse> {
        self.call("/qdrant.Collections/Create", request.into(), Room::words()).await
    }

    pub(super) async fn create_field_index(
        &self,
        request: impl Into<CreateFieldIndexCollection>,
    ) -> Answer<PointsOperationResponse> {
        self.call("/qdrant.Points/CreateFieldIndex", request.into(), Room::words()).await
    }

    pub(super) async fn update_points_batch(
        &self,
        request: impl Into<UpdateBatchPoints>,
    ) -> Answer<UpdateBatchResponse> {
        let request = request.into();
        let room = Room { items: request.operations.len(), ..Room::words() };
        self.call("/qdrant.Points/UpdateBatch", request, room).await
    }

    pub(super) async fn scroll(&self, request: impl Into<ScrollPoints>) -> Answer<ScrollResponse> {
        let request = request.into();
        let room = Room::points(2, request.limit.map(u64::from));
        self.call("/qdrant.Points/Scroll", request, room).await
    }

    pub(super) async fn query(&self, request: impl Into<QueryPoints>) -> Answer<QueryResponse> {
        let request = request.into();
        let room = Room::points(1, request.limit);
        self.call("/qdrant.Points/Query", request, room).await
    }

    /// A call, repeated once over a new connection if the one that there was may be what failed.
    async fn call<Q, A>(&self, path: &'static str, request: Q, room: Room) -> Answer<A>
    where
        Q: Clone + Send + Sync + 'static,
        A: Send + Sync + 'static,
        ProstCodec<Q, A>: Codec<Encode = Q, Decode = A>,
    {
        let known = self.0.channel.read().unwrap_or_else(PoisonError::into_inner).clone();
        let channel = match known {
            Some(channel) => channel,
            None => self.connect().await?,
        };
        match self.once(channel, path, request.clone(), room).await {
            Err(status)
                if matches!(status.code(), Code::Internal | Code::Unavailable | Code::Cancelled | Code::Unknown) =>
            {
                let channel = self.connect().await?;
                self.once(channel, path, request, room).await
            }
            answer => answer,
        }
    }

    async fn connect(&self) -> Result<Channel, Status> {
        let connected = self
            .0
            .endpoint
            .connect()
            .await
            .map_err(|error| Status::internal(format!("{}{}: {error:?}", NO_CONNECTION, self.0.endpoint.uri())))?;
        *self.0.channel.write().unwrap_or_else(PoisonError::into_inner) = Some(connected.clone());
        Ok(connected)
    }

    async fn once<Q, A>(&self, channel: Channel, path: &'static str, request: Q, room: Room) -> Result<A, Status>
    where
        Q: Send + Sync + 'static,
        A: Send + Sync + 'static,
        ProstCodec<Q, A>: Codec<Encode = Q, Decode = A>,
    {
        let mut request = Request::new(request);
        if let Some(key) = &self.0.key {
            request.metadata_mut().insert("api-key", key.clone());
        }
        let call = async {
            let mut grpc = Grpc::new(channel).max_decoding_message_size(room.bytes);
            grpc.ready().await.map_err(|error| Status::unknown(format!("the connection is not ready: {error}")))?;
            let codec = Counted { inner: ProstCodec::<Q, A>::default(), room, of: PhantomData };
            grpc.unary(request, PathAndQuery::from_static(path), codec).await.map(Response::into_inner)
        };
        let late = || Status::deadline_exceeded(format!("no whole answer came within {:?}", self.0.timeout));
        tokio::time::timeout(self.0.timeout, Box::pin(call)).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The most that an answer may hold.
#[derive(Clone, Copy)]
struct Room {
    bytes: usize,
    answer: Part,
    items: usize,
}

impl Room {
    fn words() -> Self {
        Self { bytes: WORDS, answer: Part::Words(1), items: 1 }
    }

    fn points(list: u64, wanted: Option<u64>) -> Self {
        let items = wanted.and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or(usize::MAX);
        Self { bytes: POINTS, answer: Part::Points(list), items }
    }
}

/// The codec of messages, for answers of so many entries.
struct Counted<C, Q, A> {
    inner: C,
    room: Room,
    of: PhantomData<fn(Q) -> A>,
}

impl<C, Q, A> Codec for Counted<C, Q, A>
where
    C: Codec<Encode = Q, Decode = A>,
    Q: Send + 'static,
    A: Send + 'static,
{
    type Encode = Q;
    type Decode = A;
    type Encoder = C::Encoder;
    type Decoder = Counting<C::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        self.inner.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Counting { inner: self.inner.decoder(), room: self.room }
    }
}

struct Counting<D> {
    inner: D,
    room: Room,
}

impl<D: Decoder<Error = Status>> Decoder for Counting<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        use bytes::Buf;
        // All of a message lies in one piece.
        let whole = buffer.chunk().len() == buffer.remaining();
        let Room { answer, items: most, .. } = self.room;
        let Some(counted) = count(answer, buffer.chunk()).filter(|_| whole) else {
            return Err(Status::data_loss("the answer is broken, or nested deeper than any is read"));
        };
        if counted.entries > most {
            return Err(Status::data_loss(format!("the answer holds more than the {most} entries asked for")));
        }
        if counted.values > VALUES {
            return Err(Status::out_of_range(TOO_MANY_VALUES));
        }
        self.inner.decode(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_no_header_is_refused_and_not_repeated() {
        let client = |key: &str| Client::new("http://qdrant:6334", Some(&Secret::new(key)), CONNECT_TIMEOUT);
        assert!(client("sk-1").is_ok());
        for key in ["swordfish\n", "sword\0fish"] {
            assert!(!client(key).err().unwrap().contains("sword"));
        }
    }
}
