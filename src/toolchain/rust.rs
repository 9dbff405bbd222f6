//! Components from Rust, with cargo: the target `wasm32-wasip2` makes one by itself.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::scratch::cache;
use super::tool::Tool;
use super::{Project, unwritable};
use crate::error::{Error, Fault, Result};

const TARGET: &str = "wasm32-wasip2";

/// Finds out how this machine builds for the target; `plugins/build.sh` runs it, too.
const FIND_TARGET: &str = include_str!("../../plugins/rust-target.sh");

const INSTALL: &str = "install Rust with rustup, as https://rustup.rs says: \
                       `curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh`";

/// Builds the project; the component goes to `out`.
pub(super) fn build(project: &Project, out: &Path) -> Result<()> {
    let cargo = || Tool::new("cargo", INSTALL).within(project.folder());
    let rustc = || Tool::new("rustc", INSTALL).within(project.folder());
    let workspace = cargo().args(["locate-project", "--workspace", "--message-format", "plain"]).output()?;
    let way = Way::find(project, &rustc().arg("-vV").output()?)?;

    // No path of this machine may end up in a component: it would be told to whoever gets the file. The last that fits
    // counts.
    let mut flags = way.flags;
    let mut hide = |path: &Path, shown: &str| {
        flags.push(format!("--remap-path-prefix={}={shown}", path.display()));
    };
    hide(&cargo_home(), "cargo");
    hide(Path::new(rustc().args(["--print", "sysroot"]).output()?.trim_end()), "rust");
    if let Some(workspace) = Path::new(workspace.trim_end()).parent() {
        hide(workspace, ".");
    }
    hide(project.folder(), ".");
    let mut build = cargo()
        .args(["build", "--release", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .arg("--config")
        .arg(format!("target.{TARGET}.rustflags = {}", Json::from(flags))) // an array of strings is written as in TOML
        .args(way.arguments)
        // Flags for all targets would replace those for this one.
        .without_env("RUSTFLAGS")
        .without_env("CARGO_ENCODED_RUSTFLAGS");
    for (name, value) in way.environment {
        build = build.env(&name, value);
    }
    let made = component(&build.output()?, &project.folder().join("Cargo.toml")).ok_or_else(|| {
        Error::new(Fault::Handler, "cargo made no component")
            .help("`Cargo.toml` needs `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`")
    })?;
    std::fs::copy(&made, out).map(drop).map_err(|error| unwritable(out, error))
}

/// The settings that cargo needs, as `rust-target.sh` tells them.
#[derive(Default)]
struct Way {
    environment: Vec<(String, String)>,
    flags: Vec<String>,
    arguments: Vec<String>,
}

impl Way {
    fn find(project: &Project, version: &str) -> Result<Self> {
        let release = version.lines().find_map(|line| line.strip_prefix("release: ")).unwrap_or("unknown");
        let kept = cache(&format!("rust-{}", release.trim()))?;
        let found = Tool::new("sh", "install a POSIX shell")
            .within(project.folder())
            .args(["-c", FIND_TARGET, "rust-target.sh"])
            .arg(kept.join("debian"))
            .output();
        let said = found.map_err(|error| {
            Error::new(Fault::Environment, format!("Rust cannot be built for `{TARGET}` here")).because(error).help(
                format!("type `rustup target add {TARGET}`; without rustup, install Rust with it: https://rustup.rs"),
            )
        })?;
        let mut way = Self::default();
        for (kind, value) in said.lines().filter_map(|line| line.split_once(' ')) {
            match (kind, value.split_once('=')) {
                ("env", Some((name, value))) => way.environment.push((name.to_owned(), value.to_owned())),
                ("flag", _) => way.flags.push(value.to_owned()),
                ("arg", _) => way.arguments.push(value.to_owned()),
                _ => {}
            }
        }
        Ok(way)
    }
}

/// The component among the files that cargo says it made for the package of this manifest.
fn component(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let mut ours = messages.filter(|message| {
        message["reason"] == "compiler-artifact" && message["manifest_path"].as_str().map(Path::new) == Some(manifest)
    });
    ours.find_map(|message| {
        let files = message["filenames"].as_array()?.iter().filter_map(Json::as_str);
        files.map(PathBuf::from).find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
    })
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_one_of_the_project_itself() {
        let artifact = |manifest: &str, file: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": manifest, "filenames": [file, "/t/lib.rlib"],
            })
            .to_string()
        };
        let said = [
            artifact("/other/Cargo.toml", "/t/other.wasm"),
            "not json".to_owned(),
            artifact("/mine/Cargo.toml", "/t/mine.wasm"),
        ];
        let found = component(&said.join("\n"), Path::new("/mine/Cargo.toml"));
        assert_eq!(found, Some(PathBuf::from("/t/mine.wasm")));
        assert_eq!(component(&said[0], Path::new("/mine/Cargo.toml")), None);
    }
}
