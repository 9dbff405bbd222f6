//! Each way in which a call can go beyond its limits ends that call alone, with an error that says what to do.

use std::time::Duration;

use pgstream_host::config::{Size, Span};
use pgstream_host::error::{Code, Fault};

use super::{evil, fail, hear, tell};

const BATCH: &str = "  where: batch of 1 event at 0/16B3748#0, table `public.things`\n";

#[tokio::test]
async fn a_crash_says_what_the_guest_said() {
    let Some(evil) = evil(|_| ()) else { return };
    let error = fail(&evil, "panic").await;
    assert_eq!(error.fault(), Fault::Handler);
    let report = error.report();
    assert!(report.starts_with(
        "error: handler `embed` crashed\n  \
         caused by: wasm trap: wasm `unreachable` instruction executed\n  \
         caused by: the handler said: thread '<unnamed>'"
    ));
    assert!(
        report.contains(" panicked at plugins/evil/src/lib.rs:") && report.contains("; boom\\u{1b}[31m\n"),
        "{report}"
    );
    let end = "  help: nothing was confirmed; the batch is replayed after a fix of the handler\n";
    assert!(report.ends_with(&format!("{BATCH}{end}")), "{report}");
}

#[tokio::test]
async fn an_endless_loop_ends_at_the_deadline() {
    let Some(evil) = evil(|settings| settings.limits.deadline = Span(Duration::from_millis(100))) else { return };
    let error = fail(&evil, "spin").await;
    assert_eq!(error.fault(), Fault::Handler);
    let report = error.report();
    let (before, rest) = report.split_once("the call ran ").unwrap();
    let (ran, after) = rest.split_once(", ").unwrap();
    assert_eq!(before, "error: handler `embed` exceeded its deadline\n  caused by: ");
    assert!(ran.ends_with(" ms") || ran.ends_with(" s"), "{ran}");
    assert_eq!(
        after,
        format!(
            "the limit is 100 ms\n{BATCH}  help: nothing was confirmed; the batch is replayed after a fix. \
             Raise `transforms.embed.limits.deadline` or fix the handler\n"
        )
    );
}

#[tokio::test]
async fn memory_ends_at_its_limit() {
    let Some(evil) = evil(|settings| settings.limits.memory = Size(8 << 20)) else { return };
    let error = fail(&evil, "eat-memory").await;
    assert_eq!(error.fault(), Fault::Handler);
    let report = error.report();
    assert!(report.starts_with("error: handler `embed` ran out of memory\n  caused by: it asked for "), "{report}");
    assert!(report.contains(" MiB, the limit is 8 MiB\n"), "{report}");
    assert!(report.contains("the handler said: memory allocation of "), "{report}");
    assert!(report.contains("Raise `transforms.embed.limits.memory` or fix the handler\n"), "{report}");

    let survived: usize = hear(&evil, "eat-and-survive").await.parse().unwrap();
    assert!((1..8).contains(&survived), "{survived} MiB");
}

#[tokio::test]
async fn an_instance_that_was_refused_memory_is_not_called_again_whatever_it_answered() {
    let Some(evil) = evil(|settings| settings.limits.memory = Size(8 << 20)) else { return };
    // A new instance may get by with what it has; it is dropped all the same.
    hear(&evil, "eat-and-survive").await;
    assert_eq!(hear(&evil, "calls").await, "1");
    // One that was called before may be full of what earlier events left behind.
    let error = fail(&evil, "eat-and-survive").await;
    assert_eq!(error.misdeed(), Some(Code::Memory), "{error:?}");
    assert_eq!(hear(&evil, "calls").await, "1");
    // A refusal by the guest itself does not hide why.
    let error = fail(&evil, "hoard 16777216").await;
    assert_eq!(error.misdeed(), Some(Code::Memory), "{error:?}");
    assert!(error.report().contains("caused by: the handler said: MemoryError: no more\n"), "{error:?}");
}

#[tokio::test]
async fn endless_recursion_ends_at_the_guests_stack() {
    let Some(evil) = evil(|_| ()) else { return };
    let report = fail(&evil, "recurse").await.report();
    // A Rust guest's own stack lies in its memory and may run out first: then it writes out of bounds.
    let headlines = ["error: handler `embed` overflowed its stack\n", "error: handler `embed` crashed\n"];
    assert!(headlines.iter().any(|headline| report.starts_with(headline)), "{report}");
    assert_eq!(hear(&evil, "calls").await, "1");
}

#[tokio::test]
async fn an_answer_ends_at_its_limit() {
    let Some(evil) = evil(|_| ()) else { return };
    for word in ["huge-text", "huge-list", "log-huge"] {
        assert_eq!(
            fail(&evil, word).await.report(),
            format!(
                "error: handler `embed` answered too much\n  \
                 caused by: what it hands over is larger than 16 MiB\n{BATCH}  \
                 help: nothing was confirmed; the batch is replayed after a fix. \
                 Raise `transforms.embed.limits.output` or fix the handler\n"
            ),
            "{word}"
        );
    }
}

#[tokio::test]
async fn exit_ends_the_call_not_the_host() {
    let Some(evil) = evil(|_| ()) else { return };
    let report = fail(&evil, "exit").await.report();
    assert!(report.starts_with("error: handler `embed` called `exit`\n  caused by: with status "), "{report}");
}

#[tokio::test]
async fn a_guest_may_ask_for_a_retry_or_a_stop() {
    let Some(evil) = evil(|_| ()) else { return };
    let retry = fail(&evil, "retry later\u{7}").await;
    assert_eq!(retry.fault(), Fault::Transient);
    let report = retry.report();
    assert!(
        report.starts_with("error: handler `embed` asks for a retry\n  caused by: it says: later\\u{7}\n"),
        "{report}"
    );

    let stop = fail(&evil, "stop for good").await;
    assert_eq!(stop.fault(), Fault::Handler);
    let report = stop.report();
    assert!(
        report.starts_with("error: handler `embed` stopped the pipeline\n  caused by: it says: for good\n"),
        "{report}"
    );

    assert_eq!(hear(&evil, "calls").await, "3", "a decision is no trap: the instance stays");
}

#[tokio::test]
async fn after_a_trap_the_next_call_has_a_new_instance() {
    let Some(evil) = evil(|settings| settings.limits.deadline = Span(Duration::from_millis(100))) else { return };
    for word in ["panic", "spin", "eat-memory", "recurse", "exit", "huge-text"] {
        assert_eq!(hear(&evil, "calls").await, "1", "before `{word}`");
        assert_eq!(hear(&evil, "calls").await, "2", "instances are kept");
        fail(&evil, word).await;
    }
    assert!(tell(&evil, "nothing").await.is_ok());
}
