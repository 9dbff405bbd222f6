//! The embedder `openai` against a real HTTP server that answers what the test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgstream_host::config::model::{Embedder as Settings, OpenAiEmbedder};
use pgstream_host::config::{Secret, Span};
use pgstream_host::embedder::{self, Embedder, Vectors};
use pgstream_host::error::Fault;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn one_request_carries_many_texts_and_the_key() {
    let provider = Provider::start([]).await;
    let vectors = provider.embedder(10, None).embed(&["a", "bb", ""]).await.unwrap();
    assert_eq!(vectors, Vectors { dimension: 2, data: vec![1.0, 0.5, 2.0, 0.5, 1.0, 0.5] });
    let [(head, body)] = provider.requests().try_into().unwrap();
    assert!(head.starts_with("POST /v1/embeddings HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer sk-secret"), "{head}");
    assert_eq!(body, json!({ "model": "m", "input": ["a", "bb", " "], "encoding_format": "float" }));
}

#[tokio::test]
async fn many_requests_keep_the_order_of_the_texts() {
    let provider = Provider::start([]).await;
    let texts: Vec<String> = (1..=25).map(|n| "x".repeat(n)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = provider.embedder(2, None).embed(&texts).await.unwrap();
    let lengths: Vec<f32> = vectors.rows().map(|row| row[0]).collect();
    assert_eq!(lengths, (1..=25).map(|n| n as f32).collect::<Vec<_>>());
    assert_eq!(provider.requests().len(), 13);
}

#[tokio::test]
async fn rows_that_come_in_another_order_are_sorted_and_an_index_may_be_missing() {
    let shuffled = json!({ "data": [{ "index": 1, "embedding": [2.0] }, { "index": 0, "embedding": [1.0] }] });
    let plain = json!({ "data": [{ "embedding": [3.0] }, { "embedding": [4.0] }] });
    let provider = Provider::start([ok(&shuffled), ok(&plain)]).await;
    let embedder = provider.embedder(10, None);
    assert_eq!(embedder.embed(&["a", "b"]).await.unwrap().data, [1.0, 2.0]);
    assert_eq!(embedder.embed(&["a", "b"]).await.unwrap().data, [3.0, 4.0]);
}

#[tokio::test]
async fn what_may_pass_is_asked_again() {
    let short = json!({ "data": [] });
    let provider = Provider::start([
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n".into(),
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".into(),
        ok(&short),
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\nconnection: close\r\n\r\n{\"data\": [".into(),
        ok(&json!({ "data": [{ "index": 0, "embedding": ["not a number"] }] })),
    ])
    .await;
    let vectors = provider.embedder(10, None).embed(&["abc"]).await.unwrap();
    assert_eq!(vectors.data, [3.0, 0.5]);
    assert_eq!(provider.requests().len(), 6);
}

#[tokio::test]
async fn what_will_not_pass_is_said_at_once_without_key_or_text() {
    let refusals = [
        (401, Fault::Config, "api_key"),
        (404, Fault::Config, "has the model `m`"),
        (400, Fault::Data, "smaller chunks"),
    ];
    for (status, fault, help) in refusals {
        let body = json!({ "error": { "message": "no such thing" } }).to_string();
        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let provider = Provider::start([answer]).await;
        let error = provider.embedder(10, None).embed(&["private text"]).await.unwrap_err();
        let report = error.report();
        assert_eq!(error.fault(), fault, "{report}");
        assert!(report.contains("embedder `small` refused") && report.contains("caused by: no such thing"), "{report}");
        assert!(report.contains(help), "{report}");
        assert!(!report.contains("sk-secret") && !report.contains("private text"), "{report}");
        assert_eq!(provider.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_model_that_ignores_the_dimension_is_found_out() {
    let provider = Provider::start([]).await;
    let error = provider.embedder(10, Some(384)).embed(&["a"]).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Config);
    assert_eq!(error.to_string(), "embedder `small` answered vectors of length 2, not 384");
    assert!(error.advice().unwrap().contains("`dimension: 2`"));
}

/// A full HTTP answer with `body`.
fn ok(body: &Json) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// An embeddings server on a loopback port. It gives the answers that it was told to give, then proper ones: for
/// each text its length and one half.
struct Provider {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<String>,
    requests: Vec<(String, Json)>,
}

impl Provider {
    async fn start(answers: impl IntoIterator<Item = String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { answers: answers.into_iter().collect(), requests: Vec::new() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }

    fn embedder(&self, max_texts: usize, dimension: Option<usize>) -> Arc<dyn Embedder> {
        let settings = OpenAiEmbedder {
            url: self.url.clone(),
            model: "m".into(),
            api_key: Some(Secret::new("sk-secret")),
            dimension,
            max_texts,
            concurrency: 3,
            timeout: Span(Duration::from_secs(30)),
        };
        embedder::open("small", &Settings::OpenAi(settings)).unwrap()
    }

    fn requests(&self) -> Vec<(String, Json)> {
        self.state.lock().unwrap().requests.clone()
    }
}

async fn serve(socket: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            socket.read_line(&mut head).await.ok().filter(|read| *read > 0)?;
            let line = head[start..].trim().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.ok()?;
        let body: Json = serde_json::from_slice(&body).unwrap();
        let answer = {
            let mut state = state.lock().unwrap();
            let texts = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().len());
            let rows = texts.enumerate().map(|(index, length)| json!({ "index": index, "embedding": [length, 0.5] }));
            let proper = ok(&json!({ "data": rows.collect::<Vec<_>>() }));
            state.requests.push((head, body));
            state.answers.pop_front().unwrap_or(proper)
        };
        socket.write_all(answer.as_bytes()).await.ok()?;
        if answer.contains("connection: close") {
            return None;
        }
    }
}
