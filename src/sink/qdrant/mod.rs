//! `QdrantSink`: points into a collection of a Qdrant server, over gRPC.
//!
//! Qdrant has no transactions, so delivery is at least once; all writes are repeatable and wait
//! until the server has applied them.

mod client;
mod collection;
mod entries;
mod fault;
mod request;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use qdrant_client::Payload;
use qdrant_client::qdrant::{PointId, QueryPointsBuilder, ScrollPointsBuilder, UpdateBatchPointsBuilder, UpdateStatus};
use tokio::sync::Semaphore;

use self::client::Client;
use self::collection::Collection;
use self::fault::{Peer, is_too_large};
use self::request::{Merge, Operations, Phase, Request};
use super::spaces::Spaces;
use super::{Admission, Delivery, Held, Hit, Look, Query, Sink, StoreMarks, WriteSet, stored};
use crate::config::model::Distance;
use crate::error::{Error, Fault, Result};

pub use self::settings::QdrantSettings;

/// Requests in flight at once, of all writes together. Qdrant applies the writes of a shard one
/// after the other, so more would only queue.
const CONCURRENCY: usize = 4;

/// Points read at once to merge payloads, each of which may be as large as a handler's answer.
const PAGE: u32 = 32;

/// The time after which a sink that writes looks again if its collection is still the one that it
/// opened.
const SEE: Duration = Duration::from_secs(1);

/// A sink on one collection.
#[derive(Clone)]
pub struct QdrantSink {
    client: Client,
    peer: Peer,
    collection: Collection,
    /// The time at which it was last looked if the collection is still the one that was opened.
    seen: Arc<Mutex<Instant>>,
    /// One for each request that may be in flight; shared by the sink's hands.
    lines: Arc<Semaphore>,
}

impl QdrantSink {
    /// Connects, and makes or checks the collection.
    pub async fn open(config: &QdrantSettings) -> Result<Self> {
        let (client, peer, wanted) = Self::dial(config)?;
        let collection = collection::ensure(&client, &peer, wanted).await?;
        let (seen, lines) = (Arc::new(Mutex::new(Instant::now())), Arc::new(Semaphore::new(CONCURRENCY)));
        Ok(Self { client, peer, collection, seen, lines })
    }

    /// As `open`, but makes nothing: answers what is there, or would be.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn look(config: &QdrantSettings) -> Result<Look> {
        let (client, peer, wanted) = Self::dial(config)?;
        let Collection { spaces, marks, .. } = collection::look(&client, &peer, wanted).await?;
        Ok(Look { marks: StoreMarks::Words(marks), admission: Some(admission(spaces)) })
    }

    /// The nearest points of a collection that is there.
    async fn search(config: &QdrantSettings, query: &Query<'_>) -> Result<Vec<Hit>> {
        let (client, peer, _) = Self::dial(config)?;
        let distance = collection::look(&client, &peer, None).await?.spaces.searchable(query)?;
        let mut request = QueryPointsBuilder::new(peer.collection())
            .query(query.values.to_vec())
            .limit(query.limit as u64)
            .with_payload(true);
        if !query.vector.is_empty() {
            request = request.using(query.vector);
        }
        let found = client.query(request).await.map_err(|error| peer.error(error))?.result;
        let hits = found.into_iter().filter_map(|point| {
            let id = request::host_id(point.id?)?;
            let score = if distance == Distance::Euclid { -point.score } else { point.score };
            Some(stored::hit(id, score, Payload::from(point.payload).into()))
        });
        Ok(hits.collect())
    }

    fn dial(config: &QdrantSettings) -> Result<(Client, Peer, Option<Spaces>)> {
        let wanted = config.create.as_ref().map(Spaces::wanted).transpose()?;
        let peer = Peer::new(&config.url, &config.collection)?;
        let client = Client::new(&config.url, config.api_key.as_ref(), config.timeout.0).map_err(|what| {
            Error::new(Fault::Config, what).help("write `url: http://localhost:6334`, and `api_key: ${QDRANT_API_KEY}`")
        })?;
        Ok((client, peer, wanted))
    }

    /// Sees from time to time that what was written is in the collection that was opened. Whatever
    /// was written into another one in its place is brought again by what the error says.
    async fn see(&self) -> Result<()> {
        let due = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let due = seen.elapsed() >= SEE;
            if due {
                *seen = Instant::now();
            }
            due
        };
        if due { collection::stands(&self.client, &self.peer, &self.collection.marks).await } else { Ok(()) }
    }

    /// Sends the requests of one phase, and waits for all of them even if one fails: what is sent
    /// again later must not meet a straggler.
    async fn run(&self, phase: Phase<'_>) -> Result<()> {
        let sends: Vec<_> = phase.into_iter().map(|request| self.send(request)).collect();
        let results: Vec<Result<()>> = stream::iter(sends).buffer_unordered(CONCURRENCY).collect().await;
        results.into_iter().collect()
    }

    async fn send(&self, request: Request<'_>) -> Result<()> {
        let _line = self.lines.acquire().await; // never closed
        match request {
            Request::Upsert(upserts) => self.update(vec![request::upsert(&upserts, &self.collection.spaces)?]).await,
            Request::Update(operations) => self.update(operations).await,
            Request::Merge(merge) => self.merge(merge).await,
        }
    }

    async fn merge(&self, merge: Merge) -> Result<()> {
        let (mut offset, mut size) = (None::<PointId>, PAGE);
        loop {
            let mut request = ScrollPointsBuilder::new(self.peer.collection())
                .filter(merge.filter.clone())
                .limit(size)
                .with_payload(true)
                .with_vectors(false);
            if let Some(offset) = &offset {
                request = request.offset::<PointId>(offset.clone());
            }
            let page = match self.client.scroll(request).await {
                Err(status) if size > 1 && is_too_large(&status) => {
                    size /= 2;
                    continue;
                }
                page => page.map_err(|error| self.peer.error(error))?,
            };
            for operations in merge.requests(page.result) {
                self.update(operations).await?;
            }
            offset = page.next_page_offset;
            if offset.is_none() {
                return Ok(());
            }
        }
    }

    async fn update(&self, operations: Operations) -> Result<()> {
        let request = UpdateBatchPointsBuilder::new(self.peer.collection(), operations).wait(true);
        let response = self.client.update_points_batch(request).await.map_err(|error| self.peer.refusal(error))?;
        for result in response.result {
            // Acknowledged is in the server's log, and so as durable and as ordered as Completed.
            if !matches!(result.status(), UpdateStatus::Completed | UpdateStatus::Acknowledged) {
                return Err(Error::new(Fault::Transient, format!("{} did not finish a write in time", self.peer)));
            }
        }
        Ok(())
    }
}

fn admission(spaces: Spaces) -> Admission {
    Arc::new(move |point, position| spaces.admit(point, position))
}

#[async_trait]
impl Sink for QdrantSink {
    async fn resume(&mut self, _origin: &str) -> Result<Option<Held>> {
        Ok(None)
    }

    fn another(&self) -> Option<Box<dyn Sink>> {
        Some(Box::new(self.clone()))
    }

    fn admission(&self) -> Option<Admission> {
        Some(admission(self.collection.spaces.clone()))
    }

    fn marks(&self) -> StoreMarks {
        StoreMarks::Words(self.collection.marks.clone())
    }

    async fn write(&mut self, delivery: &Delivery<'_>) -> Result<()> {
        delivery.only_commands()?;
        let set = WriteSet::coalesce(&delivery.commands);
        for phase in request::phases(&set)? {
            self.run(phase).await?;
        }
        self.see().await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
