//! Connections to Postgres, for the source and for the pgvector sink: one URL syntax, one TLS, one reading of errors.

mod client;
mod error;
mod own;
mod socket;
mod tls;
mod url;

pub(crate) use client::clear_text;
pub use client::connect;
pub(crate) use error::{NO_PASSWORD, lost};
pub use error::{ServerError, failed, sqlstate};
pub use own::{ensure_table, has_table};
pub(crate) use socket::{Encryption, Ladder, Socket, in_time};
pub use url::{Address, ChannelBinding, Root, Ssl, SslMode, Url};

/// Settings on which the text of values and the life of a session depend; a role's or a database's own settings
/// (`ALTER ROLE … SET`) would otherwise change them under us.
pub(crate) const SESSION: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];
