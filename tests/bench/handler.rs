//! A handler alone, without source and sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use pgstream_host::config::{Size, Span};
use pgstream_host::event::Batch;
use pgstream_host::transform::{Engine, Transform};

use crate::guests::{Embedders, settings};

/// Where benchmarks keep machine code.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench")
}

/// Loads a component, with limits that no benchmark reaches.
pub(crate) fn load(engine: &Engine, file: &Path, workers: usize) -> Result<Transform> {
    load_for(engine, file, workers, None)
}

/// As [`load`], for a handler that gets only some columns.
pub(crate) fn load_for(engine: &Engine, file: &Path, workers: usize, columns: Option<&[&str]>) -> Result<Transform> {
    let mut settings = settings(file);
    settings.workers = workers;
    settings.columns = columns.map(|columns| columns.iter().map(|&column| column.to_owned()).collect());
    settings.config.insert("text_column".into(), "content".into());
    settings.limits.memory = Size(256 << 20);
    settings.limits.deadline = Span(Duration::from_secs(120));
    settings.limits.output = Size(256 << 20);
    Transform::load(&pgstream_host::transform::Tenant::lone(engine), engine, "embed", &settings, Embedders::new())
        .map_err(failed)
}

pub(crate) fn failed(error: pgstream_host::error::Error) -> anyhow::Error {
    anyhow!("{}", error.report())
}

/// Calls the handler with one batch until it is enough; answers how many events that were, and how long it took.
pub(crate) async fn repeat(
    transform: &Transform,
    batch: &Arc<Batch>,
    enough: impl Fn(usize, Duration) -> bool,
) -> Result<(usize, Duration)> {
    let answer = transform.apply(Arc::clone(batch)).await.map_err(failed)?;
    ensure!(answer.rejections.is_empty(), "rejected: {}", answer.rejections[0].reason);
    let (began, mut events) = (Instant::now(), 0);
    while !enough(events, began.elapsed()) {
        transform.apply(Arc::clone(batch)).await.map_err(failed)?;
        events += batch.events().len();
    }
    Ok((events, began.elapsed()))
}
