//! `ComponentKind`: what a kind of component says of its settings, and `Registry`: the lists of the
//! kinds that there are.

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;

use dyn_clone::DynClone;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::diagnostic::Findings;
use super::problems::Problems;
use super::read::read;
use super::resource::{Resource, SourceDatabase};
use super::yaml::{Id, Node};

/// Settings of one kind of component: a struct whose fields are the keys in the file, and whose
/// comments are their documentation. No method that a tenant's grant depends on has a default.
pub trait ComponentKind: Clone + Debug + PartialEq + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The kind's `type` in the file.
    const TYPE: &'static str;

    /// Reports values that cannot work. Bounds that the schema states are checked already. Asks no
    /// server.
    fn review(&self, problems: &mut Problems<'_, '_>);

    /// Everything outside of the pipeline that the settings name, for the grants of a tenant. To
    /// take all fields apart with `let Self { … }`, and without `..`, makes a new one stand out
    /// here.
    fn resources(&mut self) -> Vec<Resource<'_>>;

    /// Makes paths that start at the pipeline file such that they can be opened from the working
    /// directory.
    fn locate(&mut self, _folder: &Path) {}
}

/// Settings of some kind of component. Comes with [`ComponentKind`].
pub trait ComponentSettings: Any + Debug + DynClone + Send + Sync {
    /// The kind's `type` in the file.
    fn kind(&self) -> &'static str;

    /// See [`ComponentKind::review`].
    fn review(&self, problems: &mut Problems<'_, '_>);

    /// See [`ComponentKind::resources`].
    fn resources(&mut self) -> Vec<Resource<'_>>;

    /// See [`ComponentKind::locate`].
    fn locate(&mut self, folder: &Path);

    /// Compares with settings that may be of another kind.
    fn equals(&self, other: &dyn Any) -> bool;
}

impl<T: ComponentKind> ComponentSettings for T {
    fn kind(&self) -> &'static str {
        T::TYPE
    }

    fn review(&self, problems: &mut Problems<'_, '_>) {
        ComponentKind::review(self, problems);
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        ComponentKind::resources(self)
    }

    fn locate(&mut self, folder: &Path) {
        ComponentKind::locate(self, folder);
    }

    fn equals(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>().is_some_and(|other| self == other)
    }
}

/// A component of any kind that may stand in one of the file's sections.
pub trait Component: Clone + Debug + PartialEq + Sized + 'static {
    /// The section's key in the file.
    const SECTION: &'static str;
    /// The word for one of them.
    const NOUN: &'static str;

    /// See [`ComponentKind::review`].
    fn review(&self, problems: &mut Problems<'_, '_>);

    /// See [`ComponentKind::locate`].
    fn locate(&mut self, folder: &Path);
}

/// The demands that a pipeline file makes on its source.
pub trait SourceComponent: Component {
    /// The Postgres database that it reads, if it reads one.
    fn database(&self) -> Option<SourceDatabase>;
}

/// The demands that a pipeline file makes on a sink.
pub trait SinkComponent: Component {
    /// Fills in what the sink takes from the source's database unless it says otherwise. None for a
    /// source that reads none.
    fn complete(&mut self, source: Option<&SourceDatabase>, problems: &mut Problems<'_, '_>);
}

/// The components that a program knows, by section.
pub trait Components: Clone + Debug + PartialEq + 'static {
    /// A source: events come from it.
    type Source: SourceComponent;
    /// An embedder: it makes vectors of texts.
    type Embedder: Component;
    /// A transform: it makes commands of events.
    type Transform: Component;
    /// A sink: commands go there.
    type Sink: SinkComponent;
}

/// Every kind of component there is, by section and in the order of the documentation.
pub struct Registry<C: Components> {
    /// Kinds of sources.
    pub sources: &'static [KindEntry<C::Source>],
    /// Kinds of embedders.
    pub embedders: &'static [KindEntry<C::Embedder>],
    /// Kinds of transforms.
    pub transforms: &'static [KindEntry<C::Transform>],
    /// Kinds of sinks.
    pub sinks: &'static [KindEntry<C::Sink>],
}

/// Outputs of a transform that a kind of sink takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Commands only: rejected events have no vectors.
    Commands,
    /// Rejected events only.
    Rejected,
    /// Both.
    Both,
}

/// One kind in the list: its `type`, how it is read, and its schema.
pub struct KindEntry<C> {
    pub(super) kind: &'static str,
    pub(super) accepts: Option<fn() -> Accepts>,
    pub(super) read: fn(&Node, Id, &mut Findings<'_>) -> Option<C>,
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A component that can be made of the settings of one of its kinds.
pub trait Holds<T> {
    /// The component with these settings.
    fn hold(settings: T) -> Self;
}

impl<C> KindEntry<C> {
    /// The kind whose settings are `T`.
    pub const fn new<T: ComponentKind>() -> Self
    where
        C: Holds<T>,
    {
        Self { kind: T::TYPE, accepts: None, read: read_held::<C, T>, schema: SchemaGenerator::subschema_for::<T> }
    }

    /// The same kind, as one of sinks.
    pub const fn accepting(self, accepts: fn() -> Accepts) -> Self {
        Self { accepts: Some(accepts), ..self }
    }

    /// The kind's `type` in the file.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl<C> Clone for KindEntry<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for KindEntry<C> {}

fn read_held<C: Holds<T>, T: DeserializeOwned>(node: &Node, key: Id, findings: &mut Findings<'_>) -> Option<C> {
    read(node, key, findings).map(C::hold)
}

/// Makes boxes of a trait of kinds the components of a section: they are read from a file, compared
/// and copied, whatever their kind, and can be asked for the settings of one.
macro_rules! section_of_kinds {
    ($kinds:ident, $section:literal, $noun:literal) => {
        dyn_clone::clone_trait_object!($kinds);

        impl dyn $kinds {
            /// The settings as those of one kind, if that is what they are.
            pub fn as_kind<T: $kinds>(&self) -> Option<&T> {
                (self as &dyn std::any::Any).downcast_ref()
            }
        }

        impl PartialEq for dyn $kinds {
            fn eq(&self, other: &Self) -> bool {
                self.equals(other)
            }
        }

        impl $crate::config::Component for Box<dyn $kinds> {
            const SECTION: &'static str = $section;
            const NOUN: &'static str = $noun;

            fn review(&self, problems: &mut $crate::config::Problems<'_, '_>) {
                (**self).review(problems);
            }

            fn locate(&mut self, folder: &std::path::Path) {
                (**self).locate(folder);
            }
        }

        impl<T: $kinds> $crate::config::Holds<T> for Box<dyn $kinds> {
            fn hold(settings: T) -> Self {
                Box::new(settings)
            }
        }
    };
}

pub(crate) use section_of_kinds;
