//! The reach of a handler over HTTP: the hosts, the addresses behind them, and how much of it one call may do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::config::{Secret, Size, Span};

/// The things that a handler may reach beyond its batch. Nothing, unless it is named here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Hosts that it may send HTTP requests to: `api.example.com`, `https://internal.example:8443`, or a map.
    pub http: Vec<HttpHost>,
}

/// A host that a handler may send HTTP requests to.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpHost {
    /// Scheme, name and port, all of which a request must have.
    pub host: Origin,
    /// Headers that the host adds to each request; no two names differ in case alone. The handler neither sees nor replaces them.
    pub headers: BTreeMap<String, Secret>,
    /// Addresses that are not on the public internet and that the name may nonetheless stand for.
    pub private: Vec<Network>,
}

/// A host with what belongs to it; what an [`HttpHost`] written as a map says.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Detailed {
    /// `api.example.com` for https, `http://api.example.com:8080` for another scheme and port.
    host: Origin,
    /// Headers that the host adds to each request, such as `authorization`. The handler neither sees nor replaces them.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// Addresses off the public internet that the name may stand for: `10.0.0.0/8`, `127.0.0.1`. Otherwise none may be.
    #[serde(default)]
    private: Vec<Network>,
}

impl<'de> Deserialize<'de> for HttpHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = HttpHost;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a host such as `api.example.com`, or a map with `host`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<HttpHost, E> {
                let host = text.parse().map_err(E::custom)?;
                Ok(HttpHost { host, headers: BTreeMap::new(), private: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HttpHost, A::Error> {
                let Detailed { host, headers, private } = Detailed::deserialize(MapAccessDeserializer::new(map))?;
                // Names of headers have no case.
                let names: BTreeSet<String> = headers.keys().map(|name| name.to_ascii_lowercase()).collect();
                if names.len() < headers.len() {
                    return Err(A::Error::custom("a header is named twice, in upper and in lower case"));
                }
                Ok(HttpHost { host, headers, private })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for HttpHost {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HttpHost".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (detailed, plain) = (Detailed::json_schema(generator), Origin::json_schema(generator));
        json_schema!({ "anyOf": [detailed, plain] })
    }
}

/// The place where requests go: scheme, host and port. Written without a scheme it means https, without a port the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// True if requests are encrypted.
    pub tls: bool,
    /// In lower case; an IPv6 address in brackets.
    pub host: String,
    /// Never zero.
    pub port: u16,
}

/// Text that names no host. Never repeats the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(&'static str);

impl Origin {
    /// "https" or "http".
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The address, if the host is one and not a name.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse().ok().map(IpAddr::V6),
            None => self.host.parse().ok().map(IpAddr::V4),
        }
    }

    fn standard_port(tls: bool) -> u16 {
        if tls { 443 } else { 80 }
    }
}

impl FromStr for Origin {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (tls, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(NetworkError("a handler speaks `https`, or `http` where that is named")),
        };
        if rest.contains('@') {
            return Err(NetworkError("a host is named without a user: credentials stand in `headers`"));
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(NetworkError("expected a host without a path, such as `api.example.com`"));
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            None => Self::standard_port(tls),
            Some(port) => match Some(port).filter(digits).and_then(|port| port.parse().ok()) {
                Some(port) if port > 0 => port,
                _ => return Err(NetworkError("the port after `:` is a number up to 65535")),
            },
        };
        Ok(Self { tls, host: host_name(host)?, port })
    }
}

/// The host in the one form in which it is compared.
fn host_name(host: &str) -> Result<String, NetworkError> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        let address = address.ok_or(NetworkError("what stands in `[ ]` is an IPv6 address"))?;
        return Ok(format!("[{address}]"));
    }
    if host.contains(':') {
        return Err(NetworkError("an IPv6 address stands in brackets: `[2001:db8::1]`"));
    }
    if host.contains('*') {
        return Err(NetworkError("each host is named: `*` has no meaning here"));
    }
    if !host.is_ascii() {
        return Err(NetworkError("a host is written in ASCII: `xn--…` for letters beyond it"));
    }
    let host = host.to_ascii_lowercase();
    let word = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let edge = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && !edge && label.bytes().all(plain)
    };
    if host.len() > 253 || !host.split('.').all(word) {
        return Err(NetworkError("expected a host such as `api.example.com`"));
    }
    // What ends in a number is an address to every resolver, in decimal, octal and hexadecimal: only one form is taken.
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if number && host.parse::<Ipv4Addr>().is_err() {
        return Err(NetworkError("an address is written as four decimal numbers: `192.0.2.1`"));
    }
    Ok(host)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.tls {
            f.write_str("http://")?;
        } else if self.port != Self::standard_port(true) {
            f.write_str("https://")?;
        }
        f.write_str(&self.host)?;
        if self.port == Self::standard_port(self.tls) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// A range of addresses: `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// Tells if `address` lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                prefix(first.to_bits(), self.bits) == prefix(address.to_bits(), self.bits)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let cut = |bits: u128| bits.checked_shr(128 - u32::from(self.bits)).unwrap_or(0);
                cut(first.to_bits()) == cut(address.to_bits())
            }
            _ => false,
        }
    }
}

fn prefix(address: u32, bits: u8) -> u32 {
    address.checked_shr(32 - u32::from(bits)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        const EXPECTED: NetworkError =
            NetworkError("expected a range of addresses such as `10.0.0.0/8`, or one address");
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| EXPECTED)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or(EXPECTED)?,
        };
        // All addresses there are would be no grant but the absence of one.
        if bits == 0 { Err(EXPECTED) } else { Ok(Self { first, bits }) }
    }
}

macro_rules! text {
    ($type:ty, $name:literal, $schema:tt) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text!(Origin, "Origin", { "type": "string", "examples": ["api.example.com", "http://localhost:8080"] });
text!(Network, "Network", { "type": "string", "examples": ["10.0.0.0/8", "127.0.0.1"] });

/// The limits of one call over HTTP; beyond them requests fail, and a call that waits too long ends.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLimits {
    /// Requests of a call.
    #[schemars(range(min = 1, max = 10_000))]
    pub requests: u32,
    /// Time for one request, from the name's look-up to the last byte of the answer.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10m"))]
    pub timeout: Span,
    /// Time that a call may wait in all. It does not count as computing.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "1h"))]
    pub wait: Span,
    /// Bytes that the requests of a call may have, with their headers.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    pub sent: Size,
    /// Bytes that the answers of a call may have, with their headers.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1GiB"))]
    pub received: Size,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            requests: 1000, // one for each event of a batch of the usual size
            timeout: Span(Duration::from_secs(10)),
            wait: Span(Duration::from_secs(60)),
            sent: Size(4 << 20),
            received: Size(16 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(text: &str) -> Result<String, &'static str> {
        text.parse().map(|origin: Origin| origin.to_string()).map_err(|NetworkError(why)| why)
    }

    #[test]
    fn a_host_has_one_form() {
        for (text, shown) in [
            ("api.example.com", "api.example.com"),
            ("https://API.Example.com:443", "api.example.com"),
            ("https://internal.example:8443", "https://internal.example:8443"),
            ("internal.example:8443", "https://internal.example:8443"),
            ("http://localhost", "http://localhost"),
            ("http://localhost:443", "http://localhost:443"),
            ("[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
        ] {
            assert_eq!(origin(text), Ok(shown.to_owned()), "{text}");
            assert_eq!(origin(shown), Ok(shown.to_owned()), "{shown}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "https://",
            "ftp://a.example",
            "https://user:secret@a.example",
            "a.example/",
            "a.example/path",
            "*.example",
            "a.example:0",
            "a.example:+80",
            "a.example:65536",
            "a.example:",
            "::1",
            "[::1",
            "2130706433",
            "0x7f.1",
            "127.1",
            "0177.0.0.1",
            "0x7f000001",
            "a..example",
            "a.example.",
            "-a.example",
            "ä.example",
            "a b",
            "a.example\r\n",
            "a?b",
        ] {
            assert!(origin(text).is_err(), "{text} is taken as {:?}", origin(text));
        }
    }

    #[test]
    fn ranges_hold_what_lies_in_them() {
        let holds = |range: &str, address: &str| range.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe00::1") && !holds("fd00::/8", "10.0.0.1"));
        for text in ["", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.0/", "10.0.0/8", "localhost"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in ".*") {
            let _ = (text.parse::<Origin>(), text.parse::<Network>());
        }

        #[test]
        fn what_is_shown_reads_back(text in "(http://|https://)?[a-z0-9.:\\[\\]-]{1,20}") {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string().parse(), Ok(origin));
            }
        }
    }
}
