//! `Bisect`: what a handler makes of a batch when single events of it break the handler.
//!
//! A batch whose call fails in a way that an event can have caused is called again in halves
//! ([`isolate`]), each in a new instance, down to the events that fail alone. Those are set aside;
//! the commands of all others are the same as if the former had never been there, because handlers
//! answer event by event and instances keep nothing. A half that succeeds is taken as it is, also
//! when all its parts succeed and only the whole was too much.
//!
//! The cost is bounded: an event that fails takes two calls per halving, and [`Tolerance`] ends the
//! pipeline after some of them. A failure that is not the events' (`stop`, a component that does
//! not start) is never looked for in them.

use std::ops::Range;
use std::sync::Arc;

use super::isolate::{Attempt, Suspects, isolate};
use super::rejection::{Refused, Rejecting};
use super::tolerance::Window;
use super::{BACKOFF, Stage};
use crate::command::Command;
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;
use crate::retry::Retry;
use crate::transform::Output;

/// The calls for the parts of a batch may answer this many times as much together as one call may.
/// So a guest that answers one event at a time cannot fill the host's memory.
const MORE_IN_PARTS: usize = 4;

/// The commands that a handler made of a batch, and the events that are set aside.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// In the order of their events.
    pub(super) commands: Vec<Command>,
    /// In the order of the events.
    pub(super) refused: Vec<Refused>,
    window: Window,
    bytes: usize,
}

/// Takes a batch through a handler.
pub(super) struct Bisect<'a> {
    stage: &'a Stage,
    batch: &'a Arc<Batch>,
    sifted: Sifted,
}

impl<'a> Bisect<'a> {
    /// Nothing taken yet.
    pub(super) fn new(stage: &'a Stage, batch: &'a Arc<Batch>) -> Self {
        Self { stage, batch, sifted: Sifted::default() }
    }

    /// All of the batch. Transient failures are repeated until they pass, each part for itself.
    pub(super) async fn run(mut self) -> Result<Sifted> {
        let all = 0..self.batch.events().len();
        let Attempt::Suspect(error) = self.take(all.clone(), false).await? else { return Ok(self.sifted) };
        let (transform, events) = (&self.stage.transform, all.len());
        if events > 1 && transform.may_be_quoted() {
            let (transform, error) = (transform.name(), error.chain());
            tracing::info!(transform, events, error, "a batch failed; looking for the event that did it");
        }
        // One alone is judged in an instance that has seen no other.
        let judged = if events == 1 { self.take(all.clone(), true).await? } else { Attempt::Suspect(error) };
        if let Attempt::Suspect(error) = judged {
            isolate(&mut self, all, error).await?;
        }
        Ok(self.sifted)
    }

    /// Takes over what the handler makes of a part.
    async fn take(&mut self, part: Range<usize>, afresh: bool) -> Result<Attempt> {
        let Stage { transform, keeps_rejected, .. } = self.stage;
        let batch = if part.len() == self.batch.events().len() {
            Arc::clone(self.batch)
        } else {
            Arc::new(self.batch.part(part.clone()))
        };
        let mut retry = Retry::new(BACKOFF);
        let Output { commands, rejections } = loop {
            let batch = Arc::clone(&batch);
            let tried = if afresh { transform.apply_afresh(batch).await } else { transform.apply(batch).await };
            match tried {
                Ok(output) => break output,
                Err(error) if error.fault() == Fault::Transient => {
                    wait_out(&mut retry, error, transform.name(), transform.may_be_quoted()).await?;
                }
                Err(error) if error.misdeed().is_some() && !part.is_empty() => return Ok(Attempt::Suspect(error)),
                Err(error) => return Err(error),
            }
        };
        self.sifted.bytes += commands.iter().map(Command::bytes).sum::<usize>();
        if afresh && self.sifted.bytes > transform.max_output().saturating_mul(MORE_IN_PARTS) {
            return Err(self.too_large(part));
        }
        if let Some(first) = rejections.first().filter(|_| !keeps_rejected) {
            let why = Error::new(Fault::Handler, first.reason.clone());
            self.kept("rejected an event", part.start + first.event, why)?;
        }
        self.sifted.commands.extend(commands);
        for rejection in rejections {
            let (event, reason) = (part.start + rejection.event, rejection.reason);
            self.count(event, || Error::new(Fault::Handler, reason.clone()))?;
            self.sifted.refused.push(Refused { event, code: Code::Rejected, reason, sink: None });
        }
        Ok(Attempt::Passed)
    }

    fn kept(&self, did: &str, event: usize, why: Error) -> Result<Error> {
        let what = format!("handler `{}` {did}", self.stage.transform.name());
        self.rejecting().kept(event, why, Fault::Handler, &what, "nothing")
    }

    /// Goes on no longer than the threshold of the transform allows.
    fn count(&mut self, event: usize, last: impl FnOnce() -> Error) -> Result<()> {
        self.rejecting().count(&mut self.sifted.window, event, event as u64, last)
    }

    fn rejecting(&self) -> Rejecting<'a> {
        Rejecting { stage: self.stage, batch: self.batch }
    }

    fn too_large(&self, part: Range<usize>) -> Error {
        let name = self.stage.transform.name();
        Error::new(Fault::Handler, format!("handler `{name}` answered too much, also in parts"))
            .at(self.rejecting().place(part.start))
            .help(format!(
                "nothing was confirmed. Let the source make smaller batches (`batch: {{ max_events: 100 }}`), or raise \
                 `transforms.{name}.limits.output`"
            ))
    }
}

impl Suspects for Bisect<'_> {
    async fn attempt(&mut self, part: Range<usize>) -> Result<Attempt> {
        self.take(part, true).await
    }

    async fn set_aside(&mut self, event: usize, error: Error) -> Result<()> {
        let error = self.kept("failed on an event", event, error)?;
        let code = error.misdeed().unwrap_or(Code::Trap);
        let (transform, reason) = (self.stage.transform.name(), error.chain());
        let place = self.rejecting().place(event);
        self.count(event, || error)?;
        tracing::warn!(transform, event = %place, code = code.as_str(), reason, "an event was set aside");
        self.sifted.refused.push(Refused { event, code, reason, sink: None });
        Ok(())
    }
}

/// Waits before another try of what failed in passing: a handler that asks for a retry, an
/// embedding provider that is down. Says so, unless the words are a handler's that has said enough.
///
/// # Errors
/// `error`, if it does not pass.
pub(super) async fn wait_out(retry: &mut Retry, error: Error, name: &str, aloud: bool) -> Result<()> {
    let tell = |error: &Error, wait: crate::retry::Wait| {
        if aloud {
            tracing::warn!(transform = name, error = %error.chain(), wait_seconds = wait.seconds(), "trying again");
        }
    };
    retry.wait_out(error, tell).await
}
