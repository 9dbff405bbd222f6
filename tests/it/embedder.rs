//! Embedders over real HTTP, against a server that behaves as badly as a test asks it to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use pgstream_host::command::{Action, Command, Embedding, Point};
use pgstream_host::config::{Secret, Span};
use pgstream_host::embedder::HashEmbedder;
use pgstream_host::embedder::OpenAiEmbedder;
use pgstream_host::embedder::{self, Embedder, Vectors};
use pgstream_host::error::{Code, Error, Fault, Result};
use pgstream_host::lsn::Position;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const KEY: &str = "sk-test-0123456789";

/// How a request is answered.
#[derive(Clone)]
enum Answer {
    /// As it should be: each vector is the text's length, then its first byte, then 1.
    Good,
    /// A status, further headers, and a body.
    Raw(&'static str, &'static str, String),
    /// The connection is closed in the middle of a good answer.
    CutOff,
    /// From then on as it should be, but for requests with a text that holds this.
    Refuse(&'static str),
    /// Nothing comes back until the client gives up.
    Never,
}

/// A server that answers with its script, then well.
pub(crate) struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    most_at_once: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Value,
}

impl Server {
    /// A server that answers all as it should.
    pub(crate) async fn good() -> Self {
        Self::start(Vec::new()).await
    }

    async fn start(script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (now, most_at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self { url, seen: Arc::clone(&seen), most_at_once: Arc::clone(&most_at_once) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                let (now, most) = (Arc::clone(&now), Arc::clone(&most_at_once));
                tokio::spawn(async move { serve(stream, &script, &seen, (&now, &most)).await });
            }
        });
        server
    }

    /// A server that refuses texts that hold `poison`, as one does whose model they are too long for.
    pub(crate) async fn refusing(poison: &'static str) -> Self {
        Self::start(vec![Answer::Refuse(poison)]).await
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many requests it was sent.
    pub(crate) fn requests(&self) -> usize {
        self.seen().len()
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    fn settings(&self) -> OpenAiEmbedder {
        OpenAiEmbedder {
            url: self.url.clone(),
            model: "test-model".to_owned(),
            api_key: Some(Secret::new(KEY)),
            dimension: None,
            max_texts: 128,
            concurrency: 4,
            timeout: Span(Duration::from_secs(60)),
            price: None,
        }
    }

    fn embedder(&self) -> Arc<dyn Embedder> {
        open(self.settings())
    }
}

fn open(settings: OpenAiEmbedder) -> Arc<dyn Embedder> {
    embedder::open("small", &settings).unwrap()
}

/// One request per connection, which is all that HTTP asks of a server.
async fn serve(
    mut stream: TcpStream,
    script: &Mutex<VecDeque<Answer>>,
    seen: &Mutex<Vec<Request>>,
    (now, most_at_once): (&AtomicUsize, &AtomicUsize),
) {
    let Some(request) = read(&mut stream).await else { return };
    most_at_once.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    tokio::task::yield_now().await; // lets another request in, if the client sends one
    now.fetch_sub(1, Ordering::SeqCst);
    seen.lock().unwrap().push(request.clone());
    let answer = {
        let mut script = script.lock().unwrap();
        let answer = script.pop_front().unwrap_or(Answer::Good);
        if let Answer::Refuse(_) = answer {
            script.push_front(answer.clone());
        }
        answer
    };
    let good = good(&request.body).to_string();
    let (status, headers, body) = match answer {
        Answer::Good => ("200 OK", "", good),
        Answer::Refuse(poison) if request.body["input"].to_string().contains(poison) => {
            ("400 Bad Request", "", refusal("maximum context length is 8192 tokens").to_string())
        }
        Answer::Refuse(_) => ("200 OK", "", good),
        Answer::Raw(status, headers, body) => (status, headers, body),
        Answer::CutOff => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", good.len());
            let _ = stream.write_all((head + &good[..good.len() / 2]).as_bytes()).await;
            return;
        }
        Answer::Never => {
            let _ = stream.read(&mut [0; 1]).await;
            return;
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
    let _ = stream.write_all((head + &body).as_bytes()).await;
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        if body.len() >= length {
            return Some(Request { head, body: serde_json::from_str(body).ok()? });
        }
    }
}

fn vector(text: &str) -> Vec<f32> {
    vec![text.len() as f32, f32::from(text.bytes().next().unwrap_or_default()), 1.0]
}

/// In reverse, as the protocol allows.
fn good(request: &Value) -> Value {
    let texts = request["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let data = texts.enumerate().map(|(index, text)| json!({ "index": index, "embedding": vector(text) }));
    json!({ "data": data.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>() })
}

fn raw(status: &'static str, body: Value) -> Answer {
    Answer::Raw(status, "", body.to_string())
}

fn refusal(message: &str) -> Value {
    json!({ "error": { "message": message } })
}

async fn fails(script: Vec<Answer>, texts: &[&str]) -> Error {
    let server = Server::start(script).await;
    let error = server.embedder().embed(texts).await.unwrap_err();
    let report = format!("{error:?}");
    assert!(report.contains("embedder `small`"), "{report}");
    assert!(!report.contains(KEY) && !report.contains("a row's value"), "{report}");
    error
}

#[tokio::test]
async fn many_texts_are_one_request_and_come_back_in_order() {
    let server = Server::good().await;
    let vectors = server.embedder().embed(&["b", "aaa", "cc"]).await.unwrap();
    assert_eq!(vectors.rows().collect::<Vec<_>>(), [&vector("b")[..], &vector("aaa"), &vector("cc")]);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].head.starts_with("post /v1/embeddings "), "{}", seen[0].head);
    assert!(seen[0].head.contains(&format!("authorization: bearer {KEY}")));
    assert_eq!(seen[0].body, json!({ "model": "test-model", "input": ["b", "aaa", "cc"], "encoding_format": "float" }));
}

#[tokio::test]
async fn what_is_too_much_for_one_request_becomes_several_at_once_but_not_too_many() {
    let server = Server::good().await;
    let embedder = open(OpenAiEmbedder { max_texts: 3, concurrency: 2, ..server.settings() });
    let texts: Vec<String> = (0..50).map(|number| format!("{}{number}", "x".repeat(number))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = embedder.embed(&texts).await.unwrap();
    assert!(vectors.rows().zip(&texts).all(|(row, text)| row == vector(text)));
    assert_eq!(server.seen().len(), 17);
    assert!(server.seen().iter().all(|request| request.body["input"].as_array().unwrap().len() <= 3));
    assert!(server.most_at_once.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let script = vec![
        Answer::Raw("429 Too Many Requests", "retry-after: 0\r\n", refusal("slow down").to_string()),
        raw("500 Internal Server Error", refusal("oops")),
        raw("503 Service Unavailable", Value::Null),
        Answer::CutOff,
        Answer::Raw("200 OK", "", "{\"data\": [".to_owned()),
    ];
    let server = Server::start(script).await;
    let vectors = server.embedder().embed(&["text"]).await.unwrap();
    assert_eq!(vectors.data, vector("text"));
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_asked_again() {
    let server = Server::start(vec![Answer::Never]).await;
    let embedder = open(OpenAiEmbedder { timeout: Span(Duration::from_millis(500)), ..server.settings() });
    assert_eq!(embedder.embed(&["text"]).await.unwrap().data, vector("text"));
}

#[tokio::test]
async fn a_server_that_asks_for_more_than_patience_is_left_to_the_pipeline() {
    for header in ["retry-after: 3600\r\n", "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n"] {
        let script =
            vec![Answer::Raw("429 Too Many Requests", header, refusal("a row's value is too much").to_string())];
        let error = fails(script, &["a row's value"]).await;
        assert_eq!(error.fault(), Fault::Transient, "{error:?}");
        assert!(error.pause() >= Some(Duration::from_secs(3600)), "{:?}", error.pause());
    }
}

#[tokio::test]
async fn what_does_not_pass_stops_at_once_and_says_what_to_do() {
    for (status, fault, help) in [
        ("400 Bad Request", Fault::Data, "smaller chunks"),
        ("401 Unauthorized", Fault::Config, "`api_key`"),
        ("403 Forbidden", Fault::Config, "`api_key`"),
        ("404 Not Found", Fault::Config, "`test-model`"),
        ("307 Temporary Redirect", Fault::Config, "`url` redirects"),
    ] {
        let body = refusal(&format!("no: {KEY} \u{1b}[31m"));
        let error = fails(vec![raw(status, body)], &["text"]).await;
        assert_eq!(error.fault(), fault, "{error:?}");
        assert!(error.advice().unwrap().contains(help), "{error:?}");
        assert!(error.report().contains("caused by: no: … [31m"), "{error:?}");
    }
    // Refused whatever the text is, as by a server that knows no `dimensions`.
    let bad = || raw("400 Bad Request", refusal("no"));
    assert_eq!(fails(vec![bad(), bad()], &["text"]).await.misdeed(), None);
    let quota = json!({ "error": { "message": "pay", "code": "insufficient_quota" } });
    let error = fails(vec![raw("429 Too Many Requests", quota)], &["text"]).await;
    assert_eq!(error.fault(), Fault::Environment, "{error:?}");
}

#[tokio::test]
async fn a_text_is_to_blame_only_if_others_are_taken() {
    let server = Server::refusing("too long").await;
    let embedder = server.embedder();
    let refused = async || embedder.embed(&["good", "too long"]).await.unwrap_err().misdeed();
    assert_eq!(refused().await, Some(Code::Text));
    assert_eq!(server.seen().len(), 2, "another text was tried");
    embedder.embed(&["good"]).await.unwrap();
    assert_eq!(refused().await, Some(Code::Text));
    assert_eq!(server.seen().len(), 4, "and need not be tried again");
}

#[tokio::test]
async fn answers_that_cannot_be_right_are_refused() {
    let answer = |data: Value| vec![raw("200 OK", json!({ "data": data }))];
    for (script, cause) in [
        (answer(json!([{ "embedding": [1] }])), "2 texts were sent and 1 vectors came back"),
        (answer(json!([{ "embedding": [1] }, { "embedding": [1, 2] }])), "vectors of 1 and of 2 numbers"),
        (answer(json!([{ "embedding": [1] }, { "embedding": [null] }])), "not finite"),
        (vec![Answer::Raw("200 OK", "", "<html>".to_owned()); 3], "not the JSON of embeddings"),
    ] {
        let error = fails(script, &["a row's value", "other"]).await;
        assert_eq!(error.fault(), Fault::Environment, "{error:?}");
        assert!(error.report().contains(cause), "{error:?}");
    }
}

#[tokio::test]
async fn the_length_of_vectors_is_that_asked_for_and_never_changes() {
    let server = Server::good().await;
    let error = open(OpenAiEmbedder { dimension: Some(8), ..server.settings() }).embed(&["a"]).await.unwrap_err();
    assert_eq!(server.seen()[0].body["dimensions"], 8);
    assert_eq!(error.to_string(), "model `test-model` gives vectors of 3 numbers, 8 were asked for");

    let one = json!({ "data": [{ "embedding": [1] }] });
    let server = Server::start(vec![Answer::Good, raw("200 OK", one)]).await;
    let embedder = server.embedder();
    embedder.embed(&["a"]).await.unwrap();
    let error = embedder.embed(&["b"]).await.unwrap_err();
    assert_eq!(error.to_string(), "model `test-model` gave vectors of 3 numbers before, and of 1 now");
}

#[tokio::test]
async fn empty_texts_get_a_vector_and_known_ones_are_not_paid_for_twice() {
    let server = Server::good().await;
    let embedder = server.embedder();
    assert_eq!(embedder.embed(&["", "a"]).await.unwrap().rows().len(), 2);
    assert_eq!(embedder.embed(&["a", ""]).await.unwrap().rows().next(), Some(&vector("a")[..]));
    let seen = server.seen();
    assert_eq!((seen.len(), &seen[0].body["input"]), (1, &json!([".", "a"])));
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_is_a_mistake_in_the_configuration() {
    let server = Server::good().await;
    let settings = OpenAiEmbedder { api_key: Some(Secret::new("secret\nkey")), ..server.settings() };
    let error = embedder::open("small", &settings).err().unwrap();
    assert_eq!(error.fault(), Fault::Config);
    assert!(!format!("{error:?}").contains("secret"));
}

/// Answers one number, and counts calls and texts.
struct Constant(f32, Arc<Mutex<Vec<usize>>>);

#[async_trait]
impl Embedder for Constant {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        self.1.lock().unwrap().push(texts.len());
        if texts.contains(&"fail") {
            return Err(Error::new(Fault::Transient, "as asked"));
        }
        Ok(Vectors { dimension: 2, data: texts.iter().flat_map(|text| [self.0, text.len() as f32]).collect() })
    }
}

fn point(id: &str, embeddings: &[(&str, Embedding)]) -> Point {
    let embeddings = embeddings.iter().map(|(name, embedding)| ((*name).to_owned(), embedding.clone())).collect();
    Point { id: id.to_owned(), embeddings, payload: "{}".to_owned() }
}

fn text(text: &str) -> Embedding {
    Embedding::Text(text.to_owned())
}

#[tokio::test]
async fn texts_become_vectors_by_the_embedder_of_their_vector_else_the_first() {
    let (first_calls, title_calls) = (Arc::default(), Arc::default());
    let embedders: IndexMap<String, Arc<dyn Embedder>> = IndexMap::from([
        ("first".to_owned(), Arc::new(Constant(1.0, Arc::clone(&first_calls))) as Arc<dyn Embedder>),
        ("title".to_owned(), Arc::new(Constant(2.0, Arc::clone(&title_calls)))),
    ]);
    let command = |action| Command { position: Position::default(), action };
    let given = Embedding::Dense(vec![9.0]);
    let replace = vec![point("b", &[("title", text("aaa")), ("body", text("aaa"))]), point("c", &[("", text("a"))])];
    let mut commands = [
        command(Action::Upsert(point("a", &[("", text("a")), ("given", given.clone())]))),
        command(Action::Delete { id: "x".to_owned() }),
        command(Action::Replace { group: "g".to_owned(), points: replace }),
    ];
    let mut failing = commands.clone();
    embedder::resolve(&mut commands, &embedders).await.unwrap();

    let dense = |values: [f32; 2]| Embedding::Dense(values.to_vec());
    assert_eq!(commands[0].points()[0], point("a", &[("", dense([1.0, 1.0])), ("given", given)]));
    let expected = [
        point("b", &[("title", dense([2.0, 3.0])), ("body", dense([1.0, 3.0]))]),
        point("c", &[("", dense([1.0, 1.0]))]),
    ];
    assert_eq!(commands[2].points(), expected);
    assert_eq!((first_calls.lock().unwrap().clone(), title_calls.lock().unwrap().clone()), (vec![2], vec![1]));

    failing[0].points_mut()[0].embeddings.push(("title".to_owned(), text("fail")));
    let before = failing.clone();
    embedder::resolve(&mut failing, &embedders).await.unwrap_err();
    assert_eq!(failing, before, "a batch that failed can be tried again");
}

#[tokio::test]
async fn text_without_an_embedder_says_what_to_add() {
    let action = Action::Upsert(point("a", &[("title", text("a row's value"))]));
    let mut commands = [Command { position: Position::default(), action }];
    let error = embedder::resolve(&mut commands, &IndexMap::new()).await.unwrap_err();
    assert_eq!(
        error.report(),
        "error: the handler answered text for vector `title`, and its transform has no embedder\n  \
         help: name one in the pipeline file:\n        \
         embedders:\n          offline: { type: hash, dimension: 384 }\n        \
         and in the transform: `embedders: [offline]`\n"
    );
    embedder::resolve(&mut [], &IndexMap::new()).await.unwrap();
}

#[tokio::test]
async fn the_hash_embedder_needs_nothing() {
    let hash = embedder::open("offline", &HashEmbedder { dimension: 16 }).unwrap();
    let vectors = hash.embed(&["one", "", "one"]).await.unwrap();
    let rows: Vec<_> = vectors.rows().collect();
    assert_eq!((rows.len(), vectors.dimension), (3, 16));
    assert!(rows[0] == rows[2] && rows[0] != rows[1]);
}
