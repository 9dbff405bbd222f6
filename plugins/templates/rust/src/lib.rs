//! Keeps one point for each row: `content` is embedded, `title` goes into the payload.

use pgstream_handler::{Event, Operation, Out, Result, Value, handler, json, text};

handler!(on_event);

/// Called with each committed change of a row. An `Err` rejects that one change, with its message.
pub fn on_event(event: &Event, out: &mut Out) -> Result<()> {
    match event.operation() {
        Operation::Insert | Operation::Update => keep(event, out),
        Operation::Delete => out.delete(event.id()?),
        Operation::Truncate => out.clear(),
    }
}

fn keep(event: &Event, out: &mut Out) -> Result<()> {
    let id = event.id()?;
    let payload = json!({ "title": event.row().value("title")? });
    match event.row().value("content")? {
        Value::Null => out.delete(id),
        // Not null: Postgres did not send a large text that the UPDATE left alone. Its vector stays.
        Value::Unchanged => out.patch(id, payload),
        _ => out.upsert(id, text(event.text("content")?), payload), // the host embeds the text
    }
}

#[cfg(test)]
mod tests {
    use pgstream_handler::testing::{Harness, Table};
    use pgstream_handler::{Action, Value, row};

    use super::on_event;

    #[test]
    fn an_unchanged_content_keeps_its_vector() {
        let documents = Table::new("public", "documents")
            .key("id", "int8")
            .column("title", "text")
            .column("content", "text");
        let update = documents.update(row![7, "New", Value::Unchanged]);
        let output = Harness::new(on_event).run([update]).unwrap();
        assert_eq!(output.commands[0].action, Action::Patch(("7".into(), r#"{"title":"New"}"#.into())));
    }
}
