//! `ReloadPlan`: what a reload would do, without doing it, and a hash by which it is known again.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::handle::PipelineHandle;
use super::reload::{is_among, is_gone, no_pipeline_file};
use super::spec::Difference;
use super::supervisor::Supervisor;
use super::{FileReading, Outcome, PipelineSpec, Refusal, Reloaded};
use crate::config::Diagnostics;
use crate::error::Error;

/// All that a reload would do.
pub struct ReloadPlan {
    /// The step for each pipeline.
    pub steps: Vec<PlannedStep>,
    /// In hexadecimal. Another one if a file or a component changes, or what runs does.
    pub hash: String,
}

/// The step that a reload would take about a pipeline.
pub struct PlannedStep {
    /// The pipeline's name; none for a file that cannot be read and of which nothing runs.
    pub pipeline: Option<String>,
    /// Its file.
    pub file: Option<PathBuf>,
    /// The act that is meant.
    pub intention: Intention,
    /// The parts of the file that are not as they were.
    pub changes: Vec<String>,
    /// The reasons why nothing would be done.
    pub problems: Vec<ReloadProblem>,
    digest: [u8; 32],
}

/// The step that a reload has taken about a pipeline, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CarriedOut {
    /// The pipeline's name; none for a file that cannot be read and of which nothing runs.
    pub pipeline: Option<String>,
    /// Its file.
    pub file: Option<PathBuf>,
    /// The word for what was done.
    pub action: &'static str,
    /// The reasons why nothing was done.
    pub problems: Vec<ReloadProblem>,
}

impl From<&Reloaded> for CarriedOut {
    fn from(Reloaded { pipeline, file, outcome }: &Reloaded) -> Self {
        let problems = match outcome {
            Outcome::Refused(refusal) => refusal.into(),
            Outcome::Kept(errors) => errors.iter().map(ReloadProblem::from).collect(),
            _ => Vec::new(),
        };
        Self { pipeline: pipeline.clone(), file: file.clone(), action: outcome.as_str(), problems }
    }
}

/// The reason why a pipeline stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadProblem {
    /// The mistake, and its place. Never holds a secret.
    pub message: String,
    /// The way to mend it.
    pub help: Option<String>,
}

impl ReloadProblem {
    /// The problems of a file.
    pub fn of_file(diagnostics: &Diagnostics) -> Vec<Self> {
        let file = diagnostics.file();
        let problems = diagnostics.problems().iter().map(|problem| {
            let place = problem.place.as_ref().map(|place| format!(":{}:{}", place.line, place.column));
            let message = format!("{file}{}: {}", place.unwrap_or_default(), problem.message);
            Self { message, help: problem.help.clone() }
        });
        problems.collect()
    }
}

impl From<&Error> for ReloadProblem {
    fn from(error: &Error) -> Self {
        Self { message: error.chain(), help: error.advice().map(str::to_owned) }
    }
}

impl From<&Refusal> for Vec<ReloadProblem> {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::File(diagnostics) => ReloadProblem::of_file(diagnostics),
            Refusal::Grant(error) => vec![error.into()],
        }
    }
}

/// The act that a reload means for a pipeline. Handlers are loaded only when it is done, so that a plan
/// may be refused still.
pub enum Intention {
    /// Nothing, as nothing has changed.
    Leave,
    /// Its handlers would be swapped, while its stream goes on.
    Swap,
    /// It would be stopped in order, and started with its new settings.
    Replace,
    /// It would have its new settings for when it is resumed.
    Adopt,
    /// It would be started.
    Start,
    /// It would be stopped in order.
    Stop,
    /// Nothing, because it could not run so.
    Refuse,
}

impl Intention {
    /// The word for it in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Leave => "unchanged",
            Self::Swap => "swap",
            Self::Replace => "replace",
            Self::Adopt => "adopt",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Refuse => "refuse",
        }
    }
}

impl Supervisor {
    /// Says what [`reload`](Self::reload) would do with these readings.
    pub fn plan(&self, readings: &[FileReading]) -> ReloadPlan {
        let running = self.list();
        let mut steps = Vec::new();
        for handle in running.iter().filter(|handle| handle.spec().file.is_some()) {
            let (intention, problems) = match is_gone(handle, readings) {
                true => (Intention::Stop, Vec::new()),
                false if is_among(handle, readings) => continue,
                false => (Intention::Refuse, vec![(&no_pipeline_file()).into()]),
            };
            let (pipeline, file) = (Some(handle.name().to_owned()), handle.spec().file);
            steps.push(PlannedStep { pipeline, file, intention, changes: Vec::new(), problems, digest: [0; 32] });
        }
        steps.extend(readings.iter().map(|reading| self.step(reading)));
        let mut text = String::new();
        for PlannedStep { pipeline, file, intention, digest, .. } in &steps {
            // A `String` takes whatever is written.
            let _ = writeln!(text, "{pipeline:?} {file:?} {} {digest:?}", intention.as_str());
        }
        for handle in &running {
            let _ = writeln!(text, "{} {} {:?}", handle.name(), handle.is_paused(), handle.spec().digest());
        }
        let hash = Sha256::digest(text).iter().fold(String::new(), |mut hash, byte| {
            let _ = write!(hash, "{byte:02x}");
            hash
        });
        ReloadPlan { steps, hash }
    }

    fn step(&self, FileReading { file, read }: &FileReading) -> PlannedStep {
        let file = Some(file.clone());
        match read {
            Ok(spec) => {
                let (pipeline, digest) = (Some(spec.settings.name.clone()), spec.digest());
                let (intention, changes, problems) = match self.running(spec) {
                    Some(handle) => intention(spec, &handle),
                    None => (Intention::Start, Vec::new(), Vec::new()),
                };
                PlannedStep { pipeline, file, intention, changes, problems, digest }
            }
            Err(refusal) => {
                let runs = self.list().into_iter().find(|handle| handle.spec().file == file);
                let pipeline = runs.map(|handle| handle.name().to_owned());
                let (intention, problems) = (Intention::Refuse, refusal.into());
                PlannedStep { pipeline, file, intention, changes: Vec::new(), problems, digest: [0; 32] }
            }
        }
    }
}

fn intention(spec: &PipelineSpec, handle: &PipelineHandle) -> (Intention, Vec<String>, Vec<ReloadProblem>) {
    let before = handle.spec();
    let (intention, errors) = match spec.differs_from(&before) {
        Difference::Nothing => (Intention::Leave, Vec::new()),
        Difference::Handlers if !handle.is_paused() => (Intention::Swap, Vec::new()),
        Difference::Handlers | Difference::Pipeline => match super::review(&spec.settings) {
            errors if !errors.is_empty() => (Intention::Refuse, errors),
            _ if handle.is_paused() => (Intention::Adopt, Vec::new()),
            _ => (Intention::Replace, Vec::new()),
        },
    };
    (intention, spec.changed_parts(&before), errors.iter().map(ReloadProblem::from).collect())
}
