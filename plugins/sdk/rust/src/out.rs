//! `Out`: the answers of a handler. Mistakes that the host would stop the pipeline for reject the one event
//! here, in the host's words: `plugins/sdk/breaches.json` has them all.

use std::collections::HashSet;
use std::fmt::Display;

use serde::Serialize;

use crate::{Action, Command, Embedding, Error, Event, Output, Point, Rejection, Result, SparseVector, exact};

/// Bytes of an id or a group that the host takes.
const ID_BYTES: usize = 1024;

/// Bytes of a vector's name that the host takes.
const VECTOR_NAME_BYTES: usize = 63;

/// Takes a handler's answers to one event, in the order in which they are to be applied.
#[derive(Debug, Default)]
pub struct Out {
    actions: Vec<Action>,
    rejected: Option<String>,
}

impl Out {
    /// Writes a point whole: what was stored under this id is gone.
    ///
    /// `embeddings` is [`text`] that the host embeds, a `Vec<f32>`, an [`Embedding`], several of them by name
    /// (`[("title", …), ("content", …)]`), or `()`. `payload` is whatever serializes as a JSON object.
    pub fn upsert(
        &mut self,
        id: impl Display,
        embeddings: impl Into<Embeddings>,
        payload: impl Serialize,
    ) -> Result<()> {
        let point = Point::new(id, embeddings, payload)?;
        self.push(Action::Upsert(point))
    }

    /// Overwrites these keys of a point's payload. Its vectors and its other keys stay.
    pub fn patch(&mut self, id: impl Display, payload: impl Serialize) -> Result<()> {
        self.push(Action::Patch((name("id", id)?, object(payload)?)))
    }

    /// Makes these the only points of a group, such as the chunks of one document: those that were there and are not among
    /// them go.
    pub fn replace(&mut self, group: impl Display, points: Vec<Point>) -> Result<()> {
        let group = name("group", group)?;
        // A point's fields are public: not every one comes of `Point::new`.
        points.iter().try_for_each(Point::check)?;
        if let Some(at) = repeated(points.iter().map(|point| point.id.as_str())) {
            let what = format!("point {at} has the id of an earlier one");
            return Err(refusal(what, "give each point of the group its own id"));
        }
        self.push(Action::Replace((group, points)))
    }

    /// Overwrites these keys of the payload of every point of a group. Vectors and other keys stay.
    pub fn patch_group(&mut self, group: impl Display, payload: impl Serialize) -> Result<()> {
        self.push(Action::PatchGroup((name("group", group)?, object(payload)?)))
    }

    /// Removes a point.
    pub fn delete(&mut self, id: impl Display) -> Result<()> {
        self.push(Action::Delete(name("id", id)?))
    }

    /// Removes every point of a group.
    pub fn delete_group(&mut self, group: impl Display) -> Result<()> {
        self.push(Action::DeleteGroup(name("group", group)?))
    }

    /// Removes every point of the sink's collection or table.
    pub fn clear(&mut self) -> Result<()> {
        self.push(Action::Clear)
    }

    /// Refuses the event: whatever was answered to it is forgotten, and it goes to the transform's `.rejected` output.
    pub fn reject(&mut self, reason: impl Into<String>) -> Result<()> {
        self.rejected = Some(reason.into());
        Ok(())
    }

    fn push(&mut self, action: Action) -> Result<()> {
        self.actions.push(action);
        Ok(())
    }

    /// Moves what was answered to the event of this index.
    pub(crate) fn move_to(&mut self, output: &mut Output, event: u32) {
        let actions = self.actions.drain(..);
        match self.rejected.take() {
            Some(reason) => output.rejections.push(Rejection { event, reason }),
            None => output.commands.extend(actions.map(|action| Command { event, action })),
        }
    }

    /// Forgets what was answered.
    pub(crate) fn forget(&mut self) {
        self.actions.clear();
        self.rejected = None;
    }
}

/// Takes a handler's answers to the events of a batch; they are applied in the order of the events.
#[derive(Debug)]
pub struct Answers {
    first: u32,
    outs: Vec<Out>,
}

impl Answers {
    pub(crate) fn to_all(events: &[Event<'_>]) -> Self {
        let first = events.first().map_or(0, Event::index);
        Self { first, outs: events.iter().map(|_| Out::default()).collect() }
    }

    /// Where to answer to this event.
    ///
    /// # Panics
    ///
    /// If it is none of the events that the function was called with.
    pub fn to(&mut self, event: &Event<'_>) -> &mut Out {
        let at = event.index().checked_sub(self.first).map(|at| at as usize);
        at.and_then(|at| self.outs.get_mut(at)).expect("an event of this batch")
    }

    pub(crate) fn move_to(mut self, output: &mut Output) {
        for (event, out) in (self.first..).zip(&mut self.outs) {
            out.move_to(output, event);
        }
    }
}

impl Point {
    /// A point, checked. `embeddings` and `payload` as for [`Out::upsert`].
    pub fn new(id: impl Display, embeddings: impl Into<Embeddings>, payload: impl Serialize) -> Result<Self> {
        let Embeddings(embeddings) = embeddings.into();
        let point = Self { id: id.to_string(), embeddings, payload: exact::text(&payload)? };
        point.check()?;
        Ok(point)
    }

    fn check(&self) -> Result<()> {
        check_name("id", &self.id)?;
        for (vector, embedding) in &self.embeddings {
            check(vector, embedding)?;
        }
        let twice = repeated(self.embeddings.iter().map(|(vector, _)| vector.as_str()));
        if let Some((vector, _)) = twice.and_then(|at| self.embeddings.get(at)) {
            return Err(refusal(format!("vector `{vector}` is given twice"), "give each vector of a point once"));
        }
        check_object(&self.payload)
    }
}

/// The vectors of a point, by name; the default vector is named `""`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings(Vec<(String, Embedding)>);

/// Text that the host turns into a vector: with the embedder that is named as the vector is, or else with the transform's
/// first.
pub fn text(text: impl Into<String>) -> Embedding {
    Embedding::Text(text.into())
}

impl From<()> for Embeddings {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Embedding> for Embeddings {
    fn from(embedding: Embedding) -> Self {
        Self(vec![(String::new(), embedding)])
    }
}

impl From<Vec<f32>> for Embeddings {
    fn from(values: Vec<f32>) -> Self {
        Embedding::Dense(values).into()
    }
}

impl<N: Into<String>, const LEN: usize> From<[(N, Embedding); LEN]> for Embeddings {
    fn from(named: [(N, Embedding); LEN]) -> Self {
        Self(named.into_iter().map(|(name, embedding)| (name.into(), embedding)).collect())
    }
}

impl<N: Into<String>> From<Vec<(N, Embedding)>> for Embeddings {
    fn from(named: Vec<(N, Embedding)>) -> Self {
        Self(named.into_iter().map(|(name, embedding)| (name.into(), embedding)).collect())
    }
}

/// Index of the first name that an earlier one equals.
fn repeated<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Option<usize> {
    if names.len() < 2 {
        return None;
    }
    let mut seen = HashSet::with_capacity(names.len());
    names.into_iter().position(|name| !seen.insert(name))
}

fn check(vector: &str, embedding: &Embedding) -> Result<()> {
    if vector.len() > VECTOR_NAME_BYTES || vector.contains(char::is_control) {
        let what = format!("the name of a vector is longer than {VECTOR_NAME_BYTES} bytes or has control characters");
        return Err(refusal(what, "name vectors as the sink's `create.vectors` does"));
    }
    let (what, help) = match embedding {
        Embedding::Dense(values) if values.is_empty() => {
            ("has no numbers".to_owned(), "leave the vector out, or give all its numbers")
        }
        Embedding::Sparse(sparse) if sparse.indices.len() != sparse.values.len() => {
            let what = format!("has {} indices and {} values", sparse.indices.len(), sparse.values.len());
            (what, "give one index for each value")
        }
        Embedding::Text(text) if text.is_empty() => {
            ("is to be made from empty text".to_owned(), "leave the vector out where there is no text")
        }
        Embedding::Text(_) => return Ok(()),
        Embedding::Dense(values) | Embedding::Sparse(SparseVector { values, .. }) => {
            let indices = if let Embedding::Sparse(sparse) = embedding { &*sparse.indices } else { &[] };
            if let Some(at) = indices.iter().zip(indices.iter().skip(1)).position(|(one, next)| one >= next) {
                let what = format!("has indices that do not rise at place {}", at + 1);
                (what, "sort the indices and name each once")
            } else if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                (format!("has a number at place {at} that is not finite"), "look for a division by zero")
            } else {
                return Ok(());
            }
        }
    };
    let vector = if vector.is_empty() { "the default vector".to_owned() } else { format!("vector `{vector}`") };
    Err(refusal(format!("{vector} {what}"), help))
}

fn name(kind: &str, name: impl Display) -> Result<String> {
    let name = name.to_string();
    check_name(kind, &name)?;
    Ok(name)
}

fn check_name(kind: &str, name: &str) -> Result<()> {
    match name.len() {
        0 => Err(refusal(format!("the {kind} is empty"), "use the row's key")),
        len if len > ID_BYTES => {
            Err(refusal(format!("the {kind} has {len} bytes, at most {ID_BYTES} are allowed"), "use a hash of it"))
        }
        _ if name.contains('\0') => {
            Err(refusal(format!("the {kind} holds a NUL character"), "put another character between its parts"))
        }
        _ => Ok(()),
    }
}

fn object(payload: impl Serialize) -> Result<String> {
    let text = exact::text(&payload)?;
    check_object(&text)?;
    Ok(text)
}

fn check_object(payload: &str) -> Result<()> {
    if payload.starts_with('{') {
        return Ok(());
    }
    let help = "give an object, such as `{\"title\": \"…\"}`";
    Err(refusal("the payload is not a JSON object".to_owned(), help))
}

/// A rejection of the event, with its way out.
fn refusal(what: String, help: &str) -> Error {
    Error::reject(format!("{what}: {help}"))
}
