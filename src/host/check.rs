//! `validate --connect`: everything that a pipeline names is opened and tried, down to a row
//! through the handlers. Nothing is made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Embedders, Host, Owner, at_start, feedback, fit, open_embedders, rejected_output};
use crate::components::PipelineSettings;
use crate::config::model;
use crate::error::{Code, Error, Fault};
use crate::pipeline::{Stage, Tolerance, rehearse};
use crate::printable::printable;
use crate::sink::{Admission, DeadLetter, Look, SinkKind, StoreMarks};
use crate::source::{Fed, SampleRow};

/// The longest time for a word to be embedded, and for a row to go through all handlers.
const PATIENCE: Duration = Duration::from_secs(30);

impl Host {
    /// Opens every part as `open` does, but makes nothing, neither on the source nor in the sinks.
    /// Embeds a word with each embedder, and sends a row of each table through the handlers, as far
    /// as the sinks would take what they answer. For `validate --connect`, also beside the pipeline
    /// when it runs. Answers every failure, not only the first.
    pub async fn check(&self, settings: &PipelineSettings, owner: &Owner) -> Vec<Error> {
        let mut errors = Vec::new();
        errors.extend(feedback::refuse(settings).err());
        errors.extend(fit::refuse(settings).err());
        let stages = async {
            let own = open_embedders(settings)?;
            let stages = self.open_stages(settings, owner, &own, &super::meter_of(settings)).await?;
            Ok::<_, Error>((own, stages))
        };
        let opened = stages.await.map_err(|error| errors.push(error)).ok();
        let embeds = match &opened {
            Some((own, stages)) => probe(own, stages, &mut errors).await,
            None => false,
        };
        let mut looks = Vec::new();
        for (name, sink) in &settings.sinks {
            match sink.look().await {
                Ok(look) => looks.push((name.as_str(), &**sink, look)),
                Err(error) => errors.push(at_start(error).at(format!("sink `{name}`"))),
            }
        }
        let stages = opened.map(|(_, stages)| stages).unwrap_or_default();
        let fed = looks.iter().filter_map(|(name, sink, look)| {
            let feeding = stages.iter().filter(|stage| sink.inputs().contains(&stage.name));
            fed(name, look.marks.clone(), feeding)
        });
        let (name, source) = (&settings.source_name, &*settings.source);
        let at_source = |error: Error| at_start(error).at(format!("source `{name}`"));
        if let Err(error) = source.check(&settings.name, fed.collect::<Vec<Fed>>()).await {
            errors.push(at_source(error));
        }
        match source.samples(&settings.name).await {
            Ok(samples) => {
                if !samples.is_empty() {
                    errors.extend(misnamed(settings, &samples));
                }
                if embeds && errors.is_empty() {
                    errors.extend(try_out(settings, stages, &looks, samples).await);
                }
            }
            // `check` has most likely said the same.
            Err(error) if errors.is_empty() => errors.push(at_source(error)),
            Err(_) => {}
        }
        errors
    }
}

/// Embeds a word with each embedder. Answers whether all of them did.
async fn probe(own: &Embedders, stages: &[Stage], errors: &mut Vec<Error>) -> bool {
    let before = errors.len();
    let mut asked = BTreeSet::new();
    for (name, embedder) in own.iter().chain(stages.iter().flat_map(|stage| &stage.embedders)) {
        if !asked.insert(name.as_str()) {
            continue;
        }
        let answered = tokio::time::timeout(PATIENCE, embedder.probe()).await;
        let answered = answered.unwrap_or_else(|_| {
            let what = format!("embedder `{name}` gave no answer for {} s", PATIENCE.as_secs());
            Err(Error::new(Fault::Environment, what).help("check its `url`, and the server there"))
        });
        errors.extend(answered.err().map(at_start));
    }
    errors.len() == before
}

/// Names in `columns` that no table has.
fn misnamed(settings: &PipelineSettings, samples: &[SampleRow]) -> Vec<Error> {
    let relations = || samples.iter().flat_map(|sample| sample.batch.relations());
    let known: BTreeSet<&str> =
        relations().flat_map(|relation| relation.columns.iter().map(|column| column.name.as_str())).collect();
    let mut errors = Vec::new();
    for (name, transform) in &settings.transforms {
        for column in transform.columns().into_iter().flatten().filter(|column| !known.contains(column.as_str())) {
            let list: Vec<String> = known.iter().map(|known| format!("`{}`", printable(known))).collect();
            let error = Error::new(Fault::Config, format!("no table of the source has a column `{column}`"));
            let error = error.at(format!("`transforms.{name}.columns`"));
            errors.push(error.help(format!("the tables have {}", list.join(", "))));
        }
    }
    errors
}

/// Sends each sample through the handlers.
async fn try_out(
    settings: &PipelineSettings,
    mut stages: Vec<Stage>,
    looks: &[(&str, &dyn SinkKind, Look)],
    samples: Vec<SampleRow>,
) -> Vec<Error> {
    for stage in &mut stages {
        stage.keeps_rejected = true;
        stage.tolerance = Tolerance::new(&model::Rejections { max: 1, per: 1 });
        let takers = looks.iter().filter(|(_, sink, _)| sink.inputs().contains(&stage.name));
        let admissions: Vec<Admission> = takers.filter_map(|(.., look)| look.admission.clone()).collect();
        stage.admissions = admissions;
    }
    let stages: Arc<[Stage]> = stages.into();
    let mut errors = Vec::new();
    for SampleRow { table, batch, made_up } in samples {
        let tried = tokio::time::timeout(PATIENCE, rehearse(Arc::clone(&stages), batch)).await;
        let tried = tried.unwrap_or_else(|_| {
            let what = format!("a row of `{table}` did not come through the handlers within {} s", PATIENCE.as_secs());
            Err(Error::new(Fault::Handler, what).help("what they wait for stands in the lines above, if they said so"))
        });
        match tried {
            Ok(letters) => errors.extend(letters.iter().filter_map(|letter| judge(settings, letter, &table, made_up))),
            Err(error) => errors.push(at_start(error)),
        }
    }
    errors
}

/// Makes an error of a row that was set aside. None if the handler rejected a row that was made up,
/// as it may well do: the log has a warning then.
fn judge(settings: &PipelineSettings, letter: &DeadLetter, table: &str, made_up: bool) -> Option<Error> {
    let (name, reason) = (&letter.transform, &letter.reason);
    if made_up && letter.code == Code::Rejected {
        tracing::warn!(
            table,
            transform = name,
            reason,
            "the table has no row that could be tried, and the handler rejects one that was made up"
        );
        return None;
    }
    let fault = match letter.code {
        Code::Rejected | Code::Contract | Code::Text | Code::Embed => Fault::Config,
        _ => Fault::Handler,
    };
    let which = if made_up { "a row that was made up for the empty table" } else { "a row" };
    let error = Error::new(fault, format!("handler `{name}` cannot take {which}")).because(reason.clone());
    let kept = settings.sinks.values().any(|sink| sink.inputs().contains(&rejected_output(name)));
    let would = if kept { "such rows would become dead letters" } else { "such a row would stop the pipeline" };
    Some(error.at(format!("table `{table}`")).help(format!(
        "{would}: compare `transforms.{name}.config`, `columns` and `embedders` with what the handler wants, and the sink with \
         the embedder"
    )))
}

/// Names the sinks, and what makes their vectors, to the source.
pub(super) fn fed<'a>(name: &str, marks: StoreMarks, feeding: impl Iterator<Item = &'a Stage>) -> Option<Fed> {
    let mut models: Vec<String> = Vec::new();
    for embedder in feeding.flat_map(|stage| stage.embedders.values()) {
        let model = embedder.model();
        if !model.is_empty() && !models.contains(&model) {
            models.push(model);
        }
    }
    let marks = match marks {
        StoreMarks::None => return None,
        StoreMarks::Place => None,
        StoreMarks::Words(words) => Some(words),
    };
    Some(Fed { sink: name.to_owned(), marks, models })
}
