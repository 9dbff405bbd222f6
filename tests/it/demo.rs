//! `pgstream-host demo`, as a newcomer runs it: what it says, and that it leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::postgres_bin;

/// A terminal that people use shows the whole story.
const MAX_LINES: usize = 60;

#[test]
fn it_fills_asks_changes_and_asks_again() {
    let folder = Scratch::new();
    let output = demo(folder.path()).output().unwrap();
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{story}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(story.lines().count() <= MAX_LINES, "{story}");
    assert!(story.lines().all(|line| line.chars().count() <= 100), "{story}");
    assert!(!story.contains('\u{1b}'), "no colour without a terminal: {story}");

    let mut rest = story.as_str();
    for part in [
        "Postgres    version 18",
        "326 rows committed in",
        "326 rows handled, embedded and searchable after another",
        "“my sleeping bag lost its loft after washing”",
        "  My sleeping bag lost its loft after washing.",
        "“boots too small, can I get a refund”",
        "  My boots are too small after the first walk. Can I get a refund?",
        "“when are the repair evenings in the workshop”",
        "  Repair evenings\n          On the first Tuesday of a month",
        "UPDATE documents SET content = 'Repair evenings have moved: …' WHERE id = ",
        "in the answer ",
        "“when are the repair evenings in the workshop”",
        "  Repair evenings\n          Repair evenings have moved: the workshop is open to all every Thursday",
        "DELETE FROM documents WHERE id = ",
        "gone from the answer ",
        "“my sleeping bag lost its loft after washing”",
        "  The complete guide to sleeping bags",
        "Everything that the demo made is removed.",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("`{part}` is missing, or out of order, in\n{story}"));
        rest = &rest[at + part.len()..];
    }
    assert!(!rest.contains("  My sleeping bag lost its loft"), "the deleted row is still found:\n{story}");
    folder.assert_empty();
}

#[test]
fn what_it_keeps_running_can_be_played_with_and_goes_with_ctrl_c() {
    let folder = Scratch::new();
    let mut child = demo(folder.path()).arg("--keep").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let commands = printed_commands(&mut child);

    let psql =
        format!("{} -qAtc \"UPDATE documents SET title = 'Zebra crossing' WHERE id = 1 RETURNING 1\"", commands[2]);
    assert_eq!(shell(&[&commands[0], &psql]).trim(), "1");
    assert!(commands[3].contains("search pipelines/demo.yaml"), "{commands:?}");
    let search = commands[3].replace("\"my jacket leaks at the shoulders\"", "\"zebra crossing\" --limit 3");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !shell(&[&commands[0], &commands[1], &search]).contains("Zebra crossing") {
        assert!(Instant::now() < deadline, "the change never became searchable");
    }

    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    folder.assert_empty();
}

#[test]
fn a_killed_demo_leaves_nothing_either() {
    let folder = Scratch::new();
    let mut child = demo(folder.path()).arg("--keep").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    printed_commands(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    folder.assert_empty();
}

#[test]
fn without_a_postgres_it_says_how_to_get_one() {
    let folder = Scratch::new();
    let output = demo(folder.path()).args(["--postgres", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: there is no Postgres in `/nonexistent`\n  \
         help: name the folder that holds `postgres` and `initdb`, such as /usr/lib/postgresql/18/bin\n"
    );
}

fn demo(folder: &Path) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_pgstream-host"));
    demo.arg("demo").current_dir(env!("CARGO_MANIFEST_DIR"));
    demo.env("PGSTREAM_POSTGRES_BIN", postgres_bin(18)).env("TMPDIR", folder);
    demo
}

/// The four commands that `--keep` prints, once it has told its story.
fn printed_commands(child: &mut Child) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.by_ref().find(|line| line.starts_with("It keeps running until Ctrl-C"));
    assert!(told.is_some(), "the demo ended early");
    let commands = lines.by_ref().take(4).map(|line| line.trim().to_owned()).collect();
    // The pipe stays open, so that nothing the demo still says can fail.
    std::thread::spawn(move || lines.for_each(drop));
    commands
}

fn shell(commands: &[&str]) -> String {
    let mut shell = Command::new("sh");
    shell.arg("-ec").arg(commands.join("\n")).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child = shell.stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{commands:?}");
    text
}

/// Where the demo makes its temporary folders. The server runs as another user when we are root.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// After a kill the clean-up goes on for some moments.
    fn assert_empty(&self) {
        let left =
            || std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<PathBuf>>();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !left().is_empty() {
            assert!(Instant::now() < deadline, "left behind: {:?}", left());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
