//! `Compiler`: where components become machine code: in a process of its own, within a limit of
//! memory and one of time.
//!
//! A component that is small and valid can still keep the compiler busy for minutes and take
//! gigabytes: no count made beforehand tells all of them. So the compiler runs beside the host, as
//! the same program with another task. It gets the component through a pipe and gives machine code
//! back through another; it has no secrets, an empty environment and no rights, and ends with the
//! host.
//!
//! The host executes the code that it answers. wasmtime compares its version and its settings with
//! the engine's, and that is all that can be checked: nobody can tell from machine code if it keeps
//! within its memory. So the answer is worth as much as the compiler, like one that ran here.

mod cell;
mod child;

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::artifact::Authentic;
use super::effort;
use super::words::presentable;

pub use child::serve;

/// Memory that compiling one component may take, unless said otherwise: several times what Python
/// takes.
pub(crate) const MEMORY: u64 = 2 << 30;

/// CPU time that compiling one component may take, over all its threads, unless said otherwise.
pub(crate) const TIME: Duration = Duration::from_secs(120);

/// The longest life of a compiler, as a multiple of the CPU time that it may take: it has a low
/// priority, and may have to wait for others.
const WAIT: u32 = 10;

/// Functions that are compiled at once: each takes memory of its own.
const THREADS: usize = 8;

/// Bytes of what a compiler that fails complains about.
const COMPLAINT: u64 = 2048;

/// Said once: it is the same for all.
static UNCONFINED: Once = Once::new();

/// A way to compile components: in this process, or in processes of their own with limits of memory
/// and CPU time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    program: Option<PathBuf>,
    memory: u64,
    time: Duration,
}

/// The reason why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It is not even tried.
    #[error("{0}")]
    Excess(String),
    #[error("{0}")]
    Refused(String),
    #[error("compiling it takes more than {0:?} of CPU time")]
    Time(Duration),
    /// Bytes.
    #[error("compiling it takes more than {} of memory", super::words::size(*.0 as usize))]
    Memory(u64),
    #[error("the compiler crashed on it: {0}")]
    Crashed(String),
    #[error("the system ended the compiler")]
    Killed,
    #[error("the compiler could not be started")]
    NotStarted(#[source] std::io::Error),
}

impl Compiler {
    /// Compiles in this process, where nothing bounds what it takes: for components that one wrote
    /// oneself.
    pub fn in_process() -> Self {
        Self { program: None, memory: MEMORY, time: TIME }
    }

    /// Compiles in processes of the program `pgstream-host` at `path`.
    pub fn program(path: impl Into<PathBuf>) -> Self {
        Self { program: Some(path.into()), ..Self::in_process() }
    }

    /// Compiles in processes of the program that runs now, which must be `pgstream-host`.
    pub fn this_program() -> Self {
        if cfg!(target_os = "linux") {
            return Self::program("/proc/self/exe"); // also when the file was replaced by another version meanwhile
        }
        std::env::current_exe().map_or_else(|_| Self::program("pgstream-host"), Self::program)
    }

    /// With at most so many bytes of memory and so much CPU time, in whole seconds, for each
    /// component.
    #[must_use]
    pub fn within(self, memory: u64, time: Duration) -> Self {
        Self { memory, time: Duration::from_secs(time.as_secs().max(1)), ..self }
    }

    /// Machine code of the component in `bytes`.
    pub(super) fn compile(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        match &self.program {
            Some(program) => {
                let artifact = self.ask(program, bytes).map_err(wasmtime::Error::new)?;
                Authentic::made_by_our_compiler(artifact).component(engine)
            }
            None => {
                if let Some(excess) = effort::excess_within(bytes) {
                    return Err(wasmtime::Error::new(Failure::Excess(excess)));
                }
                Component::from_binary(engine, bytes)
                    .map_err(|error| wasmtime::Error::new(Failure::Refused(error.root_cause().to_string())))
            }
        }
    }

    /// Has a process compile, and waits for it on this thread.
    fn ask(&self, program: &Path, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let mut child = Command::new(program)
            .arg0("pgstream-host")
            .args([child::TASK, &self.memory.to_string(), &self.time.as_secs().to_string()])
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Failure::NotStarted)?;
        let (answer, late) = converse(&mut child, bytes, self.memory, self.time.saturating_mul(WAIT));
        let status = child.wait().map_err(Failure::NotStarted)?;
        self.judge(status, late, answer)
    }

    fn judge(&self, status: ExitStatus, late: bool, answer: Answer) -> Result<Vec<u8>, Failure> {
        const XCPU: i32 = rustix::process::Signal::XCPU.as_raw();
        const KILL: i32 = rustix::process::Signal::KILL.as_raw();
        let Answer { mut said, complaint } = answer;
        if status.success() && !said.is_empty() {
            let kind = said.remove(0);
            let words = |said: &[u8]| String::from_utf8_lossy(said).into_owned();
            if complaint.starts_with(child::LACKING) {
                let lacking = presentable(complaint.trim(), COMPLAINT as usize);
                UNCONFINED.call_once(|| {
                    tracing::warn!(lacking, "components are compiled in a process with more rights than it needs");
                });
            }
            return match kind {
                child::ARTIFACT => Ok(said),
                child::EXCESS => Err(Failure::Excess(words(&said))),
                child::MEMORY => Err(Failure::Memory(self.memory)),
                _ => Err(Failure::Refused(words(&said))),
            };
        }
        // Rust's own words when memory is refused; the threads of a pool fail to start for the same reason.
        if ["memory allocation of", "os error 12", "os error 11"].iter().any(|words| complaint.contains(words)) {
            return Err(Failure::Memory(self.memory));
        }
        match status.signal() {
            _ if late => Err(Failure::Time(self.time)),
            Some(XCPU) => Err(Failure::Time(self.time)),
            Some(KILL) => Err(Failure::Killed),
            _ => Err(Failure::Crashed(format!("{status}: {}", presentable(complaint.trim(), COMPLAINT as usize)))),
        }
    }
}

/// The words of a compiler: its answer, and its complaint.
struct Answer {
    said: Vec<u8>,
    complaint: String,
}

/// Gives the compiler its task and hears its answer. Ends it if it is too late, which is the second
/// half of the result.
fn converse(child: &mut Child, bytes: &[u8], most: u64, patience: Duration) -> (Answer, bool) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let id = rustix::process::Pid::from_child(child);
    let (done, waiting) = mpsc::sync_channel::<()>(1);
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let late = waiting.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if late {
                // Nobody has asked for its status yet, so the number is still its own.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
            late
        });
        let complaint = scope.spawn(move || {
            let mut complaint = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(COMPLAINT).read_to_end(&mut complaint);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&complaint).into_owned()
        });
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(bytes); // one that does not want to hear all says why
        }
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(most).read_to_end(&mut said);
        }
        let complaint = complaint.join().unwrap_or_default();
        drop(done);
        (Answer { said, complaint }, watch.join().unwrap_or_default())
    })
}
