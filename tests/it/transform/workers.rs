//! Threads and the calls on them: side by side, independent, and never in the way of the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pgstream_host::config::Span;
use pgstream_host::embedder::{Embedder, Vectors};
use pgstream_host::error::{Error, Fault, Result};
use pgstream_host::transform::Transform;
use tokio::sync::Barrier;

use super::{evil, evil_with, fail, hear, soon, tell};
use crate::guests::{Embedders, guest, settings};
use crate::support::program::eventually;

/// Answers when `Barrier` lets it: when as many calls are under way as it waits for.
struct Meeting(Barrier);

#[async_trait]
impl Embedder for Meeting {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        self.0.wait().await;
        Ok(Vectors { dimension: 2, data: (0..texts.len() * 2).map(|number| number as f32).collect() })
    }
}

/// Never answers; counts who asked.
#[derive(Default)]
struct Silent {
    asked: AtomicUsize,
    asking: Arc<AtomicUsize>,
}

/// A request that was not given up yet.
struct Asking(Arc<AtomicUsize>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Embedder for Silent {
    async fn embed(&self, _: &[&str]) -> Result<Vectors> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.asking.fetch_add(1, Ordering::SeqCst);
        let _asking = Asking(Arc::clone(&self.asking));
        std::future::pending().await
    }
}

struct Broken(Fault);

#[async_trait]
impl Embedder for Broken {
    async fn embed(&self, _: &[&str]) -> Result<Vectors> {
        Err(Error::new(self.0, "the provider refused the key").help("set `embedders.small.api_key`"))
    }
}

struct Slow;

#[async_trait]
impl Embedder for Slow {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(Vectors { dimension: 1, data: vec![1.0; texts.len()] })
    }
}

fn small(embedder: impl Embedder + 'static) -> Embedders {
    Embedders::from_iter([("small".to_owned(), Arc::new(embedder) as Arc<dyn Embedder>)])
}

#[tokio::test]
async fn no_two_instances_are_seeded_alike() {
    let (Some(one), Some(other)) = (evil(|_| ()), evil(|_| ())) else { return };
    assert_ne!(hear(&one, "seed").await, hear(&other, "seed").await);
}

#[tokio::test]
async fn two_workers_run_at_once() {
    let Some(evil) = evil_with(|settings| settings.workers = 2, small(Meeting(Barrier::new(2)))) else { return };
    let (one, other) = soon(async { tokio::join!(hear(&evil, "embed small"), hear(&evil, "embed small")) }).await;
    assert_eq!(one, "2 [0.0, 1.0, 2.0, 3.0]");
    assert_eq!(other, one);
}

#[tokio::test]
async fn results_are_independent_of_each_other() {
    let Some(evil) = evil(|settings| settings.workers = 2) else { return };
    let calls = ["panic", "calls", "bad-index", "stop now", "nothing", "panic"].map(|word| tell(&evil, word));
    let failed: Vec<bool> = soon(futures::future::join_all(calls)).await.iter().map(Result::is_err).collect();
    assert_eq!(failed, [true, false, true, true, false, true]);
}

// On a runtime of one thread, so that a guest on it would stop everything.
#[tokio::test]
async fn timers_fire_while_a_guest_spins_and_giving_up_ends_it() {
    let Some(evil) = evil(|settings| settings.limits.deadline = Span(Duration::from_secs(3600))) else { return };
    for _ in 0..3 {
        tokio::select! {
            _ = tell(&evil, "spin") => panic!("it ended by itself"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    // The only worker is free again, an hour early.
    assert_eq!(soon(hear(&evil, "calls")).await, "1");
}

#[tokio::test]
async fn giving_up_ends_the_wait_for_an_embedder() {
    let silent = Arc::new(Silent::default());
    let embedders = Embedders::from_iter([("small".to_owned(), Arc::clone(&silent) as Arc<dyn Embedder>)]);
    let Some(evil) = evil_with(|_| (), embedders) else { return };
    tokio::select! {
        _ = tell(&evil, "embed small") => panic!("nobody answered"),
        () = eventually("somebody asks", async || silent.asked.load(Ordering::SeqCst) == 1) => {}
    }
    assert_eq!(soon(hear(&evil, "calls")).await, "1");
    assert_eq!(silent.asking.load(Ordering::SeqCst), 0, "the request is given up too");
}

#[tokio::test]
async fn a_batch_that_nobody_waits_for_is_not_begun() {
    let silent = Arc::new(Silent::default());
    let embedders = Embedders::from_iter([("small".to_owned(), Arc::clone(&silent) as Arc<dyn Embedder>)]);
    let Some(evil) = evil_with(|_| (), embedders) else { return };
    let mut first = Box::pin(tell(&evil, "embed small"));
    let mut second = Box::pin(tell(&evil, "embed small"));
    tokio::select! {
        _ = futures::future::join(first.as_mut(), second.as_mut()) => panic!("nobody answered"),
        () = eventually("somebody asks", async || silent.asked.load(Ordering::SeqCst) == 1) => {}
    }
    drop(second); // before the first frees the worker
    drop(first);
    assert_eq!(soon(hear(&evil, "calls")).await, "1");
    assert_eq!(silent.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn waiting_for_an_embedder_is_no_work_of_the_guest() {
    let deadline = Span(Duration::from_millis(100));
    let Some(evil) = evil_with(|settings| settings.limits.deadline = deadline, small(Slow)) else { return };
    assert_eq!(hear(&evil, "embed small").await, "1 [1.0, 1.0]");
}

#[tokio::test]
async fn an_embedder_that_was_not_lent_is_refused_by_name() {
    let Some(evil) = evil_with(|_| (), small(Slow)) else { return };
    let error = fail(&evil, "embed large").await;
    assert_eq!(error.fault(), Fault::Handler);
    assert_eq!(
        error.report(),
        "error: handler `embed` stopped the pipeline\n  \
         caused by: handler `embed` has no embedder `large`, it has `small`\n  \
         where: batch of 1 event at 0/16B3748#0, table `public.things`\n  \
         help: add `large` to `transforms.embed.embedders`, or let the handler use one that is there\n"
    );
    let error = fail(&evil, "embed-flood small").await;
    assert!(error.report().contains("at most 4096 texts can be embedded at once"), "{}", error.report());
}

#[tokio::test]
async fn an_embedders_error_that_is_passed_on_keeps_its_fault_and_its_help() {
    for (fault, headline) in [
        (Fault::Config, "handler `embed` stopped the pipeline"),
        (Fault::Transient, "handler `embed` asks for a retry"),
    ] {
        let Some(evil) = evil_with(|_| (), small(Broken(fault))) else { return };
        let error = fail(&evil, "embed small").await;
        assert_eq!(error.fault(), fault);
        assert_eq!(
            error.report(),
            format!(
                "error: {headline}\n  caused by: the provider refused the key\n  \
                 where: batch of 1 event at 0/16B3748#0, table `public.things`\n  \
                 help: set `embedders.small.api_key`\n"
            )
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn threads_are_named_and_end_with_the_transform() {
    let Some(component) = guest("evil") else { return };
    let mut settings = settings(&component);
    (settings.workers, settings.limits.deadline) = (3, Span(Duration::from_secs(3600)));
    let threads = || {
        let names = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("comm"));
        names
            .filter_map(|name| std::fs::read_to_string(name).ok())
            .filter(|name| name.starts_with("handler-brief-"))
            .count()
    };
    let brief = Transform::load(
        &pgstream_host::transform::Tenant::lone(crate::guests::engine()),
        crate::guests::engine(),
        "brief",
        &settings,
        Embedders::new(),
    )
    .unwrap();
    assert_eq!(threads(), 3);
    tokio::select! {
        _ = tell(&brief, "spin") => panic!("it ended by itself"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    drop(brief);
    eventually("the threads end", async || threads() == 0).await;
}
