//! CPU time, memory and log lines of tenants that share an engine.

use std::time::Duration;

use pgstream_host::config::{Size, Span};
use pgstream_host::error::Fault;
use pgstream_host::transform::{Allowance, Engine, Resources, Tenant, Transform};

use crate::guests::{Embedders, guest, settings, words};

/// Long enough for anything that is not stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// On one slot, so that whoever computes keeps everybody else from it.
fn engine() -> Engine {
    let cache = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("components");
    Engine::with(&Resources { cache_dir: Some(&cache), cores: 1, ..Resources::default() }).unwrap()
}

fn tenant(engine: &Engine, name: &str, weight: u32) -> Tenant {
    Tenant::new(engine, name, &Allowance { weight, memory: 1 << 30, log_lines: 100, ..Allowance::default() })
}

/// A handler of `tenant` whose calls may compute so long.
fn load(engine: &Engine, tenant: &Tenant, deadline: Duration) -> Option<Transform> {
    let mut settings = settings(&guest("evil")?);
    settings.limits.deadline = Span(deadline);
    Some(Transform::load(tenant, engine, "embed", &settings, Embedders::new()).unwrap())
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it is stuck")
}

#[tokio::test]
async fn a_tenant_that_spins_does_not_stop_another() {
    let engine = engine();
    let (bad, good) = (tenant(&engine, "bad", 100), tenant(&engine, "good", 1));
    let Some(spinning) = load(&engine, &bad, Duration::from_secs(3600)) else { return };
    let normal = load(&engine, &good, Duration::from_secs(10)).unwrap();
    let calls = async {
        for _ in 0..50 {
            normal.apply(words(&["calls"])).await.unwrap();
        }
    };
    tokio::select! {
        _ = spinning.apply(words(&["spin"])) => panic!("it ended by itself"),
        () = soon(calls) => {}
    }
}

// Each of the calls ends when it has used up its deadline of CPU time, so their number is the CPU time that was given.
#[tokio::test]
async fn cpu_time_is_given_by_weight() {
    let engine = engine();
    let (light, heavy) = (tenant(&engine, "light", 1), tenant(&engine, "heavy", 4));
    let Some(one) = load(&engine, &light, Duration::from_millis(20)) else { return };
    let other = load(&engine, &heavy, Duration::from_millis(200)).unwrap();
    let spins = std::cell::Cell::new(0);
    let spin = async {
        loop {
            one.apply(words(&["spin"])).await.unwrap_err();
            spins.set(spins.get() + 1);
        }
    };
    let heavy_spins = async {
        for _ in 0..8 {
            other.apply(words(&["spin"])).await.unwrap_err();
        }
    };
    tokio::select! {
        () = spin => {}
        () = soon(heavy_spins) => {}
    }
    // 1.6 s for the one are 0.4 s for the other.
    assert!((14..=26).contains(&spins.get()), "{} calls of 20 ms, not about 20", spins.get());
}

// Two handlers of one tenant are no better off than one.
#[tokio::test]
async fn a_tenant_gains_nothing_by_having_more_handlers() {
    let engine = engine();
    let (many, single) = (tenant(&engine, "many", 1), tenant(&engine, "single", 1));
    let deadline = Duration::from_millis(40);
    let Some(alone) = load(&engine, &single, deadline) else { return };
    let spinning: Vec<_> = (0..4).map(|_| load(&engine, &many, Duration::from_secs(3600)).unwrap()).collect();
    let spin = futures::future::join_all(spinning.iter().map(|handler| handler.apply(words(&["spin"]))));
    let watched = load(&engine, &many, deadline).unwrap();
    let watched_spins = std::cell::Cell::new(0);
    let watch = async {
        loop {
            watched.apply(words(&["spin"])).await.unwrap_err();
            watched_spins.set(watched_spins.get() + 1);
        }
    };
    let calls = async {
        for _ in 0..30 {
            alone.apply(words(&["spin"])).await.unwrap_err();
        }
    };
    tokio::select! {
        _ = spin => panic!("it ended by itself"),
        () = watch => {}
        () = soon(calls) => {}
    }
    // The five handlers took turns over what one tenant gets: thirty deadlines, of which this one had a fifth.
    assert!((4..=8).contains(&watched_spins.get()), "{}", watched_spins.get());
}

#[tokio::test]
async fn all_instances_of_a_tenant_share_its_memory() {
    let engine = engine();
    let allowance = Allowance { weight: 1, memory: 24 << 20, log_lines: 100, ..Allowance::default() };
    let (acme, other) = (Tenant::new(&engine, "acme", &allowance), Tenant::new(&engine, "other", &allowance));
    let Some(component) = guest("evil") else { return };
    let mut settings = settings(&component);
    settings.limits.memory = Size(64 << 20);
    let load = |tenant: &Tenant| Transform::load(tenant, &engine, "embed", &settings, Embedders::new());
    let handlers = [load(&acme).unwrap(), load(&acme).unwrap()];
    let error = soon(handlers[0].apply(words(&["eat-memory"]))).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Environment);
    let report = error.report();
    assert!(report.contains("all handlers of tenant `acme` together may have 24 MiB"), "{report}");
    assert!(report.contains("help: raise `tenants.acme.memory` in the host file"), "{report}");
    // What the trapped instance held is there again, and nobody else was touched.
    soon(handlers[1].apply(words(&["calls"]))).await.unwrap();
    soon(handlers[0].apply(words(&["calls"]))).await.unwrap();
    soon(load(&other).unwrap().apply(words(&["calls"]))).await.unwrap();
}

#[tokio::test]
async fn an_instance_for_which_the_tenant_has_no_memory_does_not_start() {
    let engine = engine();
    let Some(component) = guest("evil") else { return };
    let acme =
        Tenant::new(&engine, "acme", &Allowance { weight: 1, memory: 4 << 20, log_lines: 100, ..Allowance::default() });
    let mut settings = settings(&component);
    settings.workers = 16;
    let loaded = Transform::load(&acme, &engine, "embed", &settings, Embedders::new());
    let report = loaded.err().expect("sixteen instances hold more").report();
    assert!(report.contains("handler `embed` did not start"), "{report}");
    assert!(report.contains("tenant `acme` together may have 4 MiB"), "{report}");
}
