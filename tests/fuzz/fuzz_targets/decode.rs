//! pgoutput's messages into events: see `checks/decode.rs`.

#![no_main]
#![allow(dead_code, unreachable_pub, unused_imports)]

use libfuzzer_sys::fuzz_target;

// The modules themselves, not the crate: decoding is pure, and the engines beside it would take an hour to
// build with instrumentation.
#[path = "../../../src/lsn.rs"]
mod lsn;

#[path = "../../../src/event/mod.rs"]
mod event;

#[path = "../../../src/error.rs"]
mod error;

#[path = "../../../src/printable.rs"]
mod printable;

#[path = "../../../src/sabotage.rs"]
mod sabotage;

#[path = "../../../src/decode/mod.rs"]
mod decode;

#[path = "../checks/decode.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::check(input));
