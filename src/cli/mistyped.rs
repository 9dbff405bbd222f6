//! Answers to arguments that the program does not have, but other programs do.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::fail;
use crate::error::{Error, Fault};

/// Prints the error, and answers with the exit code. Help and version come this way, too.
pub(super) fn answer(error: clap::Error) -> ExitCode {
    match meant(&error) {
        Some(error) => fail(&error),
        None => {
            // A terminal that is gone needs no answer.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        }
    }
}

/// The sentence for an argument that people bring along from other programs.
fn meant(error: &clap::Error) -> Option<Error> {
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return None;
    };
    let name = argument.split('=').next().unwrap_or_default();
    let help = match name {
        "-c" | "-f" | "--config" | "--file" => "the pipeline file stands by itself: `pgstream-host run pipeline.yaml`",
        "-v" | "-vv" | "--verbose" | "-q" | "--quiet" | "--log-level" => {
            "the log's level is an environment variable: `PGSTREAM_LOG=debug pgstream-host …`; the version: `--version`"
        }
        "-d" | "--daemon" | "--detach" => {
            "let systemd or a container run it; it stays in the foreground and logs to standard error"
        }
        _ => return None,
    };
    Some(Error::new(Fault::Config, format!("there is no argument `{name}` here")).help(help))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn what_other_programs_have_is_told_from_what_nobody_has() {
        let asked = |arguments: &[&str]| {
            let error = Arguments::try_parse_from(["pgstream-host"].iter().chain(arguments)).unwrap_err();
            meant(&error).map(|error| error.report())
        };
        for arguments in [["run", "-c", "a.yaml"], ["run", "-f", "a.yaml"], ["validate", "--config=a.yaml", "b"]] {
            let said = asked(&arguments).unwrap();
            assert!(said.contains("`pgstream-host run pipeline.yaml`"), "{said}");
        }
        assert!(asked(&["run", "-v", "a.yaml"]).unwrap().contains("PGSTREAM_LOG=debug"));
        assert_eq!(asked(&["run", "--nonsense"]), None);
        assert_eq!(asked(&["--help"]), None);
    }
}
