//! `pgstream-host test`: what it runs, what it shows when answers differ, and how it refuses files that are wrong.

use std::process::Output;

use serde_json::Value as Json;

use crate::support::program::{Folder, pgstream, root};

/// A project `h` with the documents handler and one test file.
fn project(tests: &str) -> Folder {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("h/tests")).unwrap();
    std::fs::copy(root().join("plugins/documents-rust/documents.wasm"), folder.path("h/h.wasm")).unwrap();
    folder.write("h/tests/cases.yaml", tests);
    folder
}

fn test(folder: &Folder, arguments: &[&str]) -> (Output, String) {
    let output = pgstream(["test"]).arg(folder.path("h")).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap() + &String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

const TABLE: &str =
    "table: { name: public.documents, key: [id], columns: { id: int8, title: text, content: text, year: int4 } }\n";

const GOOD: &str = r##"cases:
  - name: the life of a row
    events:
      - insert: { id: 1, title: Tents, content: Dry it, year: 2026 }
      - update: { id: 1, title: New, content: { unchanged: true }, year: null }
      - insert: { id: 2, content: { unchanged: true } }
      - delete: { id: 1 }
      - truncate:
    expect:
      - replace:
          group: 1
          points:
            - id: "1#0"
              embeddings: { "": "Tents\n\nDry it" }
              payload: { title: Tents, id: 1, year: 2026.0, content: Dry it, chunk: 0 }
      - patch_group: { group: "1", payload: { id: 1, title: New, year: null } }
      - rejected: REPLICA IDENTITY FULL
      - delete_group: "1"
      - clear
  - name: a mistake in the configuration stops
    config: { chunk_chars: many }
    events: [{ truncate: }]
    expect: [{ stop: config `chunk_chars` is `many` }]
"##;

#[test]
fn answers_as_expected_are_exit_code_0() {
    let folder = project(&format!("{TABLE}{GOOD}"));
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("ok     the life of a row") && said.contains("2 passed"), "{said}");
    assert!(!said.contains('\u{1b}'), "no colour without a terminal");
    let (output, _) = test(&folder, &["--json"]);
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["ok"].as_bool(), json["passed"].as_u64()), (Some(true), Some(2)));
}

#[test]
fn other_answers_are_exit_code_1_with_a_difference_that_shows_only_what_differs() {
    let changed = GOOD.replace("title: New,", "title: Old,").replace("delete_group: \"1\"", "delete_group: \"7\"");
    let changed = changed.replacen("title: Old,", "title: New,", 1);
    let folder = project(&format!("{TABLE}{changed}"));
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED the life of a row (line 3)"), "{said}");
    for line in
        ["-       title: \"Old\"", "+       title: \"New\"", "- - delete_group: \"7\"", "+ - delete_group: \"1\""]
    {
        assert!(said.contains(line), "`{line}` is missing in\n{said}");
    }
    assert!(!said.contains("- clear") || !said.contains("+ - clear"), "what is the same is not marked:\n{said}");
    assert!(said.contains("1 passed, 1 failed"), "{said}");
    let (output, _) = test(&folder, &["--filter", "configuration"]);
    assert_eq!(output.status.code(), Some(0), "only the case that passes");
    let (output, _) = test(&folder, &["--json"]);
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["files"][0]["cases"][0]["came"][3]["delete_group"], "1");
    assert_eq!(output.status.code(), Some(1));
}

/// Each of these expectations is wrong in one point only, and must be noticed.
#[test]
fn nothing_that_is_compared_passes_by_mistake() {
    for (right, wrong) in [
        ("year: 2026.0", "year: 2026.5"),
        ("id: 1, year: 2026.0", "year: 2026.0"),
        ("chunk: 0", "chunk: 0, more: 1"),
        ("id: \"1#0\"", "id: \"1#1\""),
        ("Tents\\n\\nDry it", "Tents\\nDry it"),
        ("group: 1", "group: 2"),
        ("FULL", "EMPTY"),
        ("      - clear\n", ""),
        ("      - clear\n", "      - clear\n      - clear\n"),
        ("is `many`", "is `few`"),
        ("year: null } }\n      - rejected", "year: 0 } }\n      - rejected"),
    ] {
        assert!(GOOD.contains(right), "{right}");
        let folder = project(&format!("{TABLE}{}", GOOD.replace(right, wrong)));
        let (output, said) = test(&folder, &[]);
        assert_eq!(output.status.code(), Some(1), "{wrong}: {said}");
    }
}

#[test]
fn mistakes_in_a_test_file_are_exit_code_2_all_with_their_lines() {
    let folder = project(&format!(
        "{TABLE}{}",
        r#"cases:
  - name: a
    events:
      - insert: { id: one }
      - insert: { id: 1, titel: x }
      - update: { id: 1, title: a }
      - inset: { id: 1 }
    expcet: []
  - name: a
    events: [{ truncate: }]
    expect: [{ upsret: {} }, { upsert: { ids: 1 } }]
"#
    ));
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for text in [
        "cases.yaml:5:23",
        "the column is `int8`: expected a whole number, found text",
        "cases.yaml:6:26",
        "`public.documents` has no column `titel`, it has `id`, `title`, `content`, `year`",
        "cases.yaml:7:9",
        "the update does not say what becomes of column `content`",
        "cases.yaml:8:9",
        "an event is one of `insert`, `update`, `delete`, `truncate`",
        "unknown field `expcet`",
        "did you mean `expect`?",
        "cases.yaml:12:16",
        "expected one of `upsert`, `patch`",
        "unknown field `ids`, expected one of `id`, `embeddings`, `payload`",
    ] {
        assert!(said.contains(text), "`{text}` is missing in\n{said}");
    }
}

#[test]
fn where_there_is_nothing_to_test_an_example_is_shown_that_works() {
    let folder = project("");
    std::fs::remove_file(folder.path("h/tests/cases.yaml")).unwrap();
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("holds no test"), "{said}");
    let example: String = said
        .lines()
        .skip_while(|line| !line.contains("tests/first.yaml"))
        .skip(1)
        .take_while(|line| !line.contains("or let `"))
        .map(|line| format!("{}\n", line.strip_prefix("          ").unwrap()))
        .collect();
    folder.write("h/tests/first.yaml", &example.replace("upsert: { id: \"1\", payload", "replace: { group: \"1\" } #"));
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(0), "{said}\n{example}");
}

#[test]
fn a_component_that_is_not_there_is_exit_code_2_with_the_command_that_builds_it() {
    let folder = project(&format!("{TABLE}{GOOD}"));
    std::fs::remove_file(folder.path("h/h.wasm")).unwrap();
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no component at") && said.contains("pgstream-host build"), "{said}");
    let documents = root().join("plugins/documents-rust/documents.wasm");
    let (output, said) = test(&folder, &["--component", documents.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn bless_writes_what_came_and_leaves_the_rest_alone() {
    let before = format!(
        "# a comment\n{TABLE}{}",
        r#"cases:
  - name: first
    events:
      - delete: { id: 1 } # one
    expect:
      - delete: "wrong"

  - name: second
    events: [{ insert: { id: 2, title: "a: #1", content: "x\ny" } }]
  # the last
  - name: third
    expect: []
    events: [{ truncate: }]
"#
    );
    let folder = project(&before);
    let (output, said) = test(&folder, &["--bless"]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let (output, said) = test(&folder, &[]);
    let after = std::fs::read_to_string(folder.path("h/tests/cases.yaml")).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}\n{after}");
    for kept in ["# a comment\n", "- delete: { id: 1 } # one\n", "\n\n  - name: second\n", "  # the last\n"] {
        assert!(after.contains(kept), "`{kept}` is gone from\n{after}");
    }
    assert!(!after.contains("wrong"), "{after}");
}

#[test]
fn recorded_events_and_rejected_ones_can_be_tested() {
    let line = r#"{"operation":"delete","schema":"public","table":"documents","key":["id"],"types":{"id":"int8","content":"text"},"row":{"id":ID,"content":null},"old_row":null,"commit_time":0,"xid":4294967295,"lsn":"0/16B3748","ordinal":ID}"#;
    let folder = project(
        "cases:\n  - name: recorded\n    events: events.jsonl\n    batch: 1\n    expect: [{ delete_group: \"8\" }, { delete_group: \"9\" }]\n",
    );
    let rejected = format!(
        "{{\"position\":\"0/1#0\",\"transform\":\"t\",\"reason\":\"r\",\"event\":{}}}",
        line.replace("ID", "9")
    );
    folder.write("h/tests/events.jsonl", &format!("{}\n\n{rejected}\n", line.replace("ID", "8")));
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    folder.write("h/tests/events.jsonl", &format!("{}\n{{\"operation\":\"delete\"}}\n", line.replace("ID", "8")));
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("events.jsonl:2: `table`: the event names no table"), "{said}");
}

#[test]
fn letters_may_stand_twice_and_in_any_order_as_a_sink_writes_them() {
    let line = r#"{"operation":"delete","schema":"public","table":"documents","key":["id"],"types":{"id":"int8","content":"text"},"row":{"id":ID,"content":null},"old_row":null,"commit_time":0,"xid":1,"lsn":"0/16B3748","ordinal":ID}"#;
    let letter = |id: &str| format!("{{\"at\":1,\"reason\":\"r\",\"event\":{}}}\n", line.replace("ID", id));
    let folder = project(
        "cases:\n  - name: recorded\n    events: events.jsonl\n    expect: [{ delete_group: \"7\" }, { delete_group: \"8\" }, { delete_group: \"9\" }]\n",
    );
    folder.write("h/tests/events.jsonl", &[letter("8"), letter("9"), letter("7"), letter("9")].concat());
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let events = [letter("8"), line.replace("ID", "8") + "\n"].concat();
    folder.write("h/tests/events.jsonl", &events);
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(2), "only letters may: {said}");
}

#[test]
fn vectors_are_compared_with_some_tolerance_where_they_are_asked_for() {
    let cases = |second: &str| {
        format!(
            "embedders: {{ default: {{ type: hash, dimension: 2 }} }}\nvectors: true\n{TABLE}{}",
            r#"cases:
  - name: numbers
    events: [{ insert: { id: 1, content: "!" } }]
    expect: [{ replace: { group: 1, points: [{ id: "1#0", embeddings: { "": [1.00001, SECOND] } }] } }]
"#
            .replace("SECOND", second)
        )
    };
    let (output, said) = test(&project(&cases("0")), &[]);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let (output, said) = test(&project(&cases("0.01")), &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
}

/// The page's first example is for a handler as `new` writes it; here it only has to be understood.
#[test]
fn the_page_s_examples_are_what_the_command_reads() {
    let page = std::fs::read_to_string(root().join("docs/testing-handlers.md")).unwrap();
    let block = |start: &str| page.split(start).nth(1).unwrap().split("```").next().unwrap();
    let folder = project(block("```yaml\n"));
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED a row becomes a point") && said.contains("0 passed, 3 failed"), "{said}");
    assert!(said.contains("(line 18)") || said.contains("(line 17)"), "{said}");
    let event = block("```json\n").replace('\n', "");
    folder.write("h/tests/events.jsonl", &event);
    folder.write("h/tests/cases.yaml", "cases: [{ name: one, events: events.jsonl, expect: [{ rejected: x }] }]\n");
    let (output, said) = test(&folder, &[]);
    assert_eq!(output.status.code(), Some(1), "{said}");
}
