//! How things are compared: arms take turns over several rounds, and each round has the yardstick twice.

use anyhow::Result;

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (middle, last) = (values.len() / 2, values.len().saturating_sub(1));
        let median = if values.len() % 2 == 1 { at(middle) } else { (at(middle.saturating_sub(1)) + at(middle)) / 2.0 };
        Self { median, least: at(0), most: at(last) }
    }

    /// The value below which `share` of all lie.
    pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
        values.sort_by(f64::total_cmp);
        let index = (values.len().saturating_sub(1) as f64 * share).round() as usize;
        values.get(index).copied().unwrap_or(f64::NAN)
    }
}

/// Something measured against a yardstick. All are rates: more is better.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contest {
    pub(crate) subject: Spread,
    pub(crate) yardstick: Spread,
    /// Subject over yardstick, round by round.
    pub(crate) ratio: Spread,
    /// The yardstick over itself: what the machine alone makes of a ratio of 1.
    pub(crate) control: Spread,
}

/// Measures `subject` once and `yardstick` twice in each round, and begins with another one of the three each time.
/// The yardstick of a round is the mean of its two.
pub(crate) async fn contest(
    rounds: usize,
    mut subject: impl AsyncFnMut() -> Result<f64>,
    mut yardstick: impl AsyncFnMut() -> Result<f64>,
) -> Result<Contest> {
    let mut all = Vec::new();
    for round in 0..rounds {
        let mut rates = [0.0; 3];
        for step in 0..rates.len() {
            let turn = (round + step) % rates.len();
            rates[turn] = if turn == 1 { subject().await? } else { yardstick().await? };
        }
        let [yardstick, subject, again] = rates;
        let mean = (yardstick + again) / 2.0;
        eprintln!("  round {}: {subject:.0}/s against {mean:.0}/s", round + 1);
        all.push((subject, mean, again / yardstick));
    }
    let spread = |pick: fn(&(f64, f64, f64)) -> f64| Spread::of(all.iter().map(pick));
    Ok(Contest {
        subject: spread(|round| round.0),
        yardstick: spread(|round| round.1),
        ratio: spread(|round| round.0 / round.1),
        control: spread(|round| round.2),
    })
}
