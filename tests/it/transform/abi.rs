//! Handlers written by hand against the canonical ABI, wrong in every place where a component hands control or memory to
//! the host: each ends as an error of that call.

use std::path::Path;
use std::time::Duration;

use pgstream_host::config::Span;
use pgstream_host::error::{Code, Error, Fault, Result};
use pgstream_host::transform::{Engine, Output, Transform};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::soon;
use crate::guests::{Embedders, engine, root, settings, words};

/// A handler whose parts are WebAssembly text. As it stands it answers nothing.
#[derive(Clone)]
pub(super) struct Hand {
    /// Imports of the module.
    pub(super) imports: &'static str,
    /// Body of `cabi_realloc(old, old_size, align, size)`.
    pub(super) realloc: &'static str,
    /// Body of `handle`, which answers where its result lies.
    pub(super) handle: &'static str,
    /// Body of what is called once the host has read the result.
    pub(super) post_return: &'static str,
    /// Body of what runs when the instance is made.
    pub(super) start: &'static str,
    /// Data at 1024: the result.
    pub(super) result: &'static str,
    /// More fields of the module.
    pub(super) more: &'static str,
    /// How it wants texts.
    pub(super) encoding: StringEncoding,
}

impl Default for Hand {
    fn default() -> Self {
        Self {
            imports: "",
            realloc: "(local $at i32)
                (local.set $at (i32.and
                    (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
                    (i32.sub (i32.const 0) (local.get 2))))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at)",
            handle: "(i32.const 1024)",
            post_return: "",
            start: "",
            result: "",
            more: "",
            encoding: StringEncoding::UTF8,
        }
    }
}

impl Hand {
    /// The component.
    pub(super) fn component(&self) -> Vec<u8> {
        let Self { imports, realloc, handle, post_return, start, result, more, encoding } = self;
        let module = format!(
            "(module
                {imports}
                (memory (export \"memory\") 4)
                (global $next (mut i32) (i32.const 65536))
                (data (i32.const 1024) \"{result}\")
                (data (i32.const 4096) \"\\ff\\fe\\fdx\")
                (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export \"handle\") (param i32 i32 i32 i32) (result i32) {handle})
                (func (export \"cabi_post_handle\") (param i32) {post_return})
                (func $start {start})
                (start $start)
                {more})"
        );
        let mut module = wat::parse_str(module).unwrap();
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(root().join("wit")).unwrap();
        let world = resolve.select_world(&[package], Some("handler")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, *encoding).unwrap();
        ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
    }

    /// Loaded, with 100 ms for a call.
    pub(super) fn load(&self) -> Result<Transform> {
        self.load_into(engine(), 1)
    }

    pub(super) fn load_into(&self, engine: &Engine, workers: usize) -> Result<Transform> {
        load(engine, &self.component(), workers)
    }

    async fn call(&self) -> Result<Output> {
        soon(self.load().unwrap().apply(words(&["a word"]))).await
    }

    async fn fail(&self) -> Error {
        self.call().await.expect_err("it succeeded")
    }
}

pub(super) fn load(engine: &Engine, component: &[u8], workers: usize) -> Result<Transform> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), component).unwrap();
    let mut settings = settings(Path::new(file.path()));
    settings.limits.deadline = Span(Duration::from_millis(100));
    settings.workers = workers;
    Transform::load(&pgstream_host::transform::Tenant::lone(engine), engine, "embed", &settings, Embedders::new())
}

const LOOP: &str = "(loop (br 0)) (unreachable)";

#[tokio::test]
async fn a_handler_written_by_hand_works() {
    assert_eq!(Hand::default().call().await.unwrap(), Output::default());
}

#[tokio::test]
async fn texts_arrive_in_the_encoding_that_the_handler_wants() {
    // The second value of the first row must begin with `a` and a space, two bytes each.
    let handle = "(if (i32.ne (i32.load (i32.load offset=24 (i32.load offset=8 (local.get 2)))) (i32.const 0x00200061))
            (then (unreachable)))
        (i32.const 1024)";
    let utf16 = Hand { handle, encoding: StringEncoding::UTF16, ..Hand::default() };
    assert_eq!(utf16.call().await.unwrap(), Output::default());
    let utf8 = Hand { handle, ..Hand::default() };
    assert_eq!(utf8.fail().await.misdeed(), Some(Code::Trap));
}

#[tokio::test]
async fn endless_loops_end_wherever_the_host_calls_in() {
    for (place, hand) in [
        ("handle", Hand { handle: LOOP, ..Hand::default() }),
        ("cabi_realloc", Hand { realloc: LOOP, ..Hand::default() }),
        ("post-return", Hand { post_return: LOOP, ..Hand::default() }),
        (
            "bulk copies",
            Hand {
                handle: "(loop (memory.copy (i32.const 0) (i32.const 131072) (i32.const 131072)) (br 0)) (unreachable)",
                ..Hand::default()
            },
        ),
    ] {
        let error = hand.fail().await;
        assert_eq!(error.misdeed(), Some(Code::Deadline), "{place}: {error:?}");
    }
    let error = Hand { start: LOOP, ..Hand::default() }.load().err().unwrap();
    assert_eq!((error.fault(), error.misdeed()), (Fault::Handler, None), "no event is to blame");
    let expected = "error: handler `embed` did not start\n  caused by: handler `embed` exceeded its deadline\n";
    assert!(error.report().starts_with(expected), "{error:?}");
}

#[tokio::test]
async fn pointers_that_lie_are_refused() {
    for (cause, hand) in [
        ("realloc return: result not aligned", Hand { realloc: "(i32.const 65537)", ..Hand::default() }),
        ("realloc return: beyond end of memory", Hand { realloc: "(i32.const -65536)", ..Hand::default() }),
        ("pointer not aligned", Hand { handle: "(i32.const 1025)", ..Hand::default() }),
        ("pointer out of bounds of memory", Hand { handle: "(i32.const -64)", ..Hand::default() }),
        ("invalid expected discriminant", Hand { result: "\\07", ..Hand::default() }),
        // ok: commands at 1056 with impossible lengths
        (
            "list pointer/length out of bounds",
            Hand { result: "\\00\\00\\00\\00\\20\\04\\00\\00\\ff\\ff\\ff\\ff", ..Hand::default() },
        ),
        (
            "list pointer/length out of bounds",
            Hand { result: "\\00\\00\\00\\00\\20\\04\\00\\00\\ff\\ff\\ff\\07", ..Hand::default() },
        ),
        (
            "list pointer is not aligned",
            Hand { result: "\\00\\00\\00\\00\\21\\04\\00\\00\\01\\00\\00\\00", ..Hand::default() },
        ),
        // ok: one command at 1024 + 32, for event 0, with an action that there is not
        (
            "discriminant",
            Hand {
                result: "\\00\\00\\00\\00\\20\\04\\00\\00\\01\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\
                         \\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\
                         \\00\\00\\00\\00\\63",
                ..Hand::default()
            },
        ),
        // the same with `delete` of three bytes at 4096 that are no text, then of text beyond all memory
        (
            "utf-8",
            Hand {
                result: "\\00\\00\\00\\00\\20\\04\\00\\00\\01\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\
                         \\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\
                         \\00\\00\\00\\00\\04\\00\\00\\00\\00\\10\\00\\00\\03\\00\\00\\00",
                ..Hand::default()
            },
        ),
        (
            "out of bounds",
            Hand {
                result: "\\00\\00\\00\\00\\20\\04\\00\\00\\01\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\
                         \\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\
                         \\00\\00\\00\\00\\04\\00\\00\\00\\00\\10\\00\\00\\ff\\ff\\ff\\ff",
                ..Hand::default()
            },
        ),
    ] {
        let error = hand.fail().await;
        let report = error.report();
        assert!(report.starts_with("error: handler `embed` could not be called\n  caused by: "), "{cause}: {report}");
        assert!(report.contains(cause), "{cause}: {report}");
        assert_eq!((error.fault(), error.misdeed()), (Fault::Handler, Some(Code::Contract)));
    }
}

#[tokio::test]
async fn memory_that_overlaps_only_hurts_the_guest() {
    // Every list and every text of the batch is put at the same place.
    let hand = Hand { realloc: "(i32.const 65536)", ..Hand::default() };
    assert_eq!(hand.call().await.unwrap(), Output::default());
}

#[tokio::test]
async fn traps_in_odd_places_are_traps() {
    for hand in [
        Hand { realloc: "(unreachable)", ..Hand::default() },
        Hand { post_return: "(unreachable)", ..Hand::default() },
        Hand { handle: "(call $deep) (i32.const 1024)", more: "(func $deep (call $deep))", ..Hand::default() },
        Hand { handle: "(i32.div_u (i32.const 1) (i32.const 0))", ..Hand::default() },
        Hand { handle: "(i32.load (i32.const -4))", ..Hand::default() },
    ] {
        let error = hand.fail().await;
        assert_eq!(error.misdeed(), Some(Code::Trap), "{error:?}");
    }
    let error = Hand { start: "(unreachable)", ..Hand::default() }.load().err().unwrap();
    assert!(error.report().starts_with("error: handler `embed` did not start\n"), "{error:?}");
}

#[tokio::test]
async fn a_guest_that_calls_back_while_it_is_written_into_is_stopped() {
    const LOG: &str = r#"(import "pgstream:host/log@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
    let call = "(call $log (i32.const 0) (i32.const 1024) (i32.const 0))";
    let hand = Hand { imports: LOG, ..Hand::default() };
    for hand in [
        Hand { realloc: "(call $log (i32.const 0) (i32.const 1024) (i32.const 0)) (i32.const 65536)", ..hand.clone() },
        Hand { post_return: call, ..hand.clone() },
    ] {
        let error = hand.fail().await;
        assert_eq!(error.misdeed(), Some(Code::Trap), "{error:?}");
        assert!(error.report().contains("cannot leave component instance"), "{error:?}");
    }
    // Where it may, it does.
    let hand = Hand { handle: "(call $log (i32.const 0) (i32.const 1024) (i32.const 0)) (i32.const 1024)", ..hand };
    assert_eq!(hand.call().await.unwrap(), Output::default());
}

#[tokio::test]
async fn memory_that_grows_or_is_written_while_the_batch_is_handed_over_is_the_guests_own_loss() {
    // Each list lies where memory ended a moment ago, and what was written before is overwritten at once.
    let realloc = "(memory.fill (i32.const 65536) (i32.const 255) (i32.const 4096))
        (if (i32.lt_u (memory.size) (i32.const 60)) (then (drop (memory.grow (i32.const 1)))))
        (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536))";
    assert_eq!(Hand { realloc, ..Hand::default() }.call().await.unwrap(), Output::default());
}

#[tokio::test]
async fn giving_up_while_the_batch_is_handed_over_frees_the_thread() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), Hand { realloc: LOOP, ..Hand::default() }.component()).unwrap();
    let mut settings = settings(file.path());
    settings.limits.deadline = Span(Duration::from_secs(3600));
    let hand = Transform::load(
        &pgstream_host::transform::Tenant::lone(engine()),
        engine(),
        "embed",
        &settings,
        Embedders::new(),
    )
    .unwrap();
    for _ in 0..3 {
        let call = hand.apply(words(&["a word"]));
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err(), "it ended by itself");
    }
    // Ends an hour early, or this thread never would.
    drop(hand);
}
