//! Attacks by those whom the host must not trust: other users of the database, servers, and tenants.

#[cfg(target_os = "linux")]
mod compilers;
mod copies;
mod files;
mod hooks;
mod names;
mod qdrant;
mod sql;
mod tenants;
mod terminal;
mod urls;
mod wire;
