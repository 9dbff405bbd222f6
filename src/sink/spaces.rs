//! `Spaces`: the vectors that a collection holds, by name, and what does not fit into them.

use std::collections::BTreeMap;
use std::fmt;

use super::Query;
use crate::command::{Embedding, Point};
use crate::config::model::{Create, Distance};
use crate::error::{Code, Error, Fault, Result};
use crate::lsn::Position;
use crate::printable::printable;

/// The vectors of a collection by name; the default one has the name `""`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spaces(pub(super) BTreeMap<String, Space>);

/// One vector of each point.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Space {
    Dense {
        dimension: usize,
        distance: Distance,
    },
    Sparse,
    /// Something that the host writes nothing into, such as a multivector, in words.
    Other(String),
}

impl Spaces {
    /// Returns the spaces that the pipeline file asks for.
    pub(super) fn wanted(create: &Create) -> Result<Self> {
        let default = create.dimension.map(|dimension| (String::new(), dimension, create.distance));
        let named = create.vectors.iter().map(|(name, spec)| (name.clone(), spec.dimension, spec.distance));
        let mut spaces = BTreeMap::new();
        for (name, dimension, distance) in default.into_iter().chain(named) {
            if dimension == 0 || spaces.insert(name.clone(), Space::Dense { dimension, distance }).is_some() {
                return Err(Error::new(Fault::Config, format!("`create` gives {} no usable dimension", title(&name)))
                    .help("a vector has one dimension, above zero: `create: { dimension: 384 }`"));
            }
        }
        for name in &create.sparse {
            if spaces.insert(name.clone(), Space::Sparse).is_some() {
                return Err(Error::new(Fault::Config, format!("`create` names two vectors `{name}`"))
                    .help("a vector is either dense, in `vectors`, or sparse, in `sparse`, and named once"));
            }
        }
        if spaces.is_empty() {
            return Err(Error::new(Fault::Config, "`create` names no vector")
                .help("say how long the vectors are: `create: { dimension: 384, distance: cosine }`"));
        }
        Ok(Self(spaces))
    }

    /// Checks that what is there (`self`) has everything that is wanted. `mend` says how to make it
    /// anew.
    pub(super) fn check(&self, wanted: &Self, there: &str, mend: &str) -> Result<()> {
        for (name, space) in &wanted.0 {
            let found = self.0.get(name);
            if found == Some(space) {
                continue;
            }
            let title = title(name);
            let what = match found {
                None => format!("{there} has no {title}, `create` asks for {space}"),
                Some(found) => format!("{title} of {there} is {found}, `create` asks for {space}"),
            };
            let keep = match found {
                Some(Space::Dense { dimension, distance }) => {
                    let at = if name.is_empty() { "create".to_owned() } else { format!("create.vectors.{name}") };
                    format!("set `{at}` to `dimension: {dimension}, distance: {}`, or ", word(*distance))
                }
                _ => String::new(),
            };
            return Err(Error::new(Fault::Config, what).help(format!("{keep}{mend}")));
        }
        Ok(())
    }

    /// Checks that every embedding of `point` has its place.
    pub(super) fn admit(&self, point: &Point, position: Position) -> Result<()> {
        let refuse = |what: String, help: String| {
            Err(Error::new(Fault::Handler, what).code(Code::Sink).at(format!("event {position}")).help(help))
        };
        for (name, embedding) in &point.embeddings {
            let title = title(name);
            match (self.0.get(name), embedding) {
                (Some(Space::Dense { dimension, .. }), Embedding::Dense(values)) if values.len() == *dimension => {}
                (Some(Space::Sparse), Embedding::Sparse { .. }) => {}
                (Some(Space::Dense { dimension, .. }), Embedding::Dense(values)) => {
                    let got = values.len();
                    return refuse(
                        format!("the handler gave {got} numbers for {title}, the collection takes {dimension}"),
                        format!(
                            "make the handler or its embedder answer {dimension} numbers, \
                             or write to a new collection with `dimension: {got}`"
                        ),
                    );
                }
                (_, Embedding::Text(_)) => {
                    return Err(Error::new(Fault::Bug, format!("{title} reached the sink as text, not as numbers")));
                }
                (Some(space), embedding) => {
                    let kind = if matches!(embedding, Embedding::Sparse { .. }) { "sparse" } else { "dense" };
                    return refuse(
                        format!("the handler gave a {kind} embedding for {title}, which is {space}"),
                        "make the handler answer the kind of embedding that the collection holds".to_owned(),
                    );
                }
                (None, _) => {
                    return refuse(
                        format!("the handler gave an embedding for {title}, which the collection does not have"),
                        printable(&format!(
                            "the collection has {self}: use one of them, or add the vector to a new collection"
                        )),
                    );
                }
            }
        }
        Ok(())
    }

    /// Checks a query, and says how its answers are compared.
    pub(super) fn searchable(&self, query: &Query<'_>) -> Result<Distance> {
        let title = title(query.vector);
        match self.0.get(query.vector) {
            Some(Space::Dense { dimension, distance }) if query.values.len() == *dimension => Ok(*distance),
            Some(Space::Dense { dimension, .. }) => {
                let got = query.values.len();
                let what = format!("the query has {got} numbers, {title} takes {dimension}");
                Err(Error::new(Fault::Config, what).help("search with the embedder that made the stored vectors"))
            }
            Some(space) => Err(Error::new(Fault::Config, format!("{title} is {space} and cannot be searched by text"))
                .help(printable(&format!("search a dense vector; the collection has {self}")))),
            None => Err(Error::new(Fault::Config, format!("the collection has no {title}"))
                .help(printable(&format!("it has {self}")))),
        }
    }
}

/// The spaces as a list, for help.
impl fmt::Display for Spaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no vectors");
        }
        for (index, (name, space)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({space})", title(name))?;
        }
        Ok(())
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense { dimension, distance } => write!(f, "{dimension} numbers, {}", word(*distance)),
            Self::Sparse => f.write_str("sparse"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// A vector as sentences name it.
pub(super) fn title(name: &str) -> impl fmt::Display + use<'_> {
    fmt::from_fn(move |f| match name {
        "" => f.write_str("the default vector"),
        name => write!(f, "vector `{name}`"),
    })
}

/// The distance as the pipeline file spells it.
pub(super) fn word(distance: Distance) -> &'static str {
    match distance {
        Distance::Cosine => "cosine",
        Distance::Dot => "dot",
        Distance::Euclid => "euclid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    fn create(yaml: &str) -> Create {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn spaces(yaml: &str) -> Spaces {
        Spaces::wanted(&create(yaml)).unwrap()
    }

    #[test]
    fn every_difference_names_both_sides_and_the_fix() {
        let there = spaces("{dimension: 384, vectors: {title: {dimension: 8, distance: dot}}, sparse: [words]}");
        let cases = [
            (
                "{dimension: 3}",
                "the default vector of collection `docs` is 384 numbers, cosine, `create` asks for 3 numbers, cosine",
                "set `create` to `dimension: 384, distance: cosine`, or drop it",
            ),
            (
                "{vectors: {title: {dimension: 8}}}",
                "vector `title` of collection `docs` is 8 numbers, dot, `create` asks for 8 numbers, cosine",
                "set `create.vectors.title` to `dimension: 8, distance: dot`, or drop it",
            ),
            (
                "{dimension: 384, sparse: [tags]}",
                "collection `docs` has no vector `tags`, `create` asks for sparse",
                "drop it",
            ),
            (
                "{sparse: [title]}",
                "vector `title` of collection `docs` is 8 numbers, dot, `create` asks for sparse",
                "",
            ),
        ];
        for (wanted, what, help) in cases {
            let error = there.check(&spaces(wanted), "collection `docs`", "drop it").unwrap_err();
            assert_eq!(error.to_string(), what);
            assert_eq!(error.fault(), Fault::Config);
            assert!(error.advice().unwrap().starts_with(help), "{:?}", error.advice());
        }
        there.check(&spaces("{sparse: [words]}"), "collection `docs`", "drop it").unwrap();
    }

    #[test]
    fn a_create_without_sense_is_refused() {
        for (yaml, what) in [
            ("{}", "`create` names no vector"),
            ("{dimension: 0}", "`create` gives the default vector no usable dimension"),
            ("{vectors: {a: {dimension: 2}}, sparse: [a]}", "`create` names two vectors `a`"),
        ] {
            let error = Spaces::wanted(&create(yaml)).unwrap_err();
            assert_eq!(error.to_string(), what);
            assert_eq!(error.fault(), Fault::Config);
        }
    }

    #[test]
    fn an_embedding_without_a_place_names_both_numbers_the_event_and_the_fix() {
        let spaces = spaces("{dimension: 3, sparse: [words]}");
        let sparse = Embedding::Sparse { indices: vec![1], values: vec![1.0] };
        let report = |name: &str, embedding: &Embedding| {
            let embeddings = vec![(name.to_owned(), embedding.clone())];
            let point = Point { id: "private".into(), embeddings, payload: "{}".into() };
            spaces.admit(&point, Position { lsn: Lsn(0x16B3748), ordinal: 3 }).map_err(|error| error.report())
        };
        assert_eq!(report("", &Embedding::Dense(vec![1.0; 3])), Ok(()));
        assert_eq!(report("words", &sparse), Ok(()));
        assert_eq!(
            report("", &Embedding::Dense(vec![1.0; 2])).unwrap_err(),
            "error: the handler gave 2 numbers for the default vector, the collection takes 3\n  \
             where: event 0/16B3748#3\n  \
             help: make the handler or its embedder answer 3 numbers, \
             or write to a new collection with `dimension: 2`\n"
        );
        assert_eq!(
            report("", &sparse).unwrap_err().lines().next(),
            Some("error: the handler gave a sparse embedding for the default vector, which is 3 numbers, cosine")
        );
        assert_eq!(
            report("title", &Embedding::Dense(vec![1.0])).unwrap_err(),
            "error: the handler gave an embedding for vector `title`, which the collection does not have\n  \
             where: event 0/16B3748#3\n  \
             help: the collection has the default vector (3 numbers, cosine), vector `words` (sparse): \
             use one of them, or add the vector to a new collection\n"
        );
    }
}
