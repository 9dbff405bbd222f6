//! The example handler `plugins/documents-rust`: as it is checked in, in the host, and against its source.

use std::sync::Arc;

use pgstream_host::command::{Action, Embedding};
use pgstream_host::event::{Batch, Operation, Value};
use pgstream_host::transform::{Output, Transform};

use crate::guests::{Change, Embedders, batch, guest, load, relation, root, script, settings};

const CHECKED_IN: &str = "plugins/documents-rust/documents.wasm";

fn documents(component: &std::path::Path) -> Transform {
    let mut settings = settings(component);
    settings.config.insert("chunk_chars".into(), "100".into());
    load(&settings, Embedders::new()).unwrap()
}

/// One event of each kind.
pub(crate) fn changes(long: &str) -> Arc<Batch> {
    let documents = relation(
        "documents",
        &[("id", "int8", true), ("title", "text", false), ("content", "text", false), ("made", "timestamptz", false)],
    );
    let made = Value::Timestamp(1_714_564_800_000_000);
    let row = |content| vec![Value::Int(7), Value::Text("Title"), content, made];
    let key = || vec![Value::Int(7), Value::Null, Value::Null, Value::Null];
    batch(&[
        Change::new(&documents, Operation::Insert, row(Value::Text(long))),
        Change::new(&documents, Operation::Update, row(Value::Unchanged)),
        Change::new(&documents, Operation::Update, row(Value::Null)),
        Change::new(&documents, Operation::Insert, row(Value::Unchanged)),
        Change::new(&documents, Operation::Delete, key()),
        Change::new(&documents, Operation::Truncate, vec![]),
    ])
}

async fn answer(component: &std::path::Path) -> Output {
    documents(component).apply(changes(&"word ".repeat(30))).await.unwrap()
}

#[tokio::test]
async fn the_checked_in_example_answers_each_kind_of_event() {
    let output = answer(&root().join(CHECKED_IN)).await;
    let actions: Vec<_> = output.commands.iter().map(|command| &command.action).collect();
    let [Action::Replace { group, points }, patch, gone, deleted, clear] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((group.as_str(), points.len()), ("7", 2));
    assert_eq!(points[0].id, "7#0");
    let words = "word ".repeat(19) + "word";
    assert_eq!(points[0].embeddings, [(String::new(), Embedding::Text(format!("Title\n\n{words}")))]);
    let rest = r#""id":7,"title":"Title","made":"2024-05-01T12:00:00Z""#;
    assert_eq!(points[0].payload, format!(r#"{{{rest},"content":"{words}","chunk":0}}"#));
    assert_eq!(**patch, Action::PatchGroup { group: "7".into(), payload: format!("{{{rest}}}") });
    assert_eq!(**gone, Action::DeleteGroup { group: "7".into() });
    assert_eq!(**deleted, Action::DeleteGroup { group: "7".into() });
    assert_eq!(**clear, Action::Clear);
    assert_eq!(output.rejections.len(), 1);
    assert_eq!(output.rejections[0].event, 3);
    assert!(output.rejections[0].reason.contains("`ALTER TABLE public.documents REPLICA IDENTITY FULL`"));
}

#[test]
fn the_checked_in_example_was_built_from_this_source() {
    let output = script().args(["--stamp", "documents-rust"]).output().unwrap();
    assert!(output.status.success(), "plugins/build.sh --stamp failed");
    let now = String::from_utf8(output.stdout).unwrap();
    let then = std::fs::read_to_string(root().join(format!("{CHECKED_IN}.built-from"))).unwrap();
    let changed: Vec<_> = now.lines().filter(|line| !then.lines().any(|known| known == *line)).collect();
    let gone: Vec<_> =
        then.lines().filter(|line| !line.ends_with(CHECKED_IN) && !now.lines().any(|known| known == *line)).collect();
    assert!(changed.is_empty() && gone.is_empty(), "run `make handlers`: {changed:#?} is new, {gone:#?} is no more");

    let built = std::fs::read(root().join(CHECKED_IN)).unwrap();
    let hash: String =
        <sha2::Sha256 as sha2::Digest>::digest(&built).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(then.contains(&format!("{hash}  {CHECKED_IN}\n")), "{CHECKED_IN} is not what `make handlers` built");
    assert!(built.len() < 300_000, "{} bytes", built.len());
}

#[tokio::test]
async fn a_rebuilt_example_behaves_as_the_checked_in_one() {
    let Some(rebuilt) = guest("documents-rust") else { return };
    assert_eq!(answer(&rebuilt).await, answer(&root().join(CHECKED_IN)).await);
}

#[test]
fn a_component_does_not_tell_where_it_was_built() {
    let home = std::env::var("HOME").unwrap();
    let here = root().to_str().unwrap();
    let built = ["documents-rust", "echo", "evil"].into_iter().filter_map(guest);
    for component in built.chain([root().join(CHECKED_IN)]) {
        let bytes = std::fs::read(&component).unwrap();
        for path in [here, home.as_str(), "/rustup/", "/.cargo/"] {
            let told = path.len() > 1 && bytes.windows(path.len()).any(|part| part == path.as_bytes());
            assert!(!told, "{} holds `{path}`", component.display());
        }
    }
}
