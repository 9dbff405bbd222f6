//! Connections to Postgres, for the source and for the pgvector sink: one URL syntax, one TLS, one
//! reading of errors.

mod answer;
mod client;
mod dialect;
mod error;
mod hooks;
mod intake;
mod names;
mod ours;
mod own;
mod paced;
mod rights;
mod socket;
mod tls;
mod url;

pub(crate) use answer::{ReadRow, first_column};
pub use client::{cancel, connect};
pub(crate) use error::{NO_PASSWORD, lost};
pub use error::{ServerError, failed, sqlstate};
pub(crate) use hooks::{HANGING, keep_to_owner, of_another, refuse_hooks};
pub(crate) use intake::{Room, clear_text};
pub(crate) use names::{plainly_quoted, quoted, shown_sql};
pub(crate) use ours::{is_trusted, is_trusted_here, trusting};
pub(crate) use own::grant;
pub use own::{ensure_table, has_table};
pub use rights::warn_of_excess;
pub(crate) use socket::{Encryption, Ladder, Socket, in_time};
pub use url::{Address, ChannelBinding, Root, Ssl, SslMode, Url};

/// Settings on which the text of values and the life of a session depend; a role's or a database's
/// own settings (`ALTER ROLE … SET`) would otherwise change them under us.
///
/// Not among them is [`SEARCH_PATH`], whose value is a list.
pub(crate) const SESSION: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    // What is locked and then looked at must be what is there after the lock.
    ("default_transaction_isolation", "read committed"),
];

/// SQL that turns `transaction_timeout` off where the server has it: Postgres 17 brought it.
pub(crate) const NO_TRANSACTION_TIMEOUT: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
    WHERE name OPERATOR(pg_catalog.=) 'transaction_timeout';";

/// The path by which names without a schema are looked up, in every session of ours: it holds only
/// what the server itself brings. Whoever may create something in another schema of the path could
/// otherwise put a function or an operator of his own in the place of one that we call, and it
/// would run with our rights. Temporary objects come last, because without being named they would
/// come first.
pub(crate) const SEARCH_PATH: &str = "pg_catalog, pg_temp";

/// Sets [`SEARCH_PATH`], whatever the URL, the role and the database say. The first statement of
/// each session.
pub(crate) const PIN: &str = "SET search_path = pg_catalog, pg_temp;";
