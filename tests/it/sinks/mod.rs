//! Sinks against real stores. `contract` holds what every sink promises; each sink's file runs all of it.

mod contract;
mod pgvector;
mod qdrant_edge;
