//! `Narrow`: finds the events whose commands a sink refuses, and sets them aside, while all others are written.
//!
//! Commands that a sink refuses, in a way that single ones can have caused, are written again in halves, in order, down to the
//! events that fail alone. All that one handler made of one event stands or falls together. A sink that stores a position
//! stores only what lies before the next command, so it never gets ahead of an event that is not yet kept elsewhere: after a
//! crash that event comes again, and is refused and kept again.

use std::ops::Range;
use std::sync::Arc;

use super::Stage;
use super::bisect::{Refused, halve};
use super::dead_letter::{KEEP, dead_letter, place};
use super::deliver::{Shared, Writer};
use super::handle::Handled;
use super::tolerance::{TooMany, Window};
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
    /// What was refused of each stage's events, as far as the sink has come.
    pub(super) windows: &'a mut [Window],
    pub(super) shared: &'a Shared,
}

impl Narrow<'_, '_> {
    /// Writes all of `asked` that the sink takes, in order, and moves its position to `through`. `error` is why it did not take
    /// all of it at once.
    pub(super) async fn run(&mut self, asked: &[Asked<'_>], through: Held, error: Error) -> Result<()> {
        let answers: Vec<&[Asked<'_>]> = asked
            .chunk_by(|one, other| one.command.position == other.command.position && one.stage == other.stage)
            .collect();
        let (sink, events) = (self.writer.name, answers.len());
        if events > 1 {
            tracing::info!(sink, events, error = %error.chain(), "a write was refused; looking for the event that did it");
        }
        // The next part in the order of the stream is always on top.
        let mut todo = Vec::new();
        self.refused(&mut todo, &answers, 0..events, error).await?;
        while let Some(part) = todo.pop() {
            // Everything before the next answer is written with this part, or was set aside.
            let next = answers.get(part.end).and_then(|answer| answer.first());
            let through = next.map_or(through, Asked::before);
            let commands = answers.get(part.clone()).unwrap_or_default().iter().copied().flatten();
            let delivery =
                Delivery { commands: commands.map(|asked| asked.command).collect(), rejected: Vec::new(), through };
            if let Err(error) = self.writer.write(&delivery).await {
                self.refused(&mut todo, &answers, part, error).await?;
            }
        }
        // The last answers may have been set aside.
        self.writer.write(&Delivery { through, ..Delivery::default() }).await
    }

    /// Halves a part that was refused, or sets it aside if it is the answer to one event.
    async fn refused(
        &mut self,
        todo: &mut Vec<Range<usize>>,
        answers: &[&[Asked<'_>]],
        part: Range<usize>,
        error: Error,
    ) -> Result<()> {
        if error.misdeed().is_none() {
            return Err(error);
        }
        if part.len() > 1 {
            halve(todo, part);
            return Ok(());
        }
        match answers.get(part.start).and_then(|answer| answer.first()) {
            Some(asked) => self.set_aside(*asked, error).await,
            None => Err(error),
        }
    }

    /// Returns once the event is kept elsewhere.
    async fn set_aside(&mut self, asked: Asked<'_>, error: Error) -> Result<()> {
        let Asked { stage: index, handled, .. } = asked;
        let (Some((at, event)), Some(stage)) = (asked.event(), handled.stages.get(index)) else {
            return Err(Error::new(Fault::Bug, "a command answers no event of its batch").because(error));
        };
        if !stage.keeps_rejected {
            return Err(self.nobody_keeps(stage, error).at(place(&handled.batch, at)));
        }
        if !event.replayed
            && let Some(window) = self.windows.get_mut(index)
        {
            let number = handled.first + at as u64;
            if let Err(TooMany) = stage.tolerance.allows(window, number) {
                return Err(stage.tolerance.exceeded(&stage.name, error).at(place(&handled.batch, at)));
            }
        }
        let (sink, reason) = (self.writer.name, error.chain());
        tracing::warn!(sink, event = %place(&handled.batch, at), reason, "an event was set aside");
        let refused = Refused { event: at, code: Code::Sink, reason, sink: Some(sink.to_owned()) };
        if let Some(letter) = dead_letter(stage, &handled.batch, refused) {
            self.shared.takers.keep(index, &letter).await;
        }
        self.shared.status.refused(1);
        stage.transform.meter().rejects(Code::Sink);
        self.writer.status.meter.refused.add(1);
        Ok(())
    }

    fn nobody_keeps(&self, stage: &Stage, why: Error) -> Error {
        let (sink, name) = (self.writer.name, &stage.name);
        let fix = why.advice().map(|advice| format!("{advice}\n")).unwrap_or_default();
        let what = format!(
            "sink `{sink}` refuses what handler `{name}` made of an event, and no sink takes `{name}.rejected`"
        );
        Error::new(why.fault(), what).because(why).help(format!(
            "{fix}nothing from this event on was confirmed. {KEEP}\n  \
             rejected: {{ type: dead-letters, inputs: [{name}.rejected] }}"
        ))
    }
}
