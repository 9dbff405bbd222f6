//! Attacks by those whom the host must not trust: other users of the database, servers, and tenants.

mod api;
#[cfg(target_os = "linux")]
mod compilers;
mod copies;
mod files;
mod hooks;
mod logins;
mod names;
mod qdrant;
mod sql;
mod tenants;
mod terminal;
mod tls;
mod urls;
mod wire;

pub(crate) use sql::letters;
