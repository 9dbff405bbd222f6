//! `pgstream-host tap`: the events of a live pipeline, shown or recorded as they commit.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::pipeline::PipelineFile;
use super::signals;
use crate::config::qualified;
use crate::error::{Error, Fault, Result};
use crate::event::{Batch, Event, Operation, Row, Value, json};
use crate::printable::shown;
use crate::screen::{self, Look, Screen};
use crate::source::able;

/// Characters of a value in the readable form.
const WIDTH: usize = 48;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PipelineFile,
    /// Also writes the events to this new file, as lines of JSON that `test` reads.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Ends after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Only events of this table; may be given several times.
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Prints JSON lines also on a terminal.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let kind = &*settings.source;
    let source = able(&settings.source_name, kind, kind.tap())?;
    let stop = signals::stop_on_first_exit_on_second();
    let mut tap = tokio::select! {
        opened = source.open_tap(&settings.name) => opened?,
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    };
    let wanted = wanted(&arguments.table, tap.tables())?;
    // Only now, so that a tap that cannot start leaves no empty file.
    let mut show = Show::new(&arguments)?;
    tracing::info!(tables = wanted.join(", "), "events are shown as they commit, Ctrl-C ends");
    let ended = loop {
        let batch = tokio::select! {
            batch = tap.next() => batch?,
            () = stop.cancelled() => break Ok(()),
        };
        match show.batch(&batch, &wanted) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    tap.close().await?;
    if let Some(path) = &arguments.record {
        tracing::info!(events = show.shown, file = %path.display(), "recorded");
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// The tables to show, with their schemas.
fn wanted(asked: &[String], tables: &[String]) -> Result<Vec<String>> {
    if asked.is_empty() {
        return Ok(tables.to_vec());
    }
    let find = |name: &String| {
        let qualified = qualified(name);
        tables.iter().find(|table| **table == qualified).cloned().ok_or_else(|| {
            Error::new(Fault::Config, format!("the pipeline does not read table `{qualified}`"))
                .help(format!("it reads: {}", tables.join(", ")))
        })
    };
    asked.iter().map(find).collect()
}

struct Show {
    left: Option<u64>,
    shown: u64,
    record: Option<(PathBuf, std::fs::File)>,
    readable: bool,
}

impl Show {
    fn new(arguments: &Arguments) -> Result<Self> {
        let record = match &arguments.record {
            Some(path) => Some((path.clone(), create(path)?)),
            None => None,
        };
        Ok(Self { left: arguments.count, shown: 0, record, readable: screen::is_terminal() && !arguments.json })
    }

    /// Shows the events of a batch; false if that was enough.
    fn batch(&mut self, batch: &Batch, tables: &[String]) -> Result<bool> {
        let (mut screen, mut recorded) = (Screen::new(), String::new());
        for event in batch.events() {
            if !tables.contains(&batch.relation(event).to_string()) {
                continue;
            }
            if self.left == Some(0) {
                break;
            }
            self.left = self.left.map(|left| left - 1);
            self.shown += 1;
            let line = if self.readable && self.record.is_none() { String::new() } else { json::write(batch, event) };
            if self.readable {
                screen.parts(readable(batch, event));
            } else {
                screen.json(&line);
            }
            recorded.push_str(&line);
            recorded.push('\n');
        }
        if let Some((path, file)) = &mut self.record {
            let written = file.write_all(recorded.as_bytes()).and_then(|()| file.flush());
            written.map_err(|error| unwritable(path, error))?;
        }
        Ok(screen.print()? && self.left != Some(0))
    }
}

/// Readable by this user only: it will hold rows.
fn create(path: &Path) -> Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| unwritable(path, error))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    let exists = error.kind() == ErrorKind::AlreadyExists;
    let error = Error::new(Fault::Environment, format!("`{}` cannot be written", path.display())).because(error);
    if exists { error.help("a recording is never overwritten: name another file, or remove this one") } else { error }
}

/// One line: when, what, where, and the row.
fn readable(batch: &Batch, event: &Event) -> Vec<(Look, String)> {
    let (name, look) = match event.operation {
        Operation::Insert => ("insert  ", Look::Green),
        Operation::Update => ("update  ", Look::Yellow),
        Operation::Delete => ("delete  ", Look::Red),
        Operation::Truncate => ("truncate", Look::Red),
    };
    let time = jiff::Timestamp::from_microsecond(event.commit_time)
        .map_or_else(|_| event.commit_time.to_string(), |time| time.strftime("%H:%M:%S%.3f").to_string());
    let relation = batch.relation(event);
    let old = batch.old_row(event);
    let columns = relation.columns.iter().zip(batch.row(event).iter()).enumerate();
    let shown = columns
        .filter(|(_, (column, value))| event.operation != Operation::Delete || column.key || *value != Value::Null);
    let mut parts = vec![
        (Look::Faint, format!("{time} {}", event.position)),
        (Look::Plain, " ".to_owned()),
        (look, name.to_owned()),
        (Look::Plain, format!(" {relation}")),
    ];
    for (index, (column, new)) in shown {
        let before = old.and_then(|old: Row<'_>| old.get(index)).filter(|before| *before != new);
        let before = before.map_or(String::new(), |before| format!("{} → ", short(before)));
        parts.push((Look::Plain, " ".to_owned()));
        parts.push((if column.key { Look::Bold } else { Look::Faint }, column.name.clone()));
        parts.push((Look::Plain, format!("={before}{}", short(new))));
    }
    parts
}

/// A value as a person reads it, on one line and not too long.
fn short(value: Value<'_>) -> String {
    let text = match value {
        Value::Null => "null".to_owned(),
        Value::Unchanged => "(unchanged)".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => format!("\"{text}\""),
        Value::Numeric(text) | Value::Uuid(text) | Value::Other(text) | Value::Json(text) => text.to_owned(),
        Value::Bytes(bytes) => format!("({} bytes)", bytes.len()),
        Value::Vector(values) => format!("(vector of {})", values.len()),
        Value::Timestamp(i64::MAX) | Value::Date(i32::MAX) => "infinity".to_owned(),
        Value::Timestamp(i64::MIN) | Value::Date(i32::MIN) => "-infinity".to_owned(),
        Value::Timestamp(micros) => {
            jiff::Timestamp::from_microsecond(micros).map_or_else(|_| format!("{micros}µs"), |time| time.to_string())
        }
        Value::Date(days) => date(days),
        Value::Time(micros) => {
            let seconds = micros / 1_000_000;
            format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
    };
    let mut out: String = text.chars().take(WIDTH).map(shown).collect();
    if text.chars().nth(WIDTH).is_some() {
        out.push_str(&format!("… ({} characters)", text.chars().count()));
    }
    out
}

fn date(days: i32) -> String {
    let seconds = i64::from(days) * 86_400;
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("day {days}"), |time| time.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::json::{Json, Reader};

    #[test]
    fn the_readable_form_is_one_line_that_cannot_drive_the_terminal() {
        let mut reader = Reader::default();
        let line = format!(
            r#"{{"operation":"update","table":"docs","key":["id"],"commit_time":"2026-01-01T10:00:00.5Z","lsn":"0/16B3748",
            "types":{{"id":"int8","title":"text","body":"text","on":"date"}},
            "row":{{"id":7,"title":"New\u001b[31m\n","body":{{"unchanged":true}},"on":"2026-02-28"}},
            "old_row":{{"id":7,"title":"{}","body":{{"unchanged":true}},"on":"2026-02-28"}}}}"#,
            "x".repeat(60)
        );
        reader.push(&Json::parse(&line).unwrap()).unwrap();
        let batch = reader.finish();
        let mut screen = Screen::with_colours(false);
        screen.parts(readable(&batch, &batch.events()[0]));
        assert_eq!(
            screen.text(),
            format!(
                "10:00:00.500 0/16B3748#0 update   public.docs id=7 title=\"{}… (62 characters) → \"New\u{FFFD}[31m \" \
                 body=(unchanged) on=2026-02-28\n",
                "x".repeat(47)
            )
        );
    }

    #[test]
    fn tables_are_those_of_the_pipeline() {
        let tables = ["public.a".to_owned(), "app.b".to_owned()];
        assert_eq!(wanted(&[], &tables).unwrap(), tables);
        assert_eq!(wanted(&["a".into()], &tables).unwrap(), ["public.a"]);
        assert_eq!(wanted(&["b".into()], &tables).unwrap_err().advice(), Some("it reads: public.a, app.b"));
    }
}
