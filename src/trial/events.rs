//! The events of a case: written in the test file, or recorded as JSON lines.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::tree::{along, json};
use crate::config::{Mistakes, Part, Shape, qualified};
use crate::event::Batch;
use crate::event::json::{Flaw, Json, Reader, Step};
use crate::lsn::Lsn;

/// Bytes of a line of recorded events: a row of wide columns with room to spare.
const LINE_BYTES: u64 = 256 << 20;

const OPERATIONS: [&str; 4] = ["insert", "update", "delete", "truncate"];
const BESIDE: [&str; 7] = ["table", "old_row", "lsn", "ordinal", "xid", "commit_time", "snapshot"];

/// The origin of a case's events.
pub(super) enum Source<'d> {
    /// They stand in the test file; each with its part, and with the JSON form of it.
    Written(Vec<(Part<'d>, Json)>),
    /// A file with the JSON form of an event on each line.
    Recorded(Part<'d>, String),
}

/// Reads `events` of a case.
pub(super) fn source<'d>(root: Part<'d>, case: Part<'d>, mistakes: &mut Mistakes<'_>) -> Option<Source<'d>> {
    let events = case.get("events")?;
    match events.shape() {
        Shape::Text(file) => Some(Source::Recorded(events, file.to_owned())),
        Shape::List(items) => {
            let tables = Tables::read(root, case, mistakes);
            let written: Vec<_> = items.into_iter().map(|part| Some((part, event(part, &tables, mistakes)?))).collect();
            written.into_iter().collect::<Option<_>>().map(Source::Written)
        }
        _ => {
            let help = "write `events: [{ insert: { id: 1 } }]`, or the name of a file: `events: recorded.jsonl`";
            mistakes.at(events, format!("expected a list of events, found {}", events.kind()), help);
            None
        }
    }
}

/// The tables of the file; the first is that of events that name none.
struct Tables(Vec<(String, Vec<(String, Json)>)>);

impl Tables {
    fn read(root: Part<'_>, case: Part<'_>, mistakes: &mut Mistakes<'_>) -> Self {
        let own = case.get("table").into_iter();
        let shared = root.get("table").into_iter().chain(root.get("tables").into_iter().flat_map(Part::items));
        Self(own.chain(shared).filter_map(|part| table(part, mistakes)).collect())
    }
}

/// `schema`, `table`, `key` and `types` as the JSON form has them.
fn table(part: Part<'_>, mistakes: &mut Mistakes<'_>) -> Option<(String, Vec<(String, Json)>)> {
    const HELP: &str = "write `table: { name: public.documents, key: [id], columns: { id: int8, title: text } }`";
    let Shape::Map(entries) = part.shape() else {
        mistakes.at(part, format!("expected a table as a map, found {}", part.kind()), HELP);
        return None;
    };
    for (key, value) in &entries {
        if !["name", "key", "columns"].contains(key) {
            mistakes.at_key(*value, format!("unknown field `{key}`, expected one of `name`, `key`, `columns`"), "");
        }
    }
    let Some(Shape::Text(name)) = part.get("name").map(Part::shape) else {
        mistakes.at(part, "the table has no `name`", HELP);
        return None;
    };
    let name = qualified(name);
    let (schema, table) = name.split_once('.').unwrap_or_default();
    let mut fields =
        vec![("schema".to_owned(), Json::Text(schema.to_owned())), ("table".to_owned(), Json::Text(table.to_owned()))];
    for (from, to) in [("key", "key"), ("columns", "types")] {
        if let Some(part) = part.get(from) {
            fields.push((to.to_owned(), json(part)));
        }
    }
    Some((name, fields))
}

fn event(part: Part<'_>, tables: &Tables, mistakes: &mut Mistakes<'_>) -> Option<Json> {
    let Shape::Map(entries) = part.shape() else {
        let what = format!("expected an event, found {}", part.kind());
        mistakes.at(part, what, "write `insert: { id: 1 }`, or `update`, `delete`, `truncate`");
        return None;
    };
    let operations: Vec<_> = entries.iter().filter(|(key, _)| OPERATIONS.contains(key)).collect();
    let [(operation, row)] = operations[..] else {
        let what = "an event is one of `insert`, `update`, `delete`, `truncate`";
        mistakes.at(part, what, "write `- insert: { id: 1 }`; each event is an item of the list");
        return None;
    };
    for (key, value) in entries.iter().filter(|(key, _)| key != operation && !BESIDE.contains(key)) {
        let known = BESIDE.map(|name| format!("`{name}`")).join(", ");
        mistakes.at_key(*value, format!("unknown field `{key}`, beside `{operation}` there may be {known}"), "");
    }
    let wanted = match part.get("table").map(|part| (part, part.shape())) {
        None => None,
        Some((_, Shape::Text(name))) => Some(qualified(name)),
        Some((part, _)) => {
            mistakes.at(part, format!("expected the name of a table, found {}", part.kind()), "");
            return None;
        }
    };
    let table = tables.0.iter().find(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted == name));
    let Some((_, table)) = table else {
        let what = match wanted {
            Some(name) => format!("there is no table `{name}` in this file"),
            None => "the file does not say of which table the event is".to_owned(),
        };
        mistakes.at(part, what, "add at the top `table: { name: public.documents, key: [id], columns: { id: int8 } }`, or several as `tables: […]`");
        return None;
    };
    let mut fields = vec![("operation".to_owned(), Json::Text((*operation).to_owned()))];
    fields.extend(table.iter().cloned());
    fields.push(("row".to_owned(), json(*row)));
    let beside = BESIDE.iter().skip(1).filter_map(|name| Some(((*name).to_owned(), json(part.get(name)?))));
    fields.extend(beside);
    let event = Json::Object(fields);
    // Alone, to tell every mistake at once; order is looked at when the batch is made.
    if let Err(flaw) = Reader::default().push(&event) {
        tell(part, &flaw, mistakes);
        return None;
    }
    Some(event)
}

/// Notes what is wrong with the event at `part`, where it stands.
pub(super) fn tell(part: Part<'_>, flaw: &Flaw, mistakes: &mut Mistakes<'_>) {
    let at = match flaw.path.split_first() {
        Some((Step::Key(field), rest)) if field == "row" => {
            let row = OPERATIONS.iter().find_map(|name| part.get(name)).unwrap_or(part);
            along(row, rest)
        }
        _ => along(part, &flaw.path),
    };
    let inside = flaw.path.first() == Some(&Step::Key("types".to_owned()))
        || flaw.path.first() == Some(&Step::Key("key".to_owned()));
    let what = if inside { format!("of the table, {flaw}") } else { flaw.what.clone() };
    match flaw.of_key {
        true => mistakes.at_key(at, what, flaw.help.clone()),
        false => mistakes.at(at, what, flaw.help.clone()),
    }
}

/// The events in batches of at most `size`.
pub(super) fn batches(
    source: &Source<'_>,
    size: usize,
    folder: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Option<Vec<Arc<Batch>>> {
    let mut batches = Batches { done: Vec::new(), reader: Reader::default(), size };
    match source {
        Source::Written(events) => {
            for (part, event) in events {
                if let Err(flaw) = batches.push(event) {
                    tell(*part, &flaw, mistakes);
                    return None;
                }
            }
        }
        Source::Recorded(part, name) => {
            if let Err(problem) = batches.read(&folder.join(name)) {
                let place = problem.line.map_or(String::new(), |line| format!(":{line}"));
                mistakes.at(*part, format!("{name}{place}: {}", problem.what), problem.help);
                return None;
            }
        }
    }
    Some(batches.finish())
}

struct Batches {
    done: Vec<Arc<Batch>>,
    reader: Reader,
    size: usize,
}

/// Returns the LSN and the ordinal that an event states, as far as they can be read.
fn position(event: &Json) -> (Option<Lsn>, Option<u32>) {
    let lsn = match event.get("lsn") {
        Some(Json::Text(text)) => text.parse().ok(),
        _ => None,
    };
    let ordinal = match event.get("ordinal") {
        Some(Json::Number(number)) => number.parse().ok(),
        _ => None,
    };
    (lsn, ordinal)
}

struct Problem {
    line: Option<usize>,
    what: String,
    help: String,
}

impl Batches {
    fn push(&mut self, event: &Json) -> Result<(), Flaw> {
        if self.reader.len() >= self.size {
            self.done.push(Arc::new(std::mem::take(&mut self.reader).finish()));
        }
        self.reader.push(event)
    }

    fn finish(mut self) -> Vec<Arc<Batch>> {
        if !self.reader.is_empty() {
            self.done.push(Arc::new(self.reader.finish()));
        }
        self.done
    }

    /// Lines as `tap --record` writes them, or as a file of rejected events has them. A sink may
    /// write letters twice, and one of an event that was found late behind those of later ones:
    /// they are put into their order, once each.
    fn read(&mut self, path: &Path) -> Result<(), Problem> {
        let mut letters = Vec::new();
        let unreadable = |error: std::io::Error| {
            Problem {
            line: None,
            what: format!("cannot be read: {error}"),
            help: "the file is looked for beside the test file; record one with `pgstream-host tap pipeline.yaml --record events.jsonl`".into(),
        }
        };
        let mut file = BufReader::new(std::fs::File::open(path).map_err(unreadable)?);
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            let read = file.by_ref().take(LINE_BYTES).read_line(&mut line).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            let problem = |what: String, help: &str| Problem { line: Some(number), what, help: help.to_owned() };
            if read as u64 == LINE_BYTES {
                return Err(problem("the line is too long".into(), ""));
            }
            if line.trim().is_empty() {
                continue;
            }
            let json =
                Json::parse(&line).map_err(|error| problem(error.to_string(), "each line is an event as JSON"))?;
            match json.rejected_event() {
                Some(event) => letters.push((number, event.clone())),
                None => {
                    self.push_letters(&mut letters)?;
                    self.push_line(number, &json)?;
                }
            }
        }
        self.push_letters(&mut letters)
    }

    fn push_letters(&mut self, letters: &mut Vec<(usize, Json)>) -> Result<(), Problem> {
        letters.sort_by_key(|(_, event)| position(event));
        letters.dedup_by(|(_, one), (_, other)| one == other);
        letters.drain(..).try_for_each(|(number, event)| self.push_line(number, &event))
    }

    fn push_line(&mut self, number: usize, event: &Json) -> Result<(), Problem> {
        self.push(event).map_err(|flaw| Problem { line: Some(number), what: flaw.to_string(), help: flaw.help })
    }
}
