//! Sinks against real stores. `contract` holds what every sink promises; each sink's file runs all of it.

pub(crate) mod contract;
mod lasting;
mod lines;
pub(crate) mod pgvector;
pub(crate) mod qdrant;
pub(crate) mod qdrant_edge;
