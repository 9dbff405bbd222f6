//! The compiler's own process: bounds itself, reads a component, answers with machine code or with the reason why there is none.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::transform::{effort, engine, load};

/// The first argument of a process that has nothing to do but to compile.
pub(super) const TASK: &str = "compile-component";

/// The first byte of an answer.
pub(super) const ARTIFACT: u8 = b'A';
pub(super) const EXCESS: u8 = b'X';
pub(super) const MEMORY: u8 = b'M';
pub(super) const REFUSED: u8 = b'R';

/// Descriptors that a compiler may have: what it is born with, and a few to read about the machine.
const FILES: u64 = 32;

/// How much less urgent than its host a compiler is.
const NICE: i32 = 5;

/// Compiles, if the process was started for that. None if not: then it is to be an ordinary `pgstream-host`.
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
    if let Err(error) = confine(memory, seconds) {
        eprintln!("the compiler cannot be confined: {error}");
        return Some(ExitCode::FAILURE);
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
    if let Err(error) = std::io::stdin().lock().take(load::COMPONENT_BYTES).read_to_end(&mut bytes) {
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
