//! `pgstream-host dlq`: dead letters shown, replayed and dropped.

mod replay;
mod show;

use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use super::pipeline::PipelineFile;
use super::{print, print_json, print_line};
use crate::config::{Span, qualified};
use crate::error::{Error, Fault, Result};
use crate::host::{LetterBox, LetterFilter, Letters};
use crate::telemetry::Bars;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists the letters, without the values of their rows.
    #[command(after_help = "Example:\n  pgstream-host dlq list pipeline.yaml --code trap --since 2h")]
    List {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        filters: Filters,
        /// Prints each letter as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows a letter with its event and the values of its row, and says what to do.
    #[command(after_help = "Example:\n  pgstream-host dlq show pipeline.yaml 17")]
    Show {
        #[command(flatten)]
        file: File,
        /// The letter's number.
        id: i64,
        /// Prints it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Brings the rows of letters through the running pipeline once more, as they are now.
    #[command(
        after_help = "Examples:\n  pgstream-host dlq replay pipeline.yaml 17 18\n  pgstream-host dlq replay pipeline.yaml --all\n  pgstream-host dlq replay pipeline.yaml --code sink --table public.documents\n\nWhoever runs the pipeline reads each row as it is now; one that is gone becomes a delete, and a row that changes meanwhile wins. A letter goes once its row is durable in all sinks; one whose row is refused again stays, with the new reason.\n\nExit codes: 0 all came through, 1 some were refused again or cannot be replayed."
    )]
    Replay {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        chosen: Chosen,
        /// Returns at once; the next `dlq` command says what became of it.
        #[arg(long)]
        detach: bool,
        /// Prints the outcome as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Removes letters for good. The sinks stay without what their rows asked for.
    #[command(
        after_help = "Examples:\n  pgstream-host dlq drop pipeline.yaml 17 18\n  pgstream-host dlq drop pipeline.yaml --table public.drafts"
    )]
    Drop {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        chosen: Chosen,
        /// Prints how many as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct File {
    #[command(flatten)]
    file: PipelineFile,
    /// The sink of type `dead-letters`, if the file has several in different databases.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Filters {
    /// Only events of this table, as `schema.table`.
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only letters with this code: `rejected`, `trap`, `deadline`, `wait`, `memory`, `output`, `embed`, `text`, `contract`, `sink`, `line`.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Only rejected events of this transform.
    #[arg(long, value_name = "NAME")]
    transform: Option<String>,
    /// Only letters from then on: `2h` for the last two hours, or a time such as `2026-01-31` or `2026-01-31 12:00`.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl Filters {
    fn any(&self) -> bool {
        [&self.table, &self.code, &self.transform, &self.since].into_iter().any(Option::is_some)
    }

    fn filter(self) -> LetterFilter {
        let Self { table, code, transform, since } = self;
        let table = table.as_deref().map(qualified);
        LetterFilter { table, code, transform, since: since.map(time), ..LetterFilter::default() }
    }
}

/// A span of time as the moment when it began; all else as it is, for Postgres to read.
fn time(text: String) -> String {
    let began = Span::from_str(&text).ok().and_then(|span| SystemTime::now().checked_sub(span.0));
    began.and_then(|began| jiff::Timestamp::try_from(began).ok()).map_or(text, |began| began.to_string())
}

/// Letters by number, by what they have in common, or all.
#[derive(Debug, clap::Args)]
struct Chosen {
    /// Numbers of letters.
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// All letters of the pipeline.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filters: Filters,
}

impl Chosen {
    /// The filter, with letters behind each number.
    async fn filter(self, letters: &Letters) -> Result<LetterFilter> {
        let Self { ids, all, filters } = self;
        if ids.is_empty() && !all && !filters.any() {
            return Err(Error::new(Fault::Config, "no letter is named")
                .help("name numbers from `dlq list`, or a filter such as `--table public.documents`, or `--all`"));
        }
        if ids.is_empty() {
            return Ok(filters.filter());
        }
        let filter = LetterFilter { ids: Some(ids.clone()), ..filters.filter() };
        let found = letters.find(&filter).await?;
        let missing: Vec<i64> = ids.into_iter().filter(|id| !found.iter().any(|letter| letter.id == *id)).collect();
        if missing.is_empty() { Ok(filter) } else { Err(letters.missing(&missing)) }
    }
}

pub(super) async fn run(arguments: Arguments, bars: Bars) -> Result<ExitCode> {
    let (Command::List { file, .. }
    | Command::Show { file, .. }
    | Command::Replay { file, .. }
    | Command::Drop { file, .. }) = &arguments.command;
    let settings = match file.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let settings = Arc::new(settings);
    let mut kept = LetterBox::open(Arc::clone(&settings), file.sink.as_deref()).await?;
    replay::settle(&mut kept).await?;
    let letters = kept.letters();
    match arguments.command {
        Command::List { filters, json, .. } => {
            let found = letters.find(&filters.filter()).await?;
            print(show::list(&found, json))
        }
        Command::Show { file, id, json } => {
            let stored = letters.get(id).await?;
            print(show::letter(&settings, &file.file.typed(), &stored, json))
        }
        Command::Replay { chosen, detach, json, .. } => {
            let filter = chosen.filter(letters).await?;
            replay::Order { name: &settings.name, detach, json }.run(&mut kept, &filter, bars).await
        }
        Command::Drop { chosen, json, .. } => {
            let filter = chosen.filter(letters).await?;
            let dropped = letters.drop(&filter).await?;
            match json {
                true => print_json(serde_json::json!({ "dropped": dropped })),
                false => print_line(format_args!("{} dropped", show::count(dropped as usize))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_moment_and_a_time_is_left_to_the_server() {
        assert_eq!(time("2026-01-31 12:00".into()), "2026-01-31 12:00");
        let ago: jiff::Timestamp = time("2h".into()).parse().unwrap();
        let seconds = jiff::Timestamp::now().as_second() - ago.as_second();
        assert!((7200..7260).contains(&seconds), "{seconds}");
    }
}
