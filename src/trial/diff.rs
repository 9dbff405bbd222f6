//! Answers as lines that can be compared and read, and the difference between two lists of them.

use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use super::compare::seen_through;
use crate::event::json::Json;
use crate::printable::acts;

/// A longer value stands on lines of its own.
const SHORT: usize = 88;
/// Characters of a line that are shown.
const WIDTH: usize = 240;
/// Lines shown around a difference.
const CONTEXT: usize = 4;
/// Time for finding the smallest difference; after that any will do.
const PATIENCE: Duration = Duration::from_secs(2);
/// The number of answers that came among which an expected one is looked for.
const AHEAD: usize = 64;
/// Lines of one difference that are shown.
const MAX_LINES: usize = 200;

/// A line of a difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Same(String),
    Expected(String),
    Came(String),
    /// Lines were left out.
    Gap,
}

/// Answers as YAML, one item for each.
pub(super) fn lines(answers: &[Json]) -> Vec<String> {
    let mut out = Vec::new();
    for answer in answers {
        let start = out.len();
        match answer {
            Json::Object(entries) => block(&mut out, entries, 1),
            other => out.push(format!("  {other}")),
        }
        if let Some(first) = out.get_mut(start) {
            first.replace_range(..2, "- ");
        }
    }
    out
}

fn block(out: &mut Vec<String>, entries: &[(String, Json)], depth: usize) {
    let indent = "  ".repeat(depth);
    for (name, value) in entries {
        let name = key(name);
        match value {
            Json::Null if depth == 1 => out.push(format!("{indent}{name}:")),
            Json::Object(inner) if !inner.is_empty() => {
                out.push(format!("{indent}{name}:"));
                block(out, inner, depth + 1);
            }
            Json::List(items)
                if items.iter().any(|item| matches!(item, Json::Object(_))) || value.to_string().len() > SHORT =>
            {
                out.push(format!("{indent}{name}:"));
                list(out, items, depth + 1);
            }
            scalar => out.push(format!("{indent}{name}: {}", spaced(scalar))),
        }
    }
}

fn list(out: &mut Vec<String>, items: &[Json], depth: usize) {
    let indent = "  ".repeat(depth);
    for item in items {
        let start = out.len();
        match item {
            Json::Object(entries) if !entries.is_empty() => {
                block(out, entries, depth + 1);
                if let Some(first) = out.get_mut(start) {
                    *first = format!("{indent}- {}", first.trim_start());
                }
            }
            other => out.push(format!("{indent}- {}", spaced(other))),
        }
    }
}

/// Short lists with blanks, as people write them.
fn spaced(value: &Json) -> String {
    match value {
        Json::List(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        other => visible(&other.to_string()),
    }
}

/// The text with YAML's escape for each character that cannot be seen or would end a line.
fn visible(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        match u32::from(c) {
            _ if !acts(c) => out.push(c),
            code @ ..=0xFFFF => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
        out
    })
}

fn key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain);
    let special = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if word && !special.contains(&name.to_lowercase().as_str()) {
        name.to_owned()
    } else {
        visible(&Json::Text(name.to_owned()).to_string())
    }
}

/// Shows the lines that differ, with some lines around them.
pub(super) fn diff(expected: &[Json], came: &[Json]) -> Vec<Line> {
    let seen: Vec<Json> = pairs(expected, came);
    let (one, other) = (lines(&seen), lines(came));
    let deadline = Instant::now().checked_add(PATIENCE);
    let ops = capture_diff_slices_deadline(Algorithm::Myers, &one, &other, deadline);
    let mut out = Vec::new();
    for op in ops {
        let (old, new) = (one.get(op.old_range()).unwrap_or_default(), other.get(op.new_range()).unwrap_or_default());
        match op {
            DiffOp::Equal { .. } => out.extend(old.iter().map(|line| Line::Same(shortened(line, 0)))),
            _ => {
                let from = |index: usize| common(old.get(index), new.get(index));
                out.extend(old.iter().enumerate().map(|(index, line)| Line::Expected(shortened(line, from(index)))));
                out.extend(new.iter().enumerate().map(|(index, line)| Line::Came(shortened(line, from(index)))));
            }
        }
    }
    around(out)
}

/// Each expected answer seen through the answer that it most likely means: so that one that is
/// missing does not make all that follow differ.
fn pairs(expected: &[Json], came: &[Json]) -> Vec<Json> {
    let mut at = 0;
    let mut seen = Vec::new();
    for answer in expected {
        let rest = came.get(at..).unwrap_or_default();
        match rest.iter().take(AHEAD).position(|came| super::compare::matches(answer, came)) {
            Some(skip) => {
                seen.extend(rest.get(skip).cloned());
                at += skip + 1;
            }
            None => {
                let beside = rest.first().map_or_else(|| answer.clone(), |came| seen_through(answer, came));
                at += usize::from(expected.len() == came.len());
                seen.push(beside);
            }
        }
    }
    seen
}

/// Counts the characters before the place at which two lines begin to differ.
fn common(one: Option<&String>, other: Option<&String>) -> usize {
    match (one, other) {
        (Some(one), Some(other)) => one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count(),
        _ => 0,
    }
}

/// The part of a long line in which the difference stands.
fn shortened(line: &str, differs_at: usize) -> String {
    let count = line.chars().count();
    if count <= WIDTH {
        return line.to_owned();
    }
    let start = if differs_at > WIDTH / 2 { differs_at - WIDTH / 4 } else { 0 };
    let part: String = line.chars().skip(start).take(WIDTH).collect();
    let (before, after) = (if start > 0 { "…" } else { "" }, if start + WIDTH < count { "…" } else { "" });
    format!("{before}{part}{after} ({count} characters)")
}

/// Leaves out what is the same far from any difference, and what is too much to read.
fn around(lines: Vec<Line>) -> Vec<Line> {
    let changed: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))).map(|(index, _)| index).collect();
    let mut out = Vec::new();
    let mut gap = false;
    for (index, line) in lines.into_iter().enumerate() {
        let next = changed.partition_point(|at| *at < index.saturating_sub(CONTEXT));
        let near = changed.get(next).is_some_and(|at| *at <= index + CONTEXT);
        if near && out.len() < MAX_LINES {
            if std::mem::take(&mut gap) {
                out.push(Line::Gap);
            }
            out.push(line);
        } else {
            gap = true;
        }
    }
    if gap {
        out.push(Line::Gap);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_so_that_it_is_read_back_as_it_was() {
        for text in ["a\u{85}b", "\u{202e}x", "\u{e0041}1", "\u{feff}", "☃😀\n\t\"\\"] {
            let line = visible(&Json::Text(text.to_owned()).to_string());
            assert!(!line.chars().any(acts), "{line:?}");
            assert_eq!(serde_yaml::from_str::<String>(&line).unwrap(), text, "{line}");
        }
    }
}
