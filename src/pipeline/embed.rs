//! `Embed`: the texts in what a handler answered as vectors; the events aside of which an embedder refuses a text.
//!
//! A text that is longer than a model takes is refused with all others of its request. So the events are asked for in halves,
//! down to those that are refused alone, while all others get their vectors.

use std::ops::Range;

use super::bisect::{Refused, halve, wait_out};
use super::dead_letter::{KEEP, place};
use super::handle::take_out;
use super::room::Place;
use super::tolerance::{TooMany, Window};
use super::{BACKOFF, Stage};
use crate::backoff::Backoff;
use crate::command::Command;
use crate::embedder;
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Position;

/// What the vectors of a batch may take: more than the texts of the largest batches become that are of use. A thousand rows of
/// sixteen chunks take 94 MiB at 1536 numbers, 250 MiB at 4096.
const MAX_BATCH_BYTES: usize = 256 << 20;

/// Completes what the handler of a stage answered to a batch.
pub(super) struct Embed<'a> {
    pub(super) stage: &'a Stage,
    pub(super) batch: &'a Batch,
    /// Where the vectors will lie.
    pub(super) place: &'a Place,
}

impl Embed<'_> {
    /// Embeds all texts of `commands`, which stand in the order of their events. Adds to `refused` the events of which a text
    /// is refused, and takes out all that they asked for.
    pub(super) async fn run(&self, commands: &mut Vec<Command>, refused: &mut Vec<Refused>) -> Result<()> {
        let mut search = Search::default();
        self.make_room(&mut search, commands, refused).await?;
        let Some(error) = self.refusal(commands).await? else { return Ok(()) };
        let answers = answers(commands);
        let (transform, events) = (&self.stage.name, answers.len());
        if events > 1 {
            tracing::info!(transform, events, error = %error.chain(), "texts were refused; looking for the event that they are of");
        }
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

    /// Takes room for the vectors, before any is made. Events whose texts become more than a batch may hold are set aside.
    async fn make_room(
        &self,
        search: &mut Search,
        commands: &mut Vec<Command>,
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        let mut backoff = BACKOFF;
        let weights = loop {
            let weights = embedder::weights(commands, &self.stage.embedders).await;
            if let Some(weights) =
                self.unless_in_passing(weights, &mut backoff).await.map_err(|error| self.at(error))?
            {
                break weights;
            }
        };
        let mut total = 0usize;
        for Answer { position, commands } in answers(commands) {
            let bytes =
                weights.get(commands).unwrap_or_default().iter().fold(0usize, |sum, more| sum.saturating_add(*more));
            if bytes <= MAX_BATCH_BYTES {
                total = total.saturating_add(bytes);
                continue;
            }
            let error = self.too_large(bytes, "let it make fewer chunks of a row");
            let reason = error.chain();
            self.allow(position, Code::Output, &mut search.window, error)?;
            search.unfit.push((position, Code::Output, reason));
        }
        take_out(self.batch, std::mem::take(&mut search.unfit), commands, refused);
        let all = self.place.ask(total);
        if all > MAX_BATCH_BYTES {
            let help = "let the source make smaller batches (`batch: { max_events: 100 }`), or the handler fewer chunks of a row";
            return Err(self.at(self.too_large(all, help)));
        }
        self.place.take(total).await;
        Ok(())
    }

    fn too_large(&self, bytes: usize, help: &str) -> Error {
        let (name, most) = (&self.stage.name, MAX_BATCH_BYTES >> 20);
        let what = format!("the texts that handler `{name}` answered become too many vectors");
        let why = format!("they take {} MiB, those of a batch may take {most} MiB", bytes >> 20);
        Error::new(Fault::Handler, what)
            .because(std::io::Error::other(why))
            .help(format!("nothing was confirmed: {help}"))
    }

    /// Embeds the texts of `commands`. Some error if they are refused for what they are; then the commands are as they were.
    async fn refusal(&self, commands: &mut [Command]) -> Result<Option<Error>> {
        let mut backoff = BACKOFF;
        loop {
            let resolved = embedder::resolve(commands, &self.stage.embedders).await;
            match self.unless_in_passing(resolved, &mut backoff).await {
                Ok(Some(())) => return Ok(None),
                Ok(None) => {}
                Err(error) if error.misdeed().is_some() => return Ok(Some(error)),
                Err(error) => return Err(self.at(error)),
            }
        }
    }

    /// What was tried. None, after a wait, if it failed in passing.
    async fn unless_in_passing<T>(&self, tried: Result<T>, backoff: &mut Backoff) -> Result<Option<T>> {
        match tried {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.fault() == Fault::Transient => {
                wait_out(&error, &self.stage.name, true, backoff).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn at(&self, error: Error) -> Error {
        error.at(format!("transform `{}`", self.stage.name))
    }

    /// Halves a part of which texts were refused, or sets it aside if it is one event.
    fn refused(&self, search: &mut Search, answers: &[Answer], part: Range<usize>, error: Error) -> Result<()> {
        match answers.get(part.start) {
            Some(answer) if part.len() == 1 => {
                let reason = format!("a text cannot be embedded: {}", error.chain());
                self.allow(answer.position, Code::Text, &mut search.window, error)?;
                search.unfit.push((answer.position, Code::Text, reason));
            }
            _ => halve(&mut search.todo, part),
        }
        Ok(())
    }

    /// Whether the event may be set aside.
    fn allow(&self, position: Position, code: Code, window: &mut Window, error: Error) -> Result<()> {
        let Stage { name, tolerance, keeps_rejected, .. } = self.stage;
        let events = self.batch.events();
        let found = events.binary_search_by_key(&position, |event| event.position);
        let at = found.map_err(|_| Error::new(Fault::Bug, "a command answers no event of its batch"))?;
        if !keeps_rejected {
            let fix = error.advice().map(|advice| format!("{advice}\n")).unwrap_or_default();
            let what = format!(
                "what handler `{name}` made of an event cannot be embedded, and no sink takes `{name}.rejected`"
            );
            return Err(Error::new(error.fault(), what).because(error).at(place(self.batch, at)).help(format!(
                "{fix}nothing was confirmed. {KEEP}\n  rejected: {{ type: dead-letters, inputs: [{name}.rejected] }}"
            )));
        }
        let (transform, reason) = (name, error.chain());
        tracing::warn!(transform, event = %place(self.batch, at), code = code.as_str(), reason, "an event was set aside");
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
