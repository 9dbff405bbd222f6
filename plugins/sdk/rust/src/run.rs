//! The loop over a batch that `handler!` puts around a function for one event.

use crate::bindings::pgstream::host::types::Batch;
use crate::error::Kind;
use crate::event::Table;
use crate::{Error, Event, Failure, Out, Output, Rejection, Result};

/// Calls `on_event` for each event of the batch.
pub fn run(batch: &Batch, on_event: impl Fn(&Event<'_>, &mut Out) -> Result<()>) -> Result<Output, Failure> {
    report_panics();
    let tables: Vec<Table<'_>> = batch.relations.iter().map(Table::new).collect();
    let mut out = Out::default();
    let mut rejections = Vec::new();
    for (index, event) in batch.events.iter().enumerate() {
        let answered = out.commands.len();
        out.event = index as u32;
        let result = on_event(&Event::new(&tables[event.relation as usize], event), &mut out);
        let reason = match (result.map_err(Error::into_kind), out.rejected.take()) {
            (Err(Kind::Batch(failure)), _) => return Err(failure),
            (Err(Kind::Reject(reason)), _) | (Ok(()), Some(reason)) => reason,
            (Ok(()), None) => continue,
        };
        out.commands.truncate(answered);
        rejections.push(Rejection { event: index as u32, reason });
    }
    Ok(Output { commands: out.commands, rejections })
}

/// Rust prints a panic on standard error, which the host hears. A target without WASI has none, so it is logged there.
fn report_panics() {
    #[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|panic| crate::log(crate::Level::Error, &panic.to_string())));
        });
    }
}
