//! The vector columns of a table: what `create` asks for, and whether a handler's embeddings fit.

use std::fmt;

use crate::command::{Embedding, Point};
use crate::config::model::{Create, Distance};
use crate::error::{Code, Error, Fault, Result};
use crate::lsn::Position;
pub(super) use crate::postgres::quoted;
use crate::printable::printable;
pub(super) use crate::sink::spaces::{title, word};

/// Column of the default vector in the tables that we make.
pub(super) const DEFAULT: &str = "embedding";
/// Column of the default vector in the tables of the Python library pgstream.
pub(super) const PYTHON_DEFAULT: &str = "vector";
/// Columns that mean something else, and so can hold no named vector.
const RESERVED: [&str; 5] = ["id", "group_id", "payload", DEFAULT, PYTHON_DEFAULT];

/// The most numbers that pgvector can hold in a `vector`.
const MAX_DIMENSION: usize = 16_000;
/// The most that pgvector can hold in a `sparsevec`: positions, and numbers in them that are not
/// zero.
pub(super) const MAX_SPARSE_DIMENSION: usize = 1_000_000_000;
const MAX_SPARSE_ELEMENTS: usize = 16_000;
/// From here on a number rounds to infinity in a `halfvec`.
const HALF_OVERFLOW: f32 = 65_520.0;
/// `NAMEDATALEN` less one: Postgres would silently cut a longer name.
const MAX_NAME_BYTES: usize = 63;

/// One vector of each point, and the column that holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    /// The vector's name; `""` for the default one.
    pub(super) vector: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// None where the table does not say.
    pub(super) dimension: Option<usize>,
    /// The distance by which vectors are compared, as far as `create` or an index says.
    pub(super) distance: Option<Distance>,
    /// True if the index holds the vector as `halfvec`, so that a search must ask for that.
    pub(super) half_index: bool,
}

/// pgvector's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Vector,
    Halfvec,
    Sparse,
}

impl Kind {
    pub(super) fn of_type(name: &str) -> Option<Self> {
        match name {
            "vector" => Some(Self::Vector),
            "halfvec" => Some(Self::Halfvec),
            "sparsevec" => Some(Self::Sparse),
            _ => None,
        }
    }

    pub(super) fn type_name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Halfvec => "halfvec",
            Self::Sparse => "sparsevec",
        }
    }
}

/// The columns that `create` asks for.
pub(super) fn wanted(create: &Create) -> Result<Vec<Column>> {
    let default = create.dimension.map(|dimension| ("", dimension, create.distance));
    let named = create.vectors.iter().map(|(name, spec)| (name.as_str(), spec.dimension, spec.distance));
    let mut columns: Vec<Column> = Vec::new();
    for (index, (vector, dimension, distance)) in default.into_iter().chain(named).enumerate() {
        let name = if index == 0 && default.is_some() { DEFAULT } else { usable(vector)? };
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            let what = format!("`create` asks for {dimension} numbers in {}", title(vector));
            return Err(wrong(what).help(format!("a pgvector column holds 1 to {MAX_DIMENSION} numbers")));
        }
        let column = Column {
            vector: vector.to_owned(),
            name: name.to_owned(),
            kind: Kind::Vector,
            dimension: Some(dimension),
            distance: Some(distance),
            half_index: false,
        };
        columns.push(column);
    }
    for vector in &create.sparse {
        let name = usable(vector)?;
        if columns.iter().any(|column| column.name == name) {
            return Err(wrong(format!("`create` names two vectors `{vector}`"))
                .help("a vector is either dense, in `vectors`, or sparse, in `sparse`, and named once"));
        }
        let column = Column {
            vector: vector.clone(),
            name: name.to_owned(),
            kind: Kind::Sparse,
            dimension: Some(MAX_SPARSE_DIMENSION),
            distance: None,
            half_index: false,
        };
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(wrong("`create` names no vector")
            .help("say how long the vectors are: `create: { dimension: 384, distance: cosine }`"));
    }
    Ok(columns)
}

fn usable(name: &str) -> Result<&str> {
    if RESERVED.contains(&name) {
        return Err(wrong(format!("a vector cannot be named `{name}`: the table uses that column itself"))
            .help("give the vector another name in `create` and in the handler"));
    }
    check_name(name)?;
    Ok(name)
}

/// Checks that Postgres can hold a name as it is.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        return Err(wrong(format!("`{}` cannot be a name in Postgres", name.escape_debug()))
            .help(format!("a name has 1 to {MAX_NAME_BYTES} bytes")));
    }
    Ok(())
}

/// Checks that every embedding of a point has a column that can hold it. `table` is its name, for
/// the error.
pub(super) fn admit(columns: &[Column], table: &str, point: &Point, position: Position) -> Result<()> {
    let refuse = |what: String, help: String| {
        let error = Error::new(Fault::Handler, what).code(Code::Sink).at(format!("event {position}"));
        Err(error.at(format!("table `{table}`")).help(help))
    };
    for (vector, embedding) in &point.embeddings {
        let title = title(vector);
        let Some(column) = columns.iter().find(|column| column.vector == *vector) else {
            return refuse(
                format!("the handler gave an embedding for {title}, which the table does not have"),
                format!(
                    "the table has {}; use one of them, or add a column: {}",
                    List(columns),
                    alter(table, vector, embedding)
                ),
            );
        };
        match (column.kind, embedding) {
            (Kind::Vector | Kind::Halfvec, Embedding::Dense(values)) => {
                let got = values.len();
                let limit = column.dimension.unwrap_or(MAX_DIMENSION);
                if column.dimension.is_some_and(|dimension| dimension != got) || got > MAX_DIMENSION || got == 0 {
                    return refuse(
                        format!("the handler gave {got} numbers for {title}, column `{}` takes {limit}", column.name),
                        format!(
                            "make the handler or its embedder answer {limit} numbers, \
                             or write to a new table with `dimension: {got}`"
                        ),
                    );
                }
                if column.kind == Kind::Halfvec && values.iter().any(|value| value.abs() >= HALF_OVERFLOW) {
                    return refuse(
                        format!("the handler gave a number for {title} that a `halfvec` cannot hold"),
                        "normalise the vector, or make the column a `vector`".to_owned(),
                    );
                }
            }
            (Kind::Sparse, Embedding::Sparse { indices, values }) => {
                let limit = column.dimension.unwrap_or(MAX_SPARSE_DIMENSION);
                let last = indices.last().copied().unwrap_or_default();
                if last as usize >= limit || indices.len() != values.len() {
                    return refuse(
                        format!(
                            "the handler gave index {last} for {title}, column `{}` ends at {}",
                            column.name,
                            limit - 1
                        ),
                        "make the handler fold its indices into that range, for instance modulo the dimension"
                            .to_owned(),
                    );
                }
                if indices.len() > MAX_SPARSE_ELEMENTS {
                    return refuse(
                        format!(
                            "the handler gave {} numbers for {title}, a `sparsevec` takes {MAX_SPARSE_ELEMENTS}",
                            indices.len()
                        ),
                        "make the handler keep only the largest ones".to_owned(),
                    );
                }
            }
            (_, Embedding::Text(_)) => {
                return Err(Error::new(Fault::Bug, format!("{title} reached the sink as text, not as numbers")));
            }
            (kind, embedding) => {
                let given = if matches!(embedding, Embedding::Sparse { .. }) { "sparse" } else { "dense" };
                return refuse(
                    format!(
                        "the handler gave a {given} embedding for {title}, column `{}` is a `{}`",
                        column.name,
                        kind.type_name()
                    ),
                    "make the handler answer the kind of embedding that the column holds".to_owned(),
                );
            }
        }
    }
    Ok(())
}

fn alter(table: &str, vector: &str, embedding: &Embedding) -> String {
    let name = if vector.is_empty() { DEFAULT } else { vector };
    let kind = match embedding {
        Embedding::Dense(values) => format!("vector({})", values.len()),
        _ => format!("sparsevec({MAX_SPARSE_DIMENSION})"),
    };
    format!("ALTER TABLE {table} ADD COLUMN {} {kind}", quoted(name))
}

/// Columns as a list, for help.
pub(super) struct List<'a>(pub(super) &'a [Column]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no vectors");
        }
        for (index, column) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write!(f, "{} ({}", printable(&title(&column.vector).to_string()), column.kind.type_name())?;
            match column.dimension {
                Some(dimension) => write!(f, " of {dimension})")?,
                None => f.write_str(")")?,
            }
        }
        Ok(())
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Fault::Config, what)
}
