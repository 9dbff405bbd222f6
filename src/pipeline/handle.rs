//! `handle`: one batch through every handler and every embedder.

use std::sync::Arc;

use super::dead_letter::dead_letter;
use super::progress::Ticket;
use super::{BACKOFF, Stage};
use crate::command::Command;
use crate::embedder;
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::lsn::Position;
use crate::sink::DeadLetter;
use crate::transform::Output;

/// What the handlers made of a batch: one [`Made`] per stage.
#[derive(Debug)]
pub(super) struct Handled {
    pub(super) ticket: Ticket,
    pub(super) through: Position,
    pub(super) made: Vec<Made>,
    /// Roughly the memory that it holds; counted once, because every sink asks.
    pub(super) bytes: usize,
}

/// What one handler made of a batch; every text is a vector by now.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) commands: Vec<Command>,
    pub(super) rejected: Vec<DeadLetter>,
}

impl Handled {
    /// Events that a handler refused.
    pub(super) fn rejected(&self) -> usize {
        self.made.iter().map(|made| made.rejected.len()).sum()
    }
}

impl Made {
    fn bytes(&self) -> usize {
        let rejected = self.rejected.iter().map(|letter| letter.event.len() + letter.reason.len());
        self.commands.iter().map(Command::bytes).sum::<usize>() + rejected.sum::<usize>()
    }
}

/// Runs the stages at the same time. Transient failures (a handler that asks for a retry, an embedding provider
/// that is down) are repeated until they pass; the batch's place in the queue holds back everything after it.
pub(super) async fn handle(stages: Arc<[Stage]>, batch: Arc<Batch>, ticket: Ticket) -> Result<Handled> {
    let made = stages.iter().map(|stage| stage.make(&batch));
    let made = futures::future::try_join_all(made).await?;
    let through = batch.events().last().map(|event| event.position).unwrap_or_default();
    let bytes = made.iter().map(Made::bytes).sum();
    Ok(Handled { ticket, through, made, bytes })
}

impl Stage {
    async fn make(&self, batch: &Arc<Batch>) -> Result<Made> {
        let mut backoff = BACKOFF;
        loop {
            match self.try_make(batch).await {
                Err(error) if error.fault() == Fault::Transient => {
                    let wait = backoff.next_wait();
                    tracing::warn!(transform = %self.name, error = %error.chain(), ?wait, "trying again");
                    tokio::time::sleep(wait).await;
                }
                made => return made,
            }
        }
    }

    async fn try_make(&self, batch: &Arc<Batch>) -> Result<Made> {
        let Output { mut commands, rejections } = self.transform.apply(Arc::clone(batch)).await?;
        embedder::resolve(&mut commands, &self.embedders)
            .await
            .map_err(|error| error.at(format!("transform `{}`", self.name)))?;
        let rejected: Vec<DeadLetter> = rejections
            .into_iter()
            .filter_map(|rejection| {
                let event = batch.events().get(rejection.event)?;
                Some(dead_letter(&self.name, batch, event, rejection.reason))
            })
            .collect();
        match rejected.first() {
            Some(letter) if !self.keeps_rejected => Err(self.nobody_keeps(letter)),
            _ => Ok(Made { commands, rejected }),
        }
    }

    fn nobody_keeps(&self, letter: &DeadLetter) -> Error {
        let name = &self.name;
        Error::new(Fault::Handler, format!("handler `{name}` rejected an event, and no sink takes `{name}.rejected`"))
            .because(Error::new(Fault::Handler, letter.reason.clone()))
            .at(format!("event {}", letter.position))
            .help(format!(
                "nothing was confirmed. To keep rejected events and go on, add a sink to the pipeline:\n  \
                 rejected: {{ type: file, inputs: [{name}.rejected], path: rejected.jsonl }}"
            ))
    }
}
