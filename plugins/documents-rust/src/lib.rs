//! Keeps the chunks of documents searchable: each row becomes a group of points, one for each piece of its text.
//!
//! | `config` | default | meaning |
//! |---|---|---|
//! | `text_column` | `content` | the text that is cut into chunks |
//! | `title_column` | `title` | put before each chunk when it is embedded, if the table has it; empty for none |
//! | `chunk_chars` | `1000` | characters of a chunk, at least 50 |
//!
//! The payload of a point is the row, with the chunk in place of the text, and the chunk's number as `chunk`. The
//! group is named after the row's key; where the pipeline has several tables, after table and key, so that rows with
//! equal keys do not meet.
//!
//! An UPDATE that leaves a large text alone only patches the payloads, and so pays for no embedding. If it changes the
//! title, the vectors follow with the text's next change; with `toast: reread` in the source they follow at once.

use std::rc::Rc;

use pgstream_handler::{Error, Event, Operation, Out, Point, Result, Value, chunks, config, handler, text};

handler!(on_event);

/// Makes of an event what the sink has to do.
pub fn on_event(event: &Event, out: &mut Out) -> Result<()> {
    let settings = Settings::read()?;
    match event.operation() {
        Operation::Insert | Operation::Update => keep(event, &settings, out),
        Operation::Delete => out.delete_group(event.id()?),
        Operation::Truncate => out.clear(),
    }
}

fn keep(event: &Event, settings: &Settings, out: &mut Out) -> Result<()> {
    let column = &*settings.text_column;
    let id = event.id()?;
    let Some(value) = event.row().get(column) else { return Err(settings.no_text_column(event)) };
    let mut payload = event.row().payload()?;
    payload.remove(column);

    match value {
        Value::Null => return out.delete_group(id),
        // The host makes an insert of an UPDATE that changes the key: the old group is gone, and so is the text.
        Value::Unchanged if event.operation() == Operation::Insert => return Err(not_sent(event, column)),
        Value::Unchanged => return out.patch_group(id, payload),
        _ => {}
    }
    let title = settings.title(event)?;
    let mut points = Vec::new();
    for (number, chunk) in chunks(event.text(column)?, settings.chunk_chars).into_iter().enumerate() {
        let embedded = if title.is_empty() { chunk.to_owned() } else { format!("{title}\n\n{chunk}") };
        payload.insert(column, chunk)?;
        payload.insert("chunk", number)?;
        points.push(Point::new(format!("{id}#{number}"), text(embedded), &payload)?);
    }
    out.replace(id, points)
}

struct Settings {
    text_column: Rc<str>,
    title_column: Rc<str>,
    chunk_chars: usize,
}

impl Settings {
    fn read() -> Result<Self> {
        let chunk_chars = match config("chunk_chars") {
            None => 1000,
            Some(text) => match text.parse() {
                Ok(chars) if chars >= 50 => chars,
                _ => {
                    return Err(Error::stop(format!(
                        "config `chunk_chars` is `{text}`, it must be a number from 50 on"
                    )));
                }
            },
        };
        Ok(Self {
            text_column: config("text_column").unwrap_or_else(|| "content".into()),
            title_column: config("title_column").unwrap_or_else(|| "title".into()),
            chunk_chars,
        })
    }

    fn title<'a>(&self, event: &Event<'a>) -> Result<&'a str> {
        match event.row().get(&self.title_column) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::Unchanged) => Err(not_sent(event, &self.title_column)),
            Some(_) => event.text(&self.title_column),
        }
    }

    fn no_text_column(&self, event: &Event) -> Error {
        let names: Vec<&str> = event.columns().iter().map(|column| column.name.as_str()).collect();
        let (schema, table, column) = (event.schema(), event.table(), &self.text_column);
        Error::stop(format!(
            "`{schema}.{table}` has no column `{column}`: set `config.text_column` to one of {}",
            names.join(", ")
        ))
    }
}

fn not_sent(event: &Event, column: &str) -> Error {
    let (schema, table) = (event.schema(), event.table());
    Error::reject(format!(
        "Postgres did not send `{column}`, which is too large to be logged with each change: set `toast: reread` in \
         the pipeline's source, then update the row again. `ALTER TABLE {schema}.{table} REPLICA IDENTITY FULL` does as \
         well, but logs each old row whole, and Postgres refuses writes where a partition lacks it or a generated \
         column is not published"
    ))
}

#[cfg(test)]
mod tests;
