//! A guest's answer, checked. Whatever a sink or an embedder could stumble over is refused here, by
//! name. The SDKs refuse the same, event by event and in the same words:
//! `plugins/sdk/breaches.json`.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::bindings::pgstream::host::types as wit;
use super::place::Place;
use super::words::presentable;
use super::{Output, Rejection};
use crate::command::{Action, Command, Embedding, Point};
use crate::error::{Code, Error, Fault, Result};
use crate::event::Batch;

/// Bytes of an id or a group. Postgres' own indices end at 2704, and whoever needs more wants a
/// hash.
const ID_BYTES: usize = 1024;

/// Bytes of a vector's name: what Postgres and Qdrant take with room to spare.
const VECTOR_NAME_BYTES: usize = 63;

/// Bytes of a rejection's reason: a few sentences.
const REASON_BYTES: usize = 1024;

/// Reason of a rejection without one.
const NO_REASON: &str = "the handler gave no reason";

/// Takes the answer over if it keeps the contract. Nothing is copied; the first breach is the
/// error.
pub(super) fn lifted(answer: wit::Output, batch: &Batch, handler: &str) -> Result<Output> {
    let events = batch.events().len();
    let mut rejected = vec![false; if answer.rejections.is_empty() { 0 } else { events }];
    let mut rejections = Vec::with_capacity(answer.rejections.len());
    for (index, rejection) in answer.rejections.into_iter().enumerate() {
        let breach = |what: Breach| what.of(handler, &format!("rejection {index}"), batch, rejection.event);
        let event = rejection.event as usize;
        match rejected.get_mut(event) {
            None => return Err(breach(Breach::no_such_event(rejection.event, events))),
            Some(true) => return Err(breach(Breach::new("the event is rejected twice", "reject an event once"))),
            Some(seen) => *seen = true,
        }
        let reason = if rejection.reason.is_empty() { NO_REASON } else { &rejection.reason };
        rejections.push(Rejection { event, reason: presentable(reason, REASON_BYTES) });
    }

    rejections.sort_by_key(|rejection| rejection.event);

    let mut commands = Vec::with_capacity(answer.commands.len());
    let mut last = 0;
    let mut in_order = true;
    for (index, command) in answer.commands.into_iter().enumerate() {
        let what = Named::from(&command.action);
        let breach = |breach: Breach| breach.of(handler, &format!("command {index} ({what})"), batch, command.event);
        let Some(event) = batch.events().get(command.event as usize) else {
            return Err(breach(Breach::no_such_event(command.event, events)));
        };
        if rejected.get(command.event as usize) == Some(&true) {
            let help = "answer an event with commands or reject it, not both";
            return Err(breach(Breach::new("the same event is rejected", help)));
        }
        in_order &= last <= command.event;
        last = command.event;
        let action = action(command.action).map_err(breach)?;
        commands.push(Command { position: event.position, action });
    }
    if !in_order {
        // Stable: what a handler did for one event stays in its order.
        commands.sort_by_key(|command| command.position);
    }
    Ok(Output { commands, rejections })
}

fn action(action: wit::Action) -> Result<Action, Breach> {
    Ok(match action {
        wit::Action::Upsert(point) => Action::Upsert(self::point(point)?),
        wit::Action::Patch((id, payload)) => Action::Patch { id: name("id", id)?, payload: object(payload)? },
        wit::Action::Replace((group, points)) => {
            let group = name("group", group)?;
            let points: Vec<Point> = points.into_iter().map(point).collect::<Result<_, _>>()?;
            if let Some(id) = repeated(points.iter().map(|point| point.id.as_str())) {
                let what = format!("point {id} has the id of an earlier one");
                return Err(Breach::new(what, "give each point of the group its own id"));
            }
            Action::Replace { group, points }
        }
        wit::Action::PatchGroup((group, payload)) => {
            Action::PatchGroup { group: name("group", group)?, payload: object(payload)? }
        }
        wit::Action::Delete(id) => Action::Delete { id: name("id", id)? },
        wit::Action::DeleteGroup(group) => Action::DeleteGroup { group: name("group", group)? },
        wit::Action::Clear => Action::Clear,
    })
}

/// Index of the first name that an earlier one equals.
fn repeated<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Option<usize> {
    if names.len() < 2 {
        return None;
    }
    let mut seen = HashSet::with_capacity(names.len());
    names.into_iter().position(|name| !seen.insert(name))
}

fn point(point: wit::Point) -> Result<Point, Breach> {
    let id = name("id", point.id)?;
    let mut embeddings: Vec<(String, Embedding)> = Vec::with_capacity(point.embeddings.len());
    for (vector, embedding) in point.embeddings {
        if vector.len() > VECTOR_NAME_BYTES || vector.contains(char::is_control) {
            let what =
                format!("the name of a vector is longer than {VECTOR_NAME_BYTES} bytes or has control characters");
            return Err(Breach::new(what, "name vectors as the sink's `create.vectors` does"));
        }
        let embedding = self::embedding(embedding).map_err(|breach| breach.within(&vector))?;
        embeddings.push((vector, embedding));
    }
    let twice = repeated(embeddings.iter().map(|(vector, _)| vector.as_str()));
    if let Some((vector, _)) = twice.and_then(|index| embeddings.get(index)) {
        let what = format!("vector `{}` is given twice", presentable(vector, VECTOR_NAME_BYTES));
        return Err(Breach::new(what, "give each vector of a point once"));
    }
    Ok(Point { id, embeddings, payload: object(point.payload)? })
}

fn embedding(embedding: wit::Embedding) -> Result<Embedding, Breach> {
    match embedding {
        wit::Embedding::Dense(values) => {
            if values.is_empty() {
                return Err(Breach::new("has no numbers", "leave the vector out, or give all its numbers"));
            }
            finite(&values)?;
            Ok(Embedding::Dense(values))
        }
        wit::Embedding::Sparse(wit::SparseVector { indices, values }) => {
            if indices.len() != values.len() {
                let what = format!("has {} indices and {} values", indices.len(), values.len());
                return Err(Breach::new(what, "give one index for each value"));
            }
            if let Some(at) = indices.iter().zip(indices.iter().skip(1)).position(|(one, next)| one >= next) {
                let what = format!("has indices that do not rise at place {}", at + 1);
                return Err(Breach::new(what, "sort the indices and name each once"));
            }
            finite(&values)?;
            Ok(Embedding::Sparse { indices, values })
        }
        wit::Embedding::Text(text) if text.is_empty() => {
            Err(Breach::new("is to be made from empty text", "leave the vector out where there is no text"))
        }
        wit::Embedding::Text(text) => Ok(Embedding::Text(text)),
    }
}

fn finite(values: &[f32]) -> Result<(), Breach> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let what = format!("has a number at place {at} that is not finite");
            Err(Breach::new(what, "look for a division by zero"))
        }
    }
}

fn name(kind: &str, name: String) -> Result<String, Breach> {
    let (what, help) = match name.len() {
        0 => (format!("the {kind} is empty"), "use the row's key"),
        len if len > ID_BYTES => {
            (format!("the {kind} has {len} bytes, at most {ID_BYTES} are allowed"), "use a hash of it")
        }
        _ if name.contains('\0') => {
            (format!("the {kind} holds a NUL character"), "put another character between its parts")
        }
        _ => return Ok(name),
    };
    Err(Breach::new(what, help))
}

/// The text if it is a JSON object. Nothing is built of it, and nothing of it is repeated in the
/// error: payloads hold rows.
fn object(text: String) -> Result<String, Breach> {
    let mut json = serde_json::Deserializer::from_str(&text);
    let library = "write it with a JSON library";
    let (what, help) = match json.deserialize_map(Object).and_then(|()| json.end()) {
        Ok(()) => return Ok(text),
        Err(error) => match error.classify() {
            serde_json::error::Category::Data => {
                ("the payload is not a JSON object".to_owned(), "give an object, such as `{\"title\": \"…\"}`")
            }
            serde_json::error::Category::Eof => ("the payload is JSON that breaks off".to_owned(), library),
            _ => {
                let place = format!("line {} column {}", error.line(), error.column());
                (format!("the payload is not JSON from {place} on"), library)
            }
        },
    };
    Err(Breach::new(what, help))
}

/// Walks JSON and keeps nothing. Whatever Postgres takes for JSON passes, however deep it is and
/// whatever numbers it holds, since a payload is much of what stands in the row. A sink that cannot
/// store it refuses the event.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// A breach of the contract by an answer, and advice for the author of the handler.
struct Breach {
    what: String,
    help: &'static str,
}

impl Breach {
    fn new(what: impl Into<String>, help: &'static str) -> Self {
        Self { what: what.into(), help }
    }

    fn no_such_event(index: u32, events: usize) -> Self {
        Self::new(
            format!("it answers event {index}, the batch has {events}"),
            "an event's index counts from zero within the batch",
        )
    }

    fn within(self, vector: &str) -> Self {
        let vector = if vector.is_empty() {
            "the default vector".to_owned()
        } else {
            format!("vector `{}`", presentable(vector, VECTOR_NAME_BYTES))
        };
        Self { what: format!("{vector} {}", self.what), ..self }
    }

    fn of(self, handler: &str, part: &str, batch: &Batch, event: u32) -> Error {
        Error::new(Fault::Handler, format!("handler `{handler}` gave an answer that breaks the contract"))
            .because(std::io::Error::other(format!("{part}: {}", self.what)))
            .at(Place::event(batch, event as usize))
            .help(format!("nothing was confirmed; the batch is replayed after a fix of the handler: {}", self.help))
            .code(Code::Contract)
    }
}

/// The name of an action in the WIT.
struct Named(&'static str);

impl From<&wit::Action> for Named {
    fn from(action: &wit::Action) -> Self {
        Self(match action {
            wit::Action::Upsert(_) => "upsert",
            wit::Action::Patch(_) => "patch",
            wit::Action::Replace(_) => "replace",
            wit::Action::PatchGroup(_) => "patch-group",
            wit::Action::Delete(_) => "delete",
            wit::Action::DeleteGroup(_) => "delete-group",
            wit::Action::Clear => "clear",
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_with_very_many_vectors_is_looked_through_once() {
        // Each name against all others would take the better part of an hour.
        const MANY: u32 = 500_000;
        let vectors = |names: std::ops::Range<u32>| {
            let names = names.map(|name| (name.to_string(), wit::Embedding::Dense(vec![1.0])));
            wit::Point { id: "p".into(), embeddings: names.collect(), payload: "{}".into() }
        };
        assert_eq!(point(vectors(0..MANY)).map(|point| point.embeddings.len()).ok(), Some(MANY as usize));
        let mut twice = vectors(0..100);
        twice.embeddings.push(twice.embeddings[7].clone());
        assert_eq!(point(twice).err().map(|breach| breach.what).as_deref(), Some("vector `7` is given twice"));
    }
}
