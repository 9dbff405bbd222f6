//! Replaces every text in a handler's commands by the vector that an embedder makes of it.

use std::sync::Arc;

use futures::future::try_join_all;
use indexmap::{IndexMap, IndexSet};

use super::{Embedder, Vectors};
use crate::command::{Command, Embedding};
use crate::error::{Error, Fault, Result};

/// Embeds every `Embedding::Text` of `commands`, with the embedder that is named as the vector,
/// else with the first. Equal texts are embedded once, and each embedder is called once. After an
/// error the commands are as they were.
///
/// # Errors
/// `Config` if there is no embedder at all; else what an embedder answers.
pub async fn resolve(commands: &mut [Command], embedders: &IndexMap<String, Arc<dyn Embedder>>) -> Result<()> {
    let mut texts: Vec<IndexSet<&str>> = vec![IndexSet::new(); embedders.len()];
    let mut places = Vec::new();
    for (name, embedding) in embeddings(commands) {
        let Embedding::Text(text) = embedding else { continue };
        let embedder = embedders.get_index_of(name).unwrap_or(0);
        let Some(texts) = texts.get_mut(embedder) else { return Err(no_embedder(name)) };
        places.push((embedder, texts.insert_full(text).0));
    }
    if places.is_empty() {
        return Ok(());
    }
    let calls = texts.iter().zip(embedders).map(|(texts, (name, embedder))| embed(name, embedder.as_ref(), texts));
    let answers: Vec<Vectors> = try_join_all(calls).await?;
    let rows: Vec<Vec<&[f32]>> = answers.iter().map(|answer| answer.rows().collect()).collect();

    let mut places = places.into_iter();
    let points = commands.iter_mut().flat_map(Command::points_mut);
    for (_, embedding) in points.flat_map(|point| &mut point.embeddings) {
        if let Embedding::Text(_) = embedding {
            let row = places.next().and_then(|(embedder, row)| rows.get(embedder)?.get(row));
            let row = row.ok_or_else(|| Error::new(Fault::Bug, "a text has lost its vector"))?;
            *embedding = Embedding::Dense(row.to_vec());
        }
    }
    Ok(())
}

/// Bytes of the vectors that [`resolve`] makes of each command's texts.
///
/// # Errors
/// As `resolve`, of an embedder that does not know yet how long its vectors are.
pub async fn weights(commands: &[Command], embedders: &IndexMap<String, Arc<dyn Embedder>>) -> Result<Vec<usize>> {
    let mut dimensions = vec![None; embedders.len()];
    let mut weights = Vec::with_capacity(commands.len());
    for command in commands {
        let mut numbers = 0usize;
        for (name, embedding) in embeddings(std::slice::from_ref(command)) {
            let Embedding::Text(_) = embedding else { continue };
            let index = embedders.get_index_of(name).unwrap_or(0);
            let Some(((_, embedder), dimension)) = embedders.get_index(index).zip(dimensions.get_mut(index)) else {
                return Err(no_embedder(name));
            };
            let dimension = match dimension {
                Some(known) => *known,
                None => *dimension.insert(embedder.dimension().await?),
            };
            numbers = numbers.saturating_add(dimension);
        }
        weights.push(numbers.saturating_mul(size_of::<f32>()));
    }
    Ok(weights)
}

async fn embed(name: &str, embedder: &dyn Embedder, texts: &IndexSet<&str>) -> Result<Vectors> {
    if texts.is_empty() {
        return Ok(Vectors::default());
    }
    let texts: Vec<&str> = texts.iter().copied().collect();
    let vectors = embedder.embed(&texts).await?;
    let (sent, found) = (texts.len(), vectors.rows().len());
    if sent == found && vectors.dimension > 0 {
        return Ok(vectors);
    }
    Err(Error::new(Fault::Bug, format!("embedder `{name}` made {found} vectors of {sent} texts")))
}

fn embeddings(commands: &[Command]) -> impl Iterator<Item = (&str, &Embedding)> {
    let points = commands.iter().flat_map(Command::points);
    points.flat_map(|point| point.embeddings.iter().map(|(name, embedding)| (name.as_str(), embedding)))
}

fn no_embedder(vector: &str) -> Error {
    let which = if vector.is_empty() { "the default vector".to_owned() } else { format!("vector `{vector}`") };
    Error::new(Fault::Config, format!("the handler answered text for {which}, and its transform has no embedder"))
        .help("name one in the pipeline file:\nembedders:\n  offline: { type: hash, dimension: 384 }\nand in the transform: `embedders: [offline]`")
}
