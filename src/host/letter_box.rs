//! `LetterBox`: the dead letters of a pipeline, found by its settings, and the rows of letters
//! through it once more.

use std::sync::Arc;

use crate::components::PipelineSettings;
use crate::error::{Error, Fault, Result};
use crate::sink::dead_letters::DeadLettersSettings;
use crate::source::{Copied, CopyRows, WantedRow, able};

pub use crate::sink::dead_letters::{Filter as LetterFilter, Letter, Letters, Settled, Stored as StoredLetter};

/// The dead letters of a pipeline. Works beside it, also while it does not run.
pub struct LetterBox {
    settings: Arc<PipelineSettings>,
    letters: Letters,
    most: u64,
}

/// All that became of the wish to replay letters.
pub struct AskedReplay {
    /// The letters whose rows are on their way.
    pub letters: Vec<i64>,
    /// The copies that bring them.
    pub copies: Vec<i64>,
    /// Letters that no copy was asked for, and why.
    pub not_asked: Vec<(i64, Error)>,
    /// Tells whether somebody runs the pipeline.
    pub served: bool,
}

impl LetterBox {
    /// Connects to where the pipeline keeps its letters: in its sink of this name, if it has
    /// several.
    ///
    /// # Errors
    /// `Config` if it keeps none, or in several databases; else as for a pipeline that opens the
    /// sink.
    pub async fn open(settings: Arc<PipelineSettings>, sink: Option<&str>) -> Result<Self> {
        let kept = keeper(&settings, sink)?;
        let (letters, most) = (Letters::open(&settings.name, kept).await?, kept.max_letters);
        Ok(Self { settings, letters, most })
    }

    /// The letters.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// The number of letters that are kept.
    ///
    /// # Errors
    /// Those of their database.
    pub async fn count(&self) -> Result<u64> {
        self.letters.count(self.most).await
    }

    /// The source's side of replays.
    ///
    /// # Errors
    /// `Config` if its rows cannot be asked for.
    pub fn source(&self) -> Result<&dyn CopyRows> {
        let kind = &*self.settings.source;
        able(&self.settings.source_name, kind, kind.rows())
    }

    /// Asks for the rows of letters, as they are now. Whoever runs the pipeline brings them.
    ///
    /// # Errors
    /// Those of the source and of the letters' database.
    pub async fn ask(&self, filter: &LetterFilter) -> Result<AskedReplay> {
        let source = self.source()?;
        let mut done = AskedReplay { letters: Vec::new(), copies: Vec::new(), not_asked: Vec::new(), served: true };
        let wanted = self.letters.wanted(filter).await?;
        let rows: Vec<WantedRow<'_>> =
            wanted.iter().map(|letter| WantedRow { table: &letter.table, key: &letter.key }).collect();
        if rows.is_empty() {
            return Ok(done);
        }
        let newest = self.letters.newest().await?;
        let asked = source.ask_rows(&self.settings.name, &rows).await?;
        let id = |index: &usize| wanted.get(*index).map(|letter| letter.id);
        for (copy, indices) in asked.copies {
            let ids: Vec<i64> = indices.iter().filter_map(id).collect();
            self.letters.replaying(&ids, copy, newest).await?;
            done.copies.push(copy);
            done.letters.extend(ids);
        }
        done.not_asked = asked.refused.into_iter().filter_map(|(index, why)| Some((id(&index)?, why))).collect();
        done.served = asked.served;
        Ok(done)
    }

    /// Settles what replays have left: whoever asked for them may have gone away. The letters may
    /// lie elsewhere than their rows: they are there for whoever asks also while the source cannot
    /// be reached.
    ///
    /// # Errors
    /// Those of the letters' database.
    pub async fn settle(&mut self) -> Result<Settled> {
        let unsettled = self.letters.unsettled().await?;
        if unsettled.is_empty() {
            return Ok(Settled::default());
        }
        let looked = async { self.source()?.follow(&self.settings.name).await?.look(Some(&unsettled)).await };
        match looked.await {
            Ok(copies) => self.take_stock(&unsettled, &copies).await,
            Err(error) => {
                let cause = error.chain();
                tracing::warn!(cause, "what became of earlier replays cannot be said, as the source cannot be asked");
                Ok(Settled::default())
            }
        }
    }

    /// Settles the letters of copies that are done, and lets go of those whose copies failed or are
    /// not known any more.
    ///
    /// # Errors
    /// Those of the letters' database.
    pub async fn take_stock(&mut self, replays: &[i64], copies: &[Copied]) -> Result<Settled> {
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
            self.letters.release(&lost).await?;
        }
        if done.is_empty() { Ok(Settled::default()) } else { self.letters.settle(&done).await }
    }
}

/// The sink that keeps the pipeline's letters.
pub(super) fn keeper<'s>(settings: &'s PipelineSettings, name: Option<&str>) -> Result<&'s DeadLettersSettings> {
    let keepers = settings.sinks.iter().filter_map(|(name, sink)| Some((name, sink.as_kind::<DeadLettersSettings>()?)));
    let keepers: Vec<_> = keepers.filter(|(known, _)| name.is_none_or(|name| name == known.as_str())).collect();
    let mut databases = keepers.iter().map(|(_, sink)| &sink.url);
    let pipeline = &settings.name;
    match (keepers.first(), databases.next()) {
        (Some((_, sink)), Some(first)) if databases.all(|other| other == first) => Ok(sink),
        (Some(_), _) => {
            let names: Vec<String> = keepers.iter().map(|(name, _)| format!("`--sink {name}`")).collect();
            Err(Error::new(Fault::Config, format!("pipeline `{pipeline}` keeps dead letters in several databases"))
                .help(format!("add {}", names.join(" or "))))
        }
        (None, _) => {
            let transform = settings.transforms.keys().next().map_or("embed", String::as_str);
            let which = name.map_or("no sink".to_owned(), |name| format!("no sink `{name}`"));
            let what = format!("pipeline `{pipeline}` has {which} of type `dead-letters`");
            Err(Error::new(Fault::Config, what).help(format!(
                "add one, for the events that are set aside from then on:\n  \
                 rejected: {{ type: dead-letters, inputs: [{transform}.rejected] }}"
            )))
        }
    }
}
