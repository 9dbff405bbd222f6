//! A guest for benchmarks: one point per row, whose text the host embeds, as a bare client would write it.

#![cfg(target_family = "wasm")]

use pgstream_handler::{Event, Out, Result, handler, json, text};

handler!(on_event);

fn on_event(event: &Event, out: &mut Out) -> Result<()> {
    let payload = json!({ "title": event.text("title")?, "category": event.text("category")? });
    out.upsert(event.key()?, text(event.text("content")?), payload)
}
