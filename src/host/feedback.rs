//! Feedback: a source that reads what its own pipeline writes would never come to rest.

use crate::components::PipelineSettings;
use crate::error::{Error, Fault, Result};
use crate::sink::WrittenPlace;
use crate::source::{ReadBack, Written};

/// Refuses what would make every event cause the next one: that the source reads where this program
/// keeps its state, or what a sink of the pipeline writes.
pub(super) fn refuse(settings: &PipelineSettings) -> Result<()> {
    let (source_name, source) = (&settings.source_name, &*settings.source);
    if let Some(ReadBack { setting, value, help }) = source.reads_state() {
        let what = format!("source `{source_name}` reads `{value}`, where this program keeps its own state");
        return Err(Error::new(Fault::Config, what).at(format!("`sources.{source_name}.{setting}`")).help(help));
    }
    for (name, sink) in &settings.sinks {
        let (what, read) = match sink.writes() {
            Some(WrittenPlace::Table { database, name }) => {
                (format!("the table `{name}`"), source.reads_back(&Written::Table { database: &database, name }))
            }
            Some(WrittenPlace::File(path)) => {
                (format!("the file `{}`", path.display()), source.reads_back(&Written::File(path)))
            }
            None => continue,
        };
        let Some(ReadBack { setting, value, help }) = read else { continue };
        let what = format!("sink `{name}` writes {what}, which source `{source_name}` reads");
        return Err(Error::new(Fault::Config, what)
            .at(format!("`{value}` in `sources.{source_name}.{setting}`"))
            .help(help));
    }
    Ok(())
}
