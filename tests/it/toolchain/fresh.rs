//! `pgstream-host test` never judges an old component: it builds what has changed, and `--watch` does so at each save.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use super::{fail, has_tools, host, new_project, succeed, text};

/// The template's answer to a TRUNCATE, and one that its tests do not expect.
const RIGHT: &str = "out.Clear()";
const WRONG: &str = "out.Delete(\"all\")";

fn replace(file: &Path, from: &str, to: &str) {
    let source = std::fs::read_to_string(file).unwrap();
    assert!(source.contains(from), "{source}");
    std::fs::write(file, source.replace(from, to)).unwrap();
}

#[test]
fn a_component_that_is_older_than_its_sources_is_never_green() {
    if !has_tools(&["go"]) {
        return;
    }
    let (_scratch, project) = new_project("fresh", "go");
    let test = || host(["test"]).current_dir(&project).output().unwrap();
    succeed(host(["build"]).current_dir(&project));
    let output = test();
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert!(!text(&output.stderr).contains("building"), "what was not changed is not built again");

    let main = project.join("main.go");
    replace(&main, RIGHT, WRONG);
    let output = test();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("building `fresh` (Go): its sources have changed"),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains("1 failed"), "{}", text(&output.stdout));

    // A build that fails is an error as often as it is tried, though the component that is there would pass.
    replace(&main, WRONG, RIGHT);
    succeed(host(["test"]).current_dir(&project));
    replace(&main, RIGHT, "out.Explode()");
    for _ in 0..2 {
        let said = fail(host(["test"]).current_dir(&project), 1);
        assert!(said.contains("out.Explode undefined"), "{said}");
        assert!(said.contains("which is older than its sources, was not tested"), "{said}");
    }
    replace(&main, "out.Explode()", RIGHT);
    succeed(host(["test"]).current_dir(&project));
}

#[test]
fn a_watched_project_is_tested_again_at_each_save() {
    if !has_tools(&["go"]) {
        return;
    }
    let (_scratch, project) = new_project("watched", "go");
    succeed(host(["build"]).current_dir(&project));
    let mut watch = Watch::of(&project);
    watch.hears("3 passed");
    let main = project.join("main.go");
    replace(&main, RIGHT, WRONG);
    watch.hears("1 failed");
    replace(&main, WRONG, "out.Explode()");
    watch.hears("was not tested");
    replace(&main, "out.Explode()", RIGHT);
    watch.hears("3 passed");
    // What is expected is watched as well.
    replace(&project.join("tests/handler.yaml"), "- clear:", "- delete: \"3\"");
    watch.hears("1 failed");
}

/// `pgstream-host test --watch`, until it is dropped.
struct Watch {
    program: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn of(project: &Path) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = host(["test", "--watch"]);
        command.current_dir(project).stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let program = command.spawn().unwrap();
        drop(command); // and with it this process's ends of the pipe
        let (sender, lines) = sync_channel(1000);
        std::thread::spawn(move || {
            BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { program, lines }
    }

    /// Waits for a line with this text, and then until all is waiting for changes.
    fn hears(&mut self, part: &str) {
        let mut said = Vec::new();
        for wanted in [part, "waiting for changes"] {
            while !said.last().is_some_and(|line: &String| line.contains(wanted)) {
                let line = self.lines.recv_timeout(Duration::from_secs(600));
                said.push(line.unwrap_or_else(|error| panic!("no `{wanted}`: {error}\n{}", said.join("\n"))));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
