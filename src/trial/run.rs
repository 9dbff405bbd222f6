//! Runs the cases of test files through the real engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;

use super::answers::{answers, failure};
use super::compare::all_match;
use super::file::{Case, Suite};
use super::{CaseReport, FileReport, Options, Refusal, Report, bless, events, file, find};
use crate::config::Document;
use crate::config::model::{Limits, Rejections};
use crate::embedder::{self, Embedder};
use crate::error::{Error, Fault, Result};
use crate::event::Batch;
use crate::event::json::Json;
use crate::transform::{Engine, Tenant, Transform, WasmTransform};

/// Runs every case of `files` that the options ask for. Must be called on a tokio runtime.
///
/// # Errors
/// `Config` if there is no such case. Whatever is wrong with a single file stands in its report.
pub async fn run(engine: &Engine, files: &[PathBuf], options: &Options) -> Result<Report> {
    let mut report = Report::default();
    for file in files {
        let cases = run_file(engine, file, options).await;
        report.files.push(FileReport { file: file.clone(), cases });
    }
    let (passed, failed) = report.counts();
    if passed + failed == 0 && report.files.iter().all(|file| file.cases.is_ok()) {
        return Err(match &options.filter {
            Some(text) => Error::new(Fault::Config, format!("no case has `{text}` in its name"))
                .help("leave `--filter` out to run them all"),
            None => Error::new(Fault::Config, "the files hold no case").help(find::EXAMPLE),
        });
    }
    Ok(report)
}

async fn run_file(engine: &Engine, path: &Path, options: &Options) -> Result<Vec<CaseReport>, Refusal> {
    let document = Document::load(path).map_err(Refusal::Mistakes)?;
    let suite = file::read(&document).map_err(Refusal::Mistakes)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let component = match &options.component {
        Some(component) => component.clone(),
        None => find::component(path, suite.component.as_deref()).map_err(Refusal::Failed)?,
    };
    let wanted = |case: &&Case<'_>| options.filter.as_ref().is_none_or(|text| case.name.contains(text));
    let mut mistakes = document.mistakes();
    let mut batches = Vec::new();
    for case in suite.cases.iter().filter(wanted) {
        batches.extend(events::batches(&case.source, case.batch, folder, &mut mistakes).map(|batches| (case, batches)));
    }
    if !mistakes.is_empty() {
        return Err(Refusal::Mistakes(mistakes.finish()));
    }
    let mut handlers = Handlers::new(engine, component, &suite).map_err(Refusal::Failed)?;
    let mut reports = Vec::new();
    for (case, batches) in batches {
        let line = document.place(case.part).map_or(1, |(line, _)| line);
        reports.push(handlers.run(case, line, &batches).await.map_err(Refusal::Failed)?);
    }
    if options.bless {
        bless::write(path, &document, &suite, &mut reports).map_err(Refusal::Failed)?;
    }
    Ok(reports)
}

/// The component, loaded once for each configuration that cases ask for.
struct Handlers<'s> {
    engine: &'s Engine,
    component: PathBuf,
    embedders: IndexMap<String, Arc<dyn Embedder>>,
    vectors: bool,
    loaded: Vec<(BTreeMap<String, String>, Limits, Transform)>,
}

impl<'s> Handlers<'s> {
    fn new(engine: &'s Engine, component: PathBuf, suite: &Suite<'_>) -> Result<Self> {
        let opened =
            suite.embedders.iter().map(|(name, settings)| Ok((name.clone(), embedder::open(name, &**settings)?)));
        let embedders = opened.collect::<Result<_>>()?;
        Ok(Self { engine, component, embedders, vectors: suite.vectors, loaded: Vec::new() })
    }

    async fn run(&mut self, case: &Case<'_>, line: usize, batches: &[Arc<Batch>]) -> Result<CaseReport> {
        let (vectors, embedders) = (self.vectors, self.embedders.clone());
        let transform = self.transform(case)?;
        let mut came = Vec::new();
        let mut took = Duration::ZERO;
        for batch in batches {
            let began = Instant::now();
            let answer = transform.apply(Arc::clone(batch)).await;
            took += began.elapsed();
            match answer {
                Ok(mut output) => {
                    if vectors {
                        embedder::resolve(&mut output.commands, &embedders).await?;
                    }
                    came.extend(answers(batch, &output));
                }
                Err(error) => {
                    came.push(failure(&error));
                    break;
                }
            }
        }
        let expected: Vec<Json> = case.expected.clone();
        Ok(CaseReport {
            name: case.name.clone(),
            line,
            events: batches.iter().map(|batch| batch.events().len()).sum(),
            took,
            passed: all_match(&expected, &came),
            blessed: false,
            expected,
            came,
        })
    }

    fn transform(&mut self, case: &Case<'_>) -> Result<&Transform> {
        let known = self.loaded.iter().position(|(config, limits, _)| *config == case.config && *limits == case.limits);
        let index = match known {
            Some(index) => index,
            None => {
                let settings = WasmTransform {
                    inputs: Vec::new(),
                    component: self.component.clone(),
                    folder: None,
                    config: case.config.clone(),
                    columns: None,
                    embedders: self.embedders.keys().cloned().collect(),
                    workers: 1,
                    limits: case.limits.clone(),
                    rejections: Rejections::default(),
                    ids: Default::default(),
                    allow: Default::default(),
                };
                let transform = Transform::load(
                    &Tenant::lone(self.engine),
                    self.engine,
                    "handler",
                    &settings,
                    self.embedders.clone(),
                )?;
                self.loaded.push((case.config.clone(), case.limits.clone(), transform));
                self.loaded.len() - 1
            }
        };
        let loaded = self.loaded.get(index).map(|(_, _, transform)| transform);
        loaded.ok_or_else(|| Error::new(Fault::Bug, "a handler that was loaded is gone"))
    }
}
