<<<<<<< HEAD
//! `openai`: any endpoint that speaks OpenAI's `/embeddings`: OpenAI, Ollama, vLLM, TEI.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

=======
//! The embedder `openai`: any endpoint that speaks OpenAI's `/embeddings` (OpenAI, Ollama, vLLM, TEI).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::reply::{Refusal, Unusable, vectors};
use super::retry::{PATIENCE, pause, retry_after};
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
use super::{Embedder, Vectors};
use crate::config::Secret;
use crate::config::model::OpenAiEmbedder;
use crate::error::{Error, Fault, Result};

<<<<<<< HEAD
/// Bytes of text in one request; providers refuse bodies of some megabytes.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Tries of one request before the caller is told: minutes, with the waits in between.
const TRIES: u32 = 8;
/// The first wait; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait, also where a provider asks for a longer one: it is asked again, and may say so again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Providers refuse empty texts; a space stands for nothing just as well.
const NOTHING: &str = " ";
/// How much of a provider's message is shown.
const MAX_MESSAGE: usize = 300;

=======
/// Bytes of text in one request. Providers bound tokens; this keeps English below 300,000 of them.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Bytes of an answer: 2048 vectors of 4096 numbers, generously written. A larger one is not read to its end.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// An answer that was cut off is asked for again, but a server that keeps answering nonsense will not mend itself.
const MAX_NONSENSE: u32 = 3;

/// Providers refuse an empty text, but its point needs a vector nonetheless.
const EMPTY: &str = ".";

/// Client of one model.
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
pub(super) struct OpenAi {
    name: String,
    endpoint: String,
    model: String,
    key: Option<Secret>,
<<<<<<< HEAD
    dimension: Option<usize>,
    max_texts: usize,
    requests: Semaphore,
    concurrency: usize,
    client: reqwest::Client,
}

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    input: Vec<&'a str>,
=======
    asked: Option<usize>,
    max_texts: usize,
    client: Client,
    permits: Semaphore,
    concurrency: usize,
    /// Length of the vectors so far; zero before the first answer.
    dimension: AtomicUsize,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

<<<<<<< HEAD
#[derive(Deserialize)]
struct Answer {
    data: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    /// Some servers leave it out; their rows stand in order.
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// Why a request failed, and how long the provider wants to be left alone.
struct Refusal {
    error: Error,
    retry_after: Option<Duration>,
}

impl OpenAi {
    pub(super) fn new(name: &str, settings: &OpenAiEmbedder) -> Result<Self> {
        // A second installation, by another embedder, is refused and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(settings.timeout.0).build().map_err(|error| {
            Error::new(Fault::Environment, format!("embedder `{name}` cannot set up HTTP")).because(error)
        })?;
=======
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
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
        Ok(Self {
            name: name.to_owned(),
            endpoint: format!("{}/embeddings", settings.url.trim_end_matches('/')),
            model: settings.model.clone(),
            key: settings.api_key.clone(),
<<<<<<< HEAD
            dimension: settings.dimension,
            max_texts: settings.max_texts.max(1),
            requests: Semaphore::new(settings.concurrency.max(1)),
            concurrency: settings.concurrency.max(1),
            client,
        })
    }

    /// One request, repeated while it is worth it.
    async fn ask(&self, texts: &[&str]) -> Result<Vectors> {
        // A closed semaphore is not possible: nothing closes it.
        let _permit = self.requests.acquire().await;
        let mut wait = FIRST_WAIT;
        let mut tries = 1;
        loop {
            let refusal = match self.try_ask(texts).await {
                Ok(vectors) => return Ok(vectors),
                Err(refusal) => refusal,
            };
            if refusal.error.fault() != Fault::Transient || tries == TRIES {
                return Err(refusal.error);
            }
            let jittered = wait.mul_f64(rand::random_range(0.5..=1.0));
            let pause = refusal.retry_after.unwrap_or(jittered).min(LONGEST_WAIT);
            tracing::warn!(embedder = %self.name, error = %refusal.error.chain(), wait = ?pause, "asking again");
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            tries += 1;
        }
    }

    async fn try_ask(&self, texts: &[&str]) -> Result<Vectors, Refusal> {
        let input = texts.iter().map(|text| if text.is_empty() { NOTHING } else { text }).collect();
        let question = Question { model: &self.model, input, encoding_format: "float", dimensions: self.dimension };
        let request = self.client.post(&self.endpoint).json(&question);
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let answer: Answer = response.json().await.map_err(|error| self.unreachable(error))?;
        self.vectors(answer, texts.len()).map_err(|error| Refusal { error, retry_after: None })
    }

    /// Connection refused, cut, too slow, or an answer that is not what it should be: all may pass.
    fn unreachable(&self, error: reqwest::Error) -> Refusal {
        let error = Error::new(Fault::Transient, format!("embedder `{}` cannot be reached", self.name))
            .because(error.without_url())
            .help("check `url` of the embedder, and that its server runs");
        Refusal { error, retry_after: None }
    }

    async fn refused(&self, response: Response) -> Refusal {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        let said = message(&response.text().await.unwrap_or_default());
        let (name, model) = (&self.name, &self.model);
        let (fault, help) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                Fault::Config,
                "check `api_key` of the embedder: is the variable set, is the key valid for this model?".into(),
            ),
            StatusCode::NOT_FOUND => (
                Fault::Config,
                format!("check `url` (without `/embeddings`) and whether the server has the model `{model}`"),
            ),
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => {
                (Fault::Transient, "lower `concurrency` of the embedder, or raise the provider's limits".into())
            }
            status if status.is_server_error() => (Fault::Transient, "the provider's server has failed".into()),
            _ => {
                (Fault::Data, "a text may be too long for the model: let the handler cut it into smaller chunks".into())
            }
        };
        let error = Error::new(fault, format!("embedder `{name}` refused: {status}")).help(help);
        let error = match said {
            Some(said) => error.because(Error::new(fault, said)),
            None => error,
        };
        Refusal { error, retry_after }
    }

    /// Rows in the order of the texts; all there, of one length, finite.
    fn vectors(&self, answer: Answer, texts: usize) -> Result<Vectors> {
        let nonsense = |what: String| Error::new(Fault::Transient, format!("embedder `{}` answered {what}", self.name));
        let mut rows = answer.data;
        if rows.len() != texts {
            return Err(nonsense(format!("{} vectors for {texts} texts", rows.len())));
        }
        if rows.iter().all(|row| row.index.is_some()) {
            rows.sort_by_key(|row| row.index);
            if rows.iter().enumerate().any(|(place, row)| row.index != Some(place)) {
                return Err(nonsense("two vectors for one text".into()));
            }
        }
        let dimension = rows.first().map_or(0, |row| row.embedding.len());
        if let Some(expected) = self.dimension
            && dimension != expected
        {
            return Err(Error::new(
                Fault::Config,
                format!("embedder `{}` answered vectors of length {dimension}, not {expected}", self.name),
            )
            .help(format!(
                "model `{}` does not honour `dimension`: leave it out, or write `dimension: {dimension}`",
                self.model
            )));
        }
        if rows.iter().any(|row| row.embedding.len() != dimension || row.embedding.is_empty()) {
            return Err(nonsense("vectors of different length".into()));
        }
        let data: Vec<f32> = rows.into_iter().flat_map(|row| row.embedding).collect();
        if data.iter().any(|x| !x.is_finite()) {
            return Err(nonsense("a number that is not finite".into()));
        }
        Ok(Vectors { dimension, data })
=======
            asked: settings.dimension,
            max_texts: settings.max_texts.max(1),
            client: client.map_err(|error| {
                Error::new(Fault::Environment, "cannot set up TLS").because(error).at(format!("embedder `{name}`"))
            })?,
            permits: Semaphore::new(settings.concurrency.max(1)),
            concurrency: settings.concurrency.max(1),
            dimension: AtomicUsize::new(0),
        })
    }

    /// One request, again and again until it is answered, refused for good, or patience is at its end.
    async fn request(&self, texts: &[&str]) -> Result<Vectors> {
        let began = Instant::now();
        let mut failures = 0;
        let mut nonsense = 0;
        loop {
            let failure = {
                let _permit =
                    self.permits.acquire().await.map_err(|error| self.error(Fault::Bug, "closed").because(error))?;
                match self.attempt(texts).await {
                    Ok(vectors) => return self.checked(vectors),
                    Err(failure) => failure,
                }
            };
            failures += 1;
            nonsense += u32::from(failure.nonsense);
            if nonsense >= MAX_NONSENSE {
                return Err(failure
                    .error
                    .help("is `url` the base of an OpenAI-compatible API, such as `http://host:port/v1`?"));
            }
            if !failure.passes {
                return Err(failure.error);
            }
            let pause = pause(failures, failure.asked, rand::random());
            if began.elapsed().saturating_add(pause) > PATIENCE {
                return Err(failure.error);
            }
            tracing::warn!(embedder = self.name, error = %failure.error, failures, ?pause, "request failed, trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, texts: &[&str]) -> Result<Vectors, Failure> {
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
        vectors(&body, texts.len()).map_err(|unusable| self.unusable(unusable))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let error = self.error(Fault::Environment, "the answer is larger than any that was asked for");
                return Err(Failure::definite(error));
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
        let what =
            if error.is_timeout() { "the server did not answer in time" } else { "the server cannot be reached" };
        Failure::transient(self.error(Fault::Transient, what).because(error), None)
    }

    fn unusable(&self, unusable: Unusable) -> Failure {
        let nonsense = unusable == Unusable::NotJson;
        let error = self.error(Fault::Environment, "the server's answer cannot be used").because(unusable);
        Failure { error, passes: nonsense, asked: None, nonsense }
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
            return Failure::transient(because(self.error(Fault::Transient, answer)), asked);
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
                Fault::Config,
                format!(
                    "check `model: {}`, `dimension` and `max_texts`; is a text longer than the model takes?",
                    self.model
                ),
            ),
            _ => (Fault::Environment, "see the server's own log".to_owned()),
        };
        Failure::definite(because(self.error(fault, answer)).help(help))
    }

    fn error(&self, fault: Fault, what: impl Into<String>) -> Error {
        Error::new(fault, what).at(format!("embedder `{}`", self.name))
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
    }
}

#[async_trait]
impl Embedder for OpenAi {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
<<<<<<< HEAD
        let requests: Vec<_> = requests(texts, self.max_texts).into_iter().map(|texts| self.ask(texts)).collect();
        let answers: Vec<Vectors> = stream::iter(requests).buffered(self.concurrency).try_collect().await?;
        let mut all = Vectors::default();
        for answer in answers {
            if all.dimension != 0 && all.dimension != answer.dimension {
                return Err(Error::new(
                    Fault::Transient,
                    format!("embedder `{}` answered vectors of different length", self.name),
                ));
            }
            all.dimension = answer.dimension;
            all.data.extend(answer.data);
        }
        Ok(all)
    }
}

/// Cuts `texts` into requests of at most `max_texts` texts and, where a single text allows it, of bounded bytes.
fn requests<'a>(texts: &'a [&'a str], max_texts: usize) -> Vec<&'a [&'a str]> {
    let mut requests = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (end, text) in texts.iter().enumerate() {
        if end > start && (end - start == max_texts || bytes + text.len() > MAX_REQUEST_BYTES) {
            requests.extend(texts.get(start..end));
            (start, bytes) = (end, 0);
        }
        bytes += text.len();
    }
    requests.extend(texts.get(start..).filter(|rest| !rest.is_empty()));
    requests
}

/// Seconds, or an HTTP date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    let until = SystemTime::from(date.timestamp()).duration_since(SystemTime::now());
    Some(until.unwrap_or_default())
}

/// What the provider says is wrong, short and on one line; not its whole answer, which may repeat the texts.
fn message(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let said = body.pointer("/error/message").or(body.get("error")).or(body.get("message"))?.as_str()?;
    Some(said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect())
}

=======
        let texts: Vec<&str> = texts.iter().map(|text| if text.trim().is_empty() { EMPTY } else { text }).collect();
        let requests = split(&texts, self.max_texts, MAX_REQUEST_BYTES);
        let requests: Vec<_> = requests.into_iter().map(|texts| self.request(texts)).collect();
        let answers: Vec<Vectors> = stream::iter(requests).buffered(self.concurrency).try_collect().await?;
        let dimension = answers.first().map_or(0, |answer| answer.dimension);
        Ok(Vectors { dimension, data: answers.into_iter().flat_map(|answer| answer.data).collect() })
    }
}

/// Why an attempt failed, and whether another one is worth it.
struct Failure {
    error: Error,
    passes: bool,
    asked: Option<Duration>,
    nonsense: bool,
}

impl Failure {
    fn transient(error: Error, asked: Option<Duration>) -> Self {
        Self { error, passes: true, asked, nonsense: false }
    }

    fn definite(error: Error) -> Self {
        Self { error, passes: false, asked: None, nonsense: false }
    }
}

/// Cuts `texts` into requests. A text larger than a request goes alone: whether it fits is for the server to say.
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

>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
<<<<<<< HEAD
    fn requests_are_bounded_in_texts_and_bytes_and_lose_nothing() {
        let long = "x".repeat(MAX_REQUEST_BYTES);
        let texts = ["a", "b", "c", &long, "d", &long, &long];
        let cut = requests(&texts, 2);
        assert_eq!(cut.iter().map(|texts| texts.len()).collect::<Vec<_>>(), [2, 1, 1, 1, 1, 1]);
        assert_eq!(cut.concat(), texts);
        assert!(requests(&[], 2).is_empty());
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn only_the_provider_s_message_is_shown() {
        assert_eq!(message(r#"{"error":{"message":"bad\nmodel","input":"secret"}}"#).as_deref(), Some("bad model"));
        assert_eq!(message("<html>secret</html>"), None);
=======
    fn requests_are_bounded_by_texts_and_by_bytes() {
        let texts = ["aa", "bb", "cccccccccc", "d", "e", "f"];
        assert_eq!(split(&texts, 2, 100), [&texts[..2], &texts[2..4], &texts[4..]]);
        assert_eq!(split(&texts, 100, 5), [&texts[..2], &texts[2..3], &texts[3..]]);
        assert!(split(&[], 2, 100).is_empty());
>>>>>>> 898c128 (Embed texts: feature hashing offline, or any OpenAI-compatible server)
    }
}
