//! The program: parses its arguments, runs the command, prints the error, answers with an exit
//! code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgstream_host::cli::main()
}
