//! `Narrow`: finds the events whose commands a sink refuses, and sets them aside, while all others
//! are written.
//!
//! Commands that a sink refuses, in a way that single ones can have caused, are written again in
//! halves ([`isolate`]), in order, down to the events that fail alone. All that one handler made of
//! one event stands or falls together. A sink that stores a position stores only what lies before
//! the next command, so it never gets ahead of an event that is not yet kept elsewhere: after a
//! crash that event comes again, and is refused and kept again.

use std::ops::Range;
use std::sync::Arc;

use super::dead_letter::dead_letter;
use super::handle::Handled;
use super::isolate::{Attempt, Suspects, isolate};
use super::rejection::{Refused, Rejecting};
use super::tolerance::Window;
use super::writer::{Shared, Writer};
use crate::command::Command;
use crate::error::{Code, Error, Fault, Result};
use crate::event::Event;
use crate::sink::{Delivery, Held};

/// A command with where it comes from.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) command: &'a Command,
    /// Index of the handler's stage.
    pub(super) stage: usize,
    pub(super) handled: &'a Arc<Handled>,
}

impl<'a> Asked<'a> {
    /// The event that the command answers, with its index in the batch.
    fn event(&self) -> Option<(usize, &'a Event)> {
        let events = self.handled.batch.events();
        let at = events.binary_search_by_key(&self.command.position, |event| event.position).ok()?;
        events.get(at).map(|event| (at, event))
    }

    /// Everything before the event.
    fn before(&self) -> Held {
        let committed = self.event().map_or(0, |(_, event)| event.commit_time);
        Held { position: self.command.position.before(), committed }
    }
}

/// Writes what a sink has refused as a whole.
pub(super) struct Narrow<'a, 'w> {
    pub(super) writer: &'a mut Writer<'w>,
    /// The events of each stage that were rejected or refused, as far as the sink has come.
    pub(super) windows: &'a mut [Window],
    pub(super) shared: &'a Shared,
}

impl Narrow<'_, '_> {
    /// Writes all of `asked` that the sink takes, in order, and moves its position to `through`.
    /// `error` is why it did not take all of it at once.
    pub(super) async fn run(&mut self, asked: &[Asked<'_>], through: Held, error: Error) -> Result<()> {
        let answers: Vec<&[Asked<'_>]> = asked
            .chunk_by(|one, other| one.command.position == other.command.position && one.stage == other.stage)
            .collect();
        let (sink, events) = (self.writer.name, answers.len());
        if error.misdeed().is_none() || events == 0 {
            return Err(error);
        }
        if events > 1 {
            tracing::info!(sink, events, error = %error.chain(), "a write was refused; looking for the event that did it");
        }
        let mut search = Search { narrow: self, answers, through };
        isolate(&mut search, 0..events, error).await?;
        // The last answers may have been set aside.
        self.writer.write(&Delivery { through, ..Delivery::default() }).await
    }

    /// Returns once the event is kept elsewhere.
    async fn set_aside(&mut self, asked: Asked<'_>, error: Error) -> Result<()> {
        let Asked { stage: index, handled, .. } = asked;
        let (Some((at, _)), Some(stage)) = (asked.event(), handled.stages.get(index)) else {
            return Err(Error::new(Fault::Bug, "a command answers no event of its batch").because(error));
        };
        let rejecting = Rejecting { stage, batch: &handled.batch };
        let (sink, name, fault) = (self.writer.name, &stage.name, error.fault());
        let what = format!("sink `{sink}` refuses what handler `{name}` made of an event");
        let error = rejecting.kept(at, error, fault, &what, "nothing from this event on")?;
        let reason = error.chain();
        if let Some(window) = self.windows.get_mut(index) {
            let counted = rejecting.count(window, at, handled.first + at as u64, || error);
            counted.map_err(|error| error.at(rejecting.place(at)))?;
        }
        tracing::warn!(sink, event = %rejecting.place(at), reason, "an event was set aside");
        let refused = Refused { event: at, code: Code::Sink, reason, sink: Some(sink.to_owned()) };
        if let Some(letter) = dead_letter(stage, &handled.batch, refused) {
            self.shared.takers.keep(index, &letter).await;
        }
        self.shared.status.refused(1);
        stage.transform.meter().rejects(Code::Sink);
        self.writer.status.meter.refused.add(1);
        Ok(())
    }
}

/// The answers to events, in the order in which they are written. All that one handler made of one
/// event is one of them.
struct Search<'s, 'n, 'w, 'c> {
    narrow: &'s mut Narrow<'n, 'w>,
    answers: Vec<&'c [Asked<'c>]>,
    through: Held,
}

impl Suspects for Search<'_, '_, '_, '_> {
    async fn attempt(&mut self, part: Range<usize>) -> Result<Attempt> {
        // Everything before the next answer is written with this part, or was set aside.
        let next = self.answers.get(part.end).and_then(|answer| answer.first());
        let through = next.map_or(self.through, Asked::before);
        let commands = self.answers.get(part).unwrap_or_default().iter().copied().flatten();
        let commands = commands.map(|asked| asked.command).collect();
        match self.narrow.writer.write(&Delivery { commands, rejected: Vec::new(), through }).await {
            Ok(()) => Ok(Attempt::Passed),
            Err(error) if error.misdeed().is_some() => Ok(Attempt::Suspect(error)),
            Err(error) => Err(error),
        }
    }

    async fn set_aside(&mut self, answer: usize, error: Error) -> Result<()> {
        match self.answers.get(answer).and_then(|answer| answer.first()) {
            Some(asked) => self.narrow.set_aside(*asked, error).await,
            None => Err(error),
        }
    }
}
