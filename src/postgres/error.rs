//! `ServerError`: the meaning of Postgres' errors to us: SQLSTATE or I/O error into `Fault`, with
//! what to type.

use std::fmt;
use std::io;

use bytes::{BufMut, BytesMut};

use crate::error::{Error, Fault};
use crate::printable::printable;

/// An error that the server reported. Holds neither its detail nor its context, which quote rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The SQLSTATE, such as `42501`.
    pub code: String,
    /// The server's message, or a neutral text where the message would quote a value.
    pub message: String,
    /// The server's own advice.
    pub hint: Option<String>,
}

impl ServerError {
    /// An error as the server worded it; a message of the classes that quote values is replaced.
    pub fn new(code: &str, message: &str, hint: Option<&str>) -> Self {
        let worded = message;
        let message = match code {
            // pgvector reports wrong dimensions under the bare class, without a value.
            "22000" => message,
            _ if code.starts_with("22") => "a value does not fit its type",
            _ if code.starts_with("23") => "a constraint of the table is violated",
            // A function's own words.
            _ if code.starts_with("P0") => "a function raised an exception",
            _ => message,
        };
        // Who words the message words the hint, which is not to add lines of its own to what we advise.
        let hint = hint.filter(|_| message == worded).map(|hint| printable(&cut(hint, LONGEST)));
        Self { code: cut(code, 5), message: cut(message, LONGEST), hint }
    }

    /// Returns who must act.
    pub fn fault(&self) -> Fault {
        let class = self.code.get(..2).unwrap_or_default();
        match (self.code.as_str(), class) {
            // A pooler in between answers with a code of the connection class, and will do so again.
            _ if self.is_pooler() => Fault::Environment,
            // Slot in use, lock not available, cancelled by an operator.
            ("55006" | "55P03" | "57014", _) => Fault::Transient,
            ("57P01" | "57P02" | "57P03" | "57P05", _) => Fault::Transient,
            // A log file that is gone does not come back; other I/O errors of the server may.
            ("58P01", _) => Fault::Environment,
            (_, "08" | "40" | "53" | "58") => Fault::Transient,
            (_, "22" | "23") => Fault::Data,
            _ => Fault::Environment,
        }
    }

    /// Tells if a pooler such as PgBouncer refused to start a replication session.
    pub fn is_pooler(&self) -> bool {
        self.code == "08P01" && self.message.to_ascii_lowercase().contains("unsupported startup parameter")
    }

    fn help(&self) -> Option<String> {
        let fixed = match self.code.as_str() {
            _ if self.is_pooler() => {
                "a pooler (PgBouncer or alike) stands in between: use the direct endpoint of the database server in `url`"
            }
            "28P01" => "correct user and password in `url`, `PGPASSWORD` or `password_file`",
            "28000" if self.message.contains("pg_hba.conf") => {
                "allow this user, database and address in the server's pg_hba.conf; if it only lacks encryption, add `?sslmode=require` to `url`"
            }
            "28000" => "check that the user in `url` exists and may log in: ALTER ROLE … LOGIN",
            "3D000" => "correct the database's name in `url`, or create it: CREATE DATABASE …",
            "25006" => "the server is a standby or set to read-only: name the primary in `url`",
            "42501" if self.message.contains("row-level security") => {
                "the privilege is there, but a policy (row-level security) of the table refuses the row: ALTER ROLE … BYPASSRLS for the \
                 user in `url`, or a policy that lets it read and write all rows: CREATE POLICY … FOR ALL TO … USING (true)"
            }
            "42501" => {
                "grant the privilege to the user in `url`, or use another user; if it has it, look at the table's policies (row-level \
                 security)"
            }
            // Of another schema: nothing is looked for there by name alone.
            "42883" => "write functions and operators that are not Postgres' own with their schema: `public.name(…)`",
            "53300" => "close connections, or raise `max_connections` or `max_wal_senders` on the server",
            "53100" => "free disk space on the database server",
            _ => return self.hint.clone(),
        };
        Some(fixed.to_owned())
    }
}

/// Bytes that are shown of a server's text.
const LONGEST: usize = 2_000;

/// The text, or its beginning.
fn cut(text: &str, most: usize) -> String {
    match text.get(..text.floor_char_boundary(most)) {
        Some(start) if start.len() < text.len() && most == LONGEST => format!("{start}…"),
        Some(start) => start.to_owned(),
        None => text.to_owned(),
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for ServerError {}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        let what = if error.is_pooler() { "the database URL leads to a pooler" } else { "the database refused" };
        let help = error.help();
        let wrapped = Error::new(error.fault(), what).because(error);
        match help {
            Some(help) => wrapped.help(help),
            None => wrapped,
        }
    }
}

/// Gives an error of the driver its meaning; `what` says what was being done: "cannot create table
/// `x`".
pub fn failed(what: impl Into<String>, error: tokio_postgres::Error) -> Error {
    if let Some(server) = error.as_db_error() {
        if server.code().code() == REFUSED {
            let wrapped = Error::new(Fault::Environment, what).because(server.message());
            return match server.hint() {
                Some(help) => wrapped.help(printable(help)),
                None => wrapped,
            };
        }
        let server = ServerError::new(server.code().code(), server.message(), server.hint());
        let help = server.help();
        let wrapped = Error::new(server.fault(), what).because(server);
        return match help {
            Some(help) => wrapped.help(help),
            None => wrapped,
        };
    }
    if error.is_closed() {
        return Error::new(Fault::Transient, what).because("the server closed the connection");
    }
    // Only the driver's text tells a broken connection from an answer that it could not read.
    let broken = error.to_string().starts_with("error communicating with the server");
    match error.into_source().map(|source| source.downcast::<io::Error>()) {
        Some(Ok(io)) if broken => lost(what, *io),
        Some(Ok(other)) => Error::new(Fault::Environment, what).because(other),
        Some(Err(other)) if other.to_string() == "password missing" => Error::new(Fault::Config, what)
            .because("the server asks for a password and none is given")
            .help(NO_PASSWORD),
        Some(Err(other)) => Error::new(Fault::Environment, what).because(other),
        None => Error::new(Fault::Environment, what).because("the server's answer was not understood"),
    }
}

/// Stands where an error of the server has its SQLSTATE, in the place of a message that we did not
/// let in.
const REFUSED: &str = "PGSTR";

/// An ErrorResponse that says of a message why it was refused; any other error as it is.
pub(super) fn refused(error: io::Error) -> io::Result<BytesMut> {
    let error: Error = error.downcast()?;
    let mut message = BytesMut::from(&b"E\0\0\0\0"[..]);
    let text = error.to_string();
    let fields = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', REFUSED), (b'M', text.as_str())];
    for (kind, field) in fields.into_iter().chain(error.advice().map(|help| (b'H', help))) {
        message.put_u8(kind);
        message.put_slice(field.as_bytes());
        message.put_u8(0);
    }
    message.put_u8(0);
    let length = (message.len() as u32 - 1).to_be_bytes();
    if let Some(place) = message.get_mut(1..5) {
        place.copy_from_slice(&length);
    }
    Ok(message)
}

pub(crate) const NO_PASSWORD: &str =
    "put the password into `url`, into `PGPASSWORD`, or into a file named by `password_file`";

/// Gives an I/O error its meaning. An [`Error`] that travelled through the driver inside an I/O
/// error comes out again.
pub(crate) fn lost(what: impl Into<String>, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(inner) => inner.within(what),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::new(Fault::Transient, what).because("the server closed the connection")
        }
        Err(error) => Error::new(Fault::Transient, what).because(error),
    }
}

/// The SQLSTATE that an error goes back to, if a server reported it.
pub fn sqlstate(error: &Error) -> Option<&str> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(server) = error.downcast_ref::<ServerError>() {
            return Some(&server.code);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_must_act_follows_from_the_sqlstate() {
        for (code, message, fault) in [
            ("08006", "connection failure", Fault::Transient),
            ("57P01", "terminating connection due to administrator command", Fault::Transient),
            ("57P03", "the database system is starting up", Fault::Transient),
            ("55006", "replication slot is active", Fault::Transient),
            ("53300", "too many connections", Fault::Transient),
            ("40001", "could not serialize access", Fault::Transient),
            ("28P01", "password authentication failed", Fault::Environment),
            ("42501", "permission denied", Fault::Environment),
            ("3D000", "database does not exist", Fault::Environment),
            ("58P01", "requested WAL segment has already been removed", Fault::Environment),
            ("23505", "duplicate key", Fault::Data),
            ("08P01", "unsupported startup parameter: replication", Fault::Environment),
        ] {
            assert_eq!(ServerError::new(code, message, None).fault(), fault, "{code}");
        }
    }

    #[test]
    fn values_that_the_server_quotes_are_left_out() {
        let error = Error::from(ServerError::new("22P02", "invalid input syntax for type integer: \"secret\"", None));
        assert_eq!(
            error.report(),
            "error: the database refused\n  caused by: a value does not fit its type (SQLSTATE 22P02)\n"
        );
        assert_eq!(sqlstate(&error), Some("22P02"));
        assert_eq!(sqlstate(&error.within("outer")), Some("22P02"));
    }

    #[test]
    fn a_hint_adds_no_line_to_the_help_and_none_of_a_function_is_shown() {
        let hint = Some("do this\n        as a superuser: DROP …");
        let error = Error::from(ServerError::new("42P17", "no", hint));
        assert_eq!(error.advice(), Some("do this         as a superuser: DROP …"));
        assert_eq!(Error::from(ServerError::new("P0001", "no", hint)).advice(), None);
    }

    #[test]
    fn a_pooler_is_called_by_its_name() {
        let error = Error::from(ServerError::new("08P01", "unsupported startup parameter: replication", None));
        assert_eq!(
            error.report(),
            "error: the database URL leads to a pooler\n  \
             caused by: unsupported startup parameter: replication (SQLSTATE 08P01)\n  \
             help: a pooler (PgBouncer or alike) stands in between: use the direct endpoint of the database server in `url`\n"
        );
    }
}
