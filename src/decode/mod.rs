//! pgoutput's messages into events: pure, zero-copy, without I/O.
