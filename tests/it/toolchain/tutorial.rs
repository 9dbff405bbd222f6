//! Follows a page of the documentation: writes its files and types its commands, in their order.
//!
//! - ```` ```sh ````: the lines are typed into a shell, which keeps its folder from block to block and stops at the first
//!   failure. `pgstream-host` is the one that was built. More words after `sh` (`sh later`) keep a block from being run.
//! - ```` ```rust file=src/lib.rs ````: the file is written, below the shell's folder.
//! - ```` ```text output ````: each of these lines occurs, in this order, in what the last `sh` printed on standard output
//!   or standard error; `…` stands for anything.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{caches, page};

/// Follows a page, such as `docs/handlers/rust.md`, in a fresh folder, with these variables besides the caches'.
pub(super) fn tutorial(path: &str, environment: &[(&str, &str)]) {
    let steps = steps(&page(path));
    assert!(steps.iter().any(|step| matches!(step, Step::Run(_))), "{path} has nothing to type");
    let scratch = tempfile::tempdir().unwrap();
    let mut shell = Shell { folder: scratch.path().canonicalize().unwrap(), said: String::new() };
    for step in steps {
        shell.follow(&step, environment).unwrap_or_else(|why| panic!("{path}: {why}\n--- at\n{step:?}"));
    }
}

#[derive(Debug, PartialEq)]
enum Step {
    Write { path: String, text: String },
    Run(String),
    Said(Vec<String>),
}

/// What the fenced blocks of a page ask for.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let words: Vec<&str> = info.split_whitespace().collect();
        let text = block.iter().map(|line| format!("{line}\n")).collect();
        match words[..] {
            ["sh"] => steps.push(Step::Run(text)),
            ["text", "output"] => steps.push(Step::Said(block.into_iter().map(str::to_owned).collect())),
            [_, file] if file.starts_with("file=") => {
                steps.push(Step::Write { path: file.trim_start_matches("file=").to_owned(), text });
            }
            _ => {}
        }
    }
    steps
}

struct Shell {
    folder: PathBuf,
    said: String,
}

impl Shell {
    fn follow(&mut self, step: &Step, environment: &[(&str, &str)]) -> Result<(), String> {
        match step {
            Step::Write { path, text } => {
                let path = self.folder.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).and_then(|()| std::fs::write(&path, text)).unwrap();
            }
            Step::Run(script) => self.run(script, environment)?,
            Step::Said(lines) => {
                let mut rest = self.said.as_str();
                for line in lines {
                    let found = find(rest, line).ok_or_else(|| format!("`{line}` is not in\n{}", self.said))?;
                    rest = &rest[found..];
                }
            }
        }
        Ok(())
    }

    fn run(&mut self, script: &str, environment: &[(&str, &str)]) -> Result<(), String> {
        let program = Path::new(env!("CARGO_BIN_EXE_pgstream-host")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(program).chain(std::env::split_paths(&path))).unwrap();
        let place = tempfile::NamedTempFile::new().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-euc", &format!("{script}\npwd >\"$TUTORIAL_PLACE\"")])
            .current_dir(&self.folder)
            .env("TUTORIAL_PLACE", place.path())
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .envs(caches())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command); // and with it this process's ends of the pipe
        let mut said = Vec::new();
        reader.read_to_end(&mut said).unwrap();
        self.said = String::from_utf8_lossy(&said).into_owned();
        let status = child.wait().unwrap();
        if !status.success() {
            return Err(format!("{status}\n{}", self.said));
        }
        self.folder = PathBuf::from(std::fs::read_to_string(place.path()).unwrap().trim_end());
        Ok(())
    }
}

/// Where, in the first line of `text` that fits, what `wanted` asks for ends.
fn find(text: &str, wanted: &str) -> Option<usize> {
    let mut parts = wanted.trim().split('…');
    let first = parts.next()?;
    let rest: Vec<&str> = parts.collect();
    let mut from = 0;
    for line in text.split_inclusive('\n') {
        let end = from + line.len();
        if let Some(at) = line.find(first) {
            let mut left = &line[at + first.len()..];
            let fits = rest.iter().all(|part| match left.find(part) {
                Some(at) => {
                    left = &left[at + part.len()..];
                    true
                }
                None => false,
            });
            if fits {
                return Some(end);
            }
        }
        from = end;
    }
    None
}

#[test]
fn the_blocks_of_a_page_become_steps() {
    let page = "Text\n```sh\na\nb\n```\n```rust file=src/lib.rs\nfn\n```\n```sh later\nno\n```\n```text output\nx … y\n```\n```\nno\n```\n";
    let write = Step::Write { path: "src/lib.rs".into(), text: "fn\n".into() };
    assert_eq!(steps(page), [Step::Run("a\nb\n".into()), write, Step::Said(vec!["x … y".into()])]);
    assert_eq!(find("one\ntwo 3 four\nfive", "two … four"), Some(15));
    assert_eq!(find("one\ntwo 3\nfour", "two … four"), None);
}

#[test]
fn a_shell_keeps_its_folder_and_a_failure_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let mut shell = Shell { folder: scratch.path().canonicalize().unwrap(), said: String::new() };
    shell.run("mkdir a; cd a; echo said; pgstream-host --version", &[]).unwrap();
    assert!(shell.folder.ends_with("a"));
    assert!(shell.follow(&Step::Said(vec!["said".into(), "pgstream-host …".into()]), &[]).is_ok());
    assert!(shell.follow(&Step::Said(vec!["pgstream-host".into(), "said".into()]), &[]).is_err());
    let why = shell.run("echo wrong >&2; false; echo not reached", &[]).unwrap_err();
    assert!(why.contains("wrong") && !why.contains("not reached"), "{why}");
}
