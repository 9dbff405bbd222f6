//! `handle`: one batch through every handler and every embedder.

use std::sync::Arc;

use super::bisect::{Bisect, Sifted};
use super::dead_letter::{bad_lines, dead_letter};
use super::embed::Embed;
use super::fork::{self, Commit};
use super::progress::Ticket;
use super::rejection::{Refused, take_out};
use super::room::Place;
use super::status::StageStatus;
use super::tolerance::TooMany;
use super::{Stage, Status};
use crate::command::{Action, Command};
use crate::error::{Code, Error, Fault, Result};
use crate::event::{Batch, Event};
use crate::lsn::Position;
use crate::sink::{DeadLetter, Held};

/// The handlers' results for a batch: one [`Made`] per stage.
pub(super) struct Handled {
    pub(super) ticket: Ticket,
    /// The handlers that made it.
    pub(super) stages: Arc<[Stage]>,
    pub(super) through: Held,
    /// The transactions that the batch has events of.
    pub(super) commits: Vec<Commit>,
    pub(super) made: Vec<Made>,
    /// The batch that it was made of, for events that a sink refuses.
    pub(super) batch: Arc<Batch>,
    /// Events that came before the batch.
    pub(super) first: u64,
    /// Roughly the memory that it holds; counted once, because every sink asks.
    pub(super) bytes: usize,
    /// Of the vectors that were made for it; free again when all sinks have let go of it.
    _place: Place,
}

/// One handler's result for a batch; every text is a vector by now.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) commands: Vec<Command>,
    pub(super) rejected: Vec<DeadLetter>,
    /// Indices into the batch's events of the rejected that count. A bad line has that of the last
    /// event.
    rejected_at: Vec<usize>,
}

impl Handled {
    /// Events that ended among the rejected.
    pub(super) fn rejected(&self) -> usize {
        self.made.iter().map(|made| made.rejected.len()).sum()
    }

    /// Counts the rejected events, and fails if a stage has more of them than it may. To be called
    /// in stream order.
    pub(super) fn tolerated(&self) -> Result<()> {
        for (stage, made) in self.stages.iter().zip(&self.made) {
            stage.tolerance.count(self.counted(made)).map_err(|TooMany| {
                let last = made.rejected.last().map(|letter| letter.reason.clone()).unwrap_or_default();
                stage.tolerance.exceeded(&stage.name, Error::new(Fault::Handler, last))
            })?;
        }
        Ok(())
    }

    /// The number of commands that handlers of these stages answered with.
    pub(super) fn commands_of(&self, stages: &[usize]) -> u64 {
        stages.iter().filter_map(|&stage| self.made.get(stage)).map(|made| made.commands.len() as u64).sum()
    }

    /// Counts what was rejected by whom and why.
    pub(super) fn count(&self) {
        for (stage, made) in self.stages.iter().zip(&self.made) {
            made.rejected.iter().for_each(|letter| stage.transform.meter().rejects(letter.code));
        }
    }

    /// The numbers in the stream of the events that a handler, whose work `made` is, rejected.
    pub(super) fn counted(&self, made: &Made) -> impl Iterator<Item = u64> {
        made.rejected_at.iter().map(|&index| self.first + index as u64)
    }
}

impl Made {
    fn bytes(&self) -> usize {
        let rejected = self.rejected.iter().map(|letter| letter.event.len() + letter.reason.len());
        self.commands.iter().map(Command::bytes).sum::<usize>() + rejected.sum::<usize>()
    }
}

/// Runs the stages at the same time. Transient failures (a handler that asks for a retry, an
/// embedding provider that is down) are repeated until they pass; the batch's place in the queue
/// holds back everything after it.
pub(super) async fn handle(
    stages: Arc<[Stage]>,
    status: Arc<Status>,
    batch: Arc<Batch>,
    ticket: Ticket,
    first: u64,
    place: Place,
) -> Result<Handled> {
    let made = stages.iter().zip(&status.stages).map(|(stage, status)| stage.make(status, &batch, &place));
    let made = futures::future::try_join_all(made).await?;
    let commits = fork::commits(&batch);
    let held = |event: &Event| Held { position: event.position, committed: event.commit_time };
    let through = batch.events().last().map(held).unwrap_or_default();
    let unread = batch.bad_lines().last().map(|line| line.position).unwrap_or_default();
    let through = Held { position: through.position.max(unread), ..through };
    let bytes = made.iter().map(Made::bytes).sum();
    Ok(Handled { ticket, stages, through, commits, made, batch, first, bytes, _place: place })
}

impl Stage {
    async fn make(&self, status: &StageStatus, batch: &Arc<Batch>, place: &Place) -> Result<Made> {
        let transform = &self.transform;
        let unread = bad_lines(self, batch)?;
        if batch.events().is_empty() {
            let rejected_at = vec![0; unread.len()];
            return Ok(Made { commands: Vec::new(), rejected: unread, rejected_at });
        }
        let handling = status.handling.begin();
        let Sifted { mut commands, mut refused, .. } = Bisect::new(self, batch).run().await?;
        drop(handling);
        self.meetings.look(&self.name, batch, &commands);
        let embedding = status.embedding.begin();
        Embed { stage: self, batch, place }.run(&mut commands, &mut refused).await?;
        drop(embedding);
        self.admit(batch, &mut commands, &mut refused)?;
        transform.meter().events.add(batch.events().len() as u64);
        transform.meter().commands.add(commands.len() as u64);
        let counts = |event: &usize| batch.events().get(*event).is_some_and(|event| !event.replayed);
        let counted = refused.iter().map(|refused| refused.event).filter(counts);
        let rejected_at = counted.chain(unread.iter().map(|_| batch.events().len() - 1)).collect();
        let rejected = refused.into_iter().filter_map(|refused| dead_letter(self, batch, refused));
        let mut rejected: Vec<DeadLetter> = rejected.chain(unread).collect();
        rejected.sort_by_key(|letter| letter.position);
        Ok(Made { commands, rejected, rejected_at })
    }

    /// Sets the events aside whose points a sink has no place for, with all that they asked for.
    fn admit(&self, batch: &Batch, commands: &mut Vec<Command>, refused: &mut Vec<Refused>) -> Result<()> {
        let mut unfit: Vec<(Position, Error)> = Vec::new();
        for command in commands.iter() {
            let points = match &command.action {
                Action::Upsert(point) => std::slice::from_ref(point),
                Action::Replace { points, .. } => points,
                _ => continue,
            };
            if points.iter().any(|point| point.embeddings.is_empty()) {
                self.unembedded.tell(&self.name, !self.admissions.is_empty());
            }
            let mut asked =
                points.iter().flat_map(|point| self.admissions.iter().map(move |admission| (point, admission)));
            let Some(error) = asked.find_map(|(point, admission)| admission(point, command.position).err()) else {
                continue;
            };
            if error.fault() != Fault::Handler || !self.keeps_rejected {
                return Err(error.at(format!("transform `{}`", self.name)));
            }
            unfit.push((command.position, error));
        }
        let unfit = unfit.into_iter().map(|(position, error)| (position, Code::Contract, error.chain()));
        take_out(batch, unfit.collect(), commands, refused);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_batch_are_its_commands_and_its_rejected_events() {
        let position = Position::default();
        let command = Command { position, action: Action::Delete { id: "x".repeat(1000) } };
        let (event, reason) = ("e".repeat(100), "r".repeat(10));
        let letter = DeadLetter {
            position,
            at: 0,
            transform: "embed".into(),
            handler: String::new(),
            sink: None,
            code: Code::Trap,
            reason,
            table: "public.t".into(),
            key: "{}".into(),
            replayed: false,
            event,
        };
        let bytes = 2 * command.bytes() + 110;
        let made = Made { commands: vec![command.clone(), command], rejected: vec![letter], rejected_at: vec![0] };
        assert_eq!(made.bytes(), bytes);
    }
}
