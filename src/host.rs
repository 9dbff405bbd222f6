//! The host: opens the parts that a pipeline file names, and runs pipelines side by side.

mod grants;

mod tenants;

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::model;
use crate::embedder::{self, Embedder};
use crate::error::{Error, Fault, Result};
use crate::pipeline::{Outlet, Pipeline, Stage, Status, Tolerance};
use crate::sink;
use crate::source::Source;
use crate::source::postgres::{self, PostgresSource};
use crate::transform::{Engine, Resources, Tenant, Transform};

pub use tenants::{Admitted, Refusal, Tenants};

/// What pipelines of one process share: the engine that runs the handlers.
pub struct Host {
    engine: Engine,
}

/// Embedders that are open, by their names.
pub type Embedders = IndexMap<String, Arc<dyn Embedder>>;

/// Whose a pipeline is, and what the host lends it.
#[derive(Clone)]
pub struct Owner {
    tenant: Tenant,
    /// What the host lends it.
    pub embedders: Embedders,
}

impl Host {
    /// Starts the engine. Compiled handlers are kept in the user's cache folder, so that a second start is quick.
    pub fn new() -> Result<Self> {
        Ok(Self { engine: Engine::new(cache_folder().as_deref())? })
    }

    /// As `new`, with as much of the machine as `resources` says.
    pub fn with(resources: &Resources<'_>) -> Result<Self> {
        Ok(Self { engine: Engine::with(resources)? })
    }

    /// The engine that runs the handlers.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Opens everything that `settings` names: embedders, handlers, sinks, then the source, which sets up
    /// publication and slot. In this order, so that a mistake is found before anything is made on the server.
    pub async fn open(&self, settings: &model::Pipeline) -> Result<Pipeline> {
        self.open_for(settings, None).await
    }

    /// As `open`, for a pipeline of `owner`, if it has one.
    pub async fn open_for(&self, settings: &model::Pipeline, owner: Option<&Owner>) -> Result<Pipeline> {
        let opened = async {
            refuse_loop(settings)?;
            let stages = self.open_stages(settings, owner)?;
            let mut outlets = Vec::new();
            for (name, sink) in &settings.sinks {
                outlets.push(open_outlet(settings, name, sink).await?);
            }
            let source: Box<dyn Source> = match &settings.source {
                (_, model::Source::Postgres(postgres)) => {
                    Box::new(PostgresSource::connect(&settings.name, postgres).await?)
                }
            };
            Ok(Pipeline::new(&settings.name, source, stages, outlets))
        };
        opened.await.map_err(|error| at_start(error).within(format!("pipeline `{}` cannot start", settings.name)))
    }

    /// Opens every part as `open` does, but makes nothing on the source and reads nothing from it; sinks make what
    /// their `create` asks for. For `validate --connect`. Answers every failure, not only the first.
    pub async fn check(&self, settings: &model::Pipeline, owner: Option<&Owner>) -> Vec<Error> {
        let mut errors = Vec::new();
        errors.extend(refuse_loop(settings).err());
        errors.extend(self.open_stages(settings, owner).err());
        for (name, sink) in &settings.sinks {
            match open_outlet(settings, name, sink).await {
                Ok(outlet) => errors.extend(outlet.sink.close().await.err()),
                Err(error) => errors.push(at_start(error)),
            }
        }
        let (name, model::Source::Postgres(postgres)) = &settings.source;
        let checked = postgres::check(&settings.name, postgres).await;
        errors.extend(checked.err().map(|error| at_start(error).at(format!("source `{name}`"))));
        errors
    }

    fn open_stages(&self, settings: &model::Pipeline, owner: Option<&Owner>) -> Result<Vec<Stage>> {
        let mut embedders = open_embedders(settings)?;
        embedders.extend(owner.into_iter().flat_map(|owner| owner.embedders.clone()));
        let stages = settings.transforms.iter().map(|(name, model::Transform::Wasm(wasm))| {
            let lent: Embedders = wasm
                .embedders
                .iter()
                .filter_map(|name| Some((name.clone(), Arc::clone(embedders.get(name)?))))
                .collect();
            let transform = match owner {
                Some(owner) => Transform::load_for(&owner.tenant, &self.engine, name, wasm, lent.clone())?,
                None => Transform::load(&self.engine, name, wasm, lent.clone())?,
            };
            let output = rejected_output(name);
            let keeps_rejected = settings.sinks.values().any(|sink| sink.inputs().contains(&output));
            Ok(Stage {
                name: name.clone(),
                transform,
                workers: wasm.workers,
                embedders: lent,
                keeps_rejected,
                tolerance: Tolerance::new(&wasm.rejections),
                admissions: Vec::new(),
            })
        });
        stages.collect()
    }
}

/// Runs pipelines until `stop` is cancelled or all have ended. One that fails does not end the others; the first
/// error is returned once all are done, the others are handed to `report` as they happen.
pub async fn run(pipelines: Vec<Pipeline>, stop: CancellationToken, report: impl Fn(&Error)) -> Result<(), Error> {
    let mut running = JoinSet::new();
    for pipeline in pipelines {
        running.spawn(pipeline.run(stop.clone()));
    }
    let mut first = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|panic| Err(Error::new(Fault::Bug, "a pipeline failed").because(panic)));
        if let Err(error) = ended {
            report(&error);
            first = first.and(Err(error));
        }
    }
    first
}

/// What the pipelines say about themselves, to be read while they run.
pub fn status(pipelines: &[Pipeline]) -> Vec<Arc<Status>> {
    pipelines.iter().map(Pipeline::status).collect()
}

/// A pattern that takes in the pipeline's own table of vectors would feed every write back into the pipeline.
fn refuse_loop(settings: &model::Pipeline) -> Result<()> {
    let (source_name, model::Source::Postgres(source)) = &settings.source;
    if let Some(pattern) = source.tables.iter().find(|pattern| pattern.starts_with("pgstream.")) {
        let what = format!("source `{source_name}` reads `{pattern}`, where this program keeps its own state");
        return Err(Error::new(Fault::Config, what)
            .at(format!("`sources.{source_name}.tables`"))
            .help("each change of it would be an event, whose handling changes it again: leave it out"));
    }
    for (name, sink) in &settings.sinks {
        let model::Sink::Pgvector(sink) = sink else { continue };
        let fed_by = source.tables.iter().find(|pattern| matches(&qualified(pattern), &qualified(&sink.table)));
        if let Some(pattern) = fed_by
            && sink.url == source.url
        {
            let what = format!("sink `{name}` writes the table `{}`, which source `{source_name}` reads", sink.table);
            return Err(Error::new(Fault::Config, what)
                .at(format!("`{pattern}` in `sources.{source_name}.tables`"))
                .help("every vector written would come back as an event: name the tables one by one, or narrow the pattern"));
        }
    }
    Ok(())
}

/// A table without a schema is one of `public`.
fn qualified(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}

/// Whether `name` is what `pattern` says, with `*` for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let ends = name.char_indices().map(|(end, _)| end).chain([name.len()]);
            ends.into_iter().any(|end| name.get(end..).is_some_and(|tail| matches(rest, tail)))
        }),
    }
}

/// What cannot be reached before anything has ever worked is more often mistyped than down for a moment: it is said
/// at once. Once a pipeline runs, the same failure is waited out.
fn at_start(error: Error) -> Error {
    match error.fault() {
        Fault::Transient => error.blame(Fault::Environment),
        _ => error,
    }
}

/// Opens the embedder that a sink's vectors named `vector` are made with, to embed a query the same way. It may be one of those
/// that are `lent` to the pipeline.
pub fn embedder_of(
    settings: &model::Pipeline,
    lent: &Embedders,
    sink: &str,
    vector: &str,
) -> Result<Arc<dyn Embedder>> {
    let Some(inputs) = settings.sinks.get(sink).map(model::Sink::inputs) else {
        let known: Vec<&str> = settings.sinks.keys().map(String::as_str).collect();
        return Err(Error::new(Fault::Config, format!("pipeline `{}` has no sink `{sink}`", settings.name))
            .help(format!("its sinks are: {}", known.join(", "))));
    };
    let feeding = settings.transforms.iter().filter(|(name, _)| inputs.contains(name));
    let names: Vec<&String> = feeding.flat_map(|(_, model::Transform::Wasm(wasm))| &wasm.embedders).collect();
    let chosen = names.iter().find(|name| ***name == vector).or(names.first());
    if let Some(lent) = chosen.and_then(|name| lent.get(*name)) {
        return Ok(Arc::clone(lent));
    }
    let Some((name, embedder)) = chosen.and_then(|name| settings.embedders.get_key_value(*name)) else {
        return Err(Error::new(
            Fault::Config,
            format!("no embedder feeds sink `{sink}`, so a question cannot be embedded"),
        )
        .help("add `embedders: [name]` to the transform that feeds it"));
    };
    embedder::open(name, embedder)
}

fn open_embedders(settings: &model::Pipeline) -> Result<Embedders> {
    let opened = settings.embedders.iter().map(|(name, embedder)| Ok((name.clone(), embedder::open(name, embedder)?)));
    opened.collect()
}

async fn open_outlet(settings: &model::Pipeline, name: &str, sink: &model::Sink) -> Result<Outlet> {
    let opened = sink::open(&settings.name, name, sink).await.map_err(|error| error.at(format!("sink `{name}`")))?;
    let stages = |wanted: &dyn Fn(&str) -> String| {
        let indices = settings.transforms.keys().enumerate();
        indices.filter(|(_, stage)| sink.inputs().contains(&wanted(stage))).map(|(index, _)| index).collect()
    };
    Ok(Outlet {
        name: name.to_owned(),
        sink: opened,
        batch: sink.batch(),
        commands_of: stages(&str::to_owned),
        rejected_of: stages(&rejected_output),
    })
}

/// The name under which a sink takes what a transform rejects.
fn rejected_output(transform: &str) -> String {
    format!("{transform}.rejected")
}

/// Where the user's compiled handlers are kept.
pub fn cache_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("pgstream-host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name) in [("a", "a"), ("a*", "a"), ("a*", "abc"), ("*c", "abc"), ("a*c*e", "abcde"), ("*", "")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a*", "ba"), ("a*c", "abcd"), ("a*c*e", "ace_")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
