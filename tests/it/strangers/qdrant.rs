//! A Qdrant server of a stranger's, that answers what nobody asked for.

use std::time::Duration;

use pgstream_host::config::model::{Create, Distance, SinkBatch};
use pgstream_host::config::{Secret, Span};
use pgstream_host::error::{Error, Fault};
use pgstream_host::sink::qdrant::QdrantSettings;
use pgstream_host::sink::{Query, Searcher, SinkKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::qdrant_server::QdrantServer;

fn settings(url: &str) -> QdrantSettings {
    QdrantSettings {
        inputs: Vec::new(),
        url: url.to_owned(),
        api_key: None,
        collection: "docs".to_owned(),
        create: Some(Create {
            dimension: Some(2),
            distance: Distance::Dot,
            vectors: Default::default(),
            sparse: Vec::new(),
        }),
        timeout: Span(Duration::from_secs(30)),
        batch: SinkBatch::default(),
    }
}

/// A server that speaks the least of HTTP/2: to whatever it is asked it answers with these frames, and then no more.
async fn speaking(frames: &[(u8, u8, &[u8])]) -> String {
    let frame = |&(kind, flags, payload): &(u8, u8, &[u8])| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let stream = if kind == 4 { [0; 4] } else { [0, 0, 0, 1] };
        [&length[1..], &[kind, flags], &stream, payload].concat()
    };
    let said: Vec<u8> = frames.iter().flat_map(frame).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let said = said.clone();
            tokio::spawn(async move {
                // The preface, the settings, and a first request.
                let mut heard = vec![0; 64 << 10];
                let mut length = 0;
                while !heard[..length].windows(4).any(|bytes| bytes == b"grpc" || bytes == [1, 4, 0, 0]) {
                    match near.read(&mut heard[length..]).await {
                        Ok(more) if more > 0 => length += more,
                        _ => return,
                    }
                }
                let _ = near.write_all(&said).await;
                while near.read(&mut heard).await.is_ok_and(|more| more > 0) {}
            });
        }
    });
    url
}

const SETTINGS: (u8, u8, &[u8]) = (4, 0, &[]);

/// `:status: 200`, `content-type: application/grpc`.
const HEAD: (u8, u8, &[u8]) = (1, 4, b"\x88\x0f\x10\x10application/grpc");

async fn refused(settings: QdrantSettings) -> Error {
    settings.open("documents", "out").await.err().expect("it opened")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_claims_gigabytes_or_never_ends_is_given_up() {
    let claims = speaking(&[SETTINGS, HEAD, (0, 0, b"\0\xff\xff\xff\xff")]).await;
    let error = refused(settings(&claims)).await;
    assert!(error.report().contains("is too large to be read"), "{}", error.report());
    let begins = speaking(&[SETTINGS, HEAD, (0, 0, b"\0\0\0\x10\0some")]).await;
    let error = refused(QdrantSettings { timeout: Span(Duration::from_millis(300)), ..settings(&begins) }).await;
    assert!(error.report().contains("no whole answer came within 300ms"), "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_more_than_was_asked_for_is_not_read() {
    let server = QdrantServer::start(None);
    let settings = settings(&server.url());
    settings.open("documents", "out").await.unwrap();
    let search = async || {
        let query = Query { vector: "", values: &[1.0, 0.0], limit: 3 };
        settings.search(&query).await
    };
    assert_eq!(search().await.unwrap().len(), 0);
    // Each is two bytes on the wire, and hundreds in memory.
    server.flood(1_000_000, 0);
    let error = search().await.unwrap_err();
    assert!(error.report().contains("the answer holds more than the 3 entries asked for"), "{}", error.report());
    server.flood(1, 33 << 20);
    let error = search().await.unwrap_err();
    assert_eq!(error.fault(), Fault::Environment);
    assert!(error.report().contains("is too large to be read"), "{}", error.report());
}

#[tokio::test]
async fn a_key_that_is_no_header_is_refused_and_not_repeated() {
    let api_key = Some(Secret::new("swordfish\n"));
    let error = refused(QdrantSettings { api_key, ..settings("http://127.0.0.1:1") }).await;
    assert_eq!(error.fault(), Fault::Config);
    assert!(!format!("{error:?}").contains("swordfish"), "{error:?}");
}
