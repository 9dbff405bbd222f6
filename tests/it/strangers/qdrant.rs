//! A Qdrant server of a stranger's, that answers what nobody asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pgstream_host::config::model::{Create, Distance, SinkBatch};
use pgstream_host::config::{Secret, Span};
use pgstream_host::error::{Error, Fault};
use pgstream_host::sink::qdrant::QdrantSettings;
use pgstream_host::sink::{Query, Searcher, SinkKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::wire::in_time;
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

/// Kind, flags and payload of a frame of HTTP/2.
type Frame<'f> = (u8, u8, &'f [u8]);

/// What it is, what is said first, what again and again, how much of that is taken at most, and what is made of it.
type Flood<'f> = (&'f str, &'f [Frame<'f>], &'f [Frame<'f>], u64, &'f str);

/// A server that speaks the least of HTTP/2: to whatever it is asked it answers with these frames, and then no more.
async fn speaking(frames: &[Frame<'_>]) -> String {
    flooding(frames, &[]).await.0
}

/// As `speaking`, but then it says `again` without end. Counts the bytes of that which were taken.
async fn flooding(frames: &[Frame<'_>], again: &[Frame<'_>]) -> (String, Arc<AtomicU64>) {
    let frame = |&(kind, flags, payload): &Frame<'_>| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        // Settings and pings are about the connection.
        let stream = if matches!(kind, 4 | 6) { [0; 4] } else { [0, 0, 0, 1] };
        [&length[1..], &[kind, flags], &stream, payload].concat()
    };
    let said: Vec<u8> = frames.iter().flat_map(frame).collect();
    let again: Vec<u8> = again.iter().flat_map(frame).collect();
    let again = again.repeat((64 << 10) / again.len().max(1));
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (said, again, count) = (said.clone(), again.clone(), Arc::clone(&count));
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
                while !again.is_empty() && near.write_all(&again).await.is_ok() {
                    count.fetch_add(again.len() as u64, Ordering::Relaxed);
                }
                while near.read(&mut heard).await.is_ok_and(|more| more > 0) {}
            });
        }
    });
    (url, taken)
}

const SETTINGS: Frame<'static> = (4, 0, &[]);

/// `:status: 200`, `content-type: application/grpc`.
const HEAD: Frame<'static> = (1, 4, b"\x88\x0f\x10\x10application/grpc");

async fn refused(settings: QdrantSettings) -> Error {
    in_time("to open", settings.open("documents", "out")).await.err().expect("it opened")
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

/// Floods that no limit of an answer's size ends, as each frame is small and in order.
#[tokio::test(flavor = "multi_thread")]
async fn frames_without_end_are_given_up_and_not_kept() {
    let header = [&[0u8, 4][..], b"name", &[127, 129, 63], &[b'x'; 8192]].concat();
    let begun: Frame<'_> = (1, 0, b"\x88\x0f\x10\x10application/grpc");
    let (told, text) = (b"\0\0\0\0\x0a".as_slice(), b"\x0a".as_slice());
    let floods: [Flood<'_>; 5] = [
        ("a head without end", &[SETTINGS, begun], &[(9, 0, &header)], 8 << 20, "h2 protocol error"),
        ("interim heads", &[SETTINGS], &[(1, 4, b"\x08\x03103")], u64::MAX, "no whole answer came within 1s"),
        ("empty pieces", &[SETTINGS, HEAD, (0, 0, told)], &[(0, 0, b"")], u64::MAX, "error reading a body"),
        (
            "pieces of a byte",
            &[SETTINGS, HEAD, (0, 0, b"\0\0\x40\0\0")],
            &[(0, 0, text)],
            u64::MAX,
            "error reading a body",
        ),
        ("pings", &[SETTINGS], &[(6, 0, b"12345678")], u64::MAX, "no whole answer came within 1s"),
    ];
    for (what, first, again, most, why) in floods {
        let (url, taken) = flooding(first, again).await;
        let error = refused(QdrantSettings { timeout: Span(Duration::from_secs(1)), ..settings(&url) }).await;
        assert!(error.report().contains(why), "{what}: {}", error.report());
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken <= most, "{what}: {taken} bytes were taken: {}", error.report());
    }
    // Packed answers were not asked for: what they would become nobody knows before.
    let packed = speaking(&[SETTINGS, HEAD, (0, 0, b"\x01\0\0\0\x04\x1f\x8b\x08\0")]).await;
    let error = refused(settings(&packed)).await;
    assert!(error.report().contains("ompress"), "{}", error.report());
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
    server.flood(1_000_000, 0, 0);
    let error = search().await.unwrap_err();
    assert!(error.report().contains("the answer holds more than the 3 entries asked for"), "{}", error.report());
    // As many within a point: two bytes each, as empty as can be.
    server.flood(1, 0, 1_000_000);
    let error = search().await.unwrap_err();
    let report = error.report();
    assert!(report.contains("the points of the answer hold more values than are read at once"), "{report}");
    server.flood(1, 0, 1_000);
    assert_eq!(search().await.unwrap().len(), 0, "a point without an id is none of ours");
    server.flood(1, 33 << 20, 0);
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
