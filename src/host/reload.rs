//! Reload: brings the pipelines that run in line with their files. What has not changed is not
//! touched; a file that is wrong leaves what runs as it is.

use std::path::PathBuf;

use futures::future::join_all;

use super::handle::PipelineHandle;
use super::spec::Difference;
use super::supervisor::Supervisor;
use super::{FileReading, PipelineSpec, Refusal};
use crate::error::{Error, Fault};

/// The result of a reload for one pipeline.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing, as nothing has changed.
    Unchanged,
    /// Its handlers were swapped, while its stream went on.
    Swapped,
    /// It was stopped in order, and started with its new settings.
    Replaced,
    /// It was started: it is new, or had failed before.
    Started,
    /// It has its new settings for when it is resumed: it is paused.
    Adopted,
    /// It was stopped in order: its file is gone.
    Stopped,
    /// Nothing, because its file is wrong.
    Refused(Refusal),
    /// Nothing, because it could not run so.
    Kept(Vec<Error>),
}

/// A pipeline and what a reload has done about it.
#[derive(Debug)]
pub struct Reloaded {
    /// The pipeline's name; none for a file that cannot be read and of which nothing runs.
    pub pipeline: Option<String>,
    /// Its file.
    pub file: Option<PathBuf>,
    /// The result for this pipeline.
    pub outcome: Outcome,
}

impl Outcome {
    /// The word for it in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Swapped => "swapped",
            Self::Replaced => "replaced",
            Self::Started => "started",
            Self::Adopted => "adopted",
            Self::Stopped => "stopped",
            Self::Refused(_) | Self::Kept(_) => "refused",
        }
    }
}

impl Supervisor {
    /// Makes what runs what `readings` say, and says in the log what became of each pipeline. Of a
    /// pipeline whose file is not among them, or is another pipeline's by now, stops what runs.
    /// Safe to cancel when all is to stop.
    pub async fn reload(&self, readings: Vec<FileReading>) -> Vec<Reloaded> {
        let running = self.list();
        let gone = running.iter().filter(|handle| is_gone(handle, &readings));
        let mut done: Vec<Reloaded> = join_all(gone.map(|handle| self.take_away(handle))).await;
        let lost = running.iter().filter(|handle| handle.spec().file.is_some() && !is_gone(handle, &readings));
        done.extend(lost.filter(|handle| !is_among(handle, &readings)).map(|handle| {
            let outcome = Outcome::Kept(vec![no_pipeline_file()]);
            Reloaded { pipeline: Some(handle.name().to_owned()), file: handle.spec().file, outcome }
        }));
        done.extend(join_all(readings.into_iter().map(|reading| self.follow(reading))).await);
        done.iter().for_each(tell);
        done
    }

    async fn take_away(&self, handle: &PipelineHandle) -> Reloaded {
        self.stop(handle.name()).await;
        let file = handle.spec().file;
        Reloaded { pipeline: Some(handle.name().to_owned()), file, outcome: Outcome::Stopped }
    }

    async fn follow(&self, FileReading { file, read }: FileReading) -> Reloaded {
        match read {
            Ok(spec) => {
                let pipeline = Some(spec.settings.name.clone());
                Reloaded { pipeline, file: Some(file), outcome: self.apply(spec).await }
            }
            Err(refusal) => {
                let runs = self.list().into_iter().find(|handle| handle.spec().file.as_ref() == Some(&file));
                let pipeline = runs.map(|handle| handle.name().to_owned());
                Reloaded { pipeline, file: Some(file), outcome: Outcome::Refused(refusal) }
            }
        }
    }

    /// The pipeline of the spec's name, if it runs or is paused.
    pub(super) fn running(&self, spec: &PipelineSpec) -> Option<PipelineHandle> {
        let handle = self.get(&spec.settings.name)?;
        (handle.is_paused() || !handle.state().state.is_over()).then_some(handle)
    }

    async fn apply(&self, spec: PipelineSpec) -> Outcome {
        let kept = |error: Error| Outcome::Kept(vec![error]);
        let Some(handle) = self.running(&spec) else {
            return self.start(spec).map_or_else(kept, |_| Outcome::Started);
        };
        let before = handle.spec();
        match spec.differs_from(&before) {
            Difference::Nothing => Outcome::Unchanged,
            Difference::Handlers if !handle.is_paused() => match self.swap(&handle, spec).await {
                Ok(true) => Outcome::Swapped,
                Ok(false) => Outcome::Replaced,
                Err(error) => kept(error),
            },
            Difference::Handlers | Difference::Pipeline => match self.try_out(&handle, &spec).await {
                Ok(()) => {
                    leaves_slot(&before, &spec);
                    let done = || if handle.is_paused() { Outcome::Adopted } else { Outcome::Replaced };
                    self.replace(spec).await.map_or_else(kept, |_| done())
                }
                Err(errors) => Outcome::Kept(errors),
            },
        }
    }
}

/// The error for a file that held a pipeline which runs.
pub(super) fn no_pipeline_file() -> Error {
    let what = "the file is no pipeline file any more";
    Error::new(Fault::Config, what).help("mend the file, or remove it to stop its pipeline")
}

/// Tells if the file of a pipeline that runs is gone, or has another pipeline in it.
pub(super) fn is_gone(handle: &PipelineHandle, readings: &[FileReading]) -> bool {
    let Some(file) = handle.spec().file else { return false };
    !is_among(handle, readings)
        && (!file.exists() || readings.iter().any(|reading| reading.file == file && reading.read.is_ok()))
}

/// Tells if the readings speak of a pipeline that runs, by its name, or of its file, which cannot
/// be read as a pipeline. For a pipeline without a file, any unreadable file counts.
pub(super) fn is_among(handle: &PipelineHandle, readings: &[FileReading]) -> bool {
    let spec = handle.spec();
    readings.iter().any(|reading| match &reading.read {
        Ok(read) => read.settings.name == handle.name(),
        Err(_) => spec.file.as_ref().is_none_or(|file| *file == reading.file),
    })
}

/// Says that other settings read another slot, and leave the one before behind.
fn leaves_slot(before: &PipelineSpec, now: &PipelineSpec) {
    let claim = |spec: &PipelineSpec| Some(spec.settings.source.claim(&spec.settings.name).ok()??.what);
    let (Some(old), Some(new)) = (claim(before), claim(now)) else { return };
    if old != new {
        let pipeline = &now.settings.name;
        tracing::warn!(
            pipeline,
            old,
            "the pipeline reads another slot now; the one before stays, and Postgres keeps the log for it"
        );
    }
}

/// One line of the log for each pipeline.
fn tell(Reloaded { pipeline, file, outcome }: &Reloaded) {
    let file = file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let pipeline = pipeline.as_deref();
    match outcome {
        Outcome::Unchanged => tracing::info!(pipeline, "reload: nothing has changed"),
        Outcome::Swapped => tracing::info!(pipeline, "reload: its handlers were swapped, the stream went on"),
        Outcome::Replaced => tracing::info!(pipeline, "reload: it was started again with its new settings"),
        Outcome::Started => tracing::info!(pipeline, file, "reload: it was started"),
        Outcome::Adopted => tracing::info!(pipeline, "reload: it is paused, its new settings count once it is resumed"),
        Outcome::Stopped => tracing::warn!(
            pipeline,
            file,
            "reload: its file is gone, and it was stopped; its slot stays, and Postgres keeps the log for it"
        ),
        Outcome::Refused(_) | Outcome::Kept(_) => {
            tracing::warn!(pipeline, file, "reload: what runs stays as it is, the new settings are refused");
        }
    }
}
