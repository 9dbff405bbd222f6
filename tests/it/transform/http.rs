//! Handlers that may send HTTP requests: to the hosts that are granted, as the grant says, and to nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgstream_host::command::Action;
use pgstream_host::config::model::HttpHost;
use pgstream_host::config::{Secret, Size, Span};
use pgstream_host::error::{Error, Fault};
use pgstream_host::transform::WasmTransform;
use pgstream_host::transform::{Allowance, Tenant, Transform};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::sandbox::Log;
use super::soon;
use crate::guests::{Embedders, engine, guest, load, settings, words};
use crate::support::program::eventually;

const SECRET: &str = "s3cret-of-the-host";

/// Part of a cookie of the host's.
const SESSION: &str = "abcd1234";

#[test]
fn without_a_grant_it_is_refused_with_the_key_to_add() {
    let Some(file) = guest("fetch") else { return };
    let error = load(&settings(&file), Embedders::new()).err().expect("it was loaded");
    assert_eq!(error.fault(), Fault::Config);
    let report = error.report();
    assert!(report.contains("it imports `wasi:http/"), "{report}");
    assert!(report.contains("which transform `embed` does not grant"), "{report}");
    assert!(report.contains("`transforms.embed.allow: { http: [api.example.com] }`"), "{report}");
}

#[tokio::test]
async fn a_granted_host_is_asked_and_its_answer_arrives() {
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    let answer = ask(&fetch, &server, json!({ "path": "/echo?a=b%20c", "headers": [["x-mine", "yes"]] })).await;
    assert_eq!((&answer["status"], &answer["error"], &answer["broken"]), (&json!(200), &Json::Null, &Json::Null));
    let body = answer["body"].as_str().unwrap();
    assert!(body.starts_with("GET /echo?a=b%20c HTTP/1.1\r\n"), "{body}");
    assert!(body.contains("x-mine: yes\r\n") && body.contains(&format!("host: {}\r\n", server.address)), "{body}");
    assert!(body.contains("user-agent: pgstream-host/"), "{body}");

    let order = json!({ "method": "POST", "path": "/echo", "body": "0123456789", "times": 1000 });
    let answer = ask(&fetch, &server, order).await;
    assert_eq!(answer["status"], 200, "{answer}");
    let seen = server.last();
    assert!(seen.contains("content-length: 10000\r\n") && !seen.contains("transfer-encoding"), "{seen}");
    assert!(seen.ends_with(&"0123456789".repeat(1000)));
}

#[tokio::test]
async fn credentials_are_added_behind_the_guest_and_never_shown_to_it() {
    let log = Log::default();
    let _guard = log.listen();
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    // The guest itself compares the headers of its request before and after.
    let order = json!({ "path": "/give-away", "headers": [["authorization", "mine"], ["authorization", "too"]] });
    let answer = ask(&fetch, &server, order).await;
    assert_eq!(answer["status"], 200, "{answer}");
    let seen = server.last();
    assert!(seen.contains(&format!("authorization: Bearer {SECRET}\r\n")), "{seen}");
    assert!(!seen.contains("mine") && !seen.contains("too"), "{seen}");
    let headers = answer["headers"].to_string();
    assert!(headers.contains("x-harmless") && !headers.contains(SECRET) && !headers.contains("x-told"), "{headers}");
    assert!(seen.contains("cookie: theme=dark; session=abcd1234\r\n") && !headers.contains(SESSION), "{headers}");

    for path in ["/close", "/nonsense", "/drip"] {
        let answer = ask(&fetch, &server, json!({ "path": path, "options": { "between": 50 } })).await;
        assert!(answer["error"].is_string() || answer["broken"].is_string(), "{path}: {answer}");
        assert!(!answer.to_string().contains(SECRET), "{path}: {answer}");
    }
    let error = fail(&fetch, &server, json!({ "do": "stop", "path": "/nonsense" })).await;
    assert!(!error.report().contains(SECRET) && !log.text().contains(SECRET), "{}", log.text());
    assert!(!format!("{:?}", granted(&server)).contains(SECRET));
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_said_aloud() {
    let log = Log::default();
    let _guard = log.listen();
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    let port = server.address.port();
    let at = |host: &str| format!("{host}:{port}");
    for (scheme, authority, code) in [
        ("http", "evil.example".to_owned(), "HttpRequestDenied"),
        ("http", at("evil.example"), "HttpRequestDenied"),
        ("https", at("127.0.0.1"), "HttpRequestDenied"), // granted as http
        ("http", "127.0.0.1".to_owned(), "HttpRequestDenied"), // and with its port
        ("http", at("localhost"), "HttpRequestDenied"),
        ("http", at("2130706433"), "HttpRequestUriInvalid"),
        ("http", at("0x7f.0.0.1"), "HttpRequestUriInvalid"),
        ("http", at("0177.0.0.1"), "HttpRequestUriInvalid"),
        ("http", at("127.1"), "HttpRequestUriInvalid"),
        ("http", at("127.0.0.1."), "HttpRequestUriInvalid"),
        ("http", at("[::ffff:127.0.0.1]"), "HttpRequestDenied"),
        ("http", at("[::1]"), "HttpRequestDenied"),
        ("http", format!("user@127.0.0.1:{port}"), "HttpRequestUriInvalid"),
        ("http", format!("127.0.0.1:{port}@evil.example"), "HttpRequestUriInvalid"),
        ("http", format!("evil.example@127.0.0.1:{port}"), "HttpRequestUriInvalid"),
        ("ftp", at("127.0.0.1"), "HttpProtocolError"),
    ] {
        let order = json!({ "scheme": scheme, "authority": authority, "path": "/row-value" });
        let answer = tell(&fetch, order).await;
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{scheme} {authority}: {answer}"));
        let early = error.contains("\"authority\"") || error.contains("\"scheme\""); // the library of types knew better
        assert!(error.contains(code) || early, "{scheme} {authority}: {error}");
    }
    assert_eq!(server.count(), 0, "{:?}", server.seen.lock().unwrap());
    let text = log.text();
    for line in [
        "refused: the handler may not send requests to `http://evil.example` handler=\"embed\"",
        &format!("refused: the handler may not send requests to `https://127.0.0.1:{port}`"),
        "refused: a request's host was given with a user",
        &format!("refused: `2130706433:{port}` is no host that a request could be sent to"),
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("row-value"), "{text}");
}

#[tokio::test]
async fn a_name_that_leads_into_a_private_network_is_not_dialled() {
    let log = Log::default();
    let _guard = log.listen();
    let server = Server::start().await;
    let origin = format!("http://localhost:{}", server.address.port());
    let host = |private: &[&str]| HttpHost {
        host: origin.parse().unwrap(),
        headers: Default::default(),
        private: private.iter().map(|network| network.parse().unwrap()).collect(),
    };
    let order =
        json!({ "scheme": "http", "authority": format!("localhost:{}", server.address.port()), "path": "/echo" });
    for private in [&[][..], &["10.0.0.0/8", "169.254.169.254"]] {
        let Some(fetch) = fetch(&server, |settings| settings.allow.http = vec![host(private)]) else { return };
        let answer = tell(&fetch, order.clone()).await;
        assert_eq!(answer["error"], "ErrorCode::DestinationIpProhibited", "{answer}");
    }
    assert_eq!(server.count(), 0);
    let text = log.text();
    assert!(
        text.contains(&format!("refused: `{origin}` is at ")) && text.contains(", this machine, which was not named"),
        "{text}"
    );

    let named = host(&["127.0.0.1", "::1"]);
    let fetch = fetch(&server, |settings| settings.allow.http = vec![named]).unwrap();
    assert_eq!(tell(&fetch, order).await["status"], 200);
}

#[tokio::test]
async fn a_private_address_must_be_named_to_be_granted_at_all() {
    let Some(file) = guest("fetch") else { return };
    for (origin, why) in [
        ("http://127.0.0.1:8080", "this machine"),
        ("http://169.254.169.254", "the local link, where clouds keep their credentials"),
        ("[::ffff:10.0.0.1]", "a private network"),
        ("[fd00::1]", "a private network"),
    ] {
        let mut settings = settings(&file);
        let (headers, private) = Default::default();
        settings.allow.http = vec![HttpHost { host: origin.parse().unwrap(), headers, private }];
        let error = load(&settings, Embedders::new()).err().expect("it was loaded");
        assert_eq!(error.fault(), Fault::Config);
        let report = error.report();
        assert!(report.contains(why) && report.contains("private: [\""), "{report}");
        assert!(report.contains("where: `transforms.embed.allow.http`"), "{report}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_an_order() {
    let (server, other) = (Server::start().await, Server::start().await);
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    for status in [301, 302, 307, 308] {
        let path = format!("/redirect?{status}&http://{}/echo", other.address);
        let answer = ask(&fetch, &server, json!({ "path": path })).await;
        assert_eq!(answer["status"], status);
        assert!(answer["headers"].to_string().contains(&format!("http://{}/echo", other.address)), "{answer}");
    }
    assert_eq!((server.count(), other.count()), (4, 0));
}

#[tokio::test]
async fn tricks_with_the_request_are_refused() {
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    for name in [
        "host",
        "Host",
        "connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "x-forwarded-for",
        "forwarded",
        "http2-settings",
    ] {
        let answer = ask(&fetch, &server, json!({ "headers": [[name, "evil.example"]] })).await;
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{name}: {answer}"));
        assert!(error.contains("HeaderError::Forbidden"), "{name}: {error}");
    }
    for field in [
        ["x-a", "1\r\nhost: evil.example"],
        ["x-a", "1\n2"],
        ["x-a\r\nhost", "1"],
        ["x a", "1"],
        ["", "1"],
        ["x:", "1"],
        ["x-a", "\0"],
    ] {
        let answer = ask(&fetch, &server, json!({ "headers": [field] })).await;
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{field:?}: {answer}"));
        assert!(error.contains("HeaderError::InvalidSyntax"), "{field:?}: {error}");
    }
    for path in
        ["http://evil.example/", "//evil.example\r\n", "evil", "*", "/a b", "/\r\nhost: evil.example", "@evil.example"]
    {
        let answer = ask(&fetch, &server, json!({ "path": path })).await;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains("\"path\"")), "{path:?}: {answer}");
    }
    for (order, code) in [
        (json!({ "method": "CONNECT" }), "HttpRequestMethodInvalid"),
        (json!({ "method": "TRACE" }), "HttpRequestMethodInvalid"),
        (json!({ "method": "GET /\r\n" }), "\"method\""),
        (json!({ "method": "POST", "body": "ab", "headers": [["content-length", "1"]] }), "HttpRequestBodySize"),
        (json!({ "method": "POST", "body": "ab", "headers": [["content-length", "3"]] }), "HttpRequestBodySize"),
        (json!({ "method": "POST", "body": "ab", "headers": [["content-length", "+2"]] }), ""),
        (json!({ "headers": [["content-length", "1"], ["content-length", "2"]] }), "HeaderError"),
        (json!({ "headers": [["content-length", "5"]] }), "HttpRequestBodySize"),
        (json!({ "method": "POST", "body": "ab", "trailers": "t" }), "HttpRequestTrailerSectionSize"),
        (json!({ "method": "POST", "body": "ab", "unfinished": true }), "HttpProtocolError"),
    ] {
        let answer = ask(&fetch, &server, order.clone()).await;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(code)), "{order}: {answer}");
    }
    assert_eq!(server.count(), 0, "{:?}", server.seen.lock().unwrap());

    // Harmless once the host is fixed: it stays a path.
    let answer = ask(&fetch, &server, json!({ "path": "//evil.example/../@x" })).await;
    assert_eq!(answer["status"], 404, "{answer}");
    assert!(server.last().contains(&format!("host: {}\r\n", server.address)), "{}", server.last());
}

#[tokio::test]
async fn each_limit_ends_the_request_and_names_its_key() {
    let log = Log::default();
    let _guard = log.listen();
    let server = Server::start().await;
    let limited = |change: fn(&mut WasmTransform)| fetch(&server, change);
    let Some(few) = limited(|settings| settings.limits.http.requests = 3) else { return };
    for _ in 0..2 {
        let answer = ask(&few, &server, json!({ "do": "many", "times": 5, "path": "/echo" })).await;
        let denied = "ErrorCode::HttpRequestDenied";
        assert_eq!(answer["errors"], json!([null, null, null, denied, denied]), "each call has its own");
    }
    assert_eq!(server.count(), 6);

    let sent = limited(|settings| settings.limits.http.sent = Size(10_000)).unwrap();
    let order = json!({ "method": "POST", "path": "/echo", "body": "0123456789", "times": 1000 });
    let answer = ask(&sent, &server, order).await;
    assert!(
        answer["error"].as_str().is_some_and(|error| error.contains("HttpRequestBodySize(Some(10000))")),
        "{answer}"
    );
    let answer = ask(&sent, &server, json!({ "path": "/echo", "headers": [["x-long", "x".repeat(9990)]] })).await;
    assert!(
        answer["error"].as_str().is_some_and(|error| error.contains("HttpRequestBodySize(Some(10000))")),
        "{answer}"
    );
    assert_eq!(server.count(), 6, "neither was sent");

    let received = limited(|settings| settings.limits.http.received = Size(100_000)).unwrap();
    for (path, whole) in [("/big?90000", true), ("/big?100000", false), ("/endless", false)] {
        let answer = ask(&received, &server, json!({ "path": path })).await;
        assert_eq!(answer["broken"].is_null(), whole, "{path}: {answer}");
        assert!(answer["length"].as_u64().is_some_and(|length| length <= 100_000), "{path}: {answer}");
        assert!(whole || answer["broken"].as_str().unwrap().contains("size exceeds limit: 100000 bytes"), "{answer}");
    }
    let text = log.text();
    for line in [
        "a call may send 3 requests",
        "the requests of a call may have 10000 bytes",
        "the answers of a call may have 100000 bytes",
    ] {
        assert!(text.contains(&format!("refused: {line}")), "{text}");
    }
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_as_long_as_the_limits_say_and_is_no_computing() {
    let server = Server::start().await;
    let ms = |millis| Span(Duration::from_millis(millis));
    let Some(patient) = fetch(&server, |settings| {
        settings.limits.deadline = ms(150);
        endless(settings);
    }) else {
        return;
    };
    let answer = ask(&patient, &server, json!({ "path": "/after?400" })).await;
    assert_eq!(answer["status"], 200, "{answer}");

    let hasty = fetch(&server, |settings| settings.limits.http.timeout = ms(50)).unwrap();
    for (path, code) in [("/never", "HttpResponseTimeout"), ("/drip", "connection read timeout")] {
        let answer = ask(&hasty, &server, json!({ "path": path })).await;
        let met = [&answer["error"], &answer["broken"]].map(|met| met.as_str().unwrap_or_default()).concat();
        assert!(met.contains(code), "{path}: {answer}");
    }
    for (path, options) in [("/never", json!({ "first": 50, "connect": 50 })), ("/drip", json!({ "between": 50 }))] {
        // The guest's own patience counts, if it is less.
        let answer = soon(ask(&patient, &server, json!({ "path": path, "options": options }))).await;
        assert!(answer["error"].is_string() || answer["broken"].is_string(), "{path}: {answer}");
    }

    let impatient = fetch(&server, |settings| {
        endless(settings);
        settings.limits.http.wait = ms(100);
    })
    .unwrap();
    for order in [
        json!({ "path": "/never" }),
        json!({ "path": "/drip" }),
        json!({ "do": "stuff" }),
        json!({ "do": "sleep", "millis": 3_600_000 }),
        json!({ "do": "many", "times": 100, "path": "/after?20" }),
    ] {
        let report = soon(fail(&impatient, &server, order.clone())).await.report();
        assert!(
            report.starts_with("error: handler `embed` waited too long\n  caused by: it waited 100 ms"),
            "{order}: {report}"
        );
        assert!(report.contains("Raise `transforms.embed.limits.http.wait`"), "{report}");
    }
    assert_eq!(ask(&impatient, &server, json!({ "path": "/echo" })).await["status"], 200, "the next call is well");
}

#[tokio::test]
async fn a_poll_blocks_until_the_first_is_ready() {
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    let order = |path: &str, millis: u32| json!({ "do": "race", "path": path, "millis": millis });
    assert_eq!(ask(&fetch, &server, order("/never", 50)).await["ready"], json!([1]));
    assert_eq!(ask(&fetch, &server, order("/echo", 3_600_000)).await["ready"], json!([0]));
    let slept = ask(&fetch, &server, json!({ "do": "sleep", "millis": 50 })).await;
    assert!(slept["slept"].as_u64().is_some_and(|slept| (49..10_000).contains(&slept)), "{slept}");
}

#[tokio::test]
async fn what_was_begun_ends_with_its_call() {
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    let begun = ask(&fetch, &server, json!({ "do": "begin", "path": "/never" })).await;
    assert_eq!(begun, json!({}));
    let answer = ask(&fetch, &server, json!({ "do": "end" })).await;
    assert_eq!(answer["error"], "ErrorCode::ConnectionTerminated", "{answer}");
}

#[tokio::test]
async fn requests_of_a_tenant_have_so_many_sockets_and_the_others_wait() {
    let server = Server::start().await;
    let Some(file) = guest("fetch") else { return };
    let mut settings = settings(&file);
    settings.allow.http = vec![granted(&server)];
    endless(&mut settings);
    let tenant = Tenant::new(engine(), "acme", &Allowance { requests: 4, ..Allowance::default() });
    let load = || Transform::load(&tenant, engine(), "embed", &settings, Embedders::new()).unwrap();
    let (fetch, other) = (load(), load());
    let begin = server.order(json!({ "do": "begin", "times": 50, "path": "/never" })).to_string();
    let sleep = json!({ "do": "sleep", "millis": 3_600_000 }).to_string();
    tokio::select! {
        _ = fetch.apply(words(&[&begin, &sleep])) => panic!("it ended by itself"),
        () = eventually("as many as may are under way", async || server.count() == 4) => {}
    }
    // With the call its requests end, and so do those that had to wait.
    assert_eq!(soon(ask(&other, &server, json!({ "path": "/echo" }))).await["status"], 200);
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_lets_go_of_its_connection_with_the_call() {
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, endless) else { return };
    assert_eq!(ask(&fetch, &server, json!({ "do": "keep", "path": "/drip" })).await, json!({}));
    eventually("the connection is closed", async || *server.hung_up.lock().unwrap() == ["/drip"]).await;
}

#[tokio::test]
async fn a_dropped_call_ends_its_waiting_and_its_connection() {
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, endless) else { return };
    let text = server.order(json!({ "path": "/never" })).to_string();
    tokio::select! {
        _ = fetch.apply(words(&[&text])) => panic!("it was answered"),
        () = eventually("the server is asked", async || server.count() > 0) => {}
    }
    // The one worker is free again long before the request's time is over, and the server is left alone.
    assert_eq!(soon(ask(&fetch, &server, json!({ "path": "/echo" }))).await["status"], 200);
    eventually("the connection is closed", async || !server.hung_up.lock().unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_call_that_fails_over_a_refusal_says_which_key_to_add() {
    let server = Server::start().await;
    let Some(fetch) = fetch(&server, |_| ()) else { return };
    for (word, headline, said) in [
        ("stop", "handler `embed` stopped the pipeline", "it says: no answer: ErrorCode::HttpRequestDenied"),
        ("panic", "handler `embed` crashed", "no answer: ErrorCode::HttpRequestDenied"),
    ] {
        let order = json!({ "do": word, "authority": "api.example.com", "scheme": "https", "path": "/secret-path" });
        let error = fail(&fetch, &server, order).await;
        assert_eq!(error.fault(), Fault::Handler);
        let report = error.report();
        let why = "the handler may not send requests to `api.example.com`";
        assert!(report.starts_with(&format!("error: {headline}\n  caused by: {why}\n")), "{report}");
        assert!(report.contains(said) && !report.contains("secret-path"), "{report}");
        assert!(
            report.ends_with("help: add `api.example.com` to `transforms.embed.allow.http` if it may\n"),
            "{report}"
        );
    }
}

#[tokio::test]
async fn a_refusal_is_not_blamed_for_what_fails_in_a_later_call() {
    let server = Server::start().await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let too = |settings: &mut WasmTransform| {
        let host = format!("http://{deaf}").parse().unwrap();
        settings.allow.http.push(HttpHost { host, ..settings.allow.http[0].clone() });
    };
    let Some(fetch) = fetch(&server, too) else { return };
    let refused = ask(&fetch, &server, json!({ "authority": "api.example.com", "scheme": "https" })).await;
    assert_eq!(refused["error"], "ErrorCode::HttpRequestDenied");
    let order = json!({ "do": "stop", "authority": deaf.to_string(), "scheme": "http" });
    let report = fail(&fetch, &server, order).await.report();
    assert!(
        report.contains("it says: no answer: ErrorCode::Connection") && !report.contains("api.example"),
        "{report}"
    );
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_ends_the_request() {
    let server = Server::start().await;
    let (listener, acceptor) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), acceptor());
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = other.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9\r\n").await;
        }
    });
    let tls = |address: SocketAddr| HttpHost {
        host: format!("https://localhost:{}", address.port()).parse().unwrap(),
        headers: Default::default(),
        private: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
    };
    let hosts = vec![tls(address), tls(plain)];
    let Some(fetch) = fetch(&server, |settings| settings.allow.http = hosts) else { return };
    for (address, code) in [(address, "TlsCertificateError"), (plain, "TlsProtocolError")] {
        let order = json!({ "scheme": "https", "authority": format!("localhost:{}", address.port()), "path": "/echo" });
        let answer = tell(&fetch, order).await;
        assert_eq!(answer["error"], format!("ErrorCode::{code}"), "{answer}");
    }
}

/// A TLS server with a certificate of an authority that no system knows.
fn acceptor() -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let folder = crate::guests::root().join("tests/it/tls");
    let chain = CertificateDer::pem_file_iter(folder.join("localhost.crt")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("localhost.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()).into()
}

/// `plugins/fetch`, with a grant for `server` and settings that a test may change first.
fn fetch(server: &Server, change: impl FnOnce(&mut WasmTransform)) -> Option<Transform> {
    let mut settings = settings(&guest("fetch")?);
    settings.allow.http = vec![granted(server)];
    change(&mut settings);
    Some(load(&settings, Embedders::new()).unwrap())
}

/// Nothing ends for being late.
fn endless(settings: &mut WasmTransform) {
    let hour = Span(Duration::from_secs(3600));
    (settings.limits.http.timeout, settings.limits.http.wait) = (hour, hour);
}

pub(crate) fn granted(server: &Server) -> HttpHost {
    let secret = Secret::new(format!("Bearer {SECRET}"));
    HttpHost {
        host: format!("http://{}", server.address).parse().unwrap(),
        headers: [
            ("Authorization".to_owned(), secret),
            ("Cookie".to_owned(), Secret::new(format!("theme=dark; session={SESSION}"))),
        ]
        .into(),
        private: vec!["127.0.0.1".parse().unwrap()],
    }
}

/// What became of an order, whose host is the server if it names none.
async fn ask(fetch: &Transform, server: &Server, order: Json) -> Json {
    tell(fetch, server.order(order)).await
}

async fn tell(fetch: &Transform, order: Json) -> Json {
    let output = fetch.apply(words(&[&order.to_string()])).await.unwrap_or_else(|error| panic!("{order}: {error:?}"));
    assert!(output.rejections.is_empty(), "{:?}", output.rejections);
    match output.commands.into_iter().next().map(|command| command.action) {
        Some(Action::Upsert(point)) => serde_json::from_str(&point.payload).unwrap(),
        other => panic!("{order} was answered with {other:?}"),
    }
}

async fn fail(fetch: &Transform, server: &Server, order: Json) -> Error {
    let order = server.order(order).to_string();
    fetch.apply(words(&[&order])).await.err().unwrap_or_else(|| panic!("{order} did not fail"))
}

/// A server that keeps what it was asked, and answers as the path says.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    /// Paths whose client went away before it was answered.
    hung_up: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, hung_up) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (keep, left) = (Arc::clone(&seen), Arc::clone(&hung_up));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&keep), Arc::clone(&left)));
            }
        });
        Self { address, seen, hung_up }
    }

    fn order(&self, mut order: Json) -> Json {
        if order["authority"].is_null() {
            order["authority"] = json!(self.address.to_string());
            order["scheme"] = json!("http");
        }
        if order["path"].is_null() {
            order["path"] = json!("/");
        }
        order
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> String {
        self.seen.lock().unwrap().last().cloned().expect("nobody asked")
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>, hung_up: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
                let length = head
                    .split("content-length: ")
                    .nth(1)
                    .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
                if bytes.len() >= at + 4 + length {
                    break at + 4 + length;
                }
            }
            match stream.read_buf(&mut bytes).await {
                Ok(more) if more > 0 => {}
                _ => return,
            }
        };
        let request = String::from_utf8_lossy(&bytes.drain(..end).collect::<Vec<_>>()).into_owned();
        seen.lock().unwrap().push(request.clone());
        let target = request.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let answer = |status: &str, headers: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
        };
        let answer = match path {
            "/echo" => answer("200 OK", "", &request),
            "/give-away" => {
                let told = format!(
                    "x-harmless: yes\r\nx-told: Bearer {SECRET}\r\nx-told-in-part: key={SECRET};\r\n\
                     set-cookie: session={SESSION}; path=/\r\nx-told-session: {SESSION}\r\n"
                );
                answer("200 OK", &told, "")
            }
            "/redirect" => {
                let (status, to) = query.split_once('&').unwrap();
                answer(&format!("{status} Elsewhere"), &format!("location: {to}\r\n"), "")
            }
            "/big" => answer("200 OK", "", &"x".repeat(query.parse().unwrap())),
            "/endless" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while stream.write_all(b"4\r\nabcd\r\n").await.is_ok() {}
                return;
            }
            "/after" => {
                tokio::time::sleep(Duration::from_millis(query.parse().unwrap())).await;
                answer("200 OK", "", "")
            }
            "/never" | "/drip" => {
                if path == "/drip" {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx").await;
                }
                let _ = stream.read_buf(&mut bytes).await;
                hung_up.lock().unwrap().push(path.to_owned());
                return;
            }
            "/close" => return,
            "/nonsense" => "SSH-2.0-OpenSSH_9\r\n\r\n".to_owned(),
            _ => answer("404 Not Found", "", ""),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
