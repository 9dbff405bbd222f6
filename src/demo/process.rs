//! The programs of a private Postgres: as which user they run, and what their failures mean.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Fault, Result};

/// The unprivileged user that the server runs as when we are root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// None unless we are root, whom Postgres refuses to serve. `initdb` looks its user up, so it
    /// must have a name.
    pub(super) fn needed() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let owner = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != "nobody" {
                return None;
            }
            Some(Self { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        });
        let missing = || {
            environment("Postgres refuses to run as root, and there is no user `nobody` to run it as")
                .help("run the command as an ordinary user")
        };
        owner.map(Some).ok_or_else(missing)
    }

    /// Gives a file or folder of ours to the server.
    pub(super) fn take(owner: Option<Self>, path: &Path) -> std::io::Result<()> {
        owner.map_or(Ok(()), |owner| chown(path, Some(owner.uid), Some(owner.gid)))
    }
}

/// In a process group of its own: Ctrl-C on the terminal is for us, the server must outlive our
/// shutdown.
pub(super) fn command(program: PathBuf, folder: &Path, owner: Option<Owner>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name); // PGDATA, PGHOST, PGOPTIONS would steer the tools elsewhere
        }
    }
    command.env("LC_ALL", "C");
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

/// Runs a program to its end and answers what it printed; what it complained about is the cause of
/// the error.
pub(super) fn run(mut command: Command, input: Option<&str>) -> Result<String> {
    let program = PathBuf::from(command.get_program());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|cause| not_runnable(&program, cause))?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A program that ends early closes the pipe; its exit code and complaint say more than our EPIPE.
        scope.spawn(move || stdin.zip(input).map(|(mut stdin, input)| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(|cause| not_runnable(&program, cause))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(environment(format!("`{}` failed ({})", program.display(), output.status))
            .because(std::io::Error::other(complaint)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn environment(what: impl Into<String>) -> Error {
    Error::new(Fault::Environment, what)
}

pub(super) fn not_runnable(program: &Path, cause: std::io::Error) -> Error {
    environment(format!("could not run `{}`", program.display()))
        .because(cause)
        .help("as root, Postgres' binaries must lie where the user `nobody` can read them: not under a home folder")
}
