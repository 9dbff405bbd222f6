//! The command line: what can be asked of the program, and how it answers.

mod run;

mod new;

mod build;

mod inspect;

mod validate;

mod pipeline;

mod pipelines;

mod watch;

mod notify;

mod files;

mod slot;

mod status;

mod reach;

mod reload;

mod steer;

mod search;

mod test;

mod backfill;

mod copies;

mod dlq;

mod progress;

mod signals;

mod mistyped;

mod tap;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::components::REGISTRY;
use crate::config;
use crate::error::{Error, Fault, Result};
use crate::sabotage;
use crate::screen::{self, Screen};
use crate::telemetry::{self, LogFormat};
use crate::transform::compiler;

/// Keeps vector stores in step with Postgres, with your own code in the middle, sandboxed.
#[derive(Debug, Parser)]
#[command(name = "pgstream-host", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The form of log lines: `text` for people, `json` for machines.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    log_format: LogFormat,
}

const EXAMPLES: &str = "\
Examples:
  pgstream-host demo                              watch it work, with no set-up
  pgstream-host validate --connect pipeline.yaml  check all that the file names
  pgstream-host run pipeline.yaml                 keep the sinks in step

Exit codes: 0 fine, 1 failed at run time, 2 the configuration is wrong, 3 the environment is wrong (database unreachable, \
privilege missing), 128 and its number after a second signal: 130 or 143.

Log levels: PGSTREAM_LOG=debug, or per module as in PGSTREAM_LOG=pgstream_host::source=trace.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs pipelines until Ctrl-C.
    #[command(
        after_help = "Example:\n  export DATABASE_URL=postgres://me:secret@localhost/shop\n  pgstream-host run pipelines/postgres-to-pgvector.yaml\n\n  pgstream-host run --watch pipelines/      reloads when a file or a component changes\n\nThe first SIGINT or SIGTERM finishes what was received, confirms it and stops; the second ends at once. SIGHUP reads all files again: pipelines that changed are replaced, a handler that changed is swapped while its stream goes on, a file that is wrong changes nothing."
    )]
    Run(run::Arguments),
    /// Checks pipeline files, and on request everything that they name.
    #[command(
        after_help = "Example:\n  pgstream-host validate pipelines/*.yaml\n  pgstream-host validate --connect --json pipeline.yaml"
    )]
    Validate(validate::Arguments),
    /// Makes publication and slot, without running. `run` does it by itself.
    #[command(
        after_help = "Example:\n  pgstream-host setup pipeline.yaml\n\nA sink that was made anew, or whose embedding model changed, is refused by `run`, as it would lack rows, or mix vectors that cannot be compared. `--accept-sinks` says that all is well."
    )]
    Setup(slot::SetupArguments),
    /// Drops slot and publication. From then on changes are no longer kept for the pipeline. Says what is left.
    #[command(
        after_help = "Example:\n  pgstream-host teardown pipeline.yaml\n  pgstream-host teardown --purge pipeline.yaml\n\nWhat sinks hold stays in any case: each is named with what removes it."
    )]
    Teardown(slot::TeardownArguments),
    /// Begins anew after changes were lost: makes a new slot; the next `run` clears the sinks and copies all rows.
    #[command(
        after_help = "Example:\n  pgstream-host resnapshot pipeline.yaml\n  pgstream-host run pipeline.yaml\n\nFor a slot that is gone or was given up by the server, for a database that was restored from a backup, and whenever the sinks are to be filled from scratch. Stop the pipeline first. Until the copy is complete a search finds only what is copied already. `on_slot_lost: resnapshot` in the source does the same by itself."
    )]
    Resnapshot(slot::Arguments),
    /// Sends rows that are there already through the pipeline once more, while it runs.
    #[command(
        after_help = "Examples:\n  pgstream-host backfill pipeline.yaml\n  pgstream-host backfill pipeline.yaml --table documents --where \"id > 1000\"\n  pgstream-host backfill pipeline.yaml --rate 500 --detach\n  pgstream-host backfill pipeline.yaml --status\n\nWhoever runs the pipeline makes the copy; rows that change meanwhile win over it. After a crash it goes on where it was."
    )]
    Backfill(backfill::Arguments),
    /// Says how pipelines are doing: as the running host tells it, or else as the database does.
    #[command(
        after_help = "Examples:\n  pgstream-host status                   all pipelines of the hosts that this user runs here\n  pgstream-host status pipeline.yaml     also when nothing runs: slot, log that is kept, what is confirmed\n  pgstream-host status --json | jq '.pipelines[] | {name, state}'\n\nExit codes: 0 all is fine; 1 something needs somebody: a pipeline has failed, waits, or is run by nobody; 2 a file is wrong; 3 there is nobody to ask: no host runs and no file is named, or the database cannot be reached."
    )]
    Status(status::Arguments),
    /// Brings a pipeline of a running host to rest. Its slot stays, and Postgres keeps the log for it.
    #[command(
        after_help = "Examples:\n  pgstream-host pause docs --reason \"the store moves\"\n  pgstream-host pause docs --api 127.0.0.1:7433 --token-file ops.token\n\nWhat was received is finished and confirmed before the connection is closed. The rest lasts until `resume`, or until the host ends: one that starts runs all its pipelines. A host that waits for the slot takes over: pause the pipeline there too.\n\nExit codes: 0 it rests; 1 it cannot, as it has failed; 2 no host runs such a pipeline, or the token may not; 3 no host answers."
    )]
    Pause(steer::PauseArguments),
    /// Lets a pipeline that is paused go on where it was.
    #[command(
        after_help = "Example:\n  pgstream-host resume docs\n\nExit codes: 0 it goes on, or ran already; 1 it has failed; 2 no host runs such a pipeline, or the token may not; 3 no host answers."
    )]
    Resume(steer::Arguments),
    /// Stops a pipeline of a running host in order, and starts it again; also one that has failed.
    #[command(
        after_help = "Example:\n  pgstream-host restart docs\n\nIt runs with the settings that it had: `reload` reads its file.\n\nExit codes: 0 it starts; 1 it is paused; 2 no host runs such a pipeline, or the token may not; 3 no host answers."
    )]
    Restart(steer::Arguments),
    /// Has a running host read its files again, as SIGHUP does, and says what became of each pipeline.
    #[command(
        after_help = "Examples:\n  pgstream-host reload --plan           says what would be done, and a hash of it\n  pgstream-host reload --hash 5f2a…     does just that, or nothing if a file has changed since\n  pgstream-host reload\n\nExit codes: 0 done; 1 the plan is another one by now; 2 a file was refused, and what runs stays as it is; 3 no host answers."
    )]
    Reload(reload::Arguments),
    /// Shows, replays and drops dead letters: events that a handler or a sink refused.
    #[command(
        after_help = "Examples:\n  pgstream-host dlq list pipeline.yaml\n  pgstream-host dlq show pipeline.yaml 17\n  pgstream-host dlq replay pipeline.yaml --all\n\nThe pipeline keeps them in a sink of type `dead-letters`:\n  rejected: { type: dead-letters, inputs: [embed.rejected] }"
    )]
    Dlq(dlq::Arguments),
    /// Shows the whole way on a private Postgres: nothing to set up, nothing left behind.
    #[command(after_help = "Example:\n  pgstream-host demo --keep     leave it running to play with")]
    Demo(crate::demo::Arguments),
    /// Asks a sink for the points nearest to a text, embedded as the pipeline embeds.
    #[command(after_help = "Example:\n  pgstream-host search pipelines/demo.yaml \"how do I dry a tent\" --limit 3")]
    Search(search::Arguments),
    /// Writes a handler project that builds at once.
    #[command(
        after_help = "Example:\n  pgstream-host new my-handler --lang python\n  cd my-handler && pgstream-host build && pgstream-host test"
    )]
    New(new::Arguments),
    /// Makes a component of a handler project, with its language's own tools.
    #[command(
        after_help = "Example:\n  pgstream-host build\n  pgstream-host build my-handler --out handlers/my-handler.wasm"
    )]
    Build(build::Arguments),
    /// Shows the events of a pipeline as they commit, with the values of the rows, without disturbing it.
    #[command(
        after_help = "Example:\n  pgstream-host tap pipeline.yaml --table public.documents\n  pgstream-host tap pipeline.yaml --count 20 --record tests/events.jsonl\n\nThe values of rows are shown and recorded as they are. A temporary slot on the pipeline's publication is used, and is gone afterwards, also after a crash; nothing is confirmed for the pipeline, which need not run. If the publication does not exist yet: `pgstream-host setup pipeline.yaml`.\n\nWhat was recorded can be tested: `events: events.jsonl` in a test file of `pgstream-host test`."
    )]
    Tap(tap::Arguments),
    /// Says what a component is, and what it may do.
    #[command(
        after_help = "Example:\n  pgstream-host inspect my-handler.wasm\n  pgstream-host inspect --json my-handler.wasm | jq .can\n\nExit code 2 if this host would refuse it."
    )]
    Inspect(inspect::Arguments),
    /// Tests handlers without a database: events in, expected commands out.
    #[command(
        after_help = "Example:\n  pgstream-host test my-handler\n  pgstream-host test --component handler.wasm tests/edges.yaml --filter unicode\n  pgstream-host test --bless        expect what the handler answers now\n\nExit codes: 0 all as expected, 1 the handler answered otherwise, 2 a test file is wrong or there is none.\n\nThe format of test files: docs/testing-handlers.md"
    )]
    Test(test::Arguments),
    /// Prints the JSON Schema of pipeline files, for editors.
    #[command(after_help = "Example:\n  pgstream-host schema > pipeline.schema.json")]
    Schema,
    /// Prints the completion script of a shell.
    #[command(after_help = "Example:\n  pgstream-host completions bash > /etc/bash_completion.d/pgstream-host")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the program: parses the process's arguments, prints errors to standard error.
pub fn main() -> ExitCode {
    if let Some(code) = compiler::serve() {
        return code;
    }
    raise_the_limit_of_files();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return mistyped::answer(error),
    };
    let ours = match arguments.command {
        Command::Demo(_) => "warn", // it tells its own story
        _ => "info",
    };
    let bars = match telemetry::init(arguments.log_format, ours) {
        Ok(bars) => bars,
        Err(error) => return fail(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return fail(&Error::new(Fault::Environment, "no threads can be started").because(cause)),
    };
    let code = match runtime.block_on(dispatch(arguments.command, bars)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    };
    // Blocking work that is stuck (a file system that hangs) must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    code
}

/// As many open files and sockets as the system lets this process have: the usual first limit of 1024 is for programs that use
/// `select`, and few pipelines reach it.
fn raise_the_limit_of_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

async fn dispatch(command: Command, bars: telemetry::Bars) -> Result<ExitCode> {
    if let Some(breakage) = sabotage::requested()? {
        tracing::warn!(breakage = breakage.name(), "broken on purpose: what this host writes is wrong");
    }
    match command {
        Command::Run(arguments) => run::run(arguments, bars).await,
        Command::Validate(arguments) => validate::run(arguments).await,
        Command::Setup(arguments) => slot::setup(arguments).await,
        Command::Teardown(arguments) => slot::teardown(arguments).await,
        Command::Resnapshot(arguments) => slot::resnapshot(arguments).await,
        Command::Demo(arguments) => Box::pin(crate::demo::run(arguments)).await.map(|()| ExitCode::SUCCESS),
        Command::Backfill(arguments) => backfill::run(arguments, bars).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Pause(arguments) => steer::pause(arguments).await,
        Command::Resume(arguments) => steer::resume(arguments).await,
        Command::Restart(arguments) => steer::restart(arguments).await,
        Command::Reload(arguments) => reload::run(arguments).await,
        Command::Dlq(arguments) => dlq::run(arguments, bars).await,
        Command::Search(arguments) => search::run(arguments).await,
        Command::New(arguments) => blocking(move || new::run(&arguments)).await,
        Command::Inspect(arguments) => blocking(move || inspect::run(&arguments)).await,
        Command::Build(arguments) => blocking(move || build::run(&arguments)).await,
        Command::Tap(arguments) => tap::run(arguments).await,
        Command::Test(arguments) => test::run(arguments).await,
        Command::Schema => print_json(format_args!("{:#}", config::schema(&REGISTRY))),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "pgstream-host", &mut script);
            let mut screen = Screen::new();
            screen.rendered(&String::from_utf8_lossy(&script));
            print(screen)
        }
    }
}

/// Runs a command that waits for files and other programs.
async fn blocking(command: impl FnOnce() -> Result<ExitCode> + Send + 'static) -> Result<ExitCode> {
    let done = tokio::task::spawn_blocking(command).await;
    done.unwrap_or_else(|error| Err(Error::new(Fault::Bug, "the command was cut off").because(error)))
}

/// Prints an error as every command does, and answers with its exit code.
fn fail(error: &Error) -> ExitCode {
    complain(error);
    ExitCode::from(error.fault().exit_code())
}

fn complain(error: &Error) {
    complain_of(None, error);
}

/// As `complain`, of a pipeline; on one line of JSON where logs are for machines.
fn complain_of(pipeline: Option<&str>, error: &Error) {
    screen::complain(&telemetry::report(pipeline, error));
}

/// Writes a command's result. A reader that has gone away (`| head`) is not an error.
fn print(screen: Screen) -> Result<ExitCode> {
    screen.print().map(|_| ExitCode::SUCCESS)
}

/// Writes a command's result as JSON.
fn print_json(json: impl std::fmt::Display) -> Result<ExitCode> {
    let mut screen = Screen::new();
    screen.json(json);
    print(screen)
}

/// Writes a command's result of one line.
fn print_line(line: impl std::fmt::Display) -> Result<ExitCode> {
    print_lines([line])
}

/// Writes a command's result, a line for each item.
fn print_lines(lines: impl IntoIterator<Item = impl std::fmt::Display>) -> Result<ExitCode> {
    let mut screen = Screen::new();
    lines.into_iter().for_each(|line| screen.line(line));
    print(screen)
}

/// Prints the problems of a file.
fn show(diagnostics: &config::Diagnostics) -> ExitCode {
    if telemetry::is_for_machines() {
        for problem in diagnostics.problems() {
            let fields = serde_json::to_value(problem).unwrap_or_default();
            screen::complain(&telemetry::error_line(diagnostics.file(), fields));
        }
        return ExitCode::from(Fault::Config.exit_code());
    }
    screen::complain(&diagnostics.render(screen::complains_in_colours()));
    ExitCode::from(Fault::Config.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_parses_and_shows_an_example() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            let help = sub.render_help().to_string();
            assert!(help.contains("Example"), "{}: {help}", sub.get_name());
        }
    }
}
