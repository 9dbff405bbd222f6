//! `Bisect`: what a handler makes of a batch when single events of it break the handler.
//!
//! A batch whose call fails in a way that an event can have caused is called again in halves, each in a new instance, down to
//! the events that fail alone. Those are set aside; the commands of all others are the same as if the former had never been
//! there, because handlers answer event by event and instances keep nothing. A half that succeeds is taken as it is, also when
//! all its parts succeed and only the whole was too much.
//!
//! The cost is bounded: an event that fails takes two calls per halving, and [`Tolerance`] ends the pipeline after some of
//! them. A failure that is not the events' (`stop`, a component that does not start) is never looked for in them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::{KEEP, place};
use super::tolerance::{TooMany, Window};
use super::{BACKOFF, Tolerance};
use crate::backoff::{Backoff, seconds};
use crate::command::Command;
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;
use crate::transform::{Output, Transform};

/// How much more than one call the calls for the parts of a batch may answer together, so that a guest that answers one event
/// at a time cannot fill the host's memory.
const MORE_IN_PARTS: usize = 4;

/// The longest pause that whoever asks for one is believed.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// What a handler made of a batch, and the events that are set aside.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// In the order of their events.
    pub(super) commands: Vec<Command>,
    /// In the order of the events.
    pub(super) refused: Vec<Refused>,
    window: Window,
    bytes: usize,
}

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

/// Takes a batch through a handler.
pub(super) struct Bisect<'a> {
    pub(super) transform: &'a Transform,
    pub(super) tolerance: &'a Tolerance,
    /// Whether somebody keeps what is set aside. If not, the first such event is the error.
    pub(super) keeps_rejected: bool,
    pub(super) batch: &'a Arc<Batch>,
}

impl Bisect<'_> {
    /// All of the batch. Transient failures are repeated until they pass, each part for itself.
    pub(super) async fn run(&self) -> Result<Sifted> {
        let (mut sifted, all) = (Sifted::default(), 0..self.batch.events().len());
        let Some(error) = self.take(&mut sifted, all.clone(), false).await? else { return Ok(sifted) };
        let mut todo = Vec::new();
        if all.len() > 1 {
            let (name, events) = (self.transform.name(), all.len());
            if self.transform.may_be_quoted() {
                tracing::info!(transform = name, events, error = %error.chain(), "a batch failed; looking for the event that did it");
            }
            halve(&mut todo, all);
        } else {
            todo.push(all);
        }
        // The next part in the order of the stream is always on top.
        while let Some(part) = todo.pop() {
            match self.take(&mut sifted, part.clone(), true).await? {
                None => {}
                Some(_) if part.len() > 1 => halve(&mut todo, part),
                Some(error) => self.set_aside(&mut sifted, part.start, error)?,
            }
        }
        Ok(sifted)
    }

    /// Takes over what the handler makes of a part. Some error if events of the part may be to blame, and then nothing is
    /// taken.
    async fn take(&self, sifted: &mut Sifted, part: Range<usize>, afresh: bool) -> Result<Option<Error>> {
        let batch = if part.len() == self.batch.events().len() {
            Arc::clone(self.batch)
        } else {
            Arc::new(self.batch.part(part.clone()))
        };
        let mut backoff = BACKOFF;
        let Output { commands, rejections } = loop {
            let batch = Arc::clone(&batch);
            let tried =
                if afresh { self.transform.apply_afresh(batch).await } else { self.transform.apply(batch).await };
            match tried {
                Ok(output) => break output,
                Err(error) if error.fault() == Fault::Transient => {
                    wait_out(&error, self.transform.name(), self.transform.may_be_quoted(), &mut backoff).await;
                }
                Err(error) if error.misdeed().is_some() && !part.is_empty() => return Ok(Some(error)),
                Err(error) => return Err(error),
            }
        };
        sifted.bytes += commands.iter().map(Command::bytes).sum::<usize>();
        if afresh && sifted.bytes > self.transform.max_output().saturating_mul(MORE_IN_PARTS) {
            return Err(self.too_large(part));
        }
        if let Some(first) = rejections.first().filter(|_| !self.keeps_rejected) {
            return Err(self.nobody_keeps(
                "rejected an event",
                part.start + first.event,
                Error::new(Fault::Handler, first.reason.clone()),
            ));
        }
        sifted.commands.extend(commands);
        for rejection in rejections {
            let (event, reason) = (part.start + rejection.event, rejection.reason);
            self.allow(sifted, event, || Error::new(Fault::Handler, reason.clone()))?;
            sifted.refused.push(Refused { event, code: Code::Rejected, reason, sink: None });
        }
        Ok(None)
    }

    /// An event that fails alone, in an instance that has seen no other.
    fn set_aside(&self, sifted: &mut Sifted, event: usize, error: Error) -> Result<()> {
        if !self.keeps_rejected {
            return Err(self.nobody_keeps("failed on an event", event, error));
        }
        let code = error.misdeed().unwrap_or(Code::Trap);
        let (transform, reason) = (self.transform.name(), error.chain());
        tracing::warn!(transform, event = %self.place(event), code = code.as_str(), reason, "an event was set aside");
        self.allow(sifted, event, || error)?;
        sifted.refused.push(Refused { event, code, reason, sink: None });
        Ok(())
    }

    /// Goes on no longer than the threshold of the transform allows.
    fn allow(&self, sifted: &mut Sifted, event: usize, last: impl FnOnce() -> Error) -> Result<()> {
        if self.batch.events().get(event).is_some_and(|event| event.replayed) {
            return Ok(()); // somebody asked for it, and it was counted before
        }
        let allowed = self.tolerance.allows(&mut sifted.window, event as u64);
        allowed.map_err(|TooMany| self.tolerance.exceeded(self.transform.name(), last()))
    }

    fn too_large(&self, part: Range<usize>) -> Error {
        let name = self.transform.name();
        Error::new(Fault::Handler, format!("handler `{name}` answered too much, also in parts"))
            .at(self.place(part.start))
            .help(format!(
                "nothing was confirmed. Let the source make smaller batches (`batch: {{ max_events: 100 }}`), or raise \
                 `transforms.{name}.limits.output`"
            ))
    }

    fn nobody_keeps(&self, did: &str, event: usize, why: Error) -> Error {
        let name = self.transform.name();
        let fix = why.advice().map(|advice| format!("{advice}\n")).unwrap_or_default();
        Error::new(Fault::Handler, format!("handler `{name}` {did}, and no sink takes `{name}.rejected`"))
            .because(why)
            .at(self.place(event))
            .help(format!(
                "{fix}nothing was confirmed. {KEEP}\n  rejected: {{ type: dead-letters, inputs: [{name}.rejected] }}"
            ))
    }

    fn place(&self, event: usize) -> String {
        place(self.batch, event)
    }
}

/// The front half on top.
pub(super) fn halve(todo: &mut Vec<Range<usize>>, part: Range<usize>) {
    let middle = part.start + part.len() / 2;
    todo.push(middle..part.end);
    todo.push(part.start..middle);
}

/// Waits before another try of what failed in passing: a handler that asks for a retry, an embedding provider that is down. Says
/// so, unless the words are a handler's that has said enough.
pub(super) async fn wait_out(error: &Error, name: &str, said: bool, backoff: &mut Backoff) {
    let wait = pause(error, backoff);
    if said {
        tracing::warn!(transform = name, error = %error.chain(), wait_seconds = seconds(wait), "trying again");
    }
    tokio::time::sleep(wait).await;
}

/// Never less than was asked for, and a little more, or all who were asked the same come back in the same moment.
fn pause(error: &Error, backoff: &mut Backoff) -> Duration {
    error.pause().unwrap_or_default().min(MAX_PAUSE) + backoff.next_wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_was_asked_for_is_kept_up_to_an_hour() {
        let error = || Error::new(Fault::Transient, "the server answered 429 Too Many Requests");
        let wait = |error: Error| pause(&error, &mut BACKOFF.clone()).as_secs();
        assert_eq!(wait(error()), 0);
        let after = |seconds| error().after(Duration::from_secs(seconds)).within("handler `embed` asks for a retry");
        assert_eq!(wait(after(600)), 600);
        assert_eq!(wait(after(u64::MAX)), MAX_PAUSE.as_secs());
    }
}
