//! Sinks against real stores. `contract` holds what every sink promises; each sink's file runs all of it.

mod contract;
mod lines;
mod pgvector;
mod qdrant;
mod qdrant_edge;
