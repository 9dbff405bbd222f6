//! Rows of letters through the pipeline once more: asked for, followed, and settled.

use std::process::ExitCode;

use serde_json::json;

use super::show;
use crate::cli::copies::{all_known, follow};
use crate::cli::print;
use crate::components::PipelineSettings;
use crate::error::{Error, Result};
use crate::screen::Screen;
use crate::sink::dead_letters::{Filter, Letters, Settled};
use crate::source::{Copied, CopyRows, WantedRow, able};
use crate::telemetry::Bars;

/// A replay that somebody asks for.
pub(super) struct Order<'a> {
    pub(super) settings: &'a PipelineSettings,
    pub(super) detach: bool,
    pub(super) json: bool,
}

/// Letters that no copy was asked for, and why.
type NotAsked = Vec<(i64, Error)>;

impl Order<'_> {
    pub(super) async fn run(&self, letters: &mut Letters, filter: &Filter, bars: Bars) -> Result<ExitCode> {
        let (name, kind) = (&self.settings.name, &*self.settings.source);
        let source = able(&self.settings.source_name, kind, kind.rows())?;
        let (copies, not_asked, served) = self.ask(letters, filter, source).await?;
        if !served && !copies.is_empty() {
            tracing::warn!("nobody runs pipeline `{name}` now; the rows come as soon as somebody does");
        }
        let (mut settled, mut known) = (Settled::default(), Ok(()));
        if !self.detach && !copies.is_empty() {
            let ended = follow(source.follow(name).await?.as_mut(), &copies, bars).await?;
            settled = take_stock(letters, &copies, &ended).await?;
            known = all_known(&copies, &ended);
        }
        print(self.outcome(copies.len(), &settled, &not_asked))?;
        known?;
        let refused = !settled.refused_again.is_empty() || !not_asked.is_empty();
        Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Asks for the rows. Answers the numbers of the copies, and whether somebody runs the pipeline.
    async fn ask(
        &self,
        letters: &Letters,
        filter: &Filter,
        source: &dyn CopyRows,
    ) -> Result<(Vec<i64>, NotAsked, bool)> {
        let wanted = letters.wanted(filter).await?;
        let rows: Vec<WantedRow<'_>> =
            wanted.iter().map(|letter| WantedRow { table: &letter.table, key: &letter.key }).collect();
        if rows.is_empty() {
            return Ok((Vec::new(), Vec::new(), true));
        }
        let newest = letters.newest().await?;
        let asked = source.ask_rows(&self.settings.name, &rows).await?;
        let id = |index: &usize| wanted.get(*index).map(|letter| letter.id);
        let mut copies = Vec::new();
        for (copy, indices) in asked.copies {
            let ids: Vec<i64> = indices.iter().filter_map(id).collect();
            letters.replaying(&ids, copy, newest).await?;
            copies.push(copy);
        }
        let not_asked = asked.refused.into_iter().filter_map(|(index, why)| Some((id(&index)?, why))).collect();
        Ok((copies, not_asked, asked.served))
    }

    fn outcome(&self, copies: usize, settled: &Settled, not_asked: &NotAsked) -> Screen {
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

/// Settles what replays of earlier commands have left: whoever asked for them may have gone away. Says what became of them. The
/// letters may lie elsewhere than their rows: they are there for whoever asks also while the source cannot be reached.
pub(super) async fn settle(settings: &PipelineSettings, letters: &mut Letters) -> Result<()> {
    let unsettled = letters.unsettled().await?;
    if unsettled.is_empty() {
        return Ok(());
    }
    let looked = async {
        let kind = &*settings.source;
        let rows = able(&settings.source_name, kind, kind.rows())?;
        rows.follow(&settings.name).await?.look(Some(&unsettled)).await
    };
    let copies = match looked.await {
        Ok(copies) => copies,
        Err(error) => {
            let cause = error.chain();
            tracing::warn!(cause, "what became of earlier replays cannot be said, as the source cannot be asked");
            return Ok(());
        }
    };
    let Settled { gone, refused_again } = take_stock(letters, &unsettled, &copies).await?;
    if gone > 0 {
        tracing::info!("of earlier replays {} settled", show::count(gone as usize));
    }
    if !refused_again.is_empty() {
        tracing::warn!(letters = ?refused_again, "of earlier replays {} refused again", show::count(refused_again.len()));
    }
    Ok(())
}

/// Settles the letters of copies that are done, and lets go of those whose copies failed or are not known any more.
async fn take_stock(letters: &mut Letters, replays: &[i64], copies: &[Copied]) -> Result<Settled> {
    let mut lost = Vec::new();
    for replay in replays {
        match copies.iter().find(|copy| copy.id == *replay) {
            None => lost.push(*replay),
            Some(Copied { error: Some(why), table, .. }) => {
                tracing::error!(table, why, "rows could not be brought over; their letters stay as they were");
                lost.push(*replay);
            }
            Some(_) => {}
        }
    }
    let done: Vec<i64> = copies.iter().filter(|copy| copy.done).map(|copy| copy.id).collect();
    if !lost.is_empty() {
        letters.release(&lost).await?;
    }
    if done.is_empty() { Ok(Settled::default()) } else { letters.settle(&done).await }
}
