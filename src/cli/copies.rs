//! The progress of copies of rows, shown until they have ended.

use std::time::Duration;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::error::{Error, Fault, Result};
use crate::printable::printable;
use crate::source::{Copied, FollowCopies};
use crate::telemetry::Bars;

/// The time between two questions to the ledger about how far the copies have come.
const LOOK: Duration = Duration::from_millis(500);

/// Shows progress until the copies with these numbers have ended. Answers how, as far as they are known still.
pub(super) async fn follow(copying: &mut dyn FollowCopies, numbers: &[i64], bars: Bars) -> Result<Vec<Copied>> {
    let drawn = match bars {
        Bars::Terminal(bars) => bars,
        Bars::None => MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()),
    };
    let mut shown: Vec<ProgressBar> = Vec::new();
    loop {
        let copies = copying.look(Some(numbers)).await?;
        for (index, copy) in copies.iter().enumerate() {
            if shown.len() == index {
                shown.push(drawn.add(bar(copy)));
            }
            if let Some(bar) = shown.get(index) {
                bar.set_message(HumanBytes(copy.bytes).to_string());
                bar.set_length(copy.expected.unwrap_or(0).max(copy.rows));
                bar.set_position(copy.rows);
            }
        }
        if copies.iter().all(|copy| copy.done || copy.error.is_some()) {
            let _ = drawn.clear(); // a terminal that is gone needs no tidying
            return Ok(copies);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// # Errors
/// `Environment` if some of the copies are not known any more.
pub(super) fn all_known(numbers: &[i64], copies: &[Copied]) -> Result<()> {
    match numbers.iter().filter(|number| !copies.iter().any(|copy| copy.id == **number)).count() {
        0 => Ok(()),
        gone => {
            let what = format!("{gone} of {} copies that were asked for are gone", numbers.len());
            Err(Error::new(Fault::Environment, what)
                .because("the pipeline was torn down, or began anew, before they were made")
                .help("ask again once the pipeline runs; if it begins anew it brings all rows by itself"))
        }
    }
}

fn bar(copy: &Copied) -> ProgressBar {
    let template = "{prefix}  {wide_bar}  {human_pos}/{human_len} rows  {msg}  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(copy.expected.unwrap_or(0)).with_style(style).with_prefix(printable(&copy.table))
}
