//! `PipelineState`: the state of a pipeline, since when, and its last error, as the outside reads
//! them.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::error::{Error, Fault};
use crate::source::SourceState;

/// The phases of a pipeline's life. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its parts are being opened.
    Starting,
    /// Another process reads its slot. It takes over when that process lets go.
    Waiting,
    /// Rows that were there before join the stream.
    Copying,
    /// It keeps its sinks in step.
    Streaming,
    /// Somebody has stopped it for a while. Postgres keeps the log for it meanwhile.
    Paused,
    /// It takes in nothing new, and finishes what it has received.
    Draining,
    /// Something failed that may pass, and is tried again. `last_error` says what.
    Retrying,
    /// It has ended, and does not start by itself. `last_error` says why.
    Failed,
    /// It has ended in order.
    Stopped,
}

impl Phase {
    /// All of them, for those who count pipelines by phase.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Waiting,
        Self::Copying,
        Self::Streaming,
        Self::Paused,
        Self::Draining,
        Self::Retrying,
        Self::Failed,
        Self::Stopped,
    ];

    /// The word for it in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Copying => "copying",
            Self::Streaming => "streaming",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Nothing of the pipeline runs any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Paused | Self::Failed | Self::Stopped)
    }
}

/// The state of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipelineState {
    /// Its phase.
    pub state: Phase,
    /// The time at which it came into that phase.
    #[serde(serialize_with = "rfc_3339")]
    pub since: SystemTime,
    /// Whoever brought it into that phase, if that was somebody: of one that is paused.
    pub by: Option<String>,
    /// The reason that they gave.
    pub reason: Option<String>,
    /// The error that it met last, also after it has passed. It never holds a secret or a row's
    /// value.
    pub last_error: Option<LastError>,
    /// The number of the settings that it runs with: 1 at first, one more with each that replaced
    /// them.
    pub generation: u64,
    /// The number of times that it was started again after an error.
    pub restarts: u64,
}

/// Somebody's wish that a pipeline comes to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Their name, for people: "token `ops`".
    pub by: String,
    /// The reason, in their words.
    pub reason: Option<String>,
}

/// An error that a pipeline met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastError {
    /// The kind of misdeed, if single events can have caused it; the word in dead letters.
    pub code: Option<&'static str>,
    /// The party that must act: `transient`, `config`, `environment`, `handler`, `data` or `bug`.
    pub fault: &'static str,
    /// The error and its causes on one line.
    pub message: String,
    /// The parts in which it happened, from the inside out.
    pub place: Vec<String>,
    /// The advice, if there is one.
    pub help: Option<String>,
    /// The time at which it was met.
    #[serde(serialize_with = "rfc_3339")]
    pub at: SystemTime,
}

impl PipelineState {
    pub(super) fn first() -> Self {
        Self {
            state: Phase::Starting,
            since: SystemTime::now(),
            by: None,
            reason: None,
            last_error: None,
            generation: 1,
            restarts: 0,
        }
    }

    /// Comes into a phase, unless it is in it already. Answers whether that is new.
    pub(super) fn enter(&mut self, phase: Phase) -> bool {
        if self.state == phase {
            return false;
        }
        (self.state, self.since) = (phase, SystemTime::now());
        (self.by, self.reason) = (None, None);
        true
    }

    /// Comes to rest, as somebody has asked for.
    pub(super) fn pause(&mut self, Pause { by, reason }: Pause) {
        self.enter(Phase::Paused);
        (self.by, self.reason) = (Some(by), reason);
    }

    /// Follows its source. Answers whether that is new.
    pub(super) fn follow(&mut self, source: &SourceState) -> bool {
        match source {
            SourceState::Connecting => self.enter(Phase::Starting),
            SourceState::Waiting => self.enter(Phase::Waiting),
            SourceState::Copying => self.enter(Phase::Copying),
            SourceState::Streaming => self.enter(Phase::Streaming),
            SourceState::Retrying(reason) => {
                self.last_error = Some(LastError {
                    code: None,
                    fault: Fault::Transient.as_str(),
                    message: reason.clone(),
                    place: vec!["source".to_owned()],
                    help: None,
                    at: SystemTime::now(),
                });
                self.enter(Phase::Retrying);
                true
            }
        }
    }
}

impl From<&Error> for LastError {
    fn from(error: &Error) -> Self {
        Self {
            code: error.misdeed().map(|code| code.as_str()),
            fault: error.fault().as_str(),
            message: error.chain(),
            place: error.places(),
            help: error.advice().map(str::to_owned),
            at: SystemTime::now(),
        }
    }
}

fn rfc_3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = jiff::Timestamp::try_from(*time).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_state_is_json_with_the_words_of_the_api() {
        let mut state = PipelineState::first();
        state.since = SystemTime::UNIX_EPOCH;
        assert!(state.follow(&SourceState::Streaming) && !state.follow(&SourceState::Streaming));
        let streaming = state.since;
        assert!(streaming > SystemTime::UNIX_EPOCH);
        for reason in ["connection reset", "server is starting"] {
            assert!(state.follow(&SourceState::Retrying(reason.to_owned())));
        }
        let since = state.since;
        assert!(!state.enter(Phase::Retrying) && state.since == since, "since is when it began");
        state.since = SystemTime::UNIX_EPOCH;
        state.last_error.as_mut().unwrap().at = SystemTime::UNIX_EPOCH;
        let error = json!({
            "code": null, "fault": "transient", "message": "server is starting", "place": ["source"], "help": null,
            "at": "1970-01-01T00:00:00.000Z"
        });
        let shown = json!({
            "state": "retrying", "since": "1970-01-01T00:00:00.000Z", "by": null, "reason": null, "last_error": error,
            "generation": 1, "restarts": 0
        });
        assert_eq!(serde_json::to_value(&state).unwrap(), shown);
        state.pause(Pause { by: "token `ops`".into(), reason: Some("a move".into()) });
        assert_eq!((state.state, state.by.as_deref()), (Phase::Paused, Some("token `ops`")));
        state.enter(Phase::Starting);
        assert_eq!((state.by, state.reason), (None, None), "it is over");
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
    }
}
