//! `pgstream-host backfill`: rows that are there already go through the pipeline once more, while it runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use super::{load, print};
use crate::config::model;
use crate::error::{Error, Fault, Result};
use crate::source::postgres::{self, Copied, CopyRequest};
use crate::telemetry::Bars;

/// How often the ledger is asked how far the copies have come.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A table of the source, as `schema.table`; can be given several times. Default: all of them.
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Only rows for which this SQL condition holds.
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
    let settings = match load(&arguments.file) {
        Ok(settings) => settings,
        Err(code) => return Ok(code),
    };
    let (_, model::Source::Postgres(source)) = &settings.source;
    let name = &settings.name;
    if arguments.status {
        return print(&lines(&postgres::copied(name, source, None).await?, arguments.json));
    }
    let Arguments { tables, filter, rate, detach, json, .. } = arguments;
    let request = CopyRequest { tables, filter, rows_per_second: rate };
    let (numbers, served) = postgres::ask_copy(name, source, &request).await?;
    if detach {
        return print(&lines(&postgres::copied(name, source, Some(&numbers)).await?, json));
    }
    if !served {
        tracing::warn!("nobody runs pipeline `{name}` now; the rows are copied as soon as somebody does");
    }
    let done = follow(name, source, &numbers, bars).await?;
    print(&lines(&done, json))?;
    match done.iter().find_map(|copy| copy.error.as_ref()) {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => Err(Error::new(Fault::Config, "a table cannot be copied")
            .because(why.clone())
            .help("correct the request, and ask again")),
    }
}

/// Shows progress until all copies have ended.
async fn follow(name: &str, source: &model::PostgresSource, numbers: &[i64], bars: Bars) -> Result<Vec<Copied>> {
    let drawn = match bars {
        Bars::Terminal(bars) => bars,
        Bars::None => MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()),
    };
    let mut shown: Vec<ProgressBar> = Vec::new();
    loop {
        let copies = postgres::copied(name, source, Some(numbers)).await?;
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

fn bar(copy: &Copied) -> ProgressBar {
    let template = "{prefix}  {wide_bar}  {human_pos}/{human_len} rows  {msg}  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(copy.expected.unwrap_or(0)).with_style(style).with_prefix(copy.table.clone())
}

fn lines(copies: &[Copied], json: bool) -> String {
    copies.iter().map(|copy| if json { json_line(copy) } else { line(copy) }).collect()
}

fn line(copy: &Copied) -> String {
    let Copied { table, rows, bytes, expected, done, error, .. } = copy;
    let (rows, bytes) = (HumanCount(*rows), HumanBytes(*bytes));
    match (error, done, expected) {
        (Some(why), ..) => format!("{table}: failed after {rows} rows: {why}\n"),
        (_, true, _) => format!("{table}: {rows} rows copied ({bytes})\n"),
        (_, _, Some(expected)) => format!("{table}: {rows} of about {} rows ({bytes})\n", HumanCount(*expected)),
        _ => format!("{table}: {rows} rows so far ({bytes})\n"),
    }
}

fn json_line(copy: &Copied) -> String {
    let Copied { id, table, rows, bytes, expected, done, error } = copy;
    let json = serde_json::json!({
        "id": id, "table": table, "rows": rows, "bytes": bytes, "expected": expected, "done": done, "error": error,
    });
    format!("{json}\n")
}
