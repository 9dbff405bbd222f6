//! Answers that break the contract, one by one; and those that look odd but keep it.

use pgstream_host::command::{Action, Embedding};
use pgstream_host::error::Fault;
use pgstream_host::transform::Rejection;

use super::{evil, fail, tell};
use crate::guests::words;

#[tokio::test]
async fn every_breach_of_the_contract_is_named() {
    let Some(evil) = evil(|_| ()) else { return };
    for (word, cause) in [
        ("bad-index", "command 0 (`clear`): it answers event 7, the batch has 1"),
        ("bad-rejection", "rejection 0: it answers event 9, the batch has 1"),
        ("reject-twice", "rejection 1: the event is rejected twice"),
        ("answer-and-reject", "command 0 (`clear`): the same event is rejected"),
        ("empty-id", "command 0 (`delete`): the id is empty"),
        ("long-id", "command 0 (`delete`): the id has 1025 bytes, at most 1024 are allowed"),
        ("nul-id", "command 0 (`patch`): the id holds a NUL character"),
        ("empty-group", "command 0 (`replace`): the group is empty"),
        ("same-ids", "command 0 (`replace`): point 1 has the id of an earlier one"),
        ("payload [1]", "command 0 (`upsert`): the payload is JSON, but not an object"),
        ("payload \"secret\"", "command 0 (`upsert`): the payload is JSON, but not an object"),
        ("payload {\"a\":", "command 0 (`upsert`): the payload is JSON that breaks off"),
        ("payload ", "command 0 (`upsert`): the payload is JSON that breaks off"),
        ("payload {a}", "command 0 (`upsert`): the payload is not JSON from line 1 column 2 on"),
        ("payload {} {}", "command 0 (`upsert`): the payload is not JSON from line 1 column 4 on"),
        ("patch-payload null", "command 0 (`patch-group`): the payload is JSON, but not an object"),
        ("nan", "command 0 (`upsert`): the default vector has a number at place 1 that is not finite"),
        ("no-numbers", "command 0 (`upsert`): the default vector has no numbers"),
        ("no-text", "command 0 (`upsert`): vector `title` is to be made from empty text"),
        ("same-vector", "command 0 (`upsert`): vector `a` is given twice"),
        (
            "bad-vector-name",
            "command 0 (`upsert`): the name of a vector is longer than 63 bytes or has control characters",
        ),
        ("sparse-infinite", "command 0 (`upsert`): vector `s` has a number at place 0 that is not finite"),
        ("sparse-unsorted", "command 0 (`upsert`): vector `s` has indices that do not rise at place 1"),
        ("sparse-uneven", "command 0 (`upsert`): vector `s` has 1 indices and 2 values"),
    ] {
        let error = fail(&evil, word).await;
        assert_eq!(error.fault(), Fault::Handler, "{word}");
        let report = error.report();
        let start = "error: handler `embed` gave an answer that breaks the contract\n  caused by: ";
        let place = match word {
            "bad-index" | "bad-rejection" => "batch of 1 event at 0/16B3748#0, table `public.things`",
            _ => "event 0 of 1 at 0/16B3748#0, table `public.things`",
        };
        let help = "nothing was confirmed; the batch is replayed after a fix of the handler: ";
        let expected = format!("{start}{cause}\n  where: {place}\n  help: {help}");
        assert!(report.starts_with(&expected), "{word}:\n{report}\n{expected}");
        assert!(!report.contains("secret"), "a row's value stands in {report}");
    }
}

#[tokio::test]
async fn what_is_odd_but_allowed_passes() {
    let Some(evil) = evil(|_| ()) else { return };
    for payload in ["{}", " {\"a\": [1, -2.5e3, true, null, {\"\\u00e4\": \"\\ud83d\\ude00\"}]}\n"] {
        let output = tell(&evil, &format!("payload {payload}")).await.unwrap();
        let Action::Upsert(point) = &output.commands[0].action else { panic!("no upsert") };
        assert_eq!(point.payload, payload, "it is handed on as it is");
    }
    // A lone surrogate is in a column of type json as it was written.
    let output = tell(&evil, "payload {\"a\":[{\"\\ud800\":1e999}]}").await.unwrap();
    let Action::Upsert(point) = &output.commands[0].action else { panic!("no upsert") };
    assert_eq!(point.payload, "{\"a\":[{\"\\ud800\":1e999}]}");
    let output = tell(&evil, "nested-json").await.unwrap();
    let Action::Patch { payload, .. } = &output.commands[0].action else { panic!("no patch") };
    assert_eq!(payload.len(), 200_006, "a payload may be as deep as it likes: nothing is built of it");
    let output = tell(&evil, "sparse").await.unwrap();
    let Action::Upsert(point) = &output.commands[0].action else { panic!("no upsert") };
    let sparse = Embedding::Sparse { indices: vec![1, 5], values: vec![0.5, 0.25] };
    assert_eq!(point.embeddings, [("s".to_owned(), sparse)]);
}

#[tokio::test]
async fn a_rejection_carries_its_reason_on_one_line() {
    let Some(evil) = evil(|_| ()) else { return };
    let output = tell(&evil, "reject two\nlines\u{1b}").await.unwrap();
    assert_eq!(output.rejections, [Rejection { event: 0, reason: "two\\nlines\\u{1b}".into() }]);
    let output = tell(&evil, &format!("reject {}", "long ".repeat(1000))).await.unwrap();
    assert!(output.rejections[0].reason.len() < 1100);
}

#[tokio::test]
async fn commands_come_in_the_order_of_their_events() {
    let Some(evil) = evil(|_| ()) else { return };
    let output = evil.apply(words(&["backwards", "", ""])).await.unwrap();
    let ids: Vec<_> = output
        .commands
        .iter()
        .map(|command| match &command.action {
            Action::Delete { id } => (command.position.ordinal, id.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [(0, "0a"), (0, "0b"), (1, "1a"), (1, "1b"), (2, "2a"), (2, "2b")]);
}
