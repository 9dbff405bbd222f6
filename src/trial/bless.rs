//! Writes what handlers answered into their test files, as what is expected from now on.

use std::io::Write;
use std::path::Path;

use super::CaseReport;
use super::diff::lines;
use super::file::Suite;
use crate::config::{Document, Part, Shape};
use crate::error::{Error, Fault, Result};

/// Replaces `expect` of the cases that failed. Everything else in the file stays as it is.
pub(super) fn write(path: &Path, document: &Document, suite: &Suite<'_>, reports: &mut [CaseReport]) -> Result<()> {
    let mut text: Vec<String> = document.text().lines().map(str::to_owned).collect();
    let mut changed = false;
    // From the end, so that the lines before stay where they are.
    for report in reports.iter_mut().rev().filter(|report| !report.passed) {
        let Some(case) = suite.cases.iter().find(|case| case.name == report.name) else { continue };
        replace(&mut text, document, case.part, report)?;
        (report.blessed, report.passed, changed) = (true, true, true);
    }
    if !changed {
        return Ok(());
    }
    let failed =
        |error| Error::new(Fault::Environment, format!("`{}` cannot be written", path.display())).because(error);
    let beside = path.with_extension("yaml.new");
    // A link that lies there ready would have something else written over.
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&beside).map_err(failed)?;
    file.write_all((text.join("\n") + "\n").as_bytes()).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

fn replace(text: &mut Vec<String>, document: &Document, case: Part<'_>, report: &CaseReport) -> Result<()> {
    let refused = || {
        Error::new(Fault::Config, format!("`expect` of case `{}` cannot be written", report.name))
            .help("it stands inside `{ }`: write the case with a key on each line")
    };
    let Shape::Map(entries) = case.shape() else { return Err(refused()) };
    // Another key of the case tells how deep its keys stand.
    let column = entries.iter().filter_map(|(_, part)| document.place(*part)).map(|(_, column)| column).min();
    let column = column.ok_or_else(refused)?;
    let (start, end) = match case.get("expect").and_then(|part| document.place(part)) {
        Some((line, at)) => {
            let own_line = text.get(line - 1).is_some_and(|line| line.trim_start().starts_with("expect:"));
            if at != column || !own_line {
                return Err(refused());
            }
            (line - 1, line + depth(text, line, column))
        }
        None => {
            let last = entries.iter().filter_map(|(_, part)| document.place(*part)).map(|(line, _)| line).max();
            let last = last.ok_or_else(refused)?;
            let indent = |line: &String| line.len() - line.trim_start_matches([' ', '-']).len();
            if text.get(last - 1).map(indent) != Some(column - 1) {
                return Err(refused());
            }
            let end = last + depth(text, last, column);
            (end, end)
        }
    };
    let indent = " ".repeat(column - 1);
    let mut written = vec![format!("{indent}expect:{}", if report.came.is_empty() { " []" } else { "" })];
    written.extend(lines(&report.came).into_iter().map(|line| format!("{indent}  {line}")));
    text.splice(start..end.min(text.len()).max(start), written);
    Ok(())
}

/// Counts the lines from `line` on that belong to the key in `column` above them. `line` is counted
/// from zero; blank lines at the end do not belong to the key.
fn depth(text: &[String], line: usize, column: usize) -> usize {
    let below = text.get(line..).unwrap_or_default();
    let belongs = |line: &String| {
        let indent = line.len() - line.trim_start().len();
        // The items of a list may stand in the column of their key.
        line.trim().is_empty() || indent >= column || (indent == column - 1 && line.trim_start().starts_with("- "))
    };
    let count = below.iter().take_while(|line| belongs(line)).count();
    // Blank lines before the next case stay with it.
    let blank = below.get(..count).unwrap_or_default().iter().rev().take_while(|line| line.trim().is_empty()).count();
    count - blank
}
