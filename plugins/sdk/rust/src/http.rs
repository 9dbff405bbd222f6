//! HTTP requests, to the hosts that the pipeline grants: `allow: { http: [api.example.com] }`.
//!
//! ```no_run
//! use pgstream_handler::{Event, Out, Result, http, json, text};
//!
//! fn on_event(event: &Event, out: &mut Out) -> Result<()> {
//!     let question = json!({ "text": event.text("content")? });
//!     let answer = http::post("https://api.example.com/tags").json(&question)?.send()?.success()?;
//!     out.upsert(event.id()?, text(event.text("content")?), json!({ "tags": answer.json()?["tags"] }))
//! }
//! ```
//!
//! A call waits for each answer in turn. What the host sends, and what it refuses, stands in its
//! documentation, in `docs/network.md`. A batch may come again, and its requests with it: they
//! should be safe to repeat.

use std::time::Duration;

use serde::Serialize;

use crate::{Error, Json, Result, exact};

/// A request that has not been sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// `https://api.example.com/path?query`; the host and the port must be granted.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// How long to wait for the answer, at most; the host's own limit, if there is none or it is
    /// less.
    pub timeout: Option<Duration>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Such as 200 or 404.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What came.
    pub body: Vec<u8>,
}

/// A request for what is at `url`.
pub fn get(url: impl Into<String>) -> Request {
    Request::new("GET", url)
}

/// A request that sends something to `url`.
pub fn post(url: impl Into<String>) -> Request {
    Request::new("POST", url)
}

impl Request {
    /// A request with any method, without headers and body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        let (method, url) = (method.into(), url.into());
        Self { method, url, headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets what is sent.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends JSON. An error if the value does not serialize as such.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = exact::text(value)?;
        Ok(self.header("content-type", "application/json").body(text))
    }

    /// Waits no longer than this for the answer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request and waits for the answer, whatever its status is; see
    /// [`Response::success`].
    ///
    /// An error concerns the whole batch: a server that cannot be reached has the host come again
    /// later, and a host that is not granted stops the pipeline, with the key to add.
    pub fn send(&self) -> Result<Response> {
        imp::send(self)
    }

    /// The parts of the URL: whether it is https, host and port, path and query.
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
    fn parts(&self) -> Result<(bool, &str, &str)> {
        let wrong = || Error::stop("what was asked for is not a URL: write `https://host/path`, without a login");
        let (https, rest) = match (self.url.strip_prefix("https://"), self.url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let odd = |char: char| char == '@' || char.is_whitespace();
        if authority.is_empty() || authority.contains(odd) { Err(wrong()) } else { Ok((https, authority, path)) }
    }

    /// The part of the URL that may be shown: scheme, host and port. The rest may hold a row's values, and
    /// where there is an `@`, what stands before it may be a login.
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
    fn origin(&self) -> String {
        match self.parts() {
            Ok((https, authority, _)) => {
                let shown = if self.url.contains('@') { "…" } else { authority };
                format!("{}://{shown}", if https { "https" } else { "http" })
            }
            Err(_) => "…".to_owned(),
        }
    }
}

impl Response {
    /// The answer if its status is one of success, 200 to 299. Otherwise an error: for 408, 429 and
    /// 500 and more one that has the host come again later with the whole batch, for others one
    /// that rejects the event.
    pub fn success(self) -> Result<Self> {
        match self.status {
            200..=299 => Ok(self),
            408 | 429 | 500.. => Err(Error::retry(format!("a server answered with status {}", self.status))),
            status => Err(Error::reject(format!("a server answered with status {status}"))),
        }
    }

    /// The value of a header, whose name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text. An error if it is none.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    /// The body as JSON. An error if it is none.
    pub fn json(&self) -> Result<Json> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

#[cfg(target_family = "wasm")]
mod imp {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{
        ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    };
    use wasip2::io::streams::StreamError;

    use super::{Request, Response};
    use crate::{Error, Result};

    /// Bytes that a body takes in one go.
    const CHUNK: usize = 4096;

    pub(super) fn send(request: &Request) -> Result<Response> {
        let (https, authority, path) = request.parts()?;
        let refused = |what: &str| Error::stop(format!("`{}`: {what} is not one that can be sent", request.origin()));
        let headers = Fields::new();
        for (name, value) in &request.headers {
            headers
                .append(name, value.as_bytes())
                .map_err(|_| refused(&format!("header `{}`", name.escape_debug())))?;
        }
        let outgoing = OutgoingRequest::new(headers);
        let method = match &*request.method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "PATCH" => Method::Patch,
            "OPTIONS" => Method::Options,
            other => Method::Other(other.to_owned()),
        };
        outgoing.set_method(&method).map_err(|()| refused("the method"))?;
        let scheme = if https { Scheme::Https } else { Scheme::Http };
        outgoing.set_scheme(Some(&scheme)).map_err(|()| refused("the scheme"))?;
        outgoing.set_authority(Some(authority)).map_err(|()| refused("the host"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        outgoing.set_path_with_query(Some(&path)).map_err(|()| refused("the path"))?;
        let options = RequestOptions::new();
        if let Some(timeout) = request.timeout {
            let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            options.set_connect_timeout(Some(nanos)).map_err(|()| refused("the timeout"))?;
            options.set_first_byte_timeout(Some(nanos)).map_err(|()| refused("the timeout"))?;
            options.set_between_bytes_timeout(Some(nanos)).map_err(|()| refused("the timeout"))?;
        }
        let body = outgoing.body().map_err(|()| refused("the body"))?;
        let failed = |code: ErrorCode| failed(request, &code);
        let begun = handle(outgoing, Some(options)).map_err(failed)?;
        {
            let stream = body.write().map_err(|()| refused("the body"))?;
            for chunk in request.body.chunks(CHUNK) {
                if stream.blocking_write_and_flush(chunk).is_err() {
                    break; // the answer says why
                }
            }
        }
        OutgoingBody::finish(body, None).map_err(failed)?;
        begun.subscribe().block();
        match begun.get() {
            Some(Ok(answer)) => received(request, answer.map_err(failed)?),
            _ => Err(Error::retry(format!("`{}`: there was no answer", request.origin()))),
        }
    }

    fn received(request: &Request, response: IncomingResponse) -> Result<Response> {
        let broken = |why: &str| Error::retry(format!("`{}`: the answer broke off{why}", request.origin()));
        let text =
            |(name, value): (String, Vec<u8>)| (name.to_lowercase(), String::from_utf8_lossy(&value).into_owned());
        let headers = response.headers().entries().into_iter().map(text).collect();
        let status = response.status();
        let incoming = response.consume().map_err(|()| broken(""))?;
        let stream = incoming.stream().map_err(|()| broken(""))?;
        let mut body = Vec::new();
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(more) => body.extend(more),
                Err(StreamError::Closed) => return Ok(Response { status, headers, body }),
                Err(StreamError::LastOperationFailed(error)) => {
                    let code = wasip2::http::types::http_error_code(&error);
                    return Err(code.map_or_else(|| broken(""), |code| failed(request, &code)));
                }
            }
        }
    }

    /// What will pass is tried again; what the host refuses will not.
    fn failed(request: &Request, code: &ErrorCode) -> Error {
        let what = format!("`{}`: {}", request.origin(), words(code));
        match code {
            ErrorCode::HttpRequestDenied
            | ErrorCode::DestinationIpProhibited
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::HttpRequestMethodInvalid
            | ErrorCode::HttpRequestBodySize(_)
            | ErrorCode::HttpRequestLengthRequired
            | ErrorCode::HttpRequestTrailerSectionSize(_)
            | ErrorCode::HttpResponseBodySize(_)
            | ErrorCode::HttpProtocolError
            | ErrorCode::TlsCertificateError => Error::stop(what),
            _ => Error::retry(what),
        }
    }

    /// `ErrorCode::HttpRequestDenied` as `HTTP request denied`; what stands beside it may be a
    /// server's.
    fn words(code: &ErrorCode) -> String {
        let name = format!("{code:?}");
        let name = name.rsplit("::").next().unwrap_or_default();
        let name: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
        let mut words = String::new();
        for char in name.chars() {
            if char.is_ascii_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.push(char.to_ascii_lowercase());
        }
        words
    }
}

#[cfg(not(target_family = "wasm"))]
mod imp {
    use super::{Request, Response};
    use crate::Result;

    pub(super) fn send(request: &Request) -> Result<Response> {
        request.parts()?;
        crate::testing::host::send(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Harness, Table};
    use crate::{Event, Failure, Out, row};

    #[test]
    fn a_url_is_taken_apart() {
        let parts = |url: &str| get(url).parts().map(|(https, host, path)| format!("{https} {host} {path}"));
        assert_eq!(parts("https://a.example:8443/b?c#d").unwrap(), "true a.example:8443 /b?c");
        assert_eq!(parts("http://a.example?c").unwrap(), "false a.example ?c");
        for wrong in ["ftp://a", "https://", "https:///x", "a.example/secret", "https://secret:secret@a.example/"] {
            let error = parts(wrong).unwrap_err().to_string();
            assert!(error.contains("is not a URL") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_part_of_a_login_is_shown() {
        for (url, shown) in [
            ("https://a.example:8443/b", "https://a.example:8443"),
            ("https://secret@a.example/b", "…"),
            ("https://me:se/cret@a.example/b", "https://…"),
            ("https://me:se?cret@a.example/b", "https://…"),
            ("http://secret/@a.example", "http://…"),
            ("secret@a.example", "…"),
            ("secret", "…"),
        ] {
            assert_eq!(get(url).origin(), shown, "{url}");
        }
    }

    fn ask(event: &Event<'_>, out: &mut Out) -> Result<()> {
        let url = format!("https://api.example.com/{}", event.text("what")?);
        let answer = post(url).header("x-a", "b").json(&[1])?.send()?.success()?;
        out.delete(&answer.json()?["id"])
    }

    #[test]
    fn answers_are_made_up_in_tests() {
        let table = Table::new("public", "things").key("id", "int8").column("what", "text");
        let run = |word: &str| {
            let harness = Harness::new(ask).http(|request| {
                assert_eq!((&*request.method, &*request.body), ("POST", &b"[1]"[..]));
                let status = request.url.rsplit('/').next().unwrap().parse().unwrap();
                Ok(Response { status, headers: Vec::new(), body: br#"{"id":7}"#.to_vec() })
            });
            harness.run([table.insert(row![1, word])])
        };
        assert_eq!(run("200").unwrap().commands.len(), 1);
        assert_eq!(run("404").unwrap().rejections[0].reason, "a server answered with status 404");
        assert_eq!(run("503"), Err(Failure::Retry("a server answered with status 503".into())));
    }
}
