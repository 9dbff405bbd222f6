//! `dead_letter`: a refused event as JSON, whole enough to be looked into and replayed; and who
//! keeps it.

use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::Stage;
use super::rejection::{KEEP, Refused};
use crate::error::{Code, Error, Fault, Result};
use crate::event::{BadLine, Batch, json};
use crate::sink::DeadLetter;

/// The event of `batch` that was refused, with the reason why it ends among the rejected of
/// `stage`.
pub(super) fn dead_letter(stage: &Stage, batch: &Batch, refused: Refused) -> Option<DeadLetter> {
    let Refused { event, code, reason, sink } = refused;
    let event = batch.events().get(event)?;
    Some(DeadLetter {
        position: event.position,
        at: now(),
        transform: stage.name.clone(),
        handler: stage.transform.hash().to_owned(),
        sink,
        code,
        reason,
        table: batch.relation(event).to_string(),
        key: json::key(batch, event),
        replayed: event.replayed,
        event: json::write(batch, event),
    })
}

/// The lines that the source could not read, among the rejected of `stage`.
///
/// # Errors
/// `Data` if nobody keeps them: they would be lost.
pub(super) fn bad_lines(stage: &Stage, batch: &Batch) -> Result<Vec<DeadLetter>> {
    let name = &stage.name;
    if let Some(line) = batch.bad_lines().first().filter(|_| !stage.keeps_rejected) {
        let what = format!("a line cannot be read as an event, and no sink takes `{name}.rejected`");
        return Err(Error::new(Fault::Data, what).because(line.reason.clone()).help(format!(
            "correct the line, or remove it; nothing of it was confirmed. {KEEP}\n  rejected: {{ type: file, inputs: \
             [{name}.rejected], path: rejected.jsonl }}"
        )));
    }
    let letter = |line: &BadLine| DeadLetter {
        position: line.position,
        at: now(),
        transform: name.clone(),
        handler: stage.transform.hash().to_owned(),
        sink: None,
        code: Code::Line,
        reason: line.reason.clone(),
        table: String::new(),
        key: "{}".to_owned(),
        replayed: false,
        event: format!("{{\"line\":{}}}", json::Json::Text(line.text.clone())),
    };
    Ok(batch.bad_lines().iter().map(letter).collect())
}

/// In µs since 1970-01-01 UTC.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// A letter on its way to a sink that keeps it.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) letter: DeadLetter,
    /// Told once the letter is durable.
    pub(super) kept: oneshot::Sender<()>,
}

/// The sinks that keep what is refused, for each stage.
#[derive(Debug)]
pub(super) struct Takers(Vec<Vec<mpsc::Sender<Parcel>>>);

impl Takers {
    /// No sink yet, for so many stages.
    pub(super) fn of(stages: usize) -> Self {
        Self(vec![Vec::new(); stages])
    }

    /// Adds a sink that takes what is refused of these stages. Answers where its letters arrive.
    pub(super) fn add(&mut self, stages: &[usize]) -> mpsc::Receiver<Parcel> {
        let (taker, letters) = mpsc::channel(1);
        for &stage in stages {
            self.0.get_mut(stage).into_iter().for_each(|takers| takers.push(taker.clone()));
        }
        letters
    }

    /// Returns once the letter is durable with every sink that takes what is refused of the stage;
    /// never if one of them is gone, because then the pipeline ends.
    pub(super) async fn keep(&self, stage: usize, letter: &DeadLetter) {
        for taker in self.0.get(stage).into_iter().flatten() {
            let (kept, durable) = oneshot::channel();
            let sent = taker.send(Parcel { letter: letter.clone(), kept }).await;
            if sent.is_err() || durable.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
