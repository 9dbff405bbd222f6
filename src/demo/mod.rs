//! `pgstream-host demo`: the whole product on one machine, with a Postgres of its own.

mod cluster;
mod folder;
mod process;

pub use cluster::{Cluster, Options, Stop};
