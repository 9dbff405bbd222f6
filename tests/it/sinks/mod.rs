//! Sinks against real stores. `contract` holds what every sink promises; each sink's file runs all of it.

#[allow(dead_code, unused_imports, unused_macros)] // until the first sink stands
mod contract;
