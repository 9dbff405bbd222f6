//! `Rejecting`: events that go to the dead letters instead of the sinks: who keeps them, how many
//! may be, and what is said of it.

use super::Stage;
use super::tolerance::{TooMany, Window};
use crate::command::Command;
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Position;

/// The advice where nobody keeps what is refused.
pub(super) const KEEP: &str = "To set such events aside and go on, add a sink to the pipeline:";

/// An event that goes to the dead letters.
#[derive(Debug)]
pub(super) struct Refused {
    /// Index into the batch's events.
    pub(super) event: usize,
    pub(super) code: Code,
    /// One line of bounded length.
    pub(super) reason: String,
    /// The sink that refused it, if it was not the handler.
    pub(super) sink: Option<String>,
}

/// The events of a batch that a stage lets go.
#[derive(Clone, Copy)]
pub(super) struct Rejecting<'a> {
    pub(super) stage: &'a Stage,
    pub(super) batch: &'a Batch,
}

impl Rejecting<'_> {
    /// Hands `why` back if somebody keeps what the stage rejects.
    ///
    /// # Errors
    /// With `fault`, headline `what` and this advice, if nobody does: the event would be lost.
    /// `confirmed` says what was not.
    pub(super) fn kept(self, event: usize, why: Error, fault: Fault, what: &str, confirmed: &str) -> Result<Error> {
        if self.stage.keeps_rejected {
            return Ok(why);
        }
        let name = &self.stage.name;
        let fix = why.advice().map(|advice| format!("{advice}\n")).unwrap_or_default();
        let help = format!(
            "{fix}{confirmed} was confirmed. {KEEP}\n  rejected: {{ type: dead-letters, inputs: [{name}.rejected] }}"
        );
        let what = format!("{what}, and no sink takes `{name}.rejected`");
        Err(Error::new(fault, what).because(why).at(self.place(event)).help(help))
    }

    /// Counts an event in `window`, under its `number` there. One that somebody asked to have
    /// replayed was counted before.
    ///
    /// # Errors
    /// If there are more than the stage tolerates; `last` is why this one was rejected.
    pub(super) fn count(
        self,
        window: &mut Window,
        event: usize,
        number: u64,
        last: impl FnOnce() -> Error,
    ) -> Result<()> {
        let Stage { name, tolerance, .. } = self.stage;
        if self.batch.events().get(event).is_some_and(|event| event.replayed) {
            return Ok(());
        }
        tolerance.allows(window, number).map_err(|TooMany| tolerance.exceeded(name, last()))
    }

    /// Position and table of an event.
    pub(super) fn place(self, event: usize) -> String {
        place(self.batch, event)
    }
}

/// Position and table of an event; never a key or a value.
pub(super) fn place(batch: &Batch, event: usize) -> String {
    match batch.events().get(event) {
        Some(found) => format!("event {}, table `{}`", found.position, batch.relation(found)),
        None => format!("event {event} of the batch"),
    }
}

/// Sets the events at these positions aside, with all that they asked for.
pub(super) fn take_out(
    batch: &Batch,
    mut unfit: Vec<(Position, Code, String)>,
    commands: &mut Vec<Command>,
    refused: &mut Vec<Refused>,
) {
    if unfit.is_empty() {
        return;
    }
    // Commands stand in the order of their events, so the positions rise.
    unfit.dedup_by_key(|(position, ..)| *position);
    commands.retain(|command| unfit.binary_search_by_key(&command.position, |(position, ..)| *position).is_err());
    for (position, code, reason) in unfit {
        let Ok(event) = batch.events().binary_search_by_key(&position, |event| event.position) else { continue };
        refused.push(Refused { event, code, reason, sink: None });
    }
    refused.sort_by_key(|refused| refused.event);
}
