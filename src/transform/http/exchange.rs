//! One request and its answer, within the budget of its call: bytes, time, and the call itself.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::{Error as Code, RequestOptions, WasiBody};

use super::desk::{Desk, Refusal};
use super::{Grant, dial};
use crate::config::model::HttpLimits;

/// The answer to a request: the response, and the work that goes on in its background, which is
/// none.
pub(super) type Answer = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Code>> + Send>);

/// The budget of a call: its limits, and the part of them that is spent. Clones share it.
#[derive(Clone)]
pub(super) struct Budget {
    pub(super) limits: HttpLimits,
    spent: Arc<Spent>,
    /// Cancelled when the call is over.
    ended: CancellationToken,
}

#[derive(Default)]
struct Spent {
    /// Answers that the guest may still be reading.
    open: Mutex<Vec<Slot>>,
    requests: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Budget {
    pub(super) fn new(limits: &HttpLimits) -> Self {
        Self { limits: limits.clone(), spent: Arc::default(), ended: CancellationToken::new() }
    }

    /// Ends all that the call has begun. Answers that the guest keeps without reading them let go
    /// of their connections, too.
    pub(super) fn end(&self) {
        self.ended.cancel();
        for slot in self.open().drain(..) {
            drop(taken(&slot));
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<Slot>> {
        self.spent.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_request(&self) -> bool {
        self.spent.requests.fetch_add(1, Ordering::Relaxed) < self.limits.requests
    }

    fn send(&self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.limits.sent.0;
        if take(&self.spent.sent, bytes, limit) { Ok(()) } else { Err(Refusal::Sent(limit)) }
    }

    fn receive(&self, bytes: usize) -> Result<(), Refusal> {
        let limit = self.limits.received.0;
        if take(&self.spent.received, bytes, limit) { Ok(()) } else { Err(Refusal::Received(limit)) }
    }
}

/// A place for the rest of an answer while nobody reads it.
type Slot = Arc<Mutex<Option<(reqwest::Body, Reading)>>>;

fn taken(slot: &Slot) -> Option<(reqwest::Body, Reading)> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn take(spent: &AtomicU64, bytes: usize, limit: u64) -> bool {
    let bytes = bytes as u64;
    spent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit
}

/// Sends a request that was admitted. The body is gathered first: it goes out whole, with its true
/// length.
pub(super) async fn exchange(
    grant: Arc<Grant>,
    budget: Budget,
    desk: Arc<Desk>,
    places: Arc<Semaphore>,
    mut request: reqwest::Request,
    body: WasiBody,
    options: RequestOptions,
) -> Result<Answer, Code> {
    let limit = budget.limits.timeout.0;
    let deadline = Instant::now() + limit;
    // The guest may want less patience than it is granted, never more.
    let connect = options.connect_timeout.unwrap_or(limit);
    let first = options.first_byte_timeout.map_or(limit, |first| first.saturating_add(connect).min(limit));
    let between = options.between_bytes_timeout.unwrap_or(limit).min(limit);

    let head = request.url().as_str().len() + bytes_of(request.headers());
    budget.send(head).map_err(|refusal| desk.refuse(&refusal))?;
    let until_answered = async {
        let body = gather(body, &budget, &desk).await?;
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        let method = request.method().clone();
        // Whoever waits for a place here has the time of a request for that, too.
        let place = places.acquire_owned().await.map_err(|_| Code::InternalError(None))?;
        let response = grant.client.execute(request).await.map_err(|error| failed(&grant, &desk, &error))?;
        desk.audit(&grant.origin, &method, response.status());
        Ok((response, place))
    };
    let (response, place) = within(&budget, Instant::now() + first, until_answered, Code::HttpResponseTimeout).await?;

    let (mut parts, body) = Response::from(response).into_parts();
    budget.receive(bytes_of(&parts.headers)).map_err(|refusal| desk.refuse(&refusal))?;
    grant.added.strip(&mut parts.headers);
    let reading = Reading { budget: budget.clone(), desk, grant, deadline, between, _place: place };
    let slot: Slot = Arc::new(Mutex::new(Some((body, reading))));
    budget.open().push(Arc::clone(&slot));
    let frames = stream::unfold(Some(slot), |slot| async move {
        let slot = slot?;
        let Some((mut body, reading)) = taken(&slot) else { return Some((Err(Code::ConnectionTerminated), None)) };
        match reading.next(body.frame()).await {
            // Trailers are for those who agreed on them, which a guest cannot.
            Ok(frame) => frame.filter(|frame| frame.is_data()).map(|frame| {
                let counted = reading.count(frame.data_ref().map_or(0, Bytes::len));
                match counted {
                    Ok(()) => {
                        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((body, reading));
                        (Ok(frame), Some(slot))
                    }
                    Err(code) => (Err(code), None),
                }
            }),
            Err(code) => Some((Err(code), None)),
        }
    });
    let body = StreamBody::new(frames).boxed_unsync();
    Ok((Response::from_parts(parts, body), Box::new(std::future::ready(Ok(())))))
}

/// Returns the result of `work`, unless the call ends first or the time is over.
async fn within<T>(
    budget: &Budget,
    deadline: Instant,
    work: impl Future<Output = Result<T, Code>>,
    late: Code,
) -> Result<T, Code> {
    tokio::select! {
        biased;
        () = budget.ended.cancelled() => Err(Code::ConnectionTerminated),
        done = timeout_at(deadline, work) => done.unwrap_or(Err(late)),
    }
}

async fn gather(mut body: WasiBody, budget: &Budget, desk: &Desk) -> Result<Bytes, Code> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { return Err(desk.refuse(&Refusal::Trailers)) };
        budget.send(data.len()).map_err(|refusal| desk.refuse(&refusal))?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The rules for reading an answer's body.
struct Reading {
    budget: Budget,
    desk: Arc<Desk>,
    grant: Arc<Grant>,
    deadline: Instant,
    between: Duration,
    /// Free again with the answer's end.
    _place: OwnedSemaphorePermit,
}

impl Reading {
    async fn next<F>(&self, frame: impl Future<Output = Option<reqwest::Result<F>>>) -> Result<Option<F>, Code> {
        let deadline = self.deadline.min(Instant::now() + self.between);
        let frame = async { frame.await.transpose().map_err(|error| failed(&self.grant, &self.desk, &error)) };
        within(&self.budget, deadline, frame, Code::ConnectionReadTimeout).await
    }

    fn count(&self, bytes: usize) -> Result<(), Code> {
        self.budget.receive(bytes).map_err(|refusal| self.desk.refuse(&refusal))
    }
}

fn failed(grant: &Grant, desk: &Desk, error: &reqwest::Error) -> Code {
    match dial::prohibited(error) {
        Some(found) => desk.refuse(&Refusal::Prohibited(grant.origin.clone(), found)),
        None => dial::code(error),
    }
}

/// As they go over the wire: name, value, and four bytes between and behind them.
fn bytes_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    #[test]
    fn a_budget_ends_and_stays_at_its_end() {
        let limits = HttpLimits { requests: 2, sent: Size(10), received: Size(10), ..HttpLimits::default() };
        let budget = Budget::new(&limits);
        assert_eq!([(); 4].map(|()| budget.take_request()), [true, true, false, false]);
        assert!(budget.send(10).is_ok() && budget.send(1).is_err() && budget.clone().send(0).is_err());
        assert!(budget.receive(usize::MAX).is_err() && budget.receive(0).is_err());
    }
}
