//! What was measured, as a table for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::rounds::{Contest, Spread};

/// One measured thing.
pub(crate) struct Figure {
    pub(crate) arm: &'static str,
    pub(crate) what: String,
    pub(crate) value: Spread,
    pub(crate) unit: &'static str,
    pub(crate) target: Option<Target>,
    pub(crate) against: Option<Against>,
}

/// What the figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// The yardstick of a ratio, and what both sides did.
pub(crate) struct Against {
    pub(crate) yardstick: &'static str,
    /// What is counted per second.
    pub(crate) counted: &'static str,
    pub(crate) contest: Contest,
}

impl Figure {
    pub(crate) fn new(arm: &'static str, what: impl Into<String>, value: Spread, unit: &'static str) -> Self {
        Self { arm, what: what.into(), value, unit, target: None, against: None }
    }

    /// Of something that was measured once, or counted.
    pub(crate) fn once(arm: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self::new(arm, what, Spread::of([value]), unit)
    }

    /// The ratio of a contest.
    pub(crate) fn ratio(
        arm: &'static str,
        what: impl Into<String>,
        contest: Contest,
        yardstick: &'static str,
        counted: &'static str,
    ) -> Self {
        let against = Some(Against { yardstick, counted, contest });
        Self { against, ..Self::new(arm, what, contest.ratio, "x") }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Whether it is what it should be, if there is such a thing.
    pub(crate) fn met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtLeast(limit) => self.value.median >= limit,
            Target::AtMost(limit) => self.value.median <= limit,
        })
    }

    fn json(&self) -> Json {
        let spread = |spread: Spread| json!({ "median": spread.median, "least": spread.least, "most": spread.most });
        let target = self.target.map(|target| match target {
            Target::AtLeast(limit) => json!({ "at_least": limit }),
            Target::AtMost(limit) => json!({ "at_most": limit }),
        });
        let against = self.against.as_ref().map(|against| {
            let Contest { subject, yardstick, control, .. } = against.contest;
            json!({
                "yardstick": against.yardstick,
                "counted": against.counted,
                "per_second": spread(subject),
                "yardstick_per_second": spread(yardstick),
                "yardstick_against_itself": spread(control),
            })
        });
        json!({
            "arm": self.arm, "what": self.what, "unit": self.unit, "value": spread(self.value),
            "target": target, "met": self.met(), "against": against,
        })
    }
}

/// An arm that gave no figures.
pub(crate) struct Missing {
    pub(crate) arm: &'static str,
    pub(crate) why: String,
    /// It broke, rather than lack something of this machine.
    pub(crate) broke: bool,
}

/// All of a run as JSON.
pub(crate) fn json(machine: &Json, quick: bool, figures: &[Figure], missing: &[Missing]) -> Json {
    let missing: Vec<Json> =
        missing.iter().map(|arm| json!({ "arm": arm.arm, "why": arm.why, "broke": arm.broke })).collect();
    json!({
        "machine": machine, "quick": quick,
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(), "not_measured": missing,
    })
}

/// All of a run as Markdown: the figures, with what they should be.
pub(crate) fn table(figures: &[Figure], missing: &[Missing]) -> String {
    let mut text = String::from(
        "| arm | what | figure | rounds from … to | target | met | yardstick | against itself |\n\
         |---|---|--:|--:|--:|---|---|--:|\n",
    );
    for figure in figures {
        let Figure { arm, what, value, unit, .. } = figure;
        let target = match figure.target {
            Some(Target::AtLeast(limit)) => format!("≥ {limit}"),
            Some(Target::AtMost(limit)) => format!("≤ {limit}"),
            None => String::new(),
        };
        let met = figure.met().map_or("", |met| if met { "yes" } else { "no" });
        let spread = if value.least == value.most { String::new() } else { range(*value) };
        let (yardstick, control) = figure.against.as_ref().map_or_else(Default::default, |against| {
            let Contest { subject, yardstick, control, .. } = &against.contest;
            let (ours, theirs) = (short(subject.median), short(yardstick.median));
            let sides = format!("{ours} {}/s to {theirs} of {}", against.counted, against.yardstick);
            (sides, range(*control))
        });
        let value = short(value.median);
        let _ = writeln!(
            text,
            "| {arm} | {what} | {value} {unit} | {spread} | {target} | {met} | {yardstick} | {control} |"
        );
    }
    for Missing { arm, why, broke } in missing {
        let _ = writeln!(text, "| {arm} | {}: {why} | | | | | | |", if *broke { "failed" } else { "not measured" });
    }
    text
}

fn range(spread: Spread) -> String {
    format!("{} … {}", short(spread.least), short(spread.most))
}

/// Three digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{:.2}M", value / 1e6),
        large if large >= 1e4 => format!("{:.0}k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        middle if middle >= 0.1 || middle == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
