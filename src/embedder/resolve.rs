//! `resolve`: the texts that a handler left to the host become vectors.

use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};

use super::{Embedder, Vectors};
use crate::command::{Command, Embedding};
use crate::error::{Error, Fault, Result};

/// Replaces every text among the embeddings by its vector. After an error the commands are spent.
///
/// The embedder is the one that is named as the vector is, or else the first. Each embedder is called once, with
/// every text of the commands once, however often it occurs.
pub async fn resolve(commands: &mut [Command], embedders: &IndexMap<String, Arc<dyn Embedder>>) -> Result<()> {
    for (index, (name, embedder)) in embedders.iter().enumerate() {
        let (texts, places) = take_texts(commands, |vector| chosen(vector, embedders) == Some(index));
        if texts.is_empty() {
            continue;
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = embedder.embed(&texts).await.map_err(|error| error.at(format!("embedder `{name}`")))?;
        let rows = one_row_per_text(name, &texts, &vectors)?;
        let mut places = places.into_iter().peekable();
        for (place, (_, embedding)) in embeddings_mut(commands).enumerate() {
            if let Some((_, text)) = places.next_if(|(taken, _)| *taken == place) {
                *embedding = Embedding::Dense(rows.get(text).copied().unwrap_or_default().to_vec());
            }
        }
    }
    match embeddings_mut(commands).any(|(_, embedding)| matches!(embedding, Embedding::Text(_))) {
        true => Err(Error::new(Fault::Config, "the handler leaves embedding to the host, but was lent no embedder")
            .help("add `embedders: [name]` to the transform, and under `embedders:` what it is")),
        false => Ok(()),
    }
}

/// Moves the texts of the vectors that are `wanted` out of the commands: each text once, and for each embedding
/// that was one its place among all embeddings, with the index of its text.
fn take_texts(commands: &mut [Command], wanted: impl Fn(&str) -> bool) -> (IndexSet<String>, Vec<(usize, usize)>) {
    let (mut texts, mut places) = (IndexSet::new(), Vec::new());
    for (place, (vector, embedding)) in embeddings_mut(commands).enumerate() {
        if let Embedding::Text(text) = embedding
            && wanted(vector)
        {
            places.push((place, texts.insert_full(std::mem::take(text)).0));
        }
    }
    (texts, places)
}

/// Index of the embedder that makes the vectors named `vector`.
fn chosen(vector: &str, embedders: &IndexMap<String, Arc<dyn Embedder>>) -> Option<usize> {
    embedders.get_index_of(vector).or((!embedders.is_empty()).then_some(0))
}

/// An embedder that answers too few or uneven rows would give points the vectors of others.
fn one_row_per_text<'a>(name: &str, texts: &[&str], vectors: &'a Vectors) -> Result<Vec<&'a [f32]>> {
    if vectors.dimension == 0 || vectors.data.len() != texts.len() * vectors.dimension {
        return Err(Error::new(Fault::Bug, format!("embedder `{name}` answered another number of vectors than texts")));
    }
    Ok(vectors.rows().collect())
}

fn embeddings_mut(commands: &mut [Command]) -> impl Iterator<Item = (&String, &mut Embedding)> {
    let points = commands.iter_mut().flat_map(Command::points_mut);
    points.flat_map(|point| &mut point.embeddings).map(|(name, vector)| (&*name, vector))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::command::{Action, Point};
    use crate::lsn::Position;

    /// Answers the text's length, and remembers what it was asked.
    #[derive(Default)]
    struct Length(Mutex<Vec<Vec<String>>>);

    #[async_trait]
    impl Embedder for Length {
        async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
            self.0.lock().unwrap().push(texts.iter().map(|text| text.to_string()).collect());
            Ok(Vectors { dimension: 1, data: texts.iter().map(|text| text.len() as f32).collect() })
        }
    }

    fn upsert(embeddings: &[(&str, Embedding)]) -> Command {
        let embeddings = embeddings.iter().map(|(name, embedding)| (name.to_string(), embedding.clone())).collect();
        let point = Point { id: "1".into(), embeddings, payload: "{}".into() };
        Command { position: Position::default(), action: Action::Upsert(point) }
    }

    fn text(text: &str) -> Embedding {
        Embedding::Text(text.into())
    }

    #[tokio::test]
    async fn each_embedder_is_called_once_with_each_text_once() {
        let (first, title) = (Arc::new(Length::default()), Arc::new(Length::default()));
        let lent: IndexMap<String, Arc<dyn Embedder>> =
            IndexMap::from([("small".into(), first.clone() as _), ("title".into(), title.clone() as _)]);
        let given = Embedding::Dense(vec![9.0]);
        let mut commands = vec![
            upsert(&[("", text("body")), ("title", text("A title"))]),
            upsert(&[("", text("body")), ("other", text("other")), ("given", given.clone())]),
        ];
        resolve(&mut commands, &lent).await.unwrap();
        assert_eq!(*first.0.lock().unwrap(), [["body", "other"]]);
        assert_eq!(*title.0.lock().unwrap(), [["A title"]]);
        let dense = |x| Embedding::Dense(vec![x]);
        assert_eq!(commands[0], upsert(&[("", dense(4.0)), ("title", dense(7.0))]));
        assert_eq!(commands[1], upsert(&[("", dense(4.0)), ("other", dense(5.0)), ("given", given)]));
    }

    #[tokio::test]
    async fn a_text_without_an_embedder_says_which_line_is_missing() {
        let error = resolve(&mut [upsert(&[("", text("body"))])], &IndexMap::new()).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Config);
        assert!(error.advice().unwrap().contains("embedders: [name]"));
        assert!(!error.report().contains("body"), "no row's value in an error");
    }

    #[tokio::test]
    async fn commands_without_texts_need_no_embedder() {
        let mut commands = vec![upsert(&[("", Embedding::Dense(vec![1.0]))])];
        resolve(&mut commands, &IndexMap::new()).await.unwrap();
    }
}
