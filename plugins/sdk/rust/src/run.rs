//! The loop that `handler!` puts around a function for one event, and the search that `batch_handler!` puts around one for
//! a batch.

#[cfg(target_family = "wasm")]
pub use crate::arena::answered;
use crate::bindings::pgstream::host::types::Batch;
use crate::error::Kind;
use crate::event::Table;
use crate::{Answers, Error, Event, Failure, Out, Output, Rejection, Result};

/// Has a batch answered.
#[cfg(not(target_family = "wasm"))]
pub fn answered<R>(batch: Batch, run: impl FnOnce(&Batch) -> R) -> R {
    run(&batch)
}

/// Calls `on_event` for each event of the batch.
pub fn run(batch: &Batch, on_event: impl Fn(&Event<'_>, &mut Out) -> Result<()>) -> Result<Output, Failure> {
    report_panics();
    let tables: Vec<Table<'_>> = batch.relations.iter().map(Table::new).collect();
    let mut output = Output { commands: Vec::with_capacity(batch.events.len()), rejections: Vec::new() };
    let mut out = Out::default();
    for (index, event) in (0..).zip(&batch.events) {
        match on_event(&Event::new(&tables[event.relation as usize], event, index), &mut out).map_err(Error::into_kind)
        {
            Ok(()) => out.move_to(&mut output, index),
            Err(Kind::Batch(failure)) => return Err(failure),
            Err(Kind::Reject(reason)) => {
                out.forget();
                output.rejections.push(Rejection { event: index, reason });
            }
        }
    }
    Ok(output)
}

/// Calls `on_batch` with all events of the batch.
pub fn run_batch(
    batch: &Batch,
    on_batch: impl Fn(&[Event<'_>], &mut Answers) -> Result<()>,
) -> Result<Output, Failure> {
    report_panics();
    let tables: Vec<Table<'_>> = batch.relations.iter().map(Table::new).collect();
    let events: Vec<Event<'_>> = (0..)
        .zip(&batch.events)
        .map(|(index, event)| Event::new(&tables[event.relation as usize], event, index))
        .collect();
    let mut output = Output { commands: Vec::new(), rejections: Vec::new() };
    halve(&events, &on_batch, &mut output)?;
    Ok(output)
}

/// Answers all events, or without those that `on_batch` rejects when it is given them alone.
fn halve(
    events: &[Event<'_>],
    on_batch: &impl Fn(&[Event<'_>], &mut Answers) -> Result<()>,
    output: &mut Output,
) -> Result<(), Failure> {
    let [first, ..] = events else { return Ok(()) };
    let mut answers = Answers::to_all(events);
    match (on_batch(events, &mut answers).map_err(Error::into_kind), events) {
        (Ok(()), _) => answers.move_to(output),
        (Err(Kind::Batch(failure)), _) => return Err(failure),
        (Err(Kind::Reject(reason)), [_]) => output.rejections.push(Rejection { event: first.index(), reason }),
        (Err(Kind::Reject(_)), _) => {
            let (left, right) = events.split_at(events.len() / 2);
            halve(left, on_batch, output)?;
            halve(right, on_batch, output)?;
        }
    }
    Ok(())
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
