//! The contract of an `EmbedderKind`: settings that an embedder can be opened with.

use std::path::Path;
use std::sync::Arc;

use super::{Account, Embedder};
use crate::config::{Component, ComponentKind, ComponentSettings, Holds, KindEntry, Problems};
use crate::error::Result;

/// Settings of an embedder. A kind of embedder is a struct that implements this and [`ComponentKind`], and a line in the list of
/// kinds.
pub trait EmbedderKind: ComponentSettings {
    /// Makes the embedder that the pipeline file calls `name`. Asks nothing of a provider yet. With an account, it is a tenant's,
    /// which pays from it, and shares neither requests nor memory of texts with other tenants.
    ///
    /// # Errors
    /// `Config` if the settings cannot be used.
    fn open(&self, name: &str, account: Option<Account>) -> Result<Arc<dyn Embedder>>;

    /// Length of the vectors, if the settings tell.
    fn dimension(&self) -> Option<usize>;

    /// Tells if it needs no network and gives the same vectors each time, so that tests of handlers can use it.
    fn is_offline(&self) -> bool {
        false
    }
}

dyn_clone::clone_trait_object!(EmbedderKind);

impl dyn EmbedderKind {
    /// The settings as those of one kind, if that is what they are.
    pub fn as_kind<T: EmbedderKind>(&self) -> Option<&T> {
        (self as &dyn std::any::Any).downcast_ref()
    }
}

impl PartialEq for dyn EmbedderKind {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Component for Box<dyn EmbedderKind> {
    const SECTION: &'static str = "embedders";
    const NOUN: &'static str = "embedder";

    fn review(&self, problems: &mut Problems<'_, '_>) {
        (**self).review(problems);
    }

    fn locate(&mut self, folder: &Path) {
        (**self).locate(folder);
    }
}

impl<T: EmbedderKind> Holds<T> for Box<dyn EmbedderKind> {
    fn hold(settings: T) -> Self {
        Box::new(settings)
    }
}

/// The line of a kind of embedder in the list of kinds.
pub const fn kind<T: ComponentKind + EmbedderKind>() -> KindEntry<Box<dyn EmbedderKind>> {
    KindEntry::new::<T>(T::TYPE)
}
