//! The contract of a `TransformKind`: settings that a handler can be opened with.

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;

use super::{Engine, Tenant, Transform};
use crate::config::model::{Ids, Rejections};
use crate::config::{ComponentKind, ComponentSettings, KindEntry, section_of_kinds};
use crate::embedder::Embedder;
use crate::error::Result;
use crate::meter::TransformMeter;

/// Settings of a transform. A kind of transform is a struct that implements this and
/// [`ComponentKind`], and a line in the list of kinds.
pub trait TransformKind: ComponentSettings {
    /// Reads, checks, compiles and starts the handler of transform `name`, which shares the limits
    /// of `tenant` with the tenant's other handlers, and counts with `meter`. Blocks, for seconds
    /// if a large component is not in the engine's cache yet.
    ///
    /// # Errors
    /// `Config` if it is no handler or wants more than it is granted, `Handler` if it fails while
    /// it starts.
    fn open(
        &self,
        engine: &Engine,
        tenant: &Tenant,
        name: &str,
        embedders: IndexMap<String, Arc<dyn Embedder>>,
        meter: Arc<TransformMeter>,
    ) -> Result<Transform>;

    /// Hash by which dead letters name the handler, as it is now.
    ///
    /// # Errors
    /// `Config` if the handler cannot be read.
    fn hash(&self) -> Result<String>;

    /// Digest of the handler's bytes, to see if it has changed. None if it cannot be read.
    fn digest(&self) -> Option<[u8; 32]>;

    /// The handler's file.
    fn component(&self) -> &PathBuf;

    /// Takes over from `other` what can change while the stream goes on. Nothing from settings of
    /// another kind.
    fn adapt(&mut self, other: &dyn TransformKind);

    /// Names of the embedders that the handler may use. The first embeds texts of vectors that no
    /// embedder is named after.
    fn embedders(&self) -> &[String];

    /// Batches handled at once; counted for a tenant.
    fn workers(&self) -> usize;

    /// Columns that the handler gets beside those of the key. None for all.
    fn columns(&self) -> Option<&[String]>;

    /// Rejected events that are tolerated.
    fn rejections(&self) -> &Rejections;

    /// Making of the SDKs' `id` of an event.
    fn ids(&self) -> Ids;
}

section_of_kinds!(TransformKind, "transforms", "transform");

/// The line of a kind of transform in the list of kinds.
pub const fn kind<T: ComponentKind + TransformKind>() -> KindEntry<Box<dyn TransformKind>> {
    KindEntry::new::<T>()
}
