//! `sandbox`: how far a guest gets beyond its deadline, and what one more instance takes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pgstream_host::config::Span;
use pgstream_host::event::Operation;
use pgstream_host::transform::{Engine, Transform};
use serde_json::{Value as Json, json};

use crate::apart::apart;
use crate::flow::guest;
use crate::guests::{Embedders, root, settings, words};
use crate::handler::{failed, load};
use crate::machine::Process;
use crate::report::Figure;
use crate::rounds::Spread;
use crate::rows::rows;

const ARM: &str = "sandbox";
const CALLS: usize = 200;
const INSTANCES: usize = 64;
const DEADLINE: Duration = Duration::from_millis(20);

pub(super) fn run() -> Result<Vec<Figure>> {
    let over = apart("overshoot", &guest("evil")?)?;
    let more = apart("instances", &root().join("plugins/documents-rust/documents.wasm"))?;
    let figure = |what: &str, value: &Json, unit| Figure::once(ARM, what, value.as_f64().unwrap_or(f64::NAN), unit);
    Ok(vec![
        figure("past a deadline of 20 ms, p50", &over["p50"], "ms"),
        figure("past a deadline of 20 ms, p99", &over["p99"], "ms"),
        figure("one more instance (Rust)", &more["instantiate"], "µs"),
        figure("its memory, at work", &more["each"], "KiB"),
        figure("instances in a GiB", &more["per GiB"], ""),
    ])
}

/// In a process of its own: by how much a guest that spins is beyond its deadline when its caller hears of it.
pub(super) async fn overshoot(evil: &Path) -> Result<Json> {
    let engine = Engine::new(None).map_err(failed)?;
    let mut settings = settings(evil);
    settings.limits.deadline = Span(DEADLINE);
    let transform =
        Transform::load(&pgstream_host::transform::Tenant::lone(&engine), &engine, "evil", &settings, Embedders::new())
            .map_err(failed)?;
    let spin = words(&["spin"]);
    let mut over = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        ensure!(transform.apply(Arc::clone(&spin)).await.is_err(), "it did not spin");
        over.push(began.elapsed().saturating_sub(DEADLINE).as_secs_f64() * 1e3);
    }
    Ok(json!({ "p50": Spread::quantile(&mut over, 0.5), "p99": Spread::quantile(&mut over, 0.99) }))
}

/// In a process of its own: what one more instance takes, of time, beyond the first, and of memory, once it has worked.
pub(super) async fn instances(file: &Path) -> Result<Json> {
    let cache = tempfile::tempdir()?;
    let engine = Engine::new(Some(cache.path())).map_err(failed)?;
    let first = load(&engine, file, 1)?;
    let began = Instant::now();
    drop(load(&engine, file, 1)?);
    let one = began.elapsed();
    let before = Process::current().resident()?;
    let began = Instant::now();
    let transform = load(&engine, file, INSTANCES + 1)?;
    let each = began.elapsed().saturating_sub(one) / INSTANCES as u32;
    // All work at once, so that each has had its turn.
    let batch = rows(1000, Operation::Insert, false);
    futures::future::try_join_all((0..4 * INSTANCES).map(|_| transform.apply(Arc::clone(&batch))))
        .await
        .map_err(failed)?;
    let bytes = Process::current().resident()?.saturating_sub(before) / (INSTANCES + 1);
    drop(first);
    Ok(json!({
        "instantiate": each.as_secs_f64() * 1e6,
        "each": bytes / 1024,
        "per GiB": (1usize << 30) / bytes.max(1),
    }))
}
