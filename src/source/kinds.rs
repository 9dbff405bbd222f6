//! The one list of kinds of source: nobody else names a source's module.

use super::SourceKind;
use crate::config::model;

/// A source as a pipeline file names it.
type NamedSource = (String, model::Source);

/// The kind of a source, with its settings.
pub fn kind_of((_, source): &NamedSource) -> &dyn SourceKind {
    match source {
        model::Source::Postgres(settings) => settings,
        model::Source::Jsonl(settings) => settings,
    }
}
