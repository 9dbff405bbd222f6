//! Who is answered: names that a browser could be tricked with, pages of other sites, tokens, and requests that are too much.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use pgstream_host::api::{Api, Serving};
use pgstream_host::config::model;
use pgstream_host::error::Error;
use pgstream_host::host::{Host, Observer, Restart, Supervisor};
use pgstream_host::pipeline::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{get, own, raw};
use crate::support::program::{Folder, eventually};

pub(super) struct Silent;

impl Observer for Silent {
    fn opened(&self, _: Arc<Status>) -> Box<dyn Send> {
        Box::new(())
    }

    fn failed(&self, _: Option<&str>, _: &Error) {}
}

const READ: &str = "read-read-read-read-read-read-read-read";
const METRICS: &str = "metrics-metrics-metrics-metrics-metrics";

/// The API of a host without pipelines, in this process.
pub(crate) struct Rig {
    folder: Folder,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    serving: Serving,
}

impl Rig {
    async fn new() -> Self {
        Self::patient(Duration::from_millis(300)).await
    }

    /// One that waits so long for the head of a request.
    pub(crate) async fn patient(head_time: Duration) -> Self {
        let folder = Folder::new();
        let token = |name: &str, text: &str, right| {
            let file = folder.write(name, text);
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            model::ApiToken { name: name.to_owned(), file, may: vec![right], tenant: None }
        };
        let settings = model::Api {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            socket: Some(folder.path("own.sock")),
            tokens: vec![
                token("read", READ, model::ApiRight::Read),
                token("metrics", METRICS, model::ApiRight::Metrics),
            ],
            hosts: vec!["pgstream.internal".to_owned()],
            detail: None,
        };
        let (host, stop) = (Host::new().unwrap(), CancellationToken::new());
        let supervisor = Supervisor::new(host.clone(), Restart::Always, stop.clone(), Arc::new(Silent));
        let api = Api::open(&settings, host, supervisor, stop.clone()).await.unwrap();
        let api = api.head_time(head_time);
        let address = api.address().unwrap();
        Self { folder, address, stop, serving: api.serve() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_tokens_and_pages_of_other_sites_are_told_apart() {
    let rig = Rig::new().await;
    let at = rig.address;
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (path, headers, status) in [
        ("/health", String::new(), 200),
        ("/ready", String::new(), 200),
        ("/metrics", String::new(), 200),
        ("/health", "Host: localhost:1\r\n".into(), 200),
        ("/health", "Host: Pgstream.Internal\r\n".into(), 200),
        // A page whose name was made to lead here.
        ("/health", "Host: evil.example\r\n".into(), 421),
        ("/metrics", "Host: evil.example\r\n".into(), 421),
        ("/api/v1/status", format!("Host: evil.example\r\n{}", bearer(READ)), 421),
        ("/health", "Host: 0.0.0.0\r\n".into(), 421),
        ("/health", "Host: 10.1.2.3\r\n".into(), 421),
        ("/health", "Host: localhost\r\nHost: evil.example\r\n".into(), 421),
        // A page of another site that asks the address itself.
        ("/metrics", "Sec-Fetch-Site: cross-site\r\n".into(), 403),
        ("/api/v1/status", format!("Sec-Fetch-Site: same-site\r\n{}", bearer(READ)), 403),
        ("/api/v1/status", String::new(), 401),
        ("/api/v1/status", bearer("wrong-wrong-wrong-wrong-wrong-wrong"), 401),
        ("/api/v1/status", format!("Authorization: Basic {READ}\r\n"), 401),
        ("/api/v1/status", format!("{}{}", bearer(READ), bearer(METRICS)), 401),
        ("/api/v1/status", bearer(METRICS), 403),
        ("/api/v1/status", bearer(READ), 200),
        ("/api/v1/pipelines/none", bearer(READ), 404),
        ("/api/v1/pipelines/none", String::new(), 401),
        ("/metrics", bearer(METRICS), 200),
        ("/metrics?detail=tenant", bearer(METRICS), 200),
        ("/metrics?detail=all", bearer(METRICS), 400),
        ("/metrics?token=x", bearer(METRICS), 400),
        ("/", String::new(), 200),
        ("/ui/app.js", String::new(), 200),
        ("/", "Host: evil.example\r\n".into(), 421),
        ("/ui", String::new(), 404),
        ("/../../etc/passwd", String::new(), 404),
    ] {
        let answer = get(at, path, &headers).await;
        assert_eq!(answer.status, status, "{path} {headers}: {}", answer.body);
        let head = &answer.head;
        assert!(head.contains("cache-control: no-store") && head.contains("nosniff"), "{path}: {head}");
        assert!(!head.contains("access-control") && !head.contains("set-cookie"), "{path}: {head}");
        assert!(!answer.body.contains(READ) && !answer.body.contains("evil.example"), "{path}: {}", answer.body);
        if status >= 400 {
            let error = &answer.json()["error"];
            assert!(error["message"].is_string() && error["help"].is_string() && error["code"].is_string(), "{error}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let request =
            format!("{method} /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n", bearer(READ));
        assert_eq!(raw(at, request.as_bytes()).await.status, 405, "{method}");
    }
    let answer = own(&rig.folder.path("own.sock"), "/api/v1/status").await;
    assert_eq!(
        (answer.status, answer.json()["pipelines"].clone()),
        (200, serde_json::json!([])),
        "its own user needs no token"
    );
    rig.stop.cancel();
    assert_eq!(get(at, "/ready", "").await.status, 503, "a host that is to end");
    assert_eq!(get(at, "/health", "").await.status, 200, "is alive until then");
    rig.serving.close().await;
    assert!(TcpStream::connect(at).await.is_err() && !rig.folder.path("own.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_much_are_cut_off_and_hold_nobody_up() {
    let rig = Rig::new().await;
    let at = rig.address;
    let long = "x".repeat(40 << 10);
    for (what, request) in [
        ("a long path", format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("a long header", format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n")),
        ("many headers", format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200))),
        ("no HTTP at all", "\0\u{1}\u{2}hello\r\n\r\n".to_owned()),
        ("no host", "GET /health HTTP/1.1\r\n\r\n".to_owned()),
    ] {
        let answer = raw(at, request.as_bytes()).await;
        assert!(!(200..300).contains(&answer.status), "{what}: {}", answer.status);
    }
    let body =
        format!("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", 1 << 20);
    assert_eq!(raw(at, body.as_bytes()).await.status, 413);

    // Heads that never end, of as many as there are places, and of more.
    let mut slow = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: loc").await;
        slow.push(stream);
    }
    eventually("there is room again", async || get(at, "/health", "").await.status == 200).await;
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await; // returns, as the other end hangs up
        assert!(!String::from_utf8_lossy(&rest).contains("200"));
    }

    // One that is open and idle keeps nothing from its end.
    let idle = TcpStream::connect(at).await.unwrap();
    let close = tokio::time::timeout(Duration::from_secs(30), rig.serving.close());
    assert!(close.await.is_ok());
    drop(idle);
}
