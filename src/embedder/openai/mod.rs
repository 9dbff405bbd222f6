//! The embedder `openai`: any endpoint that speaks OpenAI's `/embeddings` (OpenAI, Ollama, vLLM,
//! TEI).

mod reply;
mod retry;
mod settings;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::reply::{Refusal, Unusable, vectors};
use self::retry::{BACKOFF, PATIENCE, retry_after};
use super::paid::{Provider, Unanswered};
use super::{ANY_TEXT, Vectors};
use crate::config::Secret;
use crate::error::{Code, Error, Fault, Result};
use crate::meter::{EmbedderMeter, RequestOutcome};
use crate::retry::Retry;

pub use self::settings::{OpenAiEmbedder, TokenPrice};

/// Bytes of text in one request. Providers bound tokens; this keeps English below 300,000 of them.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Bytes of an answer: 2048 vectors of 4096 numbers, generously written. A larger one is not read
/// to its end.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// An answer that was cut off is asked for again, but a server that keeps answering nonsense will
/// not mend itself.
const MAX_NONSENSE: u32 = 3;

/// Client of one model.
pub(super) struct OpenAi {
    name: String,
    endpoint: String,
    model: String,
    key: Option<Secret>,
    asked: Option<usize>,
    max_texts: usize,
    client: Client,
    permits: Semaphore,
    concurrency: usize,
    /// Length of the vectors so far; zero before the first answer.
    dimension: AtomicUsize,
    meter: Arc<EmbedderMeter>,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

impl OpenAi {
    pub(super) fn open(name: &str, settings: &OpenAiEmbedder) -> Result<Self> {
        // Fails if there is a provider already, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(key) = &settings.api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| {
                Error::new(Fault::Config, "the API key holds characters that no HTTP header may hold")
                    .at(format!("embedder `{name}`"))
                    .help("look for a line break or quotes in the variable that `api_key` refers to")
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // A redirect would carry rows to a server that nobody named.
        let client = Client::builder().default_headers(headers).redirect(Policy::none()).timeout(settings.timeout.0);
        let client = client.user_agent(concat!("pgstream-host/", env!("CARGO_PKG_VERSION"))).build();
        let meter = EmbedderMeter::new(name);
        let meter = match &settings.price {
            Some(TokenPrice { million_tokens, currency }) => meter.priced(*million_tokens, currency),
            None => meter,
        };
        Ok(Self {
            name: name.to_owned(),
            endpoint: format!("{}/embeddings", settings.url.trim_end_matches('/')),
            model: settings.model.clone(),
            key: settings.api_key.clone(),
            asked: settings.dimension,
            max_texts: settings.max_texts.max(1),
            client: client.map_err(|error| {
                Error::new(Fault::Environment, "cannot set up TLS").because(error).at(format!("embedder `{name}`"))
            })?,
            permits: Semaphore::new(settings.concurrency.max(1)),
            concurrency: settings.concurrency.max(1),
            dimension: AtomicUsize::new(0),
            meter: Arc::new(meter),
        })
    }

    /// One request, again and again until it is answered, refused for good, `enough`, or patience
    /// is at its end.
    async fn persist(&self, texts: &[&str], enough: &CancellationToken) -> Result<Vectors, Unanswered> {
        let began = Instant::now();
        let mut retry = Retry::new(BACKOFF);
        let (mut nonsense, mut billed) = (0, false);
        loop {
            let failure = {
                let permit = self.permits.acquire().await;
                let closed = |error| self.error(Fault::Bug, "closed").because(error);
                let _permit = permit.map_err(|error| Unanswered { error: closed(error), billed })?;
                match self.attempt(texts).await {
                    Ok(vectors) => return self.checked(vectors).map_err(|error| Unanswered { error, billed: true }),
                    Err(failure) if failure.error.fault() == Fault::Data && self.takes_others().await => {
                        return Err(Unanswered { error: failure.error.code(Code::Text), billed });
                    }
                    Err(failure) => failure,
                }
            };
            nonsense += u32::from(failure.nonsense);
            billed |= failure.billed;
            if nonsense >= MAX_NONSENSE {
                let help = "is `url` the base of an OpenAI-compatible API, such as `http://host:port/v1`?";
                return Err(Unanswered { error: failure.error.help(help), billed });
            }
            if !failure.passes {
                return Err(Unanswered { error: failure.error, billed });
            }
            let error = failure.asked.into_iter().fold(failure.error, Error::after);
            let wait = retry.failed(&error);
            if wait.time > PATIENCE.saturating_sub(began.elapsed()) {
                return Err(Unanswered { error, billed });
            }
            let (failures, wait_seconds) = (wait.failures, wait.seconds());
            tracing::warn!(embedder = self.name, error = %error.chain(), failures, wait_seconds, "request failed, trying again");
            self.meter.backoff.set(u64::try_from(wait.time.as_micros()).unwrap_or(u64::MAX));
            let waited = wait.over_unless(enough).await;
            self.meter.backoff.set(0);
            if !waited {
                return Err(Unanswered { error, billed });
            }
        }
    }

    /// Tells if the server takes other texts: then it has refused these for what they are, and not
    /// for the way in which it is asked. A vector that it gave earlier proves that; otherwise one
    /// short text is tried.
    async fn takes_others(&self) -> bool {
        self.dimension.load(Ordering::Relaxed) != 0 || self.attempt(&[ANY_TEXT]).await.is_ok()
    }

    /// One try, which is counted.
    async fn attempt(&self, texts: &[&str]) -> Result<Vectors, Failure> {
        let (began, _under_way) = (Instant::now(), UnderWay::begin(&self.meter));
        let answer = self.ask(texts).await;
        self.meter.duration.observe(began.elapsed(), 1);
        match &answer {
            Ok(_) => {
                self.meter.ended(RequestOutcome::Ok);
                self.meter.texts.add(texts.len() as u64);
                self.meter.text_bytes.add(texts.iter().map(|text| text.len() as u64).sum());
            }
            Err(failure) => self.meter.ended(failure.outcome),
        }
        answer
    }

    async fn ask(&self, texts: &[&str]) -> Result<Vectors, Failure> {
        let request = Request { model: &self.model, input: texts, encoding_format: "float", dimensions: self.asked };
        let sent = self.client.post(&self.endpoint).json(&request).send().await;
        let response = sent.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
        let asked = asked.and_then(|header| retry_after(header, Timestamp::now()));
        let body = self.body(response).await?;
        if !status.is_success() {
            return Err(self.refused(
                status,
                asked,
                &Refusal::read(&body, self.key.as_ref().map(Secret::expose), texts),
            ));
        }
        let (vectors, tokens) = vectors(&body, texts.len()).map_err(|unusable| self.unusable(unusable))?;
        self.meter.tokens.add(tokens.unwrap_or(0));
        Ok(vectors)
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let error = self.error(Fault::Environment, "the answer is larger than any that was asked for");
                return Err(Failure { billed: true, ..Failure::definite(error) });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// All answers of a model have one length, and that which was asked for.
    fn checked(&self, vectors: Vectors) -> Result<Vectors> {
        let found = vectors.dimension;
        if let Some(asked) = self.asked.filter(|asked| *asked != found) {
            let what = format!("model `{}` gives vectors of {found} numbers, {asked} were asked for", self.model);
            let help = format!("write `dimension: {found}`, or take a model that can give {asked}");
            return Err(self.error(Fault::Config, what).help(help));
        }
        match self.dimension.compare_exchange(0, found, Ordering::Relaxed, Ordering::Relaxed) {
            Err(before) if before != found => {
                let what =
                    format!("model `{}` gave vectors of {before} numbers before, and of {found} now", self.model);
                let help =
                    "the server changed its model: vectors of two models cannot be compared, so embed all rows anew";
                Err(self.error(Fault::Environment, what).help(help))
            }
            _ => Ok(vectors),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        // The URL may hold a token, and stands in the configuration anyway.
        let error = error.without_url();
        let billed = !error.is_connect();
        let what =
            if error.is_timeout() { "the server did not answer in time" } else { "the server cannot be reached" };
        let outcome = if error.is_timeout() { RequestOutcome::TimedOut } else { RequestOutcome::Failed };
        Failure { billed, outcome, ..Failure::transient(self.error(Fault::Transient, what).because(error), None) }
    }

    fn unusable(&self, unusable: Unusable) -> Failure {
        let nonsense = unusable == Unusable::NotJson;
        let error = self.error(Fault::Environment, "the server's answer cannot be used").because(unusable);
        Failure { error, passes: nonsense, asked: None, nonsense, billed: true, outcome: RequestOutcome::Failed }
    }

    fn refused(&self, status: StatusCode, asked: Option<Duration>, refusal: &Refusal) -> Failure {
        let because = |error: Error| match &refusal.reason {
            Some(reason) => error.because(reason.clone()),
            None => error,
        };
        let answer = format!("the server answered {status}");
        let quota = refusal.code.as_deref() == Some("insufficient_quota");
        let passes = matches!(status.as_u16(), 408 | 409 | 425 | 429 | 500..=599) && !quota;
        if passes {
            let limited = status == StatusCode::TOO_MANY_REQUESTS;
            let outcome = if limited { RequestOutcome::RateLimited } else { RequestOutcome::Failed };
            return Failure { outcome, ..Failure::transient(because(self.error(Fault::Transient, answer)), asked) };
        }
        let (fault, help) = match status.as_u16() {
            _ if quota => (Fault::Environment, "the account has used up its quota: see to its billing".to_owned()),
            401 | 403 if self.key.is_none() => {
                (Fault::Config, "add `api_key: ${OPENAI_API_KEY}` to the embedder".to_owned())
            }
            401 | 403 => {
                (Fault::Config, "check the variable that `api_key` refers to, and what the key may do".to_owned())
            }
            404 => (Fault::Config, format!("check `url` and whether the server has the model `{}`", self.model)),
            300..=399 => (Fault::Config, "`url` redirects: write the address that it leads to".to_owned()),
            400 | 413 | 422 => (
                Fault::Data,
                "is a text longer than the model takes? let the handler cut it into smaller chunks; else check \
                 `model`, `dimension` and `max_texts`"
                    .to_owned(),
            ),
            _ => (Fault::Environment, "see the server's own log".to_owned()),
        };
        let refused = Failure::definite(because(self.error(fault, answer)).help(help));
        Failure { outcome: RequestOutcome::Refused, ..refused }
    }

    fn error(&self, fault: Fault, what: impl Into<String>) -> Error {
        Error::new(fault, what).at(format!("embedder `{}`", self.name))
    }
}

#[async_trait]
impl Provider for OpenAi {
    fn requests<'s, 't>(&self, texts: &'s [&'t str]) -> Vec<&'s [&'t str]> {
        split(texts, self.max_texts, MAX_REQUEST_BYTES)
    }

    fn at_once(&self) -> usize {
        self.concurrency
    }

    async fn request(&self, texts: &[&str], enough: &CancellationToken) -> Result<Vectors, Unanswered> {
        // Providers refuse an empty text, but its point needs a vector nonetheless.
        let texts: Vec<&str> = texts.iter().map(|text| if text.trim().is_empty() { ANY_TEXT } else { text }).collect();
        self.persist(&texts, enough).await
    }

    fn known_dimension(&self) -> Option<usize> {
        self.asked.or_else(|| Some(self.dimension.load(Ordering::Relaxed)).filter(|known| *known != 0))
    }

    fn model(&self) -> String {
        let numbers = self.asked.map(|asked| format!(", {asked} numbers")).unwrap_or_default();
        format!("openai {}{numbers}", self.model)
    }

    fn meter(&self) -> &Arc<EmbedderMeter> {
        &self.meter
    }

    async fn probe(&self) -> Result<()> {
        let vectors = self.attempt(&[ANY_TEXT]).await.map_err(|failure| failure.error)?;
        self.checked(vectors).map(drop)
    }
}

/// A failed attempt: its error, and the facts that decide if another attempt is worth it.
struct Failure {
    error: Error,
    passes: bool,
    asked: Option<Duration>,
    nonsense: bool,
    /// True if the server may have embedded the texts, although no vectors came of it.
    billed: bool,
    outcome: RequestOutcome,
}

/// A request that is under way until this is dropped.
struct UnderWay<'a>(&'a EmbedderMeter);

impl<'a> UnderWay<'a> {
    fn begin(meter: &'a EmbedderMeter) -> Self {
        meter.in_flight.more(1);
        Self(meter)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.less(1);
    }
}

impl Failure {
    fn transient(error: Error, asked: Option<Duration>) -> Self {
        Self { error, passes: true, asked, nonsense: false, billed: false, outcome: RequestOutcome::Failed }
    }

    fn definite(error: Error) -> Self {
        let outcome = RequestOutcome::Failed;
        Self { error, passes: false, asked: None, nonsense: false, billed: false, outcome }
    }
}

/// Cuts `texts` into requests. A text larger than a request goes alone: whether it fits is for the
/// server to say.
fn split<'s, 't>(texts: &'s [&'t str], max_texts: usize, max_bytes: usize) -> Vec<&'s [&'t str]> {
    let mut requests = Vec::new();
    let mut rest = texts;
    while !rest.is_empty() {
        let mut bytes = 0usize;
        let fitting = rest.iter().take(max_texts).take_while(|text| {
            bytes = bytes.saturating_add(text.len());
            bytes <= max_bytes
        });
        let (request, after) = rest.split_at(fitting.count().max(1));
        requests.push(request);
        rest = after;
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_by_texts_and_by_bytes() {
        let texts = ["aa", "bb", "cccccccccc", "d", "e", "f"];
        assert_eq!(split(&texts, 2, 100), [&texts[..2], &texts[2..4], &texts[4..]]);
        assert_eq!(split(&texts, 100, 5), [&texts[..2], &texts[2..3], &texts[3..]]);
        assert!(split(&[], 2, 100).is_empty());
    }
}
