//! `make fairness`: one tenant that spins beside nine that do not, on two cores.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use pgstream_host::config::Span;
use pgstream_host::transform::{Allowance, Engine, Resources, Tenant, Transform};

use crate::guests::{Embedders, guest, settings, words};

const NORMAL: usize = 9;
const RUN: Duration = Duration::from_secs(8);

/// Nine tenants of weight `weight`, and one of weight 1 that spins on both cores if it is there.
struct Field {
    normal: Vec<Transform>,
    spinning: Option<Transform>,
}

fn field(component: &Path, weight: u32, spins: bool) -> Field {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("components");
    let engine = Engine::with(&Resources { cache_dir: Some(&cache), cores: 2, ..Resources::default() }).unwrap();
    let load = |name: String, weight: u32, workers: usize| {
        let tenant =
            Tenant::new(&engine, &name, &Allowance { weight, memory: 1 << 30, log_lines: 100, ..Allowance::default() });
        let mut settings = settings(component);
        (settings.workers, settings.limits.deadline) = (workers, Span(Duration::from_secs(3600)));
        Transform::load(&tenant, &engine, &name, &settings, Embedders::new()).unwrap()
    };
    let normal = (0..NORMAL).map(|n| load(format!("n{n}"), weight, 1)).collect();
    Field { normal, spinning: spins.then(|| load("bad".into(), 1, 2)) }
}

/// CPU time of each handler's threads: its name and the thread's number.
fn cpu() -> BTreeMap<(String, std::ffi::OsString), u64> {
    let mut used = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if let Some(name) = read("comm").trim().strip_prefix("handler-").and_then(|name| name.split_once('-')) {
            let nanoseconds: u64 = read("schedstat").split(' ').next().unwrap_or_default().parse().unwrap_or(0);
            used.insert((name.0.to_owned(), task.file_name()), nanoseconds);
        }
    }
    used
}

/// Runs the field with this pause between calls. How long each call of a normal tenant took, and each handler's CPU time.
async fn run(field: &Field, pause: Duration) -> (Vec<Duration>, BTreeMap<String, u64>) {
    let batch = words(&["nothing"; 400]);
    let took = std::cell::RefCell::new(Vec::new());
    let before = cpu();
    let calls = futures::future::join_all(field.normal.iter().enumerate().map(|(n, handler)| {
        let (batch, took) = (&batch, &took);
        async move {
            tokio::time::sleep(pause / 9 * n as u32).await;
            loop {
                let began = Instant::now();
                handler.apply(std::sync::Arc::clone(batch)).await.unwrap();
                took.borrow_mut().push(began.elapsed());
                tokio::time::sleep(pause).await;
            }
        }
    }));
    let spin = async {
        match &field.spinning {
            Some(bad) => _ = futures::future::join(bad.apply(words(&["spin"])), bad.apply(words(&["spin"]))).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = calls => {}
        () = spin => panic!("it ended by itself"),
        () = tokio::time::sleep(RUN) => {}
    }
    let mut used = BTreeMap::new();
    for (thread, after) in cpu() {
        // Threads that are not in both belong to a field that is gone.
        if let Some(before) = before.get(&thread) {
            *used.entry(thread.0).or_default() += after - before;
        }
    }
    used.retain(|name: &String, used| *used > 0 && (name == "bad" || name.starts_with('n')));
    (took.into_inner(), used)
}

fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort();
    took[(took.len() * percent / 100).min(took.len() - 1)]
}

#[tokio::test]
#[ignore = "a measurement"]
async fn fairness_table() {
    let Some(component) = guest("evil") else { return };
    eprintln!("| weights (spinning : normal) | least share / fair share | p99 alone | p99 beside it | ratio |");
    eprintln!("|---|---|---|---|---|");
    for weight in [1, 4] {
        // All want to compute all the time: what each gets of what its weight says.
        let (_, used) = run(&field(&component, weight, true), Duration::ZERO).await;
        let total: u64 = used.values().sum();
        let fair = total as f64 * f64::from(weight) / f64::from(weight * NORMAL as u32 + 1);
        let least =
            used.iter().filter(|(name, _)| *name != "bad").map(|(_, used)| *used as f64 / fair).fold(9.0, f64::min);
        // Calls now and then, as of a pipeline that keeps up: how long one takes.
        let pause = Duration::from_millis(60);
        let (mut alone, _) = run(&field(&component, weight, false), pause).await;
        let (mut beside, _) = run(&field(&component, weight, true), pause).await;
        let (alone, beside) = (percentile(&mut alone, 99), percentile(&mut beside, 99));
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        eprintln!("| 1 : {weight} | {least:.2} | {alone:.1?} | {beside:.1?} | {ratio:.2} |");
    }
}
