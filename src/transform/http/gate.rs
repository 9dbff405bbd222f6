//! Which requests go out: those to a granted host, built anew from the grant. The others are refused, and said aloud.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::uri::Authority;
use http::{Method, Request, StatusCode, header};
use wasmtime_wasi_http::{Error as Code, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use super::added::is_of_the_connection;
use super::exchange::{Answer, Budget, exchange};
use super::{Grant, Grants};
use crate::config::model::Origin;
use crate::error::{Error, Fault};
use crate::meter::HttpOutcome;
use crate::transform::voice::{Level, Voice};
use crate::transform::words::presentable;

/// Bytes of a host that a guest made up and that is repeated in an error.
const HOST_BYTES: usize = 100;

/// Bytes that a guest writes to a body in one go; the host holds twice as many of each body.
const CHUNK_BYTES: usize = 16 << 10;

/// The hooks of an instance's `wasi:http`.
pub(super) struct Gate {
    pub(super) grants: Arc<Grants>,
    /// Of the call that is running; there is none while the component starts.
    pub(super) budget: Option<Budget>,
    desk: Arc<Desk>,
}

/// Where refusals are said and kept; shared with requests that are under way.
pub(super) struct Desk {
    handler: Arc<str>,
    voice: Voice,
    last: Mutex<Option<Error>>,
}

impl Gate {
    pub(super) fn new(grants: Arc<Grants>, voice: Voice) -> Self {
        let desk = Desk { handler: Arc::clone(&grants.handler), voice, last: Mutex::new(None) };
        Self { grants, budget: None, desk: Arc::new(desk) }
    }

    pub(super) fn take_refusal(&self) -> Option<Error> {
        self.desk.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The host that the request is for, or why it may not be sent.
    fn admit(&self, request: &Request<WasiBody>) -> Result<(Arc<Grant>, Budget), Refusal> {
        let Some(budget) = &self.budget else { return Err(Refusal::NoCall) };
        if [Method::CONNECT, Method::TRACE].contains(request.method()) {
            return Err(Refusal::Method(request.method().to_string()));
        }
        let authority = request.uri().authority().map_or("", Authority::as_str);
        if authority.contains('@') {
            return Err(Refusal::User);
        }
        let scheme = request.uri().scheme_str().unwrap_or("https");
        let origin: Result<Origin, _> = format!("{scheme}://{authority}").parse();
        let origin = origin.map_err(|_| Refusal::NoHost(shown(authority)))?;
        let Some(grant) = self.grants.find(&origin) else { return Err(Refusal::NotGranted(origin)) };
        if !budget.take_request() {
            return Err(Refusal::TooMany(budget.limits.requests));
        }
        Ok((Arc::clone(grant), budget.clone()))
    }
}

impl Desk {
    /// For whoever wants to know where a handler talks to: the host, never the path.
    pub(super) fn audit(&self, origin: &Origin, method: &Method, status: StatusCode) {
        tracing::debug!(handler = &*self.handler, host = %origin, %method, status = status.as_u16(), "request");
    }

    /// Says that a request was refused, and keeps it for the error of a call that fails over it.
    pub(super) fn refuse(&self, refusal: &Refusal) -> Code {
        let error = refusal.error(&self.handler);
        self.voice.say(Level::Warn, &format!("refused: {error}"));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        refusal.code()
    }
}

impl WasiHttpHooks for Gate {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| is_of_the_connection(name.as_str()) && *name != header::CONTENT_LENGTH)
    }

    /// It is made of the grant.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Code>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Code>> + Send> {
        let (grant, budget) = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let code = self.desk.refuse(&refusal);
                self.desk.voice.meter().requests(HttpOutcome::Refused);
                return Box::new(std::future::ready(Err(code)));
            }
        };
        let (parts, body) = request.into_parts();
        let mut url = grant.url.clone();
        if let Some(path) = parts.uri.path_and_query() {
            url.set_path(path.path());
            url.set_query(path.query());
        }
        let headers = grant.added.over(&parts.headers);
        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = headers;
        let (desk, places) = (Arc::clone(&self.desk), Arc::clone(&self.grants.places));
        let voice = self.desk.voice.clone();
        let exchanged = exchange(grant, budget, desk, places, outgoing, body, options.unwrap_or_default());
        Box::new(async move {
            let answer = exchanged.await;
            voice.meter().requests(match &answer {
                Ok(_) => HttpOutcome::Ok,
                Err(Code::DestinationIpProhibited | Code::HttpRequestBodySize(_)) => HttpOutcome::Refused,
                Err(_) => HttpOutcome::Failed,
            });
            answer
        })
    }
}

/// Why a request was not sent, or did not get where it was sent.
#[derive(Debug)]
pub(super) enum Refusal {
    NoCall,
    Method(String),
    User,
    NoHost(String),
    NotGranted(Origin),
    Prohibited(Origin, super::dial::Prohibited),
    TooMany(u32),
    Sent(u64),
    Received(u64),
    Trailers,
}

impl Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Prohibited(..) => Code::DestinationIpProhibited,
            Self::Sent(limit) => Code::HttpRequestBodySize(Some(*limit)),
            Self::Received(limit) => Code::HttpResponseBodySize(Some(*limit)),
            Self::Method(_) => Code::HttpRequestMethodInvalid,
            Self::User | Self::NoHost(_) => Code::HttpRequestUriInvalid,
            Self::Trailers => Code::HttpRequestTrailerSectionSize(Some(0)),
            Self::NoCall | Self::NotGranted(_) | Self::TooMany(_) => Code::HttpRequestDenied,
        }
    }

    /// The host, never the path or what was sent: those may hold values of rows.
    fn error(&self, handler: &str) -> Error {
        let limit =
            |key: &str| format!("raise `transforms.{handler}.limits.http.{key}`, or let the handler do with less");
        let help = match self {
            Self::NotGranted(origin) => format!("add `{origin}` to `transforms.{handler}.allow.http` if it may"),
            Self::Prohibited(origin, found) => {
                let address = found.address;
                format!(
                    "if it may, write `{{ host: \"{origin}\", private: [\"{address}\"] }}` in `transforms.{handler}.allow.http`"
                )
            }
            Self::TooMany(_) => limit("requests"),
            Self::Sent(_) => limit("sent"),
            Self::Received(_) => limit("received"),
            Self::User => format!("name credentials under `headers` of the host in `transforms.{handler}.allow.http`"),
            Self::NoCall | Self::Method(_) | Self::NoHost(_) | Self::Trailers => "change the handler".to_owned(),
        };
        Error::new(Fault::Handler, self.to_string()).help(help)
    }
}

/// An authority that is no host, as it may be repeated. Where a colon stands before something else than a port, it may be a
/// name and a part of a password: the login of a URL that was cut at a slash in it.
fn shown(authority: &str) -> String {
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    if port.bytes().all(|byte| byte.is_ascii_digit()) { presentable(authority, HOST_BYTES) } else { "…".to_owned() }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCall => f.write_str("a component may send no requests while it starts"),
            Self::Method(method) => write!(f, "a handler may not send requests with the method `{method}`"),
            Self::User => f.write_str("a request's host was given with a user"),
            Self::NoHost(host) => write!(f, "`{host}` is no host that a request could be sent to"),
            Self::NotGranted(origin) => write!(f, "the handler may not send requests to `{origin}`"),
            Self::Prohibited(origin, found) => {
                write!(f, "`{origin}` is at {}, {}, which was not named", found.address, found.why)
            }
            Self::TooMany(limit) => write!(f, "a call may send {limit} requests"),
            Self::Sent(limit) => write!(f, "the requests of a call may have {limit} bytes"),
            Self::Received(limit) => write!(f, "the answers of a call may have {limit} bytes"),
            Self::Trailers => f.write_str("a request may have no trailers"),
        }
    }
}
