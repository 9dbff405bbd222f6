//! `pgstream-host search`: what a sink finds nearest to a text.

use std::process::ExitCode;

use super::pipeline::{Loaded, PipelineFile};
use super::{print_json, print_lines};
use crate::components::PipelineSettings;
use crate::error::{Error, Fault, Result};
use crate::host;
use crate::sink::{Hit, Query};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PipelineFile,
    /// The text to look for.
    text: String,
    /// The sink to ask; not needed where only one can be searched.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Name of the vector to compare with, where points have several.
    #[arg(long, value_name = "NAME", default_value = "")]
    vector: String,
    /// The number of points to show.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Prints the points as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let Loaded { settings, lent } = match arguments.file.load()? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let name = match &arguments.sink {
        Some(name) => name,
        None => the_searchable(&settings)?,
    };
    let Arguments { vector, text, limit, json, .. } = &arguments;
    let embedder = host::embedder_of(&settings, &lent, name, vector)?;
    let vectors = embedder.embed(&[text]).await?;
    let query = Query { vector, values: &vectors.data, limit: *limit as usize };
    let searcher = settings.sinks.get(name).and_then(|sink| sink.searcher());
    let searcher = searcher.ok_or_else(|| unsearchable(&settings, name))?;
    let hits = searcher.search(&query).await.map_err(|error| error.at(format!("sink `{name}`")))?;
    if *json {
        let hits = serde_json::to_value(&hits)
            .map_err(|error| Error::new(Fault::Bug, "a hit cannot be shown").because(error))?;
        return print_json(format_args!("{hits:#}"));
    }
    print_lines(show(&hits))
}

fn the_searchable(settings: &PipelineSettings) -> Result<&String> {
    match searchable(settings).as_slice() {
        [one] => Ok(one),
        [] => Err(Error::new(Fault::Config, format!("pipeline `{}` has no sink that can be searched", settings.name))),
        several => {
            let list: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(Error::new(Fault::Config, "several sinks can be searched")
                .help(format!("choose one with `--sink`: {}", list.join(", "))))
        }
    }
}

/// Names of the sinks that can be searched.
fn searchable(settings: &PipelineSettings) -> Vec<&String> {
    settings.sinks.iter().filter(|(_, sink)| sink.searcher().is_some()).map(|(name, _)| name).collect()
}

fn unsearchable(settings: &PipelineSettings, name: &str) -> Error {
    let kind = settings.sinks.get(name).map_or("", |sink| sink.kind());
    let error = Error::new(Fault::Config, format!("a `{kind}` sink cannot be searched")).at(format!("sink `{name}`"));
    match searchable(settings).as_slice() {
        [] => error.help("no sink of the pipeline can be: it takes one that keeps vectors"),
        some => {
            let list: Vec<String> = some.iter().map(|name| format!("`--sink {name}`")).collect();
            error.help(format!("write {}", list.join(" or ")))
        }
    }
}

fn show(hits: &[Hit]) -> Vec<String> {
    if hits.is_empty() {
        return vec!["nothing found".to_owned()];
    }
    let line = |hit: &Hit| format!("{:>7.4}  {}  {}", hit.score, hit.id, summary(hit));
    hits.iter().map(line).collect()
}

/// The payload on one line, short enough to read.
fn summary(hit: &Hit) -> String {
    const WIDTH: usize = 100;
    let text = serde_json::Value::Object(hit.payload.clone()).to_string();
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
