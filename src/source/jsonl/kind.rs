//! Lines as a kind of source, which can be asked to begin anew and to forget, if they are a file's.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::checkpoint::{Checkpoint, Record};
use super::feed;
use super::followed::{Followed, take_up, unreadable};
use super::{JsonlSettings, JsonlSource};
use crate::config::SourceDatabase;
use crate::error::{Error, Fault, Result};
use crate::meter::SourceMeter;
use crate::source::{
    AdministerSlot, Capability, Claim, CopyRows, Fed, OpenTap, ReadBack, SampleRow, Source, SourceKind, Written,
};

#[async_trait]
impl SourceKind for JsonlSettings {
    fn claim(&self, _pipeline: &str) -> Result<Option<Claim>> {
        let stdin = || Claim { what: "standard input".to_owned(), help: "a file to read" };
        Ok(self.is_stdin().then(stdin))
    }

    fn reads_back(&self, written: &Written<'_>) -> Option<ReadBack> {
        let Written::File(written) = written else { return None };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let same = !self.is_stdin() && real(&self.path) == real(written);
        let help = "every line written would be read as an event: let the sink write to another file";
        same.then(|| ReadBack { setting: "path", value: self.path.display().to_string(), help })
    }

    fn reads_state(&self) -> Option<ReadBack> {
        None
    }

    async fn open(&self, pipeline: &str, sinks: Vec<Fed>, meter: Arc<SourceMeter>) -> Result<Box<dyn Source>> {
        meter.connected(true);
        if self.is_stdin() {
            return Ok(Box::new(JsonlSource::stdin(self)?));
        }
        let (pipeline, settings) = (pipeline.to_owned(), self.clone());
        Ok(Box::new(blocking(move || JsonlSource::open(&pipeline, &settings, &sinks)).await?))
    }

    async fn check(&self, pipeline: &str, sinks: Vec<Fed>) -> Result<()> {
        if self.is_stdin() {
            return Ok(());
        }
        let (pipeline, settings) = (pipeline.to_owned(), self.clone());
        blocking(move || {
            let checkpoint = checkpoint(&settings, &pipeline)?;
            let record = checkpoint.read()?.unwrap_or_else(|| Record::new(&settings.path));
            refuse_other_sinks(&record, &sinks)?;
            take_up(&settings, &record).map(drop)
        })
        .await
    }

    async fn samples(&self, _pipeline: &str) -> Result<Vec<SampleRow>> {
        if self.is_stdin() {
            return Ok(Vec::new());
        }
        let settings = self.clone();
        blocking(move || {
            let unreadable = |error| unreadable(&settings.path, error);
            let file = Followed::open(&settings.path, settings.folder.as_deref()).map_err(unreadable)?;
            let samples = feed::samples(&settings, &file).map_err(unreadable)?;
            Ok(samples.into_iter().map(|(table, batch)| SampleRow { table, batch, made_up: false }).collect())
        })
        .await
    }

    fn database(&self) -> Option<SourceDatabase> {
        None
    }

    fn slot(&self) -> Capability<'_, dyn AdministerSlot> {
        match self.is_stdin() {
            true => Err("this source has no slot: standard input is read once, and its place is not kept"),
            false => Ok(self),
        }
    }

    fn rows(&self) -> Capability<'_, dyn CopyRows> {
        Err(
            "this source has no rows to copy: its lines are events, and the rows behind them are elsewhere; to read a file \
             from its beginning once more: `pgstream-host resnapshot <pipeline file>`",
        )
    }

    fn tap(&self) -> Capability<'_, dyn OpenTap> {
        Err("this source cannot be tapped: its events are the lines of its file, which anybody may read beside it")
    }
}

#[async_trait]
impl AdministerSlot for JsonlSettings {
    async fn set_up(&self, pipeline: &str) -> Result<Vec<String>> {
        let path = checkpoint(self, pipeline)?.path().display().to_string();
        Ok(vec![format!("nothing to make: how far the file is read is kept in `{path}` from the first start on")])
    }

    async fn accept_sinks(&self, pipeline: &str) -> Result<()> {
        let (pipeline, settings) = (pipeline.to_owned(), self.clone());
        blocking(move || {
            let checkpoint = checkpoint(&settings, &pipeline)?;
            let _lock = checkpoint.lock()?;
            let Some(record) = checkpoint.read()? else { return Ok(()) };
            let accepting = Record { sinks: Default::default(), models: Default::default(), ..record };
            checkpoint.write(&accepting).map_err(|error| checkpoint.unwritable(error))
        })
        .await
    }

    async fn begin_anew(&self, pipeline: &str) -> Result<Vec<String>> {
        let mut done = self.tear_down(pipeline).await?;
        done.push(
            "the next `pgstream-host run` reads the file from its beginning; the sinks keep what they have".to_owned(),
        );
        Ok(done)
    }

    async fn tear_down(&self, pipeline: &str) -> Result<Vec<String>> {
        let (pipeline, settings) = (pipeline.to_owned(), self.clone());
        blocking(move || {
            let checkpoint = checkpoint(&settings, &pipeline)?;
            let _lock = checkpoint.lock()?;
            let path = checkpoint.path().display().to_string();
            Ok(match checkpoint.remove()? {
                true => vec![format!("removed `{path}`, which said how far the file was read")],
                false => vec![format!("there is no `{path}`: the file was not read yet")],
            })
        })
        .await
    }
}

fn checkpoint(settings: &JsonlSettings, pipeline: &str) -> Result<Checkpoint> {
    Checkpoint::beside(&settings.path, settings.folder.as_deref(), pipeline)
}

/// Refuses a sink whose store is not the one that was filled: what is confirmed does not come
/// again. And one whose vectors were made by another model.
pub(super) fn refuse_other_sinks(record: &Record, sinks: &[Fed]) -> Result<()> {
    if !record.has_history() {
        return Ok(());
    }
    for fed in sinks {
        if let Some(models) = record.models.get(&fed.sink).filter(|models| !fed.goes_with(models)) {
            return Err(fed.other_model(models).help(
                "vectors of two models cannot be compared: empty the sink, and `pgstream-host resnapshot <pipeline file>` has the \
                 file read from its beginning. If it is the same model under another name: `pgstream-host setup <pipeline file> \
                 --accept-sinks`",
            ));
        }
        let why = match record.sinks.get(&fed.sink) {
            // A file may be read for what comes from now on; and earlier versions did not note the sinks.
            None if fed.marks.is_none() || record.sinks.is_empty() && record.models.is_empty() => continue,
            None => "it is new to the pipeline",
            Some(marks) if !marks.is_empty() && fed.is_other_than(marks) => {
                "what it writes to was made anew, or is another one"
            }
            Some(_) => continue,
        };
        let what = format!("sink `{}` lacks the {} bytes of the file that are confirmed", fed.sink, record.offset);
        return Err(Error::new(Fault::Environment, what).because(why).help(
            "`pgstream-host resnapshot <pipeline file>` has the file read from its beginning. If it has all rows, or they are not \
             wanted: `pgstream-host setup <pipeline file> --accept-sinks`",
        ));
    }
    Ok(())
}

/// The outcome of `work`, off the threads that drive pipelines.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.unwrap_or_else(|error| Err(Error::new(Fault::Bug, "a file could not be looked at").because(error)))
}
