//! Events that break their handler: each is found in its batch and set aside, and nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pgstream_host::command::{Action, Command};
use pgstream_host::config::model::Rejections;
use pgstream_host::config::{Size, Span};
use pgstream_host::embedder::{Embedder, Vectors};
use pgstream_host::error::{Code, Error, Fault, Result};
use pgstream_host::lsn::{Lsn, Position};
use pgstream_host::sink::DeadLetter;
use pgstream_host::transform::WasmTransform;
use pgstream_host::transform::{Allowance, Tenant, Transform};
use serde_json::Value as Json;

use crate::guests::{Embedders, engine, guest, load, settings, words_at};
use crate::support::by_hand::{Run, World};
use crate::support::fresh_database;
use crate::support::program::{Folder, Running, eventually};
use crate::transform::Log;

/// A pipeline with `plugins/evil` whose one sink takes everything.
struct Trial {
    world: World,
    run: Run,
}

impl Trial {
    /// None where guests cannot be built.
    fn start(change: impl FnOnce(&mut WasmTransform)) -> Option<Self> {
        Self::start_with(change, true, Embedders::new())
    }

    fn start_with(change: impl FnOnce(&mut WasmTransform), keeps: bool, embedders: Embedders) -> Option<Self> {
        let mut settings = settings(&guest("evil")?);
        settings.limits.deadline = Span(Duration::from_millis(200));
        change(&mut settings);
        let world = World::new(1);
        let transform = load(&settings, embedders.clone()).unwrap();
        let run = world.run(transform, embedders, &settings, keeps);
        Some(Self { world, run })
    }

    fn push(&self, lsn: u64, words: &[&str]) {
        self.world.source.push(words_at(lsn, words));
    }

    /// Waits until everything up to the transaction at `lsn` is confirmed.
    async fn confirmed(&self, lsn: u64) {
        eventually("it is confirmed", async || self.world.source.confirmed() == Lsn(lsn + 0xB8)).await;
    }

    /// What was said, with the ordinal of the event that said it.
    fn said(&self) -> Vec<(u32, String)> {
        self.world.sinks[0].commands().iter().map(said).collect()
    }

    fn letters(&self) -> Vec<DeadLetter> {
        self.world.sinks[0].letters()
    }
}

fn said(command: &Command) -> (u32, String) {
    match &command.action {
        Action::Delete { id } => (command.position.ordinal, id.clone()),
        other => (command.position.ordinal, format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_that_breaks_a_batch_is_set_aside_and_the_rest_goes_on_in_order() {
    let Some(trial) = Trial::start(|_| ()) else { return };
    trial.push(1, &["say a", "say b", "panic", "say c", "say d", "say e", "say f"]);
    trial.push(1000, &["say g"]);
    trial.confirmed(1000).await;
    let expected = [(0, "a"), (1, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f"), (0, "g")];
    assert_eq!(trial.said(), expected.map(|(ordinal, word)| (ordinal, word.to_owned())));

    let letters = trial.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.position, Position { lsn: Lsn(1), ordinal: 2 });
    assert_eq!((letter.transform.as_str(), letter.code), ("embed", Code::Trap));
    let start = "handler `embed` crashed: wasm trap: wasm `unreachable` instruction executed: the handler said: thread";
    assert!(letter.reason.starts_with(start) && letter.reason.ends_with("; boom\\u{1b}[31m"), "{}", letter.reason);
    let event: Json = serde_json::from_str(&letter.event).unwrap();
    assert_eq!((&event["table"], &event["row"]["what"]), (&"things".into(), &"panic".into()));
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_failure_is_found_and_has_its_code() {
    let Some(trial) = Trial::start(|_| ()) else { return };
    let kinds = [
        ("panic", Code::Trap, "crashed"),
        ("exit", Code::Trap, "called `exit`"),
        ("recurse", Code::Trap, "handler `embed` "),
        ("spin", Code::Deadline, "exceeded its deadline: the call ran "),
        ("eat-memory", Code::Memory, "ran out of memory: it asked for "),
        ("huge-list", Code::Output, "answered too much: what it hands over is larger than 16 MiB"),
        ("bad-index", Code::Contract, "breaks the contract: command 0 (`clear`): it answers event 7, the batch has 1"),
        ("bad-rejection", Code::Contract, "breaks the contract: rejection 0: it answers event 9, the batch has 1"),
        ("nan", Code::Contract, "the default vector has a number at place 1 that is not finite"),
        ("payload {", Code::Contract, "the payload is JSON that breaks off"),
        ("huge-id", Code::Contract, "the id has 10485760 bytes, at most 1024 are allowed"),
        ("reject for a reason", Code::Rejected, "for a reason"),
    ];
    // Each between two events that are well, all in one batch.
    let mut batch = vec!["say first"];
    kinds.iter().for_each(|(word, ..)| batch.extend([word, "say next"]));
    trial.push(1, &batch);
    trial.confirmed(1).await;

    let letters = trial.letters();
    let found: Vec<_> = letters.iter().map(|letter| (letter.position.ordinal, letter.code)).collect();
    let expected: Vec<_> = (1..).step_by(2).zip(kinds.map(|(_, code, _)| code)).collect();
    assert_eq!(found, expected, "{letters:#?}");
    for (letter, (word, _, reason)) in letters.iter().zip(kinds) {
        assert!(letter.reason.contains(reason), "{word}: {}", letter.reason);
        assert!(!letter.reason.contains('\n') && letter.reason.len() < 4096, "{word}: {}", letter.reason);
    }
    let said: Vec<u32> = trial.said().into_iter().map(|(ordinal, _)| ordinal).collect();
    assert_eq!(said, (0..=24).step_by(2).collect::<Vec<_>>());
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_earlier_events_left_behind_is_not_the_fault_of_later_ones() {
    let Some(trial) = Trial::start(|settings| settings.limits.memory = Size(8 << 20)) else { return };
    // Each event leaves 1 MiB behind, and is refused by a guest that has no more: in one batch, and one by one.
    trial.push(1, &["hoard 1048576"; 40]);
    (1..=20).for_each(|number| trial.push(number * 1000, &["hoard 1048576"]));
    trial.push(30_000, &["say before", "hoard 16777216", "say after"]);
    trial.confirmed(30_000).await;
    let said = trial.said();
    assert_eq!(said.iter().filter(|(_, word)| word == "hoarded").count(), 60, "{said:?}");
    assert_eq!(said[60..], [(0, "before".to_owned()), (2, "after".to_owned())]);
    // The only one that is too much for an instance of its own.
    let letters = trial.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.position, letter.code), (Position { lsn: Lsn(30_000), ordinal: 1 }, Code::Memory));
    let start = "handler `embed` ran out of memory: it asked for ";
    assert!(letter.reason.starts_with(start) && letter.reason.ends_with("MemoryError: no more"), "{}", letter.reason);
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_only_fails_as_a_whole_loses_nothing() {
    let Some(trial) = Trial::start(|settings| settings.limits.output = Size(1 << 20)) else { return };
    let word = format!("say {}", "x".repeat(1000));
    trial.push(1, &vec![word.as_str(); 2000]); // 2 MB of answers
    trial.push(10_000, &["panic-in-company a", "panic-in-company b"]);
    trial.confirmed(10_000).await;
    let ordinals: Vec<u32> = trial.said().into_iter().map(|(ordinal, _)| ordinal).collect();
    assert_eq!(ordinals, (0..2000).chain([0, 1]).collect::<Vec<_>>());
    assert_eq!(trial.letters(), []);
    trial.run.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_handler_says_when_it_breaks_is_within_its_quota() {
    let Some(component) = guest("evil") else { return };
    let log = Log::default();
    let _guard = log.listen();
    let (settings, world) = (settings(&component), World::new(1));
    let tenant =
        Tenant::new(engine(), "acme", &Allowance { weight: 1, memory: 1 << 30, log_lines: 1, ..Allowance::default() });
    let transform = Transform::load(&tenant, engine(), "embed", &settings, Embedders::new()).unwrap();
    let run = world.run(transform, Embedders::new(), &settings, true);
    let began = std::time::Instant::now();
    for lsn in 1..=100 {
        world.source.push(words_at(lsn * 1000, &["panic-in-company a", "panic-in-company b"]));
    }
    eventually("it is confirmed", async || world.source.confirmed() == Lsn(100_000 + 0xB8)).await;
    let said = log.text().matches("only alone I work").count() as u64;
    let (seconds, text) = (began.elapsed().as_secs(), log.text());
    assert!(said <= seconds + 1, "{said} lines in {seconds} s: {text}");
    run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_parts_of_a_batch_answer_together_is_bounded_too() {
    let Some(trial) = Trial::start(|settings| settings.limits.output = Size(1 << 20)) else { return };
    let word = format!("say {}", "x".repeat(900));
    trial.push(1, &vec![word.as_str(); 6000]); // 5.4 MB of answers
    let error = trial.run.ended().await.unwrap_err();
    let report = error.report();
    assert!(report.contains("caused by: handler `embed` answered too much, also in parts\n"), "{report}");
    assert!(report.contains("raise `transforms.embed.limits.output`"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_judged_by_a_new_instance_only() {
    let Some(trial) = Trial::start(|_| ()) else { return };
    // This guest panics in each instance that has worked before.
    for lsn in 1..=5 {
        trial.push(lsn * 1000, &["panic-later fine"]);
        trial.confirmed(lsn * 1000).await;
    }
    assert_eq!(trial.said().len(), 5);
    assert_eq!(trial.letters(), [], "what earlier calls left behind is no event's fault");
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_events_fault_is_not_looked_for_in_events() {
    let Some(trial) = Trial::start(|_| ()) else { return };
    trial.push(1, &["say a", "stop it all", "say b"]);
    let error = trial.run.ended().await.unwrap_err();
    assert!(error.report().contains("handler `embed` stopped the pipeline\n  caused by: it says: it all"), "{error:?}");
    assert_eq!(trial.world.source.confirmed(), Lsn::INVALID);
    assert!(trial.world.sinks[0].letters().is_empty() && trial.world.sinks[0].commands().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_in_so_many_stop_the_pipeline() {
    for (word, because) in [("panic", "handler `embed` crashed"), ("reject no good", "no good")] {
        let Some(trial) = Trial::start(|settings| settings.rejections = Rejections { max: 3, per: 100 }) else {
            return;
        };
        trial.push(1, &[word, "say a", word, word]);
        trial.confirmed(1).await;
        assert_eq!(trial.letters().len(), 3, "as many as are allowed");
        trial.push(1000, &[word; 1000]);
        let error = trial.run.ended().await.unwrap_err();
        assert_eq!(error.fault(), Fault::Handler);
        let report = error.report();
        let expected = format!(
            "error: pipeline `test` stopped\n  \
             caused by: more than 3 of the last 100 events of handler `embed` were rejected\n  caused by: {because}"
        );
        assert!(report.starts_with(&expected), "{report}");
        assert!(report.contains("`transforms.embed.rejections`"), "{report}");
        assert_eq!(trial.world.source.confirmed(), Lsn(1 + 0xB8), "nothing of the second batch");
        assert_eq!(trial.world.sinks[0].letters().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_of_several_batches_count_together() {
    let Some(trial) = Trial::start(|settings| settings.rejections = Rejections { max: 3, per: 100 }) else { return };
    for lsn in 1..=4 {
        trial.push(lsn * 1000, &["panic", "say a"]);
    }
    let error = trial.run.ended().await.unwrap_err();
    assert!(error.report().contains("more than 3 of the last 100 events of handler `embed`"), "{error:?}");
    assert!(trial.world.source.confirmed() < Lsn(4000), "the batch that was too much is not confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_far_apart_do_not_stop_it() {
    let Some(trial) = Trial::start(|settings| settings.rejections = Rejections { max: 1, per: 10 }) else { return };
    for lsn in 1..=5 {
        let mut batch = vec!["say a"; 20];
        batch[5] = "panic";
        trial.push(lsn * 1000, &batch);
    }
    trial.confirmed(5000).await;
    assert_eq!(trial.letters().len(), 5);
    trial.run.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_taker_the_pipeline_stops_and_names_the_event_and_none_of_its_values() {
    let word = "payload \"a secret of the row";
    for (word, did, cause) in [
        ("panic", "failed on an event", "handler `embed` crashed"),
        (word, "failed on an event", "handler `embed` gave an answer that breaks the contract"),
        ("reject since it is odd", "rejected an event", "since it is odd"),
    ] {
        let Some(trial) = Trial::start_with(|_| (), false, Embedders::new()) else { return };
        trial.push(1, &["say a", "say b", word, "say c"]);
        let error = trial.run.ended().await.unwrap_err();
        assert_eq!(error.fault(), Fault::Handler);
        let report = error.report();
        let expected = format!(
            "error: pipeline `test` stopped\n  \
             caused by: handler `embed` {did}, and no sink takes `embed.rejected`\n  caused by: {cause}"
        );
        assert!(report.starts_with(&expected), "{report}");
        assert!(report.contains("\n  where: event 0/1#2, table `public.things`\n"), "{report}");
        assert!(report.contains("inputs: [embed.rejected]") && !report.contains("secret"), "{report}");
        assert_eq!(trial.world.source.confirmed(), Lsn::INVALID);
        assert_eq!(trial.world.sinks[0].commands(), [], "nothing of the batch is written");
    }
}

/// Fails in passing for the first calls.
struct Moody {
    failures: usize,
    calls: Arc<AtomicUsize>,
}

#[async_trait]
impl Embedder for Moody {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        if self.calls.fetch_add(1, Ordering::SeqCst) < self.failures {
            return Err(Error::new(Fault::Transient, "the provider is away"));
        }
        Ok(Vectors { dimension: 1, data: vec![1.0; texts.len()] })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_passing_while_the_event_is_looked_for_is_repeated() {
    let calls = Arc::new(AtomicUsize::new(0));
    let moody: Arc<dyn Embedder> = Arc::new(Moody { failures: 2, calls: Arc::clone(&calls) });
    let embedders = Embedders::from_iter([("small".to_owned(), moody)]);
    let Some(trial) = Trial::start_with(|_| (), true, embedders) else { return };
    trial.push(1, &["panic", "embed small", "say a"]);
    trial.confirmed(1).await;
    let expected = [(1, "1 [1.0, 1.0]".to_owned()), (2, "a".to_owned())];
    assert_eq!(trial.said(), expected);
    assert_eq!(trial.letters().len(), 1);
    trial.run.stop().await.unwrap();
}

/// Says that its vectors are of 4 MiB, and counts what it is asked.
struct Wide(Arc<AtomicUsize>);

#[async_trait]
impl Embedder for Wide {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        self.0.fetch_add(texts.len(), Ordering::SeqCst);
        Ok(Vectors { dimension: 1, data: vec![1.0; texts.len()] })
    }

    async fn dimension(&self) -> Result<usize> {
        Ok(1 << 20)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_become_more_vectors_than_a_batch_may_hold_are_set_aside_before_they_are_embedded() {
    let asked = Arc::new(AtomicUsize::new(0));
    let wide: Arc<dyn Embedder> = Arc::new(Wide(Arc::clone(&asked)));
    let embedders = Embedders::from_iter([("wide".to_owned(), wide)]);
    let Some(trial) = Trial::start_with(|_| (), true, embedders) else { return };
    trial.push(1, &["say a", "texts 65", "say b"]);
    trial.confirmed(1).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert_eq!(trial.said(), [(0, "a".to_owned()), (2, "b".to_owned())]);
    let letters = trial.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.position.ordinal, letter.code), (1, Code::Output));
    let reason = "the texts that handler `embed` answered become too many vectors: they take 260 MiB, those of a batch may take 256 MiB";
    assert_eq!(letter.reason, reason);

    // More than other batches leave room for, one after the other.
    (2..=9).for_each(|lsn| trial.push(lsn * 1000, &["texts 60"]));
    trial.confirmed(9000).await;
    assert_eq!(asked.load(Ordering::SeqCst), 8);

    trial.push(10_000, &["texts 40", "texts 40"]);
    let report = trial.run.ended().await.unwrap_err().report();
    assert!(report.contains("caused by: they take 320 MiB, those of a batch may take 256 MiB\n"), "{report}");
    assert!(report.contains("make smaller batches (`batch: { max_events: 100 }`)"), "{report}");
    assert_eq!(trial.world.source.confirmed(), Lsn(9000 + 0xB8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_the_sink_has_no_place_for_is_set_aside_before_it_is_written() {
    let Some(evil) = guest("evil") else { return };
    let database = fresh_database().await;
    let client = &database.client;
    client.batch_execute("CREATE TABLE things (id int PRIMARY KEY, what text)").await.unwrap();
    let folder = Folder::new();
    let file = folder.write(
        "unfit.yaml",
        &format!(
            "version: 1\nname: unfit\nsources:\n  db: {{ type: postgres, url: \"${{DATABASE_URL}}\", tables: [public.things] }}\n\
             transforms:\n  embed: {{ type: wasm, inputs: [db], component: {} }}\n\
             sinks:\n  points: {{ type: pgvector, inputs: [embed], url: \"${{DATABASE_URL}}\", table: public.points, create: {{ dimension: 2 }} }}\n\
             \x20 parked: {{ type: file, inputs: [embed.rejected], path: {} }}\n",
            evil.display(),
            folder.path("rejected.jsonl").display()
        ),
    );
    let mut host = Running::start(&file, &[("DATABASE_URL", &database.url)]);
    host.said("running").await;
    let words = "INSERT INTO things VALUES (1, 'payload {\"n\":1}'), (2, 'sparse'), (3, 'payload {\"n\":3}')";
    client.batch_execute(words).await.unwrap();
    eventually("what comes after it is written", async || {
        let rows = client.query("SELECT payload->>'n' FROM points", &[]).await.unwrap();
        rows.iter().any(|row| row.get::<_, Option<&str>>(0) == Some("3"))
    })
    .await;
    let (status, log) = host.stop().await;
    assert!(status.success(), "{log}");
    let parked = std::fs::read_to_string(folder.path("rejected.jsonl")).unwrap();
    let lines: Vec<Json> = parked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [line] = lines.as_slice() else { panic!("{parked}") };
    assert_eq!((&line["code"], &line["event"]["row"]["id"]), (&"contract".into(), &2.into()));
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains("vector `s`"), "{reason}");
}
