//! The gate: what a request must be before it is looked at any further. Names, tokens and browsers
//! are judged here.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;

use super::caller::{Caller, Tokens};
use super::{body, view};
use crate::config::model::ApiRight;

/// The way by which a request came in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Through the Unix socket, from the host's own user.
    Unix,
    /// Through TCP, at this address of ours.
    Tcp { at: IpAddr },
}

/// Judges who may come in.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) tokens: Tokens,
    /// Names by which the listener is reached, in lower case.
    pub(super) hosts: Vec<String>,
    /// Others can reach the listener, so that metrics need a token.
    pub(super) is_open: bool,
}

impl Gate {
    /// Says who asks.
    ///
    /// # Errors
    /// The answer to a request that is not looked at.
    pub(super) fn pass(&self, request: &Request<Body>, way: Way) -> Result<Caller, Box<Response>> {
        let headers = request.headers();
        if let Way::Tcp { at } = way
            && !self.is_ours(request, at)
        {
            return Err(refused(
                StatusCode::MISDIRECTED_REQUEST,
                "host",
                "the request is for another host",
                "ask by the address, or add the name to `api.hosts` in the host file",
            ));
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("sec-fetch-site").is_some_and(|site| matches!(site, "cross-site" | "same-site")) {
            let what = "the request comes from a page of another site";
            return Err(refused(StatusCode::FORBIDDEN, "cross_site", what, "open the address itself"));
        }
        match *request.method() {
            Method::GET | Method::HEAD => {}
            // What changes something is not for pages of others, whatever browser shows them.
            Method::POST if is_own_page(headers) => {}
            Method::POST => {
                let what = "the request comes from a page of another site";
                return Err(refused(StatusCode::FORBIDDEN, "cross_site", what, "ask from the page of the host itself"));
            }
            _ => return Err(Box::new(view::no_such_method())),
        }
        let length = text("content-length").and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > body::LONGEST as u64) {
            let what = "the body is longer than any that is read";
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", what, "name less at a time"));
        }
        Ok(match way {
            Way::Unix => Caller::Owner,
            Way::Tcp { .. } => bearer(headers).map_or(Caller::Stranger, |token| self.tokens.caller(token)),
        })
    }

    /// Refuses a caller who may not do that.
    pub(super) fn demand(&self, caller: &Caller, right: ApiRight) -> Result<(), Box<Response>> {
        if caller.may(right) || right == ApiRight::Metrics && !self.is_open && *caller == Caller::Stranger {
            return Ok(());
        }
        if *caller != Caller::Stranger {
            let what = "the token may not do that";
            return Err(refused(
                StatusCode::FORBIDDEN,
                "right",
                what,
                "add the right to `may` of the token in the host file",
            ));
        }
        let help = "send `Authorization: Bearer …` with a token that `api.tokens` of the host file names; the host's own user \
                    needs none: `pgstream-host status`";
        let mut answer = refused(StatusCode::UNAUTHORIZED, "token", "a token is needed, and this is none", help);
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(answer)
    }

    /// Tells whether the name under which the request was sent is one of ours. A page whose name
    /// was pointed here cannot choose another one.
    fn is_ours(&self, request: &Request<Body>, at: IpAddr) -> bool {
        let mut named = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (named.next().and_then(|host| host.to_str().ok()), named.next()) else { return false };
        let target = request.uri().authority().map(|authority| authority.as_str());
        target.is_none_or(|target| target.eq_ignore_ascii_case(host)) && self.knows(host, at)
    }

    fn knows(&self, host: &str, at: IpAddr) -> bool {
        let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
        if host.contains('@') {
            return false;
        }
        let name = authority.host().to_ascii_lowercase();
        let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(address) => address.is_loopback() || address.to_canonical() == at.to_canonical(),
            Err(_) => name == "localhost" || self.hosts.contains(&name),
        }
    }
}

/// Tells whether a request comes from no page, or from one of the host: browsers of today say so,
/// older ones say where from.
fn is_own_page(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let (origin, host) = (origin.to_str().unwrap_or_default(), headers.get(header::HOST));
    let from = origin.split_once("://").map(|(_, from)| from);
    from.zip(host.and_then(|host| host.to_str().ok())).is_some_and(|(from, host)| from.eq_ignore_ascii_case(host))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut named = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = named.next()?.to_str().ok()?.split_once(' ')?;
    (named.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

fn refused(status: StatusCode, code: &str, message: &str, help: &str) -> Box<Response> {
    Box::new(view::problem(status, code, message, help))
}

/// A gate and what is behind it share it.
pub(super) type SharedGate = Arc<Gate>;

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(hosts: &[&str]) -> Gate {
        Gate { tokens: Tokens::default(), hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), is_open: false }
    }

    #[test]
    fn only_pages_of_ours_may_change_anything() {
        let told = |headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_own_page(&headers.collect())
        };
        let host = ("host", "localhost:7433");
        assert!(told(&[host]), "no browser");
        assert!(told(&[host, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:7433")]));
        assert!(told(&[host, ("origin", "http://localhost:7433")]), "an older browser");
        for (name, value) in [
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "cross-site"),
            ("origin", "http://localhost:8000"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
        ] {
            assert!(!told(&[host, (name, value)]), "{name}: {value}");
        }
    }

    #[test]
    fn only_names_of_ours_are_answered() {
        let (gate, at) = (gate(&["pgstream.internal"]), "10.0.0.7".parse().unwrap());
        for host in [
            "localhost",
            "LOCALHOST:9",
            "127.0.0.1:7433",
            "[::1]:7433",
            "10.0.0.7",
            "pgstream.internal:80",
            "Pgstream.Internal",
        ] {
            assert!(gate.knows(host, at), "{host}");
        }
        for host in [
            "evil.example",
            "10.0.0.8",
            "localhost.evil.example",
            "evil@localhost",
            "0.0.0.0",
            "",
            "localhost evil",
            "127.0.0.1.nip.io",
        ] {
            assert!(!gate.knows(host, at), "{host}");
        }
    }
}
