//! `Command`: the change that a handler wants made to a sink, with the `Point`s that it carries.

use crate::lsn::Position;

/// One wish of a handler, with the position of the event that it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The event that the handler answered; sinks that remember positions skip what they already
    /// hold.
    pub position: Position,
    /// The change to make.
    pub action: Action,
}

/// A change to the sink. Commands that touch one id or one group apply in the order in which they
/// stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Writes a point whole: what the sink had under this id is gone, its group included.
    Upsert(Point),
    /// Overwrites the named top-level keys of a point's payload; vectors and other keys stay. No
    /// such point: nothing.
    Patch {
        /// Of the point.
        id: String,
        /// A JSON object as text, checked.
        payload: String,
    },
    /// Makes `points` all that there is of a group; points of the group that are not among them go.
    Replace {
        /// Of all `points`, and of nothing else afterwards.
        group: String,
        /// May be none; of several with one id the last counts.
        points: Vec<Point>,
    },
    /// As `Patch`, for every point of a group.
    PatchGroup {
        /// Of the points.
        group: String,
        /// A JSON object as text, checked.
        payload: String,
    },
    /// Removes a point. No such point: nothing.
    Delete {
        /// Of the point.
        id: String,
    },
    /// Removes every point of a group.
    DeleteGroup {
        /// Of the points.
        group: String,
    },
    /// Removes every point of the collection or table.
    Clear,
}

/// Id, embeddings and payload: Qdrant's word for what a vector store holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Any text, unique in the sink.
    pub id: String,
    /// By vector name; the unnamed default vector has the name `""`. May be empty. No name occurs
    /// twice.
    pub embeddings: Vec<(String, Embedding)>,
    /// A JSON object as text; checked when the handler's answer is read.
    pub payload: String,
}

/// A vector, or the text that is to become one.
#[derive(Clone, Debug, PartialEq)]
pub enum Embedding {
    /// Finite numbers.
    Dense(Vec<f32>),
    /// Finite numbers at rising indices.
    Sparse {
        /// Strictly rising.
        indices: Vec<u32>,
        /// As many as there are indices.
        values: Vec<f32>,
    },
    /// To be embedded by the host; no sink ever sees it.
    Text(String),
}

impl Command {
    /// Roughly the memory that the command holds, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.action {
                Action::Upsert(point) => point.bytes(),
                Action::Replace { group, points } => group.len() + points.iter().map(Point::bytes).sum::<usize>(),
                Action::Patch { id: name, payload } | Action::PatchGroup { group: name, payload } => {
                    name.len() + payload.len()
                }
                Action::Delete { id: name } | Action::DeleteGroup { group: name } => name.len(),
                Action::Clear => 0,
            }
    }

    /// The points that the command writes whole.
    pub fn points(&self) -> &[Point] {
        match &self.action {
            Action::Upsert(point) => std::slice::from_ref(point),
            Action::Replace { points, .. } => points,
            _ => &[],
        }
    }

    /// The points that the command writes whole, to fill in what the host embeds.
    pub fn points_mut(&mut self) -> &mut [Point] {
        match &mut self.action {
            Action::Upsert(point) => std::slice::from_mut(point),
            Action::Replace { points, .. } => points,
            _ => &mut [],
        }
    }
}

impl Point {
    /// Roughly the memory that the point holds, in bytes.
    pub fn bytes(&self) -> usize {
        let embeddings: usize = self.embeddings.iter().map(|(name, embedding)| name.len() + embedding.bytes()).sum();
        size_of::<Self>() + self.id.len() + self.payload.len() + embeddings
    }
}

impl Embedding {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Embedding::Dense(values) => size_of_val(values.as_slice()),
                Embedding::Sparse { indices, values } => {
                    size_of_val(indices.as_slice()) + size_of_val(values.as_slice())
                }
                Embedding::Text(text) => text.len(),
            }
    }
}
