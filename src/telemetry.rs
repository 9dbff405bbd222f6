//! Logs: one place that decides how lines look and where they go.

mod json;
mod lines;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{JsonFields, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Fault, Result};
use crate::printable::{printable, printable_json};

pub use json::error_line;
use lines::Lines;
pub(crate) use lines::limit;

/// True if everything on standard error is to be JSON.
static FOR_MACHINES: AtomicBool = AtomicBool::new(false);

/// The levels that a filter may name.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// The place where live progress lines are drawn.
#[derive(Clone, Debug)]
pub enum Bars {
    /// On the terminal, below the log lines.
    Terminal(MultiProgress),
    /// Nowhere: there is no terminal, or logs are for machines.
    None,
}

/// Sets logging up for the process: to standard error, the level `ours` and above of this program
/// and `warn` of everything else, unless `PGSTREAM_LOG` says otherwise. Answers where progress
/// lines may be drawn.
///
/// # Errors
/// `Config` if `PGSTREAM_LOG` cannot be read.
pub fn init(format: LogFormat, ours: &str) -> Result<Bars> {
    let terminal = std::io::stderr().is_terminal();
    let bars = match format {
        LogFormat::Text if terminal => Bars::Terminal(MultiProgress::new()),
        LogFormat::Text | LogFormat::Json => Bars::None,
    };
    // Qdrant's engine warns of settings that only its server has.
    let usual = || EnvFilter::new(format!("warn,qdrant_edge=error,pgstream_host={ours}"));
    let filter = match std::env::var("PGSTREAM_LOG") {
        Ok(text) if !text.is_empty() => filter(&text)?,
        _ => usual(),
    };
    FOR_MACHINES.store(format == LogFormat::Json, Ordering::Relaxed);
    // Of a terminal that is gone nobody can be told.
    let lines = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(Above { bars: bars.clone(), format });
    // A second call, as in tests, keeps what the first one has set.
    let _ = match format {
        LogFormat::Json => {
            lines.fmt_fields(JsonFields::new()).event_format(json::Lines).finish().with(Lines).try_init()
        }
        LogFormat::Text => {
            let colour = terminal && std::env::var_os("NO_COLOR").is_none();
            // A stranger may have written what stands in a field.
            let fields = debug_fn(|out, field, value| match (field.name(), out.has_ansi_escapes()) {
                ("message", _) => write!(out, "{}", printable(&format!("{value:?}"))),
                (name, true) => write!(out, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{}", printable(&format!("{value:?}"))),
                (name, false) => write!(out, "{name}={}", printable(&format!("{value:?}"))),
            });
            let lines = lines.fmt_fields(fields.delimited(" ")).with_ansi(colour).with_target(false);
            lines.finish().with(Lines).try_init()
        }
    };
    Ok(bars)
}

/// Tells if everything on standard error is to be JSON.
pub fn is_for_machines() -> bool {
    FOR_MACHINES.load(Ordering::Relaxed)
}

/// An error as standard error has it: over several lines for people, or as one line of JSON.
/// `pipeline` is the one that it ends.
pub fn report(pipeline: Option<&str>, error: &Error) -> String {
    if is_for_machines() { json::error(pipeline, error) } else { error.report() }
}

/// Reads `PGSTREAM_LOG`. A word alone that is no level is refused: the crate that reads the filter
/// takes it for a module, and would silence all others.
fn filter(text: &str) -> Result<EnvFilter> {
    let unreadable = || {
        Error::new(Fault::Config, "`PGSTREAM_LOG` cannot be read").help(
            "write a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or several: `warn,pgstream_host=debug`",
        )
    };
    for word in text.split(',').map(str::trim) {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
            || word.parse::<u8>().is_ok_and(|level| level <= 5);
        if !is_level && !word.contains(['=', ':', '[']) && word != "pgstream_host" {
            return Err(unreadable().because(format!("`{}` is no level", word.escape_debug())));
        }
    }
    EnvFilter::try_new(text).map_err(|cause| unreadable().because(cause))
}

/// Writes log lines above the progress lines.
#[derive(Clone)]
struct Above {
    bars: Bars,
    format: LogFormat,
}

impl<'a> MakeWriter<'a> for Above {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Above {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let escaped = match (self.format, std::str::from_utf8(line)) {
            (LogFormat::Json, Ok(line)) => printable_json(line),
            _ => Cow::Borrowed(""),
        };
        let shown = if escaped.is_empty() { line } else { escaped.as_bytes() };
        let write = || std::io::stderr().lock().write_all(shown);
        match &self.bars {
            Bars::Terminal(bars) => bars.suspend(write)?,
            Bars::None => write()?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
