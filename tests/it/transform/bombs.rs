//! Guests that want more than there is: of memory, tables, instances, handles, embeddings, and of the compiler.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pgstream_host::config::Span;
use pgstream_host::embedder::{Embedder, Vectors};
use pgstream_host::error::{Code, Fault, Result};
use pgstream_host::transform::inspect::inspect;
use pgstream_host::transform::{Engine, Transform};

use super::abi::{self, Hand};
use super::{evil, evil_with, fail, hear, soon, tell};
use crate::guests::{Embedders, engine, words};

/// What is allowed beyond a deadline: two ticks, and what rounding to whole milliseconds adds.
const TWO_TICKS: Duration = Duration::from_millis(5);

/// A bulk operation cannot be interrupted; it touches 32 MiB.
const BULK: Duration = Duration::from_millis(60);

#[tokio::test]
async fn calls_end_within_two_ticks_of_their_deadline() {
    let deadline = Duration::from_millis(50);
    let Some(evil) = evil(|settings| settings.limits.deadline = Span(deadline)) else { return };
    for (word, late) in [
        ("spin", TWO_TICKS),
        ("config-for-ever", TWO_TICKS),
        ("log-for-ever", TWO_TICKS),
        ("print-for-ever", TWO_TICKS),
        ("fill-memory", BULK),
        ("copy-memory", BULK),
    ] {
        // The thread's own time, and the best of some tries: what a busy machine adds is not the guest's.
        let mut ran = Duration::MAX;
        for _ in 0..20 {
            let error = fail(&evil, word).await;
            assert_eq!(error.misdeed(), Some(Code::Deadline), "{word}: {error:?}");
            ran = ran.min(ran_for(&error.report()));
            if ran <= deadline + late {
                break;
            }
        }
        assert!((deadline..=deadline + late).contains(&ran), "`{word}` ran {ran:?}");
    }
}

/// From "the call ran 52 ms, the limit is 50 ms".
fn ran_for(report: &str) -> Duration {
    let (_, rest) = report.split_once("the call ran ").unwrap();
    let (number, rest) = rest.split_once(' ').unwrap();
    let number: f64 = number.parse().unwrap();
    if rest.starts_with("ms") { Duration::from_secs_f64(number / 1000.0) } else { Duration::from_secs_f64(number) }
}

#[tokio::test]
async fn others_answer_while_a_guest_spins() {
    let hour = |settings: &mut pgstream_host::transform::WasmTransform| {
        settings.limits.deadline = Span(Duration::from_secs(3600));
    };
    let (Some(spinning), Some(well)) = (evil(hour), evil(|_| ())) else { return };
    tokio::select! {
        _ = tell(&spinning, "spin") => panic!("it ended by itself"),
        () = soon(async {
            for call in 1..=50 {
                assert_eq!(hear(&well, "calls").await, call.to_string());
            }
        }) => {}
    }
}

#[tokio::test]
async fn slots_come_back_however_an_instance_ends() {
    let Some(evil) = evil(|_| ()) else { return };
    // More than any pool has room for at once.
    for _ in 0..300 {
        assert_eq!(fail(&evil, "panic").await.misdeed(), Some(Code::Trap));
    }
    assert_eq!(hear(&evil, "calls").await, "1");
}

#[tokio::test]
async fn answers_that_are_too_large_or_too_many_are_refused() {
    let Some(evil) = evil(|settings| settings.limits.deadline = Span(Duration::from_secs(30))) else { return };
    for (word, code) in [
        ("huge-id", Code::Contract),
        ("huge-list", Code::Output),
        ("many-numbers", Code::Output),
        ("allocate 1000000000", Code::Memory),
    ] {
        let error = fail(&evil, word).await;
        assert_eq!(error.misdeed(), Some(code), "{word}: {error:?}");
    }
    let error = fail(&evil, "many-points 1000000").await;
    assert!(matches!(error.misdeed(), Some(Code::Output | Code::Memory)), "{error:?}");
}

#[tokio::test]
async fn random_numbers_come_in_small_portions() {
    let Some(evil) = evil(|_| ()) else { return };
    assert_eq!(hear(&evil, "random 4096").await, "4096");
    for word in ["random 4097", "random 1073741824", "random 18446744073709551615"] {
        let error = fail(&evil, word).await;
        assert_eq!(error.fault(), Fault::Handler, "{word}: {error:?}");
        assert!(error.misdeed().is_some(), "{word}: {error:?}");
    }
}

#[tokio::test]
async fn handles_that_are_never_given_back_end_the_instance_not_the_host() {
    let Some(evil) = evil(|_| ()) else { return };
    let error = fail(&evil, "leak-handles 1000000").await;
    assert!(matches!(error.misdeed(), Some(Code::Contract | Code::Trap)), "{error:?}");
    // A few with each batch: some call fails, and the next has a new instance with none.
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(tell(&evil, "leak-handles 500").await.is_err());
    }
    assert!((1..=4).contains(&failed), "{failed} of 20 calls failed");
}

/// Counts the texts that it is asked for.
#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Embedder for Counting {
    async fn embed(&self, texts: &[&str]) -> Result<Vectors> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Vectors { dimension: 1, data: vec![1.0; texts.len()] })
    }
}

#[tokio::test]
async fn an_endless_loop_of_embeddings_ends_before_it_gets_expensive() {
    let counting = Arc::new(Counting::default());
    let embedders = Embedders::from_iter([("small".to_owned(), Arc::clone(&counting) as Arc<dyn Embedder>)]);
    let Some(evil) = evil_with(|_| (), embedders) else { return };
    assert_eq!(hear(&evil, "embed-often 72").await, "embedded");
    assert_eq!(counting.0.swap(0, Ordering::SeqCst), 72);
    let error = fail(&evil, "embed-often").await;
    assert_eq!(error.misdeed(), Some(Code::Embed));
    let report = error.report();
    assert!(
        report.starts_with(
            "error: handler `embed` asked for too many embeddings\n  \
             caused by: a call with 1 events may ask 72 times, for 66048 texts\n"
        ),
        "{report}"
    );
    assert_eq!(counting.0.swap(0, Ordering::SeqCst), 72);
    assert_eq!(fail(&evil, "embed-often 20 4096").await.misdeed(), Some(Code::Embed));
    assert_eq!(counting.0.load(Ordering::SeqCst), 16);
}

/// `handler` with a component inside that is instantiated beside it.
fn beside(handler: Vec<u8>, wat: &str) -> Vec<u8> {
    let bomb = wat::parse_str(format!("(component {wat})")).unwrap();
    let components = sections(&handler).filter(|id| *id == 4).count() as u8;
    let mut component = handler;
    component.push(4); // a component
    length(&mut component, bomb.len());
    component.extend(bomb);
    component.extend([5, 4, 1, 0, components, 0]); // an instance of it, without arguments
    component
}

/// The ids of a component's sections.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 8;
    std::iter::from_fn(move || {
        let id = *component.get(at)?;
        let (mut length, mut shift) = (0, 0);
        loop {
            at += 1;
            let byte = component[at];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        at += 1 + length;
        Some(id)
    })
}

fn length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn refused(component: &[u8]) -> String {
    abi::load(engine(), component, 1).err().expect("it was loaded").report()
}

#[test]
fn memories_tables_and_instances_are_counted_over_the_whole_component() {
    let handler = || Hand::default().component();
    abi::load(engine(), &beside(handler(), "(core module $m) (core instance (instantiate $m))"), 1).unwrap();

    let module = |field: &str| format!("(core module $m {field})");
    let instances = |count: usize| "(core instance (instantiate $m))".repeat(count);
    for (bomb, module, count) in [
        ("memories", module("(memory 1)"), 20),
        ("memory", module("(memory 400)"), 4),
        ("a memory that starts huge", module("(memory 65536)"), 1),
        ("tables", module("(table 20000 funcref)"), 10),
        ("a table", module("(table 200000 funcref)"), 1),
        ("a huge table", module("(table 0xffffffff funcref)"), 1),
        ("instances", module(""), 300),
    ] {
        let report = refused(&beside(handler(), &format!("{module} {}", instances(count))));
        assert!(
            report.starts_with("error: handler `embed` did not start\n")
                || report.contains("cannot be the component of transform `embed`\n"),
            "{bomb}: {report}"
        );
    }
    // Nested: every level makes ten of the next.
    let mut nested = "(core module $m (memory 1)) (core instance (instantiate $m))".to_owned();
    for _ in 0..4 {
        nested = format!("(component $c {nested}) {}", "(instance (instantiate $c))".repeat(10));
    }
    refused(&beside(handler(), &nested));
}

#[tokio::test]
async fn growing_for_ever_gets_nowhere() {
    for handle in [
        "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (i32.const 1024)",
        "(loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) (i32.const 1024)",
    ] {
        let hand = Hand { handle, more: "(table 1 funcref)", ..Hand::default() };
        soon(hand.load().unwrap().apply(words(&["a word"]))).await.unwrap();
    }
}

#[test]
fn what_would_keep_the_compiler_busy_is_refused_before() {
    let component = |module: &str| wat::parse_str(format!("(component (core module {module}))")).unwrap();
    let modules = format!("(component {})", "(core module)".repeat(1001));
    let file = tempfile::NamedTempFile::new().unwrap();
    for (component, why) in [
        (
            component(&format!("(func {})", "(drop (i32.const 1))".repeat(400_000))),
            "it has a function of 1200002 bytes, at most 1048576 are compiled",
        ),
        (component(&"(func)".repeat(200_001)), "it has more than 200000 functions"),
        (wat::parse_str(modules).unwrap(), "it has more than 1000 modules and components in it"),
    ] {
        let why = format!("caused by: {why}\n");
        let report = refused(&component);
        assert!(report.contains(&why), "{report}");
        std::fs::write(file.path(), &component).unwrap();
        let error = inspect(engine(), file.path()).expect_err("it was compiled");
        assert!(error.report().contains(&why) && error.fault().exit_code() == 2, "{error:?}");
    }
}

#[test]
fn webassembly_that_is_not_the_same_everywhere_or_not_needed_is_refused() {
    for field in [
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))",
        "(func $f (return_call $f))",
        "(type (struct))",
    ] {
        let report = refused(&wat::parse_str(format!("(component (core module {field}))")).unwrap());
        assert!(report.contains("caused by: it does not compile: "), "{field}: {report}");
    }
}

#[test]
fn nothing_of_one_guest_is_left_for_the_next() {
    // A pool of its own, filled to the last slot, so that the second guest gets the first one's memories.
    let fill = |hand: &Hand| {
        let (engine, mut loaded) = (own(), Vec::new());
        let full = loop {
            match hand.load_into(&engine, 32) {
                Ok(transform) => loaded.push(transform),
                Err(error) => break error,
            }
        };
        (engine, loaded, full)
    };
    let writes = Hand {
        start: "(drop (memory.grow (i32.const 4)))
                (memory.fill (i32.const 65536) (i32.const 0xA5) (i32.const 458752))",
        ..Hand::default()
    };
    let scans = Hand {
        start: "(local $at i32)
                (drop (memory.grow (i32.const 4)))
                (local.set $at (i32.const 65536))
                (loop
                    (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (unreachable)))
                    (local.set $at (i32.add (local.get $at) (i32.const 8)))
                    (br_if 0 (i32.lt_u (local.get $at) (i32.const 524288))))",
        ..Hand::default()
    };
    let (engine, loaded, full) = fill(&writes);
    assert!(full.report().contains("no room for another instance"), "{full:?}");
    drop(loaded);
    let mut scanned: Vec<Transform> = Vec::new();
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while scanned.len() < 4 {
        match scans.load_into(&engine, 32) {
            Ok(transform) => scanned.push(transform),
            // The first guests' threads end when they find out that nobody has work for them.
            Err(error) if error.report().contains("no room for another instance") => {
                assert!(std::time::Instant::now() < patience, "{error:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn own() -> Engine {
    Engine::new(None).unwrap()
}

#[tokio::test]
async fn the_same_batch_gives_the_same_commands() {
    let Some(evil) = evil(|_| ()) else { return };
    let batch = words(&["many-points 50", "backwards", "sparse", "say x"]);
    let first = evil.apply_afresh(Arc::clone(&batch)).await.unwrap();
    for _ in 0..5 {
        assert_eq!(evil.apply_afresh(Arc::clone(&batch)).await.unwrap(), first);
    }
}

const ALONE: &str = "EVIL_ALONE";

/// In a process of its own, so that what other tests hold is not counted.
#[cfg(target_os = "linux")]
#[test]
fn the_process_stays_within_the_limits_of_its_guests() {
    if crate::guests::guest("evil").is_none() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "transform::bombs::measured_alone", "--nocapture", "--ignored"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn measured_alone() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let Some(evil) = evil(|settings| settings.limits.deadline = Span(Duration::from_secs(5))) else { return };
    hear(&evil, "calls").await;
    for word in [
        "eat-memory",
        "allocate 1000000000",
        "huge-text",
        "huge-list",
        "many-points 1000000",
        "many-numbers",
        "log-huge",
        "leak-handles 1000000",
        "recurse",
    ] {
        std::fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak starts anew
        let before = status("VmRSS");
        tell(&evil, word).await.expect_err(word);
        let peak = status("VmHWM");
        hear(&evil, "calls").await; // the instance that broke is gone by then
        let after = status("VmRSS");
        println!("{word}: {before} KiB before, {peak} at most, {after} after");
        // The guest's 64 MiB, what the host lifts of 16 MiB of answer, and room for the allocator.
        assert!(peak < before + (64 + 3 * 16 + 16) * 1024, "{word}: {before} KiB before, {peak} at most");
        assert!(after < before + (16 + 16) * 1024, "{word}: {before} KiB before, {after} after");
    }
}

#[cfg(target_os = "linux")]
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
