//! Rows of letters through the pipeline once more: asked for, followed, and settled.

use std::process::ExitCode;

use serde_json::json;

use super::show;
use crate::cli::copies::{all_known, follow};
use crate::cli::print;
use crate::error::{Error, Result};
use crate::host::{AskedReplay, LetterBox, LetterFilter, Settled};
use crate::screen::Screen;
use crate::source::Copied;
use crate::telemetry::Bars;

/// A replay that somebody asks for.
pub(super) struct Order<'a> {
    pub(super) name: &'a str,
    pub(super) detach: bool,
    pub(super) json: bool,
}

impl Order<'_> {
    pub(super) async fn run(&self, kept: &mut LetterBox, filter: &LetterFilter, bars: Bars) -> Result<ExitCode> {
        let AskedReplay { letters, copies, not_asked, served } = kept.ask(filter).await?;
        if !served && !copies.is_empty() {
            tracing::warn!("nobody runs pipeline `{}` now; the rows come as soon as somebody does", self.name);
        }
        let (mut settled, mut known) = (Settled::default(), Ok(()));
        if !self.detach && !copies.is_empty() {
            let mut following = kept.source()?.follow(self.name).await?;
            let ended = follow(following.as_mut(), &copies, bars).await?;
            kept.take_stock(&copies, &ended).await?;
            settled = outcome_of(kept, letters, &copies, &ended).await?;
            known = all_known(&copies, &ended);
        }
        print(self.outcome(copies.len(), &settled, &not_asked))?;
        known?;
        let refused = !settled.refused_again.is_empty() || !not_asked.is_empty();
        Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn outcome(&self, copies: usize, settled: &Settled, not_asked: &[(i64, Error)]) -> Screen {
        let mut screen = Screen::new();
        let Settled { gone, refused_again } = settled;
        if self.json {
            let not_asked: Vec<_> =
                not_asked.iter().map(|(id, why)| json!({ "id": id, "reason": why.chain() })).collect();
            let under_way = self.detach && copies > 0;
            let outcome = json!({
                "settled": gone, "refused_again": refused_again, "not_replayed": not_asked, "under_way": under_way,
            });
            screen.json(outcome);
            return screen;
        }
        match (self.detach, copies) {
            (_, 0) if not_asked.is_empty() => screen.line("no dead letters"),
            (_, 0) => {}
            (true, _) => screen.line("the rows are on their way; `pgstream-host dlq list` shows what stays"),
            (false, _) => screen
                .line(format_args!("{} settled: the sinks hold what their rows are now", show::count(*gone as usize))),
        }
        if !refused_again.is_empty() {
            let ids: Vec<String> = refused_again.iter().map(i64::to_string).collect();
            let (count, ids) = (show::count(ids.len()), ids.join(", "));
            screen.line(format_args!("{count} refused again, with the new reason: {ids}"));
        }
        for (id, why) in not_asked {
            screen.line(format_args!("{id} cannot be replayed: {}", why.chain()));
            why.advice().into_iter().for_each(|advice| screen.line(format_args!("  {advice}")));
        }
        screen
    }
}

/// All that became of these letters, whoever has settled them: the host that runs the pipeline may have been asked meanwhile.
async fn outcome_of(kept: &LetterBox, asked: Vec<i64>, copies: &[i64], ended: &[Copied]) -> Result<Settled> {
    let brought = copies.iter().all(|copy| ended.iter().any(|copied| copied.id == *copy && copied.error.is_none()));
    let count = asked.len() as u64;
    let filter = LetterFilter { ids: Some(asked), ..LetterFilter::default() };
    let stay: Vec<i64> = kept.letters().find(&filter).await?.iter().map(|letter| letter.id).collect();
    let gone = count - stay.len() as u64;
    Ok(Settled { gone, refused_again: if brought { stay } else { Vec::new() } })
}

/// Settles what replays of earlier commands have left. Says what became of them.
pub(super) async fn settle(kept: &mut LetterBox) -> Result<()> {
    let Settled { gone, refused_again } = kept.settle().await?;
    if gone > 0 {
        tracing::info!("of earlier replays {} settled", show::count(gone as usize));
    }
    if !refused_again.is_empty() {
        tracing::warn!(letters = ?refused_again, "of earlier replays {} refused again", show::count(refused_again.len()));
    }
    Ok(())
}
