//! The contract of an `EmbedderKind`: settings that an embedder can be opened with.

use std::sync::Arc;

use super::{Account, Embedder};
use crate::config::{ComponentKind, ComponentSettings, KindEntry, section_of_kinds};
use crate::error::Result;

/// Settings of an embedder. A kind of embedder is a struct that implements this and
/// [`ComponentKind`], and a line in the list of kinds.
pub trait EmbedderKind: ComponentSettings {
    /// Makes the embedder that the pipeline file calls `name`. Asks nothing of a provider yet. With
    /// an account, it is a tenant's, which pays from it, and shares neither requests nor memory of
    /// texts with other tenants.
    ///
    /// # Errors
    /// `Config` if the settings cannot be used.
    fn open(&self, name: &str, account: Option<Account>) -> Result<Arc<dyn Embedder>>;

    /// Length of the vectors, if the settings tell.
    fn dimension(&self) -> Option<usize>;

    /// Tells if it needs no network and gives the same vectors each time, so that tests of handlers
    /// can use it.
    fn is_offline(&self) -> bool {
        false
    }
}

section_of_kinds!(EmbedderKind, "embedders", "embedder");

/// The line of a kind of embedder in the list of kinds.
pub const fn kind<T: ComponentKind + EmbedderKind>() -> KindEntry<Box<dyn EmbedderKind>> {
    KindEntry::new::<T>()
}
