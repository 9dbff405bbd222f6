//! The compiler's own process: bounds itself, reads a component, answers with machine code or with
//! the reason why there is none.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::cell;
use crate::transform::{effort, engine};

/// The first argument of a process that has nothing to do but to compile.
pub(super) const TASK: &str = "compile-component";

/// The first byte of an answer.
pub(super) const ARTIFACT: u8 = b'A';
pub(super) const EXCESS: u8 = b'X';
pub(super) const MEMORY: u8 = b'M';
pub(super) const REFUSED: u8 = b'R';

/// The beginning of the complaint of a compiler that does its work all the same.
pub(super) const LACKING: &str = "the system lacks ";

/// Descriptors that a compiler may have: what it is born with, and a few to read about the machine.
const FILES: u64 = 32;

/// The nice value of a compiler, above that of its host: it is less urgent.
const NICE: i32 = 5;

/// Compiles, if the process was started for that. None if not: then it is to be an ordinary
/// `pgstream-host`.
pub fn serve() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != TASK {
        return None;
    }
    let number = |text: Option<OsString>| text?.to_str()?.parse::<u64>().ok();
    let (Some(memory), Some(seconds)) = (number(arguments.next()), number(arguments.next())) else {
        eprintln!("this is for `pgstream-host` itself to call");
        return Some(ExitCode::FAILURE);
    };
    match confine(memory, seconds).and_then(|()| cell::enter()) {
        Ok(lacking) if lacking.is_empty() => {}
        Ok(lacking) => eprintln!("{LACKING}{}", lacking.join(", ")),
        Err(error) => {
            eprintln!("the compiler cannot be confined: {error}");
            return Some(ExitCode::FAILURE);
        }
    }
    let (kind, answer) = answer();
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&[kind]).and_then(|()| out.write_all(&answer)).and_then(|()| out.flush());
    Some(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Nothing that the component brings about can take more than this, nor outlive the host.
fn confine(memory: u64, seconds: u64) -> std::io::Result<()> {
    let limit = |resource, limit: u64| setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let _ = rustix::process::nice(NICE); // where it may not even be humble, it is not
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, FILES)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Data, memory)?;
    // The first signal ends it; the second one would if somebody had taught it to ignore the first.
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds.saturating_add(1)) })?;
    Ok(())
}

fn answer() -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    if let Err(error) = std::io::stdin().lock().take(effort::COMPONENT_BYTES).read_to_end(&mut bytes) {
        return refused(&error.to_string());
    }
    if let Some(excess) = effort::excess_within(&bytes) {
        return (EXCESS, excess.into_bytes());
    }
    match engine::that_only_compiles().and_then(|engine| engine.precompile_component(&bytes)) {
        Ok(artifact) => (ARTIFACT, artifact),
        Err(error) => refused(&error.root_cause().to_string()),
    }
}

fn refused(why: &str) -> (u8, Vec<u8>) {
    let kind = if why.contains("os error 12") { MEMORY } else { REFUSED };
    (kind, why.as_bytes().to_vec())
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    /// Tells a probe where what it must not reach is.
    const PROBE: &str = "PGSTREAM_HOST_TEST_CELL";

    /// Passes on its own. In a process that was started for that it enters the cell and tries what
    /// a component would that has taken the compiler over.
    #[test]
    fn a_probe() {
        let Ok(place) = std::env::var(PROBE) else { return };
        let [port, part, folder] = *place.splitn(3, ' ').collect::<Vec<_>>() else { panic!("{place}") };
        let folder = Path::new(folder);
        let parent = rustix::process::getppid().unwrap();
        confine(1 << 30, 60).unwrap();
        let lacking = if part == "whole" { cell::enter() } else { cell::landlock_alone() }.unwrap();
        let mut said = format!("lacking {lacking:?}\n");
        let mut note = |what: &str, done: bool| said += &format!("{what} {}\n", if done { "DONE" } else { "refused" });
        note("read", std::fs::read("/etc/passwd").is_ok());
        note("read its memory", std::fs::read("/proc/self/maps").is_ok());
        note("list", std::fs::read_dir("/").is_ok());
        note("write", std::fs::write(folder.join("made"), "").is_ok());
        note("remove", std::fs::remove_file(folder.join("there")).is_ok());
        note("connect", TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        note("connect to a socket", UnixStream::connect(folder.join("socket")).is_ok());
        note("listen", TcpListener::bind("127.0.0.1:0").is_ok());
        note("start a program", Command::new("/bin/true").spawn().is_ok());
        note("signal its parent", rustix::process::test_kill_process(parent).is_ok());
        note("raise a limit", setrlimit(Resource::Nofile, Rlimit { current: Some(9), maximum: Some(9) }).is_ok());
        let engine = engine::that_only_compiles().unwrap();
        let module = wat::parse_str("(component (core module (func (result i32) i32.const 1)))").unwrap();
        note("compile", engine.precompile_component(&module).is_ok());
        note("compute on threads", std::thread::spawn(|| ()).join().is_ok());
        std::io::stderr().write_all(said.as_bytes()).unwrap();
    }

    /// Returns what the probe could do within a part of the cell, what it could not, and all that
    /// it said.
    fn probe(part: &str) -> (Vec<String>, Vec<String>, String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("there"), "").unwrap();
        let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = format!("{} {part} {}", server.local_addr().unwrap().port(), folder.path().display());
        let probe = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "transform::compiler::child::tests::a_probe", "--nocapture", "--test-threads=1"])
            .env_clear()
            .env(PROBE, place)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(probe.stderr).unwrap();
        let with = |end: &str| said.lines().filter_map(|line| line.strip_suffix(end)).map(str::to_owned).collect();
        (with(" DONE"), with(" refused"), said)
    }

    #[test]
    fn a_compiler_that_is_taken_over_finds_nothing() {
        let (can, cannot, said) = probe("whole");
        assert_eq!(can, ["compile", "compute on threads"], "{said}");
        assert_eq!(cannot.len(), 11, "{said}");
    }

    #[test]
    fn files_and_the_network_are_closed_twice_where_the_kernel_can() {
        let (_, cannot, said) = probe("landlock");
        if !said.contains("lacking [\"Landlock") {
            for what in ["read", "read its memory", "list", "write", "remove"] {
                assert!(cannot.iter().any(|refused| refused == what), "{said}");
            }
        }
    }
}
