//! The server's side of a replication connection, from bytes to events: see `checks/replication.rs`.

#![no_main]
#![allow(dead_code, unreachable_pub, unused_imports)]

use libfuzzer_sys::fuzz_target;

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

#[path = "../../../src/postgres/error.rs"]
mod postgres;

#[path = "../../../src/source/postgres/frames.rs"]
mod frames;

#[path = "../../../src/source/postgres/message.rs"]
mod message;

#[path = "../checks/replication.rs"]
mod check;

fuzz_target!(|input: &[u8]| check::check(input));
