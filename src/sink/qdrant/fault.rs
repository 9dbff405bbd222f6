//! `Peer`: the meaning of errors of the server and of the way to it: who must act, and what to
//! type.

use std::fmt;

use tonic::{Code, Status};

use crate::error::{Code as Misdeed, Error, Fault, Result};

/// The beginning of a status text that says that no connection came about.
pub(super) const NO_CONNECTION: &str = "Failed to connect to ";

/// The text of a status for an answer whose points hold too much.
pub(super) const TOO_MANY_VALUES: &str = "the points of the answer hold more values than are read at once";

/// The server and collection that a sink talks to, as errors name them.
#[derive(Clone)]
pub(super) struct Peer {
    url: String,
    collection: String,
}

impl Peer {
    pub(super) fn new(url: &str, collection: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let usable = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#']));
        if !usable {
            // The URL may hold a password, so it is not repeated.
            return Err(Error::new(Fault::Config, "`url` is not the address of a Qdrant server")
                .help("write `url: http://localhost:6334`, or `https://…` for TLS; the key goes into `api_key`"));
        }
        Ok(Self { url: url.to_owned(), collection: collection.to_owned() })
    }

    pub(super) fn collection(&self) -> &str {
        &self.collection
    }

    /// The collection is not there, although nothing asked to remove it.
    pub(super) fn no_collection(&self) -> Error {
        let Self { url, collection } = self;
        Error::new(Fault::Environment, format!("there is no collection `{collection}` at `{url}`")).help(
            "let the sink make it with `create: { dimension: 384, distance: cosine }`. If it was there before: points that were \
             confirmed do not come again by themselves, `pgstream-host resnapshot <pipeline file>` brings them",
        )
    }

    /// As `error`, for a write. What the server says of its content may concern a single command.
    pub(super) fn refusal(&self, status: Status) -> Error {
        let about_content = |error: Error| error.blame(Fault::Data).code(Misdeed::Sink);
        if is_too_large(&status) {
            return about_content(
                Error::new(Fault::Data, format!("a point is larger than {self} accepts in a request"))
                    .because(Words(words(&status)))
                    .help("let the handler write shorter payloads, or raise the server's limit"),
            );
        }
        let invalid = status.code() == Code::InvalidArgument;
        let error = self.error(status);
        if invalid { about_content(error) } else { error }
    }

    pub(super) fn error(&self, status: Status) -> Error {
        let message = status.message();
        if let Some(tail) = message.strip_prefix(NO_CONNECTION) {
            return self.unreachable(tail);
        }
        if is_too_large(&status) {
            return Error::new(Fault::Environment, format!("the answer of {self} is too large to be read"))
                .because(Words(words(&status)))
                .help("ask for fewer points; or let the handler write shorter payloads");
        }
        let because = |fault, what: String| Error::new(fault, what).because(Words(words(&status)));
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                because(Fault::Config, format!("{self} refuses the API key")).help(
                    "set the sink's `api_key` to a key that may write the collection: `api_key: ${QDRANT_API_KEY}`",
                )
            }
            Code::NotFound => self.no_collection().because(Words(words(&status))),
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::AlreadyExists
            | Code::Unimplemented
            | Code::DataLoss => because(Fault::Environment, format!("{self} refuses a request")).help(
                "compare the collection with the sink's settings: `pgstream-host validate --connect`; \
                 Qdrant 1.10 or newer is needed",
            ),
            // Internal among them: a server that restarts or waits for a replica answers so.
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable => because(Fault::Transient, format!("{self} cannot take a request now")),
        }
    }

    /// No connection came about. `detail` is the transport's debug text.
    fn unreachable(&self, detail: &str) -> Error {
        let what = format!("no connection to {self}");
        let cause = Words(innermost(detail).to_owned());
        if detail.contains("InvalidCertificate") {
            return Error::new(Fault::Environment, what).because(cause).help(
                "the server's certificate must be signed by an authority of the system; \
                 for another one set the environment variable `SSL_CERT_FILE`",
            );
        }
        let help = if self.url.trim_end_matches('/').ends_with(":6333") {
            "6333 is the port of Qdrant's REST interface; gRPC is on 6334"
        } else {
            "check `url`: it is the gRPC address, port 6334 by default, and `https` only if the server has TLS"
        };
        Error::new(Fault::Transient, what).because(cause).help(help)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Qdrant at `{}`", self.url)
    }
}

/// A cause in the server's words, without its headers.
#[derive(Debug)]
struct Words(String);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Words {}

pub(super) fn is_too_large(status: &Status) -> bool {
    let message = status.message();
    message.contains("message length too large") || message == TOO_MANY_VALUES
}

fn words(status: &Status) -> String {
    if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() }
}

/// The text of the operating system's or TLS's error inside the debug text of a chain of errors.
fn innermost(debug: &str) -> &str {
    ["message: \"", "error: \""]
        .iter()
        .find_map(|start| debug.split_once(start)?.1.split('"').next())
        .unwrap_or_else(|| debug.split_once(": ").map_or(debug, |(_, detail)| detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: Status) -> Error {
        Peer::new("http://qdrant:6334", "docs").unwrap().error(status)
    }

    #[test]
    fn what_passes_is_transient_and_what_does_not_says_what_to_do() {
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
            Code::Aborted,
            Code::Cancelled,
            Code::Unknown,
            Code::Internal,
        ] {
            assert_eq!(error(Status::new(code, "")).fault(), Fault::Transient, "{code:?}");
        }
        for (code, fault) in [
            (Code::Unauthenticated, Fault::Config),
            (Code::PermissionDenied, Fault::Config),
            (Code::NotFound, Fault::Environment),
            (Code::InvalidArgument, Fault::Environment),
            (Code::FailedPrecondition, Fault::Environment),
            (Code::Unimplemented, Fault::Environment),
        ] {
            let error = error(Status::new(code, "details"));
            assert_eq!(error.fault(), fault, "{code:?}");
            assert!(error.advice().is_some(), "{code:?}");
            assert!(error.report().contains("caused by: details"), "{}", error.report());
        }
        let large = error(Status::out_of_range("Error, decoded message length too large: found 9 bytes"));
        assert_eq!(large.to_string(), "the answer of Qdrant at `http://qdrant:6334` is too large to be read");
    }

    #[test]
    fn only_what_is_said_of_a_write_s_content_may_concern_one_command() {
        let refusal = |status: Status| Peer::new("http://qdrant:6334", "docs").unwrap().refusal(status);
        for status in [Status::invalid_argument("Wrong input: …"), Status::out_of_range("message length too large")] {
            let error = refusal(status);
            assert_eq!((error.fault(), error.misdeed()), (Fault::Data, Some(Misdeed::Sink)), "{error:?}");
        }
        for code in
            [Code::Unavailable, Code::NotFound, Code::PermissionDenied, Code::FailedPrecondition, Code::Internal]
        {
            assert_eq!(refusal(Status::new(code, "")).misdeed(), None, "{code:?}");
        }
        assert_eq!(error(Status::invalid_argument("a search")).misdeed(), None);
    }

    #[test]
    fn a_failed_connection_names_the_system_s_reason_and_the_port() {
        let debug = "Failed to connect to http://qdrant:6333/: tonic::transport::Error(Transport, ConnectError(\
                     ConnectError(\"tcp connect error\", 127.0.0.1:6333, Os { code: 111, kind: ConnectionRefused, \
                     message: \"Connection refused\" })))";
        let peer = Peer::new("http://qdrant:6333", "docs").unwrap();
        let error = peer.error(Status::internal(debug));
        assert_eq!(
            error.report(),
            "error: no connection to Qdrant at `http://qdrant:6333`\n  \
             caused by: Connection refused\n  \
             help: 6333 is the port of Qdrant's REST interface; gRPC is on 6334\n"
        );
        assert_eq!(error.fault(), Fault::Transient);
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_not_repeated() {
        for url in [
            "http://user:swordfish@qdrant:6334",
            "https://qdrant:6334?api_key=swordfish",
            "https://qdrant/#swordfish",
            "localhost:6334",
            "grpc://qdrant",
            "",
            "http://",
        ] {
            let error = Peer::new(url, "docs").err().unwrap();
            assert_eq!(error.fault(), Fault::Config);
            assert!(!error.report().contains("swordfish"));
        }
    }
}
