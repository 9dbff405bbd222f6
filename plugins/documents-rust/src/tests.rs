//! What becomes of each kind of event.

use pgstream_handler::testing::{Harness, Table};
use pgstream_handler::{Action, Embedding, Failure, Output, Value, row};

use super::on_event;

fn documents() -> Table {
    Table::new("public", "documents")
        .key("id", "int8")
        .column("title", "text")
        .column("content", "text")
        .column("year", "int4")
}

fn actions(output: Output) -> Vec<Action> {
    assert_eq!(output.rejections, []);
    output.commands.into_iter().map(|command| command.action).collect()
}

#[test]
fn a_row_becomes_a_group_of_chunks_with_the_other_columns() {
    let content = "word ".repeat(30);
    let insert = documents().insert(row![7, "Title", content.as_str(), 2026]);
    let output = Harness::new(on_event).config("chunk_chars", "100").run([insert]).unwrap();
    let [Action::Replace((group, points))] = &actions(output)[..] else { panic!("no replace") };
    assert_eq!(group, "7");
    assert_eq!(points.iter().map(|point| point.id.as_str()).collect::<Vec<_>>(), ["7#0", "7#1"]);
    let (name, Embedding::Text(embedded)) = &points[1].embeddings[0] else { panic!("no text") };
    assert_eq!(name, "");
    assert!(embedded.starts_with("Title\n\nword"));
    assert_eq!(
        points[1].payload,
        format!(
            r#"{{"id":7,"title":"Title","year":2026,"content":"{}","chunk":1}}"#,
            embedded.trim_start_matches("Title\n\n")
        )
    );
}

#[test]
fn an_unchanged_text_keeps_its_vectors() {
    let update = documents().update(row![7, "New", Value::Unchanged, 2027]);
    let output = Harness::new(on_event).run([update]).unwrap();
    let patch = Action::PatchGroup(("7".into(), r#"{"id":7,"title":"New","year":2027}"#.into()));
    assert_eq!(actions(output), [patch]);
}

#[test]
fn a_text_that_is_gone_takes_its_points_along() {
    let documents = documents();
    let changes =
        [documents.update(row![7, "Title", (), 2026]), documents.delete(row![8, (), (), ()]), documents.truncate()];
    let output = Harness::new(on_event).run(changes).unwrap();
    assert_eq!(actions(output), [Action::DeleteGroup("7".into()), Action::DeleteGroup("8".into()), Action::Clear]);
}

#[test]
fn an_empty_text_leaves_an_empty_group() {
    let output = Harness::new(on_event).run([documents().update(row![7, "Title", " ", 2026])]).unwrap();
    assert_eq!(actions(output), [Action::Replace(("7".into(), Vec::new()))]);
}

#[test]
fn a_changed_key_whose_text_was_not_sent_is_rejected_with_the_fix() {
    let output = Harness::new(on_event).run([documents().insert(row![9, "Title", Value::Unchanged, 2026])]).unwrap();
    assert_eq!(output.commands, []);
    assert_eq!(
        output.rejections[0].reason,
        "Postgres did not send `content`, which is too large to be logged with each change: \
         set `toast: reread` in the pipeline's source, then update the row again. \
         `ALTER TABLE public.documents REPLICA IDENTITY FULL` does as well, but logs each old row whole, and Postgres \
         refuses writes where a partition lacks it or a generated column is not published"
    );
}

#[test]
fn a_table_without_the_text_column_stops_the_pipeline() {
    let failure = Harness::new(on_event).config("text_column", "body").run([documents().insert(row![1, "a", "b", 1])]);
    let said = "`public.documents` has no column `body`: set `config.text_column` to one of id, title, content, year";
    assert_eq!(failure, Err(Failure::Stop(said.into())));
}

#[test]
fn nonsense_in_the_configuration_stops_the_pipeline() {
    let failure = Harness::new(on_event).config("chunk_chars", "many").run([documents().truncate()]);
    assert_eq!(failure, Err(Failure::Stop("config `chunk_chars` is `many`, it must be a number from 50 on".into())));
}

#[test]
fn rows_of_several_tables_have_groups_of_their_own() {
    let documents = documents();
    let changes = [
        documents.insert(row![7, "Title", "text", 2026]),
        documents.update(row![7, "New", Value::Unchanged, 2027]),
        documents.delete(row![7, (), (), ()]),
    ];
    let output = Harness::new(on_event).several_tables("public", "documents").run(changes).unwrap();
    let [Action::Replace((group, points)), Action::PatchGroup((patched, _)), Action::DeleteGroup(deleted)] =
        &actions(output)[..]
    else {
        panic!("other actions")
    };
    assert_eq!([group, patched, deleted], ["public.documents:7"; 3]);
    assert_eq!(points[0].id, "public.documents:7#0");
}

#[test]
fn json_of_the_row_stands_in_the_payload_as_postgres_wrote_it() {
    let meta = r#"{"big":123456789012345678901234567890,"e":1e309,"half":"\ud800"}"#;
    let table = Table::new("public", "documents").key("id", "int8").column("content", "text").column("meta", "jsonb");
    let insert = table.insert(row![7, "text", Value::Json(meta.into())]);
    let output = Harness::new(on_event).run([insert]).unwrap();
    let [Action::Replace((_, points))] = &actions(output)[..] else { panic!("no replace") };
    assert_eq!(points[0].payload, format!(r#"{{"id":7,"meta":{meta},"content":"text","chunk":0}}"#));
}
