//! A guest for tests that sends HTTP requests: which, the batch says, as JSON in the second column of each event. What it
//! was answered, or which error it met, is the payload of a point.

#![cfg(target_family = "wasm")]

use std::cell::RefCell;
use std::time::Duration;

use pgstream_handler::{Error, Event, Json, Out, Result, handler, http, json};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::poll::poll;
use wasip2::io::streams::StreamError;

handler!(on_event);

thread_local! {
    /// What was begun and not waited for.
    static BEGUN: RefCell<Vec<FutureIncomingResponse>> = const { RefCell::new(Vec::new()) };
}

fn on_event(event: &Event, out: &mut Out) -> Result<()> {
    let order: Json = serde_json::from_str(event.text("what")?)?;
    let payload = match order["do"].as_str().unwrap_or("request") {
        "request" => told(request(&order).and_then(|begun| answer(&begun))),
        // As handlers do it, through the SDK.
        "sdk" => {
            let method = order["method"].as_str().unwrap_or("GET");
            let mut request = http::Request::new(method, order["url"].as_str().unwrap_or_default());
            request = request.header("x-mine", "yes");
            if method == "POST" {
                request = request.json(&"0123456789".repeat(1000))?;
            }
            if let Some(millis) = order["timeout"].as_u64() {
                request = request.timeout(Duration::from_millis(millis));
            }
            let answer = request.send()?.success()?;
            json!({ "status": answer.status, "body": answer.text()?, "told": answer.header("x-harmless") })
        }
        "many" => {
            let all =
                (0..order["times"].as_u64().unwrap_or(1)).map(|_| request(&order).and_then(|begun| answer(&begun)));
            json!({ "errors": all.map(|one| told(one)["error"].clone()).collect::<Vec<_>>() })
        }
        "begin" => {
            for _ in 0..order["times"].as_u64().unwrap_or(1) {
                let begun = request(&order).map_err(|code| Error::reject(format!("{code:?}")))?;
                BEGUN.with_borrow_mut(|all| all.push(begun));
            }
            json!({})
        }
        // An answer that is never read, and stays open as far as the guest is concerned.
        "keep" => {
            let begun = request(&order).map_err(|code| Error::reject(format!("{code:?}")))?;
            begun.subscribe().block();
            if let Some(Ok(Ok(response))) = begun.get() {
                std::mem::forget((response.consume(), response));
            }
            json!({})
        }
        "end" => {
            let begun = BEGUN.with_borrow_mut(Vec::pop).ok_or_else(|| Error::reject("nothing was begun"))?;
            told(answer(&begun))
        }
        // Which of the two is ready first: an answer, or an alarm.
        "race" => {
            let begun = request(&order).map_err(|code| Error::reject(format!("{code:?}")))?;
            let (answered, rings) = (begun.subscribe(), monotonic_clock::subscribe_duration(millis(&order)));
            let ready = poll(&[&answered, &rings]);
            json!({ "ready": ready })
        }
        "sleep" => {
            let began = monotonic_clock::now();
            monotonic_clock::subscribe_duration(millis(&order)).block();
            json!({ "slept": (monotonic_clock::now() - began) / 1_000_000 })
        }
        // A body that nobody reads, because its request is never sent.
        "stuff" => {
            let request = OutgoingRequest::new(Fields::new());
            let body = request.body().map_err(|()| Error::reject("no body"))?;
            let stream = body.write().map_err(|()| Error::reject("no stream"))?;
            while stream.blocking_write_and_flush(&[0; 4096]).is_ok() {}
            json!({})
        }
        "stop" => match request(&order).and_then(|begun| answer(&begun)) {
            Ok(_) => json!({}),
            Err(code) => return Err(Error::stop(format!("no answer: {code:?}"))),
        },
        "panic" => match request(&order).and_then(|begun| answer(&begun)) {
            Ok(_) => json!({}),
            Err(code) => panic!("no answer: {code:?}"),
        },
        other => return Err(Error::reject(format!("what is `{other}`?"))),
    };
    out.upsert(event.key()?, (), payload)
}

fn millis(order: &Json) -> u64 {
    order["millis"].as_u64().unwrap_or(0) * 1_000_000
}

fn told(answer: std::result::Result<Json, ErrorCode>) -> Json {
    answer.unwrap_or_else(|code| json!({ "error": format!("{code:?}") }))
}

/// Sends what the order says. What the host refuses before it is sent is told as a word of our own.
fn request(order: &Json) -> std::result::Result<FutureIncomingResponse, ErrorCode> {
    let refused = |what: &str| ErrorCode::InternalError(Some(what.to_owned()));
    let headers = Fields::new();
    for field in order["headers"].as_array().into_iter().flatten() {
        let (name, value) = (field[0].as_str().unwrap_or_default(), field[1].as_str().unwrap_or_default());
        headers.append(name, value.as_bytes()).map_err(|error| refused(&format!("header {error:?}")))?;
    }
    let seen = headers.entries();
    let request = OutgoingRequest::new(headers);
    let method = match order["method"].as_str() {
        None | Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some("CONNECT") => Method::Connect,
        Some("TRACE") => Method::Trace,
        Some(other) => Method::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| refused("method"))?;
    let scheme = match order["scheme"].as_str() {
        None => None,
        Some("http") => Some(Scheme::Http),
        Some("https") => Some(Scheme::Https),
        Some(other) => Some(Scheme::Other(other.to_owned())),
    };
    request.set_scheme(scheme.as_ref()).map_err(|()| refused("scheme"))?;
    request.set_authority(order["authority"].as_str()).map_err(|()| refused("authority"))?;
    request.set_path_with_query(order["path"].as_str()).map_err(|()| refused("path"))?;
    let options = RequestOptions::new();
    for (name, set) in [
        ("connect", RequestOptions::set_connect_timeout as fn(&RequestOptions, Option<u64>) -> _),
        ("first", RequestOptions::set_first_byte_timeout),
        ("between", RequestOptions::set_between_bytes_timeout),
    ] {
        set(&options, order["options"][name].as_u64().map(|millis| millis * 1_000_000))
            .map_err(|()| refused("options"))?;
    }
    let body = order["body"].as_str().map(|text| request.body().map(|body| (body, text))).transpose();
    let body = body.map_err(|()| refused("body"))?;
    assert_eq!(request.headers().entries(), seen, "the request is as it was made");
    let begun = handle(request, Some(options))?;
    if let Some((body, text)) = body {
        let times = order["times"].as_u64().unwrap_or(1);
        {
            let stream = body.write().map_err(|()| refused("stream"))?;
            for chunk in (0..times).flat_map(|_| text.as_bytes().chunks(4096)) {
                if stream.blocking_write_and_flush(chunk).is_err() {
                    break; // the answer says why
                }
            }
        }
        let trailers = order["trailers"].as_str().map(|value| {
            let fields = Fields::new();
            fields.append("x-trailer", value.as_bytes()).map(|()| fields)
        });
        let trailers = trailers.transpose().map_err(|error| refused(&format!("trailer {error:?}")))?;
        if order["unfinished"].as_bool() != Some(true) {
            OutgoingBody::finish(body, trailers)?;
        }
    }
    Ok(begun)
}

fn answer(begun: &FutureIncomingResponse) -> std::result::Result<Json, ErrorCode> {
    begun.subscribe().block();
    let response: IncomingResponse = match begun.get() {
        Some(Ok(answer)) => answer?,
        other => return Err(ErrorCode::InternalError(Some(format!("it blocked, and then there was {other:?}")))),
    };
    let headers = response.headers().entries();
    let headers: Vec<_> = headers.iter().map(|(name, value)| json!([name, String::from_utf8_lossy(value)])).collect();
    let (mut bytes, mut length, mut broken) = (Vec::new(), 0, Json::Null);
    if let Ok(body) = response.consume() {
        if let Ok(stream) = body.stream() {
            loop {
                match stream.blocking_read(64 << 10) {
                    Ok(more) => {
                        length += more.len();
                        bytes.extend(more.into_iter().take(4096usize.saturating_sub(bytes.len())));
                    }
                    Err(StreamError::Closed) => break,
                    Err(StreamError::LastOperationFailed(error)) => {
                        let code = wasip2::http::types::http_error_code(&error);
                        broken = json!(code.map_or_else(|| error.to_debug_string(), |code| format!("{code:?}")));
                        break;
                    }
                }
            }
        }
    }
    Ok(json!({
        "status": response.status(),
        "headers": headers,
        "body": String::from_utf8_lossy(&bytes),
        "length": length,
        "broken": broken,
        "error": null,
    }))
}
