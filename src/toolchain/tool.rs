//! `Tool`: a program of a language's toolchain, run to its end; what it says is shown only if it
//! fails.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Fault, Result};

/// Bytes of a failed tool's output that are shown: the first mistakes are what counts.
const SHOWN_BYTES: usize = 256 << 10;

/// Bytes of a tool's answer that are kept: cargo names every file that it made.
const ANSWER_BYTES: usize = 16 << 20;

/// A program to run, and what to tell a person who does not have it.
pub(super) struct Tool {
    command: Command,
    name: String,
    install: String,
}

impl Tool {
    /// `program` is a name to be found on `PATH`, or a path. `install` says how to get it, with the
    /// command to type.
    pub(super) fn new(program: impl AsRef<OsStr>, install: impl Into<String>) -> Self {
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, name, install: install.into() }
    }

    /// Runs it in `folder`.
    pub(super) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(super) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(super) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(super) fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it to its end. If it fails, all that it said goes to standard error, and the error is
    /// the handler's.
    pub(super) fn run(self) -> Result<()> {
        self.start(false).map(drop)
    }

    /// As `run`; answers with what it wrote to standard output.
    pub(super) fn output(self) -> Result<String> {
        self.start(true)
    }

    fn start(mut self, keep: bool) -> Result<String> {
        let unable = |cause| Error::new(Fault::Environment, "no pipe could be made").because(cause);
        let (mut said, theirs) = std::io::pipe().map_err(unable)?;
        self.command.stderr(theirs.try_clone().map_err(unable)?);
        if keep {
            drop(theirs);
            self.command.stdout(Stdio::piped());
        } else {
            self.command.stdout(theirs);
        }
        let mut child = self.command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(Fault::Environment, format!("`{}` is not installed, or not on PATH", self.name))
                    .help(self.install.as_str())
            }
            _ => Error::new(Fault::Environment, format!("`{}` cannot be run", self.name)).because(error),
        })?;
        // The command keeps its ends of the pipe open, which then would never end.
        let Self { command, name, .. } = self;
        drop(command);
        let stdout = child.stdout.take();
        let reader =
            std::thread::spawn(move || stdout.map(|mut stdout| read(&mut stdout, ANSWER_BYTES)).unwrap_or_default());
        let said = read(&mut said, SHOWN_BYTES);
        let written = reader.join().unwrap_or_default();
        let status = child
            .wait()
            .map_err(|error| Error::new(Fault::Environment, format!("`{name}` was lost sight of")).because(error))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&written).into_owned());
        }
        let mut stderr = std::io::stderr().lock();
        // What was meant to be read by this program is shown only if nothing else is.
        let told = if said.is_empty() { [written, said] } else { [said, Vec::new()] };
        for output in told {
            let _ = stderr.write_all(&output);
            if !output.is_empty() && !output.ends_with(b"\n") {
                let _ = stderr.write_all(b"\n");
            }
        }
        Err(Error::new(Fault::Handler, format!("`{name}` failed: {status}")).help("what it said stands above"))
    }
}

/// Reads to the end, keeps the beginning.
fn read(from: &mut impl Read, most: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = from.by_ref().take(most as u64).read_to_end(&mut kept);
    let _ = std::io::copy(from, &mut std::io::sink());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_writes_is_the_answer_and_a_missing_one_is_told() {
        let sh = |script: &str| Tool::new("sh", "install a shell").args(["-c", script]);
        assert_eq!(sh("echo out; echo err >&2").output().unwrap(), "out\n");
        sh("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2").run().unwrap();
        let error = sh("exit 3").run().unwrap_err();
        assert_eq!((error.fault(), error.to_string()), (Fault::Handler, "`sh` failed: exit status: 3".to_owned()));
        let error = Tool::new("no-such-tool", "type this").run().unwrap_err();
        assert_eq!((error.fault(), error.advice()), (Fault::Environment, Some("type this")));
    }
}
