//! A guest for benchmarks: answers each event with one delete, so that what is measured is the way there and back.

#![cfg(target_family = "wasm")]

use pgstream_handler::{Event, Out, Result, handler};

handler!(on_event);

fn on_event(event: &Event, out: &mut Out) -> Result<()> {
    out.delete(event.key()?)
}
