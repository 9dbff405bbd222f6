//! `Desk`: the refusals of requests, with their words: said aloud, and kept for the error of the
//! call.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, StatusCode};
use wasmtime_wasi_http::Error as Code;

use crate::config::model::Origin;
use crate::error::{Error, Fault};
use crate::transform::voice::{Level, Voice};

/// The place where refusals are said and kept; shared with requests that are under way.
pub(super) struct Desk {
    handler: Arc<str>,
    pub(super) voice: Voice,
    last: Mutex<Option<Error>>,
}

impl Desk {
    pub(super) fn new(handler: Arc<str>, voice: Voice) -> Self {
        Self { handler, voice, last: Mutex::new(None) }
    }

    /// The last refusal, in full.
    pub(super) fn take_refusal(&self) -> Option<Error> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

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

/// The reason why a request was not sent, or did not arrive.
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
