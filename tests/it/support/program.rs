//! The real program as a child process: started, watched, killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a condition may take to come true on a busy machine. Nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The repository's root: where the README's commands are typed.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command of the program, to be run to its end.
pub(crate) fn pgstream<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgstream-host"));
    command.args(arguments).current_dir(root()).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// `pgstream-host run`, alive until killed or dropped.
pub(crate) struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Running {
    /// Runs the pipeline in `file`.
    pub(crate) fn start(file: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_with(&["run"], file, environment)
    }

    /// As `start`, with arguments of the test's own before the file.
    pub(crate) fn start_with(arguments: &[&str], file: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = pgstream(arguments.iter().copied());
        command.arg(file).envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// As `start`, by a command of the test's own.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, copy) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut copy = copy.lock().unwrap();
                copy.push_str(&line);
                copy.push('\n');
            }
        });
        Self { child, log, reader }
    }

    /// What the program has said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the program has said `text`; fails with its log if it ends before.
    pub(crate) async fn said(&mut self, text: &str) {
        eventually(&format!("the program says `{text}`"), async || {
            let ended = self.exit().is_some();
            let log = self.log();
            let said = log.contains(text);
            assert!(said || !ended, "ended without saying `{text}`:\n{log}");
            said
        })
        .await;
    }

    /// How the program ended, if it has, and if all that it said is in the log.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap();
        status.filter(|_| self.reader.is_finished())
    }

    /// The program's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no chance to finish anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for the program to end on its own.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, String) {
        let mut status = None;
        eventually("the program ends", async || {
            status = self.exit();
            status.is_some()
        })
        .await;
        (status.unwrap(), self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the program ---\n{}", self.log());
        }
    }
}

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A folder for one test, removed at its end.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file and answers where it is.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
