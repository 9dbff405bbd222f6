//! Opens the sink that a pipeline file describes: the one place that knows every kind.

use super::blackhole::Blackhole;
use super::dead_letters::{DeadLetters, Filter, Letters};
use super::lines::Lines;
use super::pgvector::PgvectorSink;
use super::qdrant::QdrantSink;
use super::qdrant_edge::{QdrantEdge, search as search_folder};
use super::{Hit, Look, Query, Sink};
use crate::config::model;
use crate::error::Result;

/// Opens the sink `name` of `pipeline`: connects, and makes or checks the table, collection, folder or file.
///
/// # Errors
/// `Config` or `Environment` if it cannot work until somebody acts, `Transient` if its server cannot be reached now.
pub async fn open(pipeline: &str, name: &str, config: &model::Sink) -> Result<Box<dyn Sink>> {
    Ok(match config {
        model::Sink::Pgvector(config) => Box::new(PgvectorSink::open(pipeline, name, config).await?),
        model::Sink::Qdrant(config) => Box::new(QdrantSink::open(config).await?),
        model::Sink::QdrantEdge(config) => Box::new(QdrantEdge::open(config).await?),
        model::Sink::DeadLetters(config) => Box::new(DeadLetters::open(pipeline, config).await?),
        model::Sink::File(config) => Box::new(Lines::file(pipeline, config).await?),
        model::Sink::Stdout(sink) => Box::new(Lines::stdout(pipeline, sink.vectors)),
        model::Sink::Blackhole(_) => Box::new(Blackhole::default()),
    })
}

/// As [`open`], but makes nothing, also where `create` would: answers what is there, or what would be. Files and folders that a
/// running pipeline has open are left to it.
///
/// # Errors
/// As [`open`].
pub async fn look(config: &model::Sink) -> Result<Look> {
    match config {
        model::Sink::Pgvector(config) => PgvectorSink::look(config).await,
        model::Sink::Qdrant(config) => QdrantSink::look(config).await,
        model::Sink::QdrantEdge(config) => QdrantEdge::look(config).await,
        model::Sink::DeadLetters(config) => DeadLetters::look(config).await.map(|()| Look::default()),
        model::Sink::File(config) => Lines::check(config).await.map(|()| Look::default()),
        model::Sink::Stdout(_) | model::Sink::Blackhole(_) => Ok(Look::default()),
    }
}

/// Removes what is kept of the sink `name` of `pipeline` beside what it holds: its position, its dead letters. Answers what that was,
/// line by line.
///
/// # Errors
/// What the server says.
pub async fn purge(pipeline: &str, name: &str, config: &model::Sink) -> Result<Vec<String>> {
    match config {
        model::Sink::Pgvector(config) => {
            PgvectorSink::forget(pipeline, name, config).await?;
            Ok(vec![format!("the position of sink `{name}` is removed")])
        }
        model::Sink::DeadLetters(config) => {
            let letters = Letters::open(pipeline, config).await?.drop(&Filter::default()).await?;
            Ok(vec![format!("{letters} dead letters are removed")])
        }
        _ => Ok(Vec::new()),
    }
}

/// Asks the sink `name` of `pipeline` for the nearest points. Works beside a running pipeline, and makes nothing.
///
/// # Errors
/// As [`open`]; and `Config` if this kind of sink cannot be searched, or not by this vector.
pub async fn search(pipeline: &str, name: &str, config: &model::Sink, query: &Query<'_>) -> Result<Vec<Hit>> {
    let mut sink: Box<dyn Sink> = match config {
        model::Sink::QdrantEdge(config) => return search_folder(config, query).await,
        model::Sink::Pgvector(config) => {
            let config = model::PgvectorSink { create: None, ..config.clone() };
            Box::new(PgvectorSink::open(pipeline, name, &config).await?)
        }
        model::Sink::Qdrant(config) => {
            let config = model::QdrantSink { create: None, ..config.clone() };
            Box::new(QdrantSink::open(&config).await?)
        }
        model::Sink::DeadLetters(_) => return Err(Lines::unsearchable("dead-letters")),
        // To open the file would claim it.
        model::Sink::File(_) => return Err(Lines::unsearchable("file")),
        model::Sink::Stdout(_) | model::Sink::Blackhole(_) => open(pipeline, name, config).await?,
    };
    let hits = sink.search(query).await?;
    sink.close().await?;
    Ok(hits)
}
