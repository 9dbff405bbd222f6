//! Answers that break the contract, one by one; and those that look odd but keep it.

use pgstream_host::command::{Action, Embedding};
use pgstream_host::error::Fault;
use pgstream_host::transform::Rejection;
use serde_json::Value as Json;

use super::{evil, fail, tell};
use crate::guests::{root, words};

/// The breaches that every SDK refuses, too.
fn table() -> Json {
    serde_json::from_str(&std::fs::read_to_string(root().join("plugins/sdk/breaches.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn every_breach_of_the_contract_is_named() {
    let Some(evil) = evil(|_| ()) else { return };
    let table = table();
    let cases = table["breaches"].as_array().unwrap();
    assert!(cases.len() > 35, "{} cases", cases.len());
    for case in cases {
        let name = &case["name"];
        let error = fail(&evil, &format!("answer {}", case["answer"])).await;
        assert_eq!(error.fault(), Fault::Handler, "{name}");
        let report = error.report();
        assert!(report.starts_with("error: handler `embed` gave an answer that breaks the contract\n"), "{report}");
        let (what, help) = (case["what"].as_str().unwrap(), case["do"].as_str().unwrap());
        let place = match what.starts_with("it answers event") {
            true => "batch of 1 event at 0/16B3748#0, table `public.things`",
            false => "event 0 of 1 at 0/16B3748#0, table `public.things`",
        };
        let replayed = "nothing was confirmed; the batch is replayed after a fix of the handler";
        let expected = format!(": {what}\n  where: {place}\n  help: {replayed}: {help}");
        assert!(report.contains(&expected), "{name}:\n{report}\n{expected}");
        assert!(!report.contains("secret"), "a row's value stands in {report}");
    }
}

#[tokio::test]
async fn a_breach_is_told_with_the_command_that_it_is_in() {
    let Some(evil) = evil(|_| ()) else { return };
    for (answer, cause) in [
        (r#"[{"delete": "a"}, {"delete": ""}]"#, "command 1 (`delete`): the id is empty"),
        (r#"[{"delete": "a"}, {"event": 9, "reject": "no"}]"#, "rejection 0: it answers event 9, the batch has 1"),
        (r#"[{"patch_group": {"group": "", "payload": {}}}]"#, "command 0 (`patch-group`): the group is empty"),
    ] {
        let report = fail(&evil, &format!("answer {answer}")).await.report();
        assert!(report.contains(&format!("caused by: {cause}\n")), "{report}");
    }
}

#[tokio::test]
async fn what_every_sdk_allows_passes() {
    let Some(evil) = evil(|_| ()) else { return };
    for case in table()["allowed"].as_array().unwrap() {
        let output = tell(&evil, &format!("answer {}", case["answer"])).await;
        let output = output.unwrap_or_else(|error| panic!("{}: {}", case["name"], error.report()));
        let counts = (output.commands.len() as u64, output.rejections.len() as u64);
        let expected = (case["commands"].as_u64().unwrap(), case["rejections"].as_u64().unwrap_or(0));
        assert_eq!(counts, expected, "{}", case["name"]);
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
    let output = tell(&evil, "reject").await.unwrap();
    assert_eq!(output.rejections[0].reason, "the handler gave no reason");
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
