//! HTTP through the SDKs: real components, a real server.

use std::time::Duration;

use pgstream_host::command::Action;
use pgstream_host::config::Span;
use pgstream_host::error::{Error, Fault, Result};
use pgstream_host::transform::WasmTransform;
use pgstream_host::transform::{Output, Transform};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use crate::guests::{Embedders, guest, load, settings, words};
use crate::toolchain::{go, javascript, python};
use crate::transform::http::{Server, granted};

/// What a handler is told to ask, in its own words.
type Order = fn(method: &str, url: &str) -> String;

const RUST: Order = |method, url| json!({ "do": "sdk", "method": method, "url": url }).to_string();
const PLAIN: Order = |method, url| format!("{method} {url}");

/// Each SDK's component that asks, with grants.
fn askers(change: impl Fn(&mut WasmTransform)) -> Vec<(Transform, Order)> {
    let plain = [go::asker(), javascript::asker(), python::asker()].map(|file| (file.map(Into::into), PLAIN));
    let files = std::iter::once((guest("fetch"), RUST)).chain(plain);
    let found = files.filter_map(|(file, order)| {
        let mut settings = settings(&file?);
        settings.limits.deadline = Span(Duration::from_secs(10)); // an interpreter is slow in a debug build
        change(&mut settings);
        Some((load(&settings, Embedders::new()).unwrap(), order))
    });
    found.collect()
}

async fn apply(asker: &Transform, order: &str) -> Result<Output> {
    asker.apply(words(&[order])).await
}

async fn answer(asker: &Transform, order: &str) -> Json {
    let output = apply(asker, order).await.unwrap_or_else(|error| panic!("{order}: {}", error.report()));
    let [command] = &output.commands[..] else { panic!("{order}: {output:?}") };
    let Action::Upsert(point) = &command.action else { panic!("{order}: {output:?}") };
    serde_json::from_str(&point.payload).unwrap()
}

async fn fail(asker: &Transform, order: &str) -> Error {
    apply(asker, order).await.expect_err(order)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_host_is_asked_and_its_answer_arrives() {
    let server = Server::start().await;
    for (asker, order) in askers(|settings| settings.allow.http = vec![granted(&server)]) {
        let url = |path: &str| format!("http://{}{path}", server.address);
        let told = answer(&asker, &order("GET", &url("/echo?a=b%20c#not-sent"))).await;
        let body = told["body"].as_str().unwrap();
        assert_eq!(told["status"], 200);
        assert!(body.starts_with("GET /echo?a=b%20c HTTP/1.1\r\n") && body.contains("x-mine: yes\r\n"), "{body}");
        let told = answer(&asker, &order("POST", &url("/echo"))).await;
        let body = told["body"].as_str().unwrap();
        assert!(body.contains("content-type: application/json\r\n"), "{body}");
        assert!(body.ends_with(&format!("\r\n\r\n\"{}\"", "0123456789".repeat(1000))), "{body}");
        assert_eq!(answer(&asker, &order("GET", &url("/give-away"))).await["told"], "yes");
        let told = answer(&asker, &order("GET", &url("/big?300000"))).await;
        assert_eq!(told["body"].as_str().map(str::len), Some(300_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_set_aside_or_a_stop_with_the_key_to_add() {
    let server = Server::start().await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let change = |settings: &mut WasmTransform| {
        let host = format!("http://{deaf}").parse().unwrap();
        settings.allow.http = vec![granted(&server), granted(&server)];
        settings.allow.http[1].host = host;
    };
    for (asker, order) in askers(change) {
        let output = apply(&asker, &order("GET", &format!("http://{}/none", server.address))).await.unwrap();
        assert_eq!(output.rejections[0].reason, "a server answered with status 404");
        // One that hangs up may be back; one that speaks no HTTP is another server than was meant.
        for (path, fault) in [("/close", Fault::Transient), ("/nonsense", Fault::Handler)] {
            let error = fail(&asker, &order("GET", &format!("http://{}{path}", server.address))).await;
            assert_eq!(error.fault(), fault, "{}", error.report());
        }
        let error = fail(&asker, &order("GET", &format!("http://{deaf}/secret"))).await;
        assert_eq!(error.fault(), Fault::Transient, "{}", error.report());
        assert!(!error.report().contains("secret"), "{}", error.report());
        let error = fail(&asker, &order("GET", "https://api.example.com/secret")).await;
        let report = error.report();
        assert_eq!(error.fault(), Fault::Handler, "{report}");
        assert!(report.contains("add `api.example.com` to `transforms.embed.allow.http`"), "{report}");
        assert!(report.contains("`https://api.example.com`: http request denied"), "{report}");
        assert!(!report.contains("secret"), "{report}");
        let report = fail(&asker, &order("GET", "nonsense")).await.report();
        assert!(report.contains("is not a URL: write `https://host/path`, without a login"), "{report}");
        for url in ["https://me:hunter2@api.example.com/", "https://me:hunt/er2@api.example.com/"] {
            let report = fail(&asker, &order("GET", url)).await.report();
            assert!(!report.contains("hunt") && !report.contains("er2"), "{report}");
        }
    }
}

#[test]
fn a_handler_that_asks_nobody_needs_no_grant() {
    for file in [guest("documents-rust"), go::documents().map(Into::into)].into_iter().flatten() {
        load(&settings(&file), Embedders::new()).unwrap();
    }
}
