//! `PipelineSpec`: a pipeline that is to run, as its file says, whose it is, and what became of it
//! since.

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use super::Owner;
use crate::components::PipelineSettings;

/// A pipeline that is to run.
#[derive(Clone)]
pub struct PipelineSpec {
    /// The file that it was read from; none for one that was made in another way.
    pub file: Option<PathBuf>,
    /// The settings of its file.
    pub settings: Arc<PipelineSettings>,
    /// Its owner.
    pub owner: Owner,
    /// The digests of its components, by the names of their transforms; none for a component that
    /// cannot be read.
    components: IndexMap<String, Option<[u8; 32]>>,
}

/// The difference between what runs and what its file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    Nothing,
    /// Handlers, their settings or their components: the stream can go on meanwhile.
    Handlers,
    /// Anything else.
    Pipeline,
}

impl PipelineSpec {
    /// A pipeline with these settings. Reads its components, to know them again.
    pub fn new(file: Option<PathBuf>, settings: PipelineSettings, owner: Owner) -> Self {
        let components =
            settings.transforms.iter().map(|(name, transform)| (name.clone(), transform.digest())).collect();
        Self { file, settings: Arc::new(settings), owner, components }
    }

    /// The files that decide over it, beside its own.
    pub fn components(&self) -> impl Iterator<Item = &PathBuf> {
        self.settings.transforms.values().map(|transform| transform.component())
    }

    /// The parts of the file that are not as they were, such as `sinks.store`; one's file, such as
    /// `transforms.embed.component`.
    pub(super) fn changed_parts(&self, before: &Self) -> Vec<String> {
        let (old, new) = (&before.settings, &self.settings);
        let mut parts = Vec::new();
        if !self.owner.is(&before.owner) {
            parts.push("the tenant's grants".to_owned());
        }
        if *old.source != *new.source || old.source_name != new.source_name {
            parts.push(format!("sources.{}", new.source_name));
        }
        parts.extend(changed("embedders", &old.embedders, &new.embedders));
        parts.extend(changed("transforms", &old.transforms, &new.transforms));
        let replaced = self
            .components
            .iter()
            .filter(|(name, digest)| before.components.get(*name).is_some_and(|before| before != *digest));
        parts.extend(replaced.map(|(name, _)| format!("transforms.{name}.component")));
        parts.extend(changed("sinks", &old.sinks, &new.sinks));
        parts
    }

    /// A digest of all that it runs with, but for secrets.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(format!("{:?} {:?}", self.settings, self.components)).into()
    }

    pub(super) fn differs_from(&self, before: &Self) -> Difference {
        if !self.owner.is(&before.owner) {
            return Difference::Pipeline;
        }
        if self.settings == before.settings && self.components == before.components {
            return Difference::Nothing;
        }
        let mut adapted = PipelineSettings::clone(&before.settings);
        let names = (adapted.transforms.keys(), self.settings.transforms.keys());
        if !names.0.eq(names.1) {
            return Difference::Pipeline;
        }
        let both = adapted.transforms.values_mut().zip(self.settings.transforms.values());
        for (old, new) in both {
            old.adapt(&**new);
        }
        if adapted == *self.settings { Difference::Handlers } else { Difference::Pipeline }
    }
}

/// Those of a section that are new, gone or other than before.
fn changed<T: PartialEq>(
    section: &str,
    before: &IndexMap<String, T>,
    now: &IndexMap<String, T>,
) -> impl Iterator<Item = String> {
    let other = now.iter().filter(|(name, part)| before.get(*name) != Some(part)).map(|(name, _)| name);
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let names: Vec<String> = other.chain(gone).map(|name| format!("{section}.{name}")).collect();
    names.into_iter()
}
