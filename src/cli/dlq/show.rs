//! Letters as people and machines read them.

use crate::components::PipelineSettings;
use crate::event::json::Json;
use crate::printable::printable;
use crate::screen::Screen;
use crate::sink::dead_letters::{Letter, Stored};

/// One line each, below a headline.
pub(super) fn list(letters: &[Letter], as_json: bool) -> Screen {
    let mut screen = Screen::new();
    if as_json {
        letters.iter().for_each(|letter| screen.json(letter.to_json()));
        return screen;
    }
    if letters.is_empty() {
        screen.line("no dead letters");
        return screen;
    }
    let mut rows = vec![["ID", "SET ASIDE", "TABLE", "REFUSED BY", "CODE", "TIMES", "REASON"].map(str::to_owned)];
    rows.extend(letters.iter().map(|letter| {
        let reason = match letter.replay {
            Some(_) => format!("(its row is on its way) {}", letter.reason),
            None => letter.reason.clone(),
        };
        let (table, code) = (printable(&letter.table), letter.code.clone());
        [letter.id.to_string(), letter.at.clone(), table, by(letter), code, letter.attempts.to_string(), reason]
    }));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        screen.line(cells.chain(row.last().cloned()).collect::<String>());
    }
    screen
}

fn by(letter: &Letter) -> String {
    match &letter.sink {
        Some(sink) => format!("sink {sink}"),
        None => format!("handler {}", letter.transform),
    }
}

/// A letter, whole. `file` is what commands about it are given.
pub(super) fn letter(settings: &PipelineSettings, file: &str, stored: &Stored, as_json: bool) -> Screen {
    let mut screen = Screen::new();
    let Stored { letter, key, event } = stored;
    if as_json {
        screen.json(stored.to_json());
        return screen;
    }
    let operation = match Json::parse(event).ok().as_ref().and_then(|event| event.get("operation")) {
        Some(Json::Text(operation)) => operation.clone(),
        _ => "event".to_owned(),
    };
    let Letter { id, at, position, transform, handler, code, reason, table, attempts, .. } = letter;
    let times = if *attempts > 1 { format!(", {attempts} times in all") } else { String::new() };
    screen.line(format_args!("dead letter {id} of pipeline `{}`", settings.name));
    screen.line(format_args!("  event      {operation} of `{table}` at {position}"));
    screen.line(format_args!("  refused    by {}, code `{code}`, last at {at}{times}", by(letter)));
    screen.line(format_args!("  reason     {reason}"));
    screen.line(format_args!("  transform  {transform}, component {handler}{}", changed(settings, letter)));
    screen.json(format_args!("  key        {key}"));
    screen.line("");
    screen.json(event);
    screen.line("");
    advice(&mut screen, letter, key, file);
    screen.line(format_args!("  pgstream-host dlq replay {file} {id}     its row once more, as it is now"));
    screen.line(format_args!("  pgstream-host dlq drop {file} {id}       the sinks stay without it"));
    screen
}

/// Tells if the handler is another one by now.
fn changed(settings: &PipelineSettings, letter: &Letter) -> &'static str {
    let Some(transform) = settings.transforms.get(&letter.transform) else {
        return " (the file has no such transform any more)";
    };
    match transform.hash() {
        Ok(now) if now == letter.handler => " (still the same)",
        Ok(_) => " (another one by now)",
        Err(_) => "",
    }
}

fn advice(screen: &mut Screen, letter: &Letter, key: &str, file: &str) {
    if key == "{}" {
        screen.line(
            "A truncate cannot be replayed. Bring the rows that the table has now over once more; points of rows that went with \
             the truncate stay in the sinks until you remove them there:",
        );
        screen.line(format_args!("  pgstream-host backfill {file} --table {}", letter.table));
        screen.line("Then:");
        return;
    }
    let what = match letter.code.as_str() {
        "rejected" => "The handler refused it in its own words. Correct the row or the handler.",
        "sink" => {
            "The sink refused what the handler made of it. Correct the row, the handler, or what the sink's reason names."
        }
        "text" => {
            "The embedder takes other texts, but not all that the handler made of it. Let the handler cut them shorter."
        }
        "contract" => "The handler's answer cannot be taken. Correct the handler.",
        "deadline" | "wait" | "memory" | "output" | "embed" => {
            "The handler went beyond a limit. Correct it, or raise the limit in the pipeline file."
        }
        _ => "The handler crashed. Correct it; `pgstream-host test` takes the event above as a test case.",
    };
    screen.line(format_args!("{what} A changed handler or file counts once the pipeline was started again. Then:"));
}

/// "1 dead letter", "2 dead letters".
pub(super) fn count(letters: usize) -> String {
    if letters == 1 { "1 dead letter".to_owned() } else { format!("{letters} dead letters") }
}
