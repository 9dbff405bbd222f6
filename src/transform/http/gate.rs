//! `Gate`: the requests that go out are those to a granted host, built anew from the grant. The
//! others are refused, and said aloud.

use std::sync::Arc;

use http::uri::Authority;
use http::{Method, Request, header};
use wasmtime_wasi_http::{Error as Code, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use super::added::is_of_the_connection;
use super::desk::{Desk, Refusal};
use super::exchange::{Answer, Budget, exchange};
use super::{Grant, Grants};
use crate::config::model::Origin;
use crate::error::Error;
use crate::meter::HttpOutcome;
use crate::transform::voice::Voice;
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

impl Gate {
    pub(super) fn new(grants: Arc<Grants>, voice: Voice) -> Self {
        let desk = Desk::new(Arc::clone(&grants.handler), voice);
        Self { grants, budget: None, desk: Arc::new(desk) }
    }

    pub(super) fn take_refusal(&self) -> Option<Error> {
        self.desk.take_refusal()
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

/// An authority that is no host, as it may be repeated. Where a colon stands before something else
/// than a port, it may be a name and a part of a password: the login of a URL that was cut at a
/// slash in it.
fn shown(authority: &str) -> String {
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    if port.bytes().all(|byte| byte.is_ascii_digit()) { presentable(authority, HOST_BYTES) } else { "…".to_owned() }
}
