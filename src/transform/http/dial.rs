//! The way out to one granted host: its name is looked up, the addresses are checked, and only
//! those are dialled.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, retry};
use wasmtime_wasi_http::Error as Code;

use super::address::refused;
use crate::config::model::{HttpHost, Network};

/// The time that a connection is kept for the next request: the address behind a name was checked
/// when it was dialled.
const IDLE: Duration = Duration::from_secs(30);

/// Connections kept for each host; further ones are closed after their request.
const IDLE_CONNECTIONS: usize = 8;

/// Addresses that a name's look-up gives.
type Found = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;

/// A function that looks up the addresses of a name.
type LookUp = Arc<dyn Fn(String) -> Found + Send + Sync>;

/// A client that reaches nothing but `host`, without proxies, redirects, cookies or anything else
/// that the environment could bring in.
pub(super) fn client(host: &HttpHost) -> reqwest::Result<Client> {
    // Fails if there is a provider already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let resolver = Guarded { private: host.private.clone().into(), look_up: Arc::new(system) };
    Client::builder()
        .user_agent(concat!("pgstream-host/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(resolver)
        .no_proxy()
        .redirect(Policy::none())
        .retry(retry::never())
        .referer(false)
        .https_only(host.host.tls)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build()
}

fn system(name: String) -> Found {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) })
}

/// Names into addresses that may be dialled. What it answers is what is dialled: no second look-up
/// can differ.
struct Guarded {
    private: Arc<[Network]>,
    look_up: LookUp,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, private) = ((self.look_up)(name.as_str().to_owned()), Arc::clone(&self.private));
        Box::pin(async move {
            let found = found.await?;
            let open: Vec<SocketAddr> = found
                .iter()
                .filter(|address| refused(**address, &private).is_none())
                .map(|address| SocketAddr::new(*address, 0))
                .collect();
            match found.first() {
                Some(address) if open.is_empty() => {
                    let why = refused(*address, &private).unwrap_or_default();
                    Err(Prohibited { address: *address, why }.into())
                }
                _ => Ok(Box::new(open.into_iter()) as Addrs),
            }
        })
    }
}

/// A name stands for nothing that may be dialled.
#[derive(Clone, Debug)]
pub(super) struct Prohibited {
    pub(super) address: IpAddr,
    pub(super) why: &'static str,
}

impl fmt::Display for Prohibited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}, {}", self.address, self.why)
    }
}

impl StdError for Prohibited {}

/// The address that was refused, if that is why a request failed.
pub(super) fn prohibited(error: &reqwest::Error) -> Option<Prohibited> {
    causes(error).find_map(|cause| cause.downcast_ref().cloned())
}

/// The words of hyper for a server that hangs up; nothing else of its errors tells it from one that
/// speaks no HTTP.
const HUNG_UP: &str = "connection closed before message completed";

/// Returns the error that a guest is told for a request that failed: a word of the standard,
/// nothing of this machine.
pub(super) fn code(error: &reqwest::Error) -> Code {
    let io = causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>());
    let tls = causes(error).find_map(|cause| inmost(cause).downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => return Code::TlsCertificateError,
        Some(_) => return Code::TlsProtocolError,
        None => {}
    }
    if error.is_timeout() {
        return Code::ConnectionTimeout;
    }
    if error.is_dns() {
        return Code::DnsError { rcode: Some("the name was not found".to_owned()), info_code: None };
    }
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => Code::ConnectionRefused,
        Some(_) if error.is_connect() => Code::DestinationUnavailable,
        Some(_) => Code::ConnectionTerminated,
        None if error.is_connect() => Code::DestinationUnavailable,
        None if causes(error).any(|cause| cause.to_string() == HUNG_UP) => Code::ConnectionTerminated,
        None => Code::HttpProtocolError,
    }
}

fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn StdError + 'static)| (*error).source())
}

/// Returns the innermost error that an I/O error was made of, which the I/O error leaves out of its
/// own causes. Any other error is returned as it is.
fn inmost<'e>(error: &'e (dyn StdError + 'static)) -> &'e (dyn StdError + 'static) {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => inmost(inner),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn guarded(private: &[&str], answers: &'static [&'static [&'static str]]) -> Guarded {
        let asked = AtomicUsize::new(0);
        let look_up = move |_| {
            let answer = answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
            let answer = answer.iter().map(|address| address.parse().unwrap()).collect();
            Box::pin(std::future::ready(Ok(answer))) as Found
        };
        let private = private.iter().map(|network| network.parse().unwrap()).collect();
        Guarded { private, look_up: Arc::new(look_up) }
    }

    async fn dialled(guarded: &Guarded) -> Result<Vec<String>, String> {
        let found = guarded.resolve("api.example.com".parse().unwrap()).await;
        found.map(|found| found.map(|address| address.ip().to_string()).collect()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_name_that_turns_to_another_address_is_checked_each_time() {
        let guarded = guarded(&[], &[&["1.1.1.1"], &["169.254.169.254"], &["10.0.0.1"]]);
        assert_eq!(dialled(&guarded).await, Ok(vec!["1.1.1.1".to_owned()]));
        assert!(dialled(&guarded).await.unwrap_err().starts_with("it is 169.254.169.254, the local link"));
        assert!(dialled(&guarded).await.unwrap_err().starts_with("it is 10.0.0.1, a private network"));
    }

    #[tokio::test]
    async fn of_several_addresses_only_those_are_dialled_that_may_be() {
        let guarded = guarded(&["10.0.0.0/8"], &[&["127.0.0.1", "1.1.1.1", "::1", "10.0.0.1", "::ffff:127.0.0.1"]]);
        assert_eq!(dialled(&guarded).await, Ok(vec!["1.1.1.1".to_owned(), "10.0.0.1".to_owned()]));
    }

    #[tokio::test]
    async fn a_client_dials_what_was_checked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = HttpHost {
            host: format!("http://localhost:{port}").parse().unwrap(),
            headers: Default::default(),
            private: vec![],
        };
        let refused = client(&host).unwrap().get(format!("http://localhost:{port}/")).send().await.unwrap_err();
        assert_eq!(prohibited(&refused).unwrap().why, "this machine");
        assert!(listener.accept().is_err(), "nobody knocked");
    }
}
