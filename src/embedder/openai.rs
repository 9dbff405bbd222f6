//! `openai`: any endpoint that speaks OpenAI's `/embeddings`: OpenAI, Ollama, vLLM, TEI.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Embedder, Vectors};
use crate::config::Secret;
use crate::config::model::OpenAiEmbedder;
use crate::error::{Error, Fault, Result};

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

pub(super) struct OpenAi {
    name: String,
    endpoint: String,
    model: String,
    key: Option<Secret>,
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
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

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
        Ok(Self {
            name: name.to_owned(),
            endpoint: format!("{}/embeddings", settings.url.trim_end_matches('/')),
            model: settings.model.clone(),
            key: settings.api_key.clone(),
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
    }
}

#[async_trait]
impl Embedder for OpenAi {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
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
    }
}
