//! `pgstream-host backfill`: rows that are there already go through the pipeline once more, while it runs.

use std::process::ExitCode;

use indicatif::{HumanBytes, HumanCount};

use super::copies::{all_known, follow};
use super::pipeline::PipelineFile;
use super::print;
use crate::error::{Error, Fault, Result};
use crate::screen::Screen;
use crate::source::{Copied, CopyRequest, able};
use crate::telemetry::Bars;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: PipelineFile,
    /// A table of the source, as `schema.table`; can be given several times. Default: all of them.
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Only rows for which this SQL condition holds. Functions that are not Postgres' own need the name of their schema.
    #[arg(long = "where", value_name = "SQL")]
    filter: Option<String>,
    /// At most so many rows a second of each table, to spare the database.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Returns at once; the copy goes on with the pipeline.
    #[arg(long)]
    detach: bool,
    /// Asks for nothing; shows how far the copies have come.
    #[arg(long, conflicts_with_all = ["tables", "filter", "rate", "detach"])]
    status: bool,
    /// Prints each copy as a line of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, bars: Bars) -> Result<ExitCode> {
    let settings = match arguments.file.load()? {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let (name, kind) = (&settings.name, &*settings.source);
    let source = able(&settings.source_name, kind, kind.rows())?;
    if arguments.status {
        return print(lines(&source.follow(name).await?.look(None).await?, arguments.json));
    }
    let Arguments { tables, filter, rate, detach, json, .. } = arguments;
    let request = CopyRequest { tables, filter, rows_per_second: rate };
    let (numbers, served) = source.ask_copy(name, &request).await?;
    if detach {
        return print(lines(&source.follow(name).await?.look(Some(&numbers)).await?, json));
    }
    if !served {
        tracing::warn!("nobody runs pipeline `{name}` now; the rows are copied as soon as somebody does");
    }
    let done = follow(source.follow(name).await?.as_mut(), &numbers, bars).await?;
    print(lines(&done, json))?;
    all_known(&numbers, &done)?;
    match done.iter().find_map(|copy| copy.error.as_ref()) {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => Err(Error::new(Fault::Config, "a table cannot be copied")
            .because(why.clone())
            .help("correct the request, and ask again")),
    }
}

fn lines(copies: &[Copied], json: bool) -> Screen {
    let mut screen = Screen::new();
    copies.iter().for_each(|copy| if json { screen.json(json_line(copy)) } else { screen.line(line(copy)) });
    screen
}

fn line(copy: &Copied) -> String {
    let Copied { table, rows, bytes, expected, done, error, .. } = copy;
    let (rows, bytes) = (HumanCount(*rows), HumanBytes(*bytes));
    match (error, done, expected) {
        (Some(why), ..) => format!("{table}: failed after {rows} rows: {why}"),
        (_, true, _) => format!("{table}: {rows} rows copied ({bytes})"),
        (_, _, Some(expected)) => format!("{table}: {rows} of about {} rows ({bytes})", HumanCount(*expected)),
        _ => format!("{table}: {rows} rows so far ({bytes})"),
    }
}

fn json_line(copy: &Copied) -> serde_json::Value {
    let Copied { id, table, rows, bytes, expected, done, error } = copy;
    serde_json::json!({
        "id": id, "table": table, "rows": rows, "bytes": bytes, "expected": expected, "done": done, "error": error,
    })
}
