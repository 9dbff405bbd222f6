//! `Embed`: the texts in what a handler answered as vectors; the events aside of which an embedder refuses a text.
//!
//! A text that is longer than a model takes is refused with all others of its request. So the events are asked for in halves,
//! down to those that are refused alone, while all others get their vectors.

use std::ops::Range;

use super::bisect::{Refused, halve, wait_out};
use super::dead_letter::{KEEP, place};
use super::handle::take_out;
use super::tolerance::{TooMany, Window};
use super::{BACKOFF, Stage};
use crate::command::Command;
use crate::embedder;
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Position;

/// Completes what the handler of a stage answered to a batch.
pub(super) struct Embed<'a> {
    pub(super) stage: &'a Stage,
    pub(super) batch: &'a Batch,
}

impl Embed<'_> {
    /// Embeds all texts of `commands`, which stand in the order of their events. Adds to `refused` the events of which a text
    /// is refused, and takes out all that they asked for.
    pub(super) async fn run(&self, commands: &mut Vec<Command>, refused: &mut Vec<Refused>) -> Result<()> {
        let Some(error) = self.refusal(commands).await? else { return Ok(()) };
        let answers = answers(commands);
        let (transform, events) = (&self.stage.name, answers.len());
        if events > 1 {
            tracing::info!(transform, events, error = %error.chain(), "texts were refused; looking for the event that they are of");
        }
        let mut search = Search::default();
        self.refused(&mut search, &answers, 0..events, error)?;
        // The next part in the order of the stream is always on top.
        while let Some(part) = search.todo.pop() {
            let Some(own) = span(&answers, &part).and_then(|span| commands.get_mut(span)) else { continue };
            if let Some(error) = self.refusal(own).await? {
                self.refused(&mut search, &answers, part, error)?;
            }
        }
        take_out(self.batch, search.unfit, commands, refused);
        Ok(())
    }

    /// Embeds the texts of `commands`. Some error if they are refused for what they are; then the commands are as they were.
    async fn refusal(&self, commands: &mut [Command]) -> Result<Option<Error>> {
        let mut backoff = BACKOFF;
        loop {
            match embedder::resolve(commands, &self.stage.embedders).await {
                Ok(()) => return Ok(None),
                Err(error) if error.fault() == Fault::Transient => {
                    wait_out(&error, &self.stage.name, true, &mut backoff).await;
                }
                Err(error) if error.misdeed().is_some() => return Ok(Some(error)),
                Err(error) => return Err(error.at(format!("transform `{}`", self.stage.name))),
            }
        }
    }

    /// Halves a part of which texts were refused, or sets it aside if it is one event.
    fn refused(&self, search: &mut Search, answers: &[Answer], part: Range<usize>, error: Error) -> Result<()> {
        match answers.get(part.start) {
            Some(answer) if part.len() == 1 => {
                let reason = format!("a text cannot be embedded: {}", error.chain());
                self.allow(answer.position, &mut search.window, error)?;
                search.unfit.push((answer.position, Code::Text, reason));
            }
            _ => halve(&mut search.todo, part),
        }
        Ok(())
    }

    /// Whether the event may be set aside.
    fn allow(&self, position: Position, window: &mut Window, error: Error) -> Result<()> {
        let Stage { name, tolerance, keeps_rejected, .. } = self.stage;
        let events = self.batch.events();
        let found = events.binary_search_by_key(&position, |event| event.position);
        let at = found.map_err(|_| Error::new(Fault::Bug, "a command answers no event of its batch"))?;
        if !keeps_rejected {
            let fix = error.advice().map(|advice| format!("{advice}\n")).unwrap_or_default();
            let what = format!(
                "a text that handler `{name}` made of an event is refused, and no sink takes `{name}.rejected`"
            );
            return Err(Error::new(error.fault(), what).because(error).at(place(self.batch, at)).help(format!(
                "{fix}nothing was confirmed. {KEEP}\n  rejected: {{ type: dead-letters, inputs: [{name}.rejected] }}"
            )));
        }
        let (transform, reason) = (name, error.chain());
        tracing::warn!(transform, event = %place(self.batch, at), code = Code::Text.as_str(), reason, "an event was set aside");
        if events.get(at).is_some_and(|event| event.replayed) {
            return Ok(()); // somebody asked for it, and it was counted before
        }
        tolerance.allows(window, at as u64).map_err(|TooMany| tolerance.exceeded(name, error))
    }
}

/// What is left of the search for refused texts, and what came of it.
#[derive(Default)]
struct Search {
    todo: Vec<Range<usize>>,
    unfit: Vec<(Position, Code, String)>,
    window: Window,
}

/// The commands that answer one event.
struct Answer {
    position: Position,
    commands: Range<usize>,
}

fn answers(commands: &[Command]) -> Vec<Answer> {
    let mut start = 0;
    let runs = commands.chunk_by(|one, other| one.position == other.position);
    let answers = runs.filter_map(|run| {
        let commands = start..start + run.len();
        start = commands.end;
        Some(Answer { position: run.first()?.position, commands })
    });
    answers.collect()
}

/// The commands of several answers.
fn span(answers: &[Answer], part: &Range<usize>) -> Option<Range<usize>> {
    let part = answers.get(part.clone())?;
    Some(part.first()?.commands.start..part.last()?.commands.end)
}
