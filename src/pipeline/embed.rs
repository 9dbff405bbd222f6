//! `Embed`: the texts in what a handler answered as vectors; the events aside of which an embedder
//! refuses a text.
//!
//! A text that is longer than a model takes is refused with all others of its request. So the
//! events are asked for in halves, down to those that are refused alone, while all others get their
//! vectors.

use std::ops::Range;

use super::bisect::wait_out;
use super::isolate::{Attempt, Suspects, isolate};
use super::rejection::{Refused, Rejecting, take_out};
use super::room::Place;
use super::tolerance::Window;
use super::{BACKOFF, Stage};
use crate::command::Command;
use crate::embedder;
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Position;
use crate::retry::Retry;

/// The most bytes that the vectors of a batch may take: more than is needed for the texts of the
/// largest batches that are of use. A thousand rows of sixteen chunks take 94 MiB at 1536 numbers,
/// 250 MiB at 4096.
const MAX_BATCH_BYTES: usize = 256 << 20;

/// Completes what the handler of a stage answered to a batch.
pub(super) struct Embed<'a> {
    pub(super) stage: &'a Stage,
    pub(super) batch: &'a Batch,
    /// The room for the vectors.
    pub(super) place: &'a Place,
}

impl Embed<'_> {
    /// Embeds all texts of `commands`, which stand in the order of their events. Adds to `refused`
    /// the events of which a text is refused, and takes out all that they asked for.
    pub(super) async fn run(&self, commands: &mut Vec<Command>, refused: &mut Vec<Refused>) -> Result<()> {
        let mut window = Window::default();
        self.make_room(&mut window, commands, refused).await?;
        let Attempt::Suspect(error) = self.attempt(commands).await? else { return Ok(()) };
        let answers = answers(commands);
        let (transform, events) = (&self.stage.name, answers.len());
        if events > 1 {
            tracing::info!(transform, events, error = %error.chain(), "texts were refused; looking for the event that they are of");
        }
        let mut search = Search { embed: self, answers, commands, window, unfit: Vec::new() };
        isolate(&mut search, 0..events, error).await?;
        take_out(self.batch, search.unfit, commands, refused);
        Ok(())
    }

    /// Takes room for the vectors, before any is made. Events whose texts become more than a batch
    /// may hold are set aside.
    async fn make_room(
        &self,
        window: &mut Window,
        commands: &mut Vec<Command>,
        refused: &mut Vec<Refused>,
    ) -> Result<()> {
        let mut retry = Retry::new(BACKOFF);
        let weights = loop {
            match embedder::weights(commands, &self.stage.embedders).await {
                Ok(weights) => break weights,
                Err(error) => self.wait_out(&mut retry, error).await?,
            }
        };
        let mut unfit = Vec::new();
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
            self.set_aside(position, Code::Output, window, error)?;
            unfit.push((position, Code::Output, reason));
        }
        take_out(self.batch, unfit, commands, refused);
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

    /// Embeds the texts of `commands`. If they are refused for what they are, the commands are as
    /// they were.
    async fn attempt(&self, commands: &mut [Command]) -> Result<Attempt> {
        let mut retry = Retry::new(BACKOFF);
        loop {
            match embedder::resolve(commands, &self.stage.embedders).await {
                Ok(()) => return Ok(Attempt::Passed),
                Err(error) if error.fault() != Fault::Transient && error.misdeed().is_some() => {
                    return Ok(Attempt::Suspect(error));
                }
                Err(error) => self.wait_out(&mut retry, error).await?,
            }
        }
    }

    async fn wait_out(&self, retry: &mut Retry, error: Error) -> Result<()> {
        wait_out(retry, error, &self.stage.name, true).await.map_err(|error| self.at(error))
    }

    fn at(&self, error: Error) -> Error {
        error.at(format!("transform `{}`", self.stage.name))
    }

    /// Lets the event at `position` go, if it may be.
    fn set_aside(&self, position: Position, code: Code, window: &mut Window, error: Error) -> Result<()> {
        let found = self.batch.events().binary_search_by_key(&position, |event| event.position);
        let at = found.map_err(|_| Error::new(Fault::Bug, "a command answers no event of its batch"))?;
        let (name, rejecting) = (&self.stage.name, Rejecting { stage: self.stage, batch: self.batch });
        let (fault, what) = (error.fault(), format!("what handler `{name}` made of an event cannot be embedded"));
        let error = rejecting.kept(at, error, fault, &what, "nothing")?;
        let (transform, reason, place) = (name, error.chain(), rejecting.place(at));
        rejecting.count(window, at, at as u64, || error)?;
        tracing::warn!(transform, event = %place, code = code.as_str(), reason, "an event was set aside");
        Ok(())
    }
}

/// The search for the events of which a text is refused.
struct Search<'a> {
    embed: &'a Embed<'a>,
    answers: Vec<Answer>,
    commands: &'a mut [Command],
    window: Window,
    unfit: Vec<(Position, Code, String)>,
}

impl Suspects for Search<'_> {
    async fn attempt(&mut self, part: Range<usize>) -> Result<Attempt> {
        match span(&self.answers, &part).and_then(|span| self.commands.get_mut(span)) {
            Some(commands) => self.embed.attempt(commands).await,
            None => Ok(Attempt::Passed),
        }
    }

    async fn set_aside(&mut self, answer: usize, error: Error) -> Result<()> {
        let Some(&Answer { position, .. }) = self.answers.get(answer) else { return Ok(()) };
        let reason = format!("a text cannot be embedded: {}", error.chain());
        self.embed.set_aside(position, Code::Text, &mut self.window, error)?;
        self.unfit.push((position, Code::Text, reason));
        Ok(())
    }
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
