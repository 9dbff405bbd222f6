//! Reports of tests, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::diff::{Line, diff};
use super::{CaseReport, Refusal, Report};
use crate::error::Error;
use crate::event::json::Json;
use crate::printable::printable;

impl Report {
    /// As the command line shows it.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        for file in &self.files {
            let _ = writeln!(out, "{}", paint.strong(&file.file.display().to_string()));
            match &file.cases {
                Ok(cases) => cases.iter().for_each(|case| render_case(&mut out, case, &paint)),
                Err(Refusal::Mistakes(mistakes)) => out.push_str(&mistakes.render(colour)),
                Err(Refusal::Failed(error)) => out.push_str(&error.report()),
            }
        }
        let (passed, failed) = self.counts();
        let refused = self.files.iter().filter(|file| file.cases.is_err()).count();
        let mut parts = vec![paint.came(&format!("{passed} passed"))];
        if failed > 0 {
            parts.push(paint.expected(&format!("{failed} failed")));
        }
        if refused > 0 {
            let files = if refused == 1 { "file" } else { "files" };
            parts.push(paint.expected(&format!("{refused} {files} not run")));
        }
        let _ = writeln!(out, "\n{}", parts.join(", "));
        out
    }

    /// As `--json` prints it.
    pub fn json(&self) -> Value {
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|file| match &file.cases {
                Ok(cases) => {
                    let cases: Vec<Value> = cases.iter().map(case_json).collect();
                    json!({ "file": file.file, "cases": cases })
                }
                Err(Refusal::Mistakes(mistakes)) => json!({ "file": file.file, "problems": mistakes.problems() }),
                Err(Refusal::Failed(error)) => json!({ "file": file.file, "error": describe(error) }),
            })
            .collect();
        let (passed, failed) = self.counts();
        json!({ "ok": self.exit_code() == 0, "passed": passed, "failed": failed, "files": files })
    }
}

fn describe(error: &Error) -> Value {
    json!({ "message": error.chain(), "fault": format!("{:?}", error.fault()).to_lowercase(), "help": error.advice() })
}

fn case_json(case: &CaseReport) -> Value {
    let plain = |answers: &[Json]| -> Vec<Value> {
        answers.iter().map(|answer| serde_json::from_str(&answer.to_string()).unwrap_or_default()).collect()
    };
    let mut out = json!({
        "name": case.name,
        "line": case.line,
        "ok": case.passed,
        "events": case.events,
        "ms": case.took.as_secs_f64() * 1000.0,
    });
    if let (false, Some(fields)) = (case.passed, out.as_object_mut()) {
        fields.insert("expected".into(), plain(&case.expected).into());
        fields.insert("came".into(), plain(&case.came).into());
    }
    out
}

fn render_case(out: &mut String, case: &CaseReport, paint: &Paint) {
    let name = printable(&case.name);
    if case.blessed {
        let _ = writeln!(out, "  {} {name}", paint.strong("wrote "));
        return;
    }
    if case.passed {
        let _ = writeln!(out, "  {} {name}", paint.came("ok    "));
        return;
    }
    let legend = format!("{} {}", paint.expected("- expected"), paint.came("+ came"));
    let _ = writeln!(out, "  {} {name} {}", paint.expected("FAILED"), paint.faint(&format!("(line {})", case.line)));
    let _ = writeln!(out, "         {legend}");
    for line in diff(&case.expected, &case.came) {
        let shown = match line {
            Line::Same(text) => format!("  {}", printable(&text)),
            Line::Expected(text) => paint.expected(&format!("- {}", printable(&text))),
            Line::Came(text) => paint.came(&format!("+ {}", printable(&text))),
            Line::Gap => paint.faint("  …"),
        };
        let _ = writeln!(out, "         {shown}");
    }
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn expected(&self, text: &str) -> String {
        self.wrap("31", text)
    }
    fn came(&self, text: &str) -> String {
        self.wrap("32", text)
    }
    fn strong(&self, text: &str) -> String {
        self.wrap("1", text)
    }
    fn faint(&self, text: &str) -> String {
        self.wrap("2", text)
    }
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
