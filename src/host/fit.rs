//! Check that the lengths of vectors fit together, as far as the pipeline file tells: before a
//! table is made that nothing fits into.

use crate::components::PipelineSettings;
use crate::error::{Error, Fault, Result};

/// Refuses a sink whose `create` has no vector that any embedder of the transforms before it could
/// fill.
pub(super) fn refuse(settings: &PipelineSettings) -> Result<()> {
    for (name, sink) in &settings.sinks {
        let Some(create) = sink.create() else { continue };
        let default = create.dimension.map(|dimension| ("", dimension));
        let spaces: Vec<(&str, usize)> = default
            .into_iter()
            .chain(create.vectors.iter().map(|(name, spec)| (name.as_str(), spec.dimension)))
            .collect();
        for (transform, handler) in &settings.transforms {
            if !sink.inputs().contains(transform) || handler.embedders().is_empty() {
                continue;
            }
            let filled_by =
                |space: &str| handler.embedders().iter().find(|name| *name == space).or(handler.embedders().first());
            let misfit = |(space, wanted): &(&str, usize)| {
                let embedder = filled_by(space)?;
                let made = settings.embedders.get(embedder)?.dimension()?;
                (made != *wanted).then_some((embedder, made))
            };
            // A handler may make some vectors itself; that it makes all of them, and asks an embedder besides, is not likely.
            let misfits: Vec<_> = spaces.iter().map_while(misfit).collect();
            let (Some((space, wanted)), Some((embedder, made))) = (spaces.first(), misfits.first()) else { continue };
            if misfits.len() < spaces.len() {
                continue;
            }
            let key = if space.is_empty() { "create".to_owned() } else { format!("create.vectors.{space}") };
            return Err(Error::new(
                Fault::Config,
                format!("embedder `{embedder}` makes vectors of {made} numbers, sink `{name}` is made for {wanted}"),
            )
            .at(format!("`sinks.{name}.{key}.dimension`"))
            .help(format!(
                "write `dimension: {made}` there, or give transform `{transform}` an embedder of {wanted} numbers"
            )));
        }
    }
    Ok(())
}
