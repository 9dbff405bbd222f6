//! Components from Python, with `componentize-py` in a virtual environment of its own, shared by
//! all projects.
//!
//! The modules that a project imports are loaded while it is built, and become part of the
//! component. The interpreter comes with the tool.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::scratch::{Scratch, cache};
use super::tool::Tool;
use super::{Language, Project, source, template, unwritable};
use crate::error::{Error, Fault, Result};

/// Version of the tool that makes components. Another version may bring another Python: see
/// `GUEST`.
const COMPONENTIZE: &str = "0.25.1";

/// The time zones that a component has if its handler imports `zoneinfo`.
const ZONES: &str = "2025.2";

/// The Python in the component, for which packages are chosen.
const GUEST: &str = "3.14";

/// The oldest Python on which the tool itself runs.
const OLDEST: (u32, u32) = (3, 10);

const INSTALL: &str = "install Python 3.10 or newer with its `venv`: `sudo apt install python3 python3-venv`, \
                       `sudo dnf install python3`, or `brew install python`";

/// Tells what the project's manifest says, as JSON.
const READ_MANIFEST: &str = include_str!("read_pyproject.py");

/// The handler's part of `pyproject.toml`.
#[derive(Debug, Deserialize)]
struct Manifest {
    /// The module that holds it.
    module: String,
    /// Packages to take along, as pip knows them.
    dependencies: Vec<String>,
    /// True if it sends HTTP requests.
    http: bool,
}

/// Builds the project; the component goes to `out`. Answers with the hash of what it is made of,
/// because the interpreter lays out its memory anew each time, and the same source never makes the
/// same component.
pub(super) fn build(project: &Project, out: &Path) -> Result<String> {
    let python = environment()?;
    let tool = || Tool::new(&python, INSTALL).within(project.folder()).without_env("PYTHONPATH");
    let manifest = tool().args(["-I", "-c", READ_MANIFEST]).arg(project.folder()).output()?;
    let manifest: Manifest = serde_json::from_str(&manifest)
        .map_err(|error| Error::new(Fault::Bug, "`pyproject.toml` was read as something else").because(error))?;

    let scratch = Scratch::make()?;
    let entry = scratch.path().join("entry");
    let module = &manifest.module;
    let sdk = given(project, "sdk", "pgstream", &scratch, template::sdk(Language::Python))?;
    let mut wit = given(project, "wit", "world.wit", &scratch, template::contract())?;
    let mut world = "handler";
    if manifest.http {
        wit = with_http(&wit, &sdk, &scratch)?;
        world = "python-http";
    }
    let packages = scratch.path().join("packages");
    take_along(project, &manifest.dependencies, &packages, tool)?;

    let mut paths = vec![entry.clone(), sdk, project.folder().to_owned()];
    paths.extend(Some(project.folder().join("src")).filter(|path| path.is_dir()));
    // As the build mounts them, by their number: what is the author's own.
    let own: Vec<_> = (2..paths.len()).map(|number| format!("/{number}/")).collect();
    let zones = zones(&python, &scratch)?;
    paths.extend([packages, zones].into_iter().filter(|path| path.is_dir()));
    let text = format!(
        "from pgstream._guest import WitWorld, begin, ready\nbegin({own:?})\nimport {module}\nready({module:?})\n"
    );
    write(&entry.join("pgstream_component.py"), text.as_bytes())?;
    let made_of: Vec<_> = paths.iter().chain([&wit]).cloned().collect();
    let made_of = source::hash(&made_of, &[("componentize-py", COMPONENTIZE), ("tzdata", ZONES)])?;
    let paths = paths.iter().flat_map(|path| ["-p".as_ref(), path.as_os_str()]);
    tool()
        // It would take along what else it finds in the environments that it knows of.
        .without_env("VIRTUAL_ENV")
        .env("PATH", python.parent().unwrap_or(&python))
        .args(["-I", "-c", "import componentize_py; componentize_py.script()", "--quiet", "--wit-path"])
        .arg(wit)
        .args(["--world", world, "componentize"])
        .args(paths)
        .arg("--output")
        .arg(out)
        .arg("pgstream_component")
        .run()
        .map(|()| made_of)
        .map_err(|_| {
            Error::new(Fault::Handler, format!("`{module}` could not be made a component")).help(
                "what was said stands above; the last line of the traceback says why. Modules are imported while they are built",
            )
        })
}

/// The interpreter of an environment that has the tool; made when it is wanted for the first time.
fn environment() -> Result<PathBuf> {
    let said = Tool::new("python3", INSTALL).args(["-c", "import sys; print(*sys.version_info[:2])"]).output()?;
    let mut numbers = said.split_whitespace().map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        let what = format!("`python3` is Python {}.{}, which is too old", version.0, version.1);
        return Err(Error::new(Fault::Environment, what).help(INSTALL));
    }
    let kept = cache(&format!("componentize-py-{COMPONENTIZE}-tzdata-{ZONES}"))?;
    // An environment belongs to the version that made it.
    let ready = kept.join(format!("python-{}.{}", version.0, version.1));
    let python = ready.join("bin/python3");
    if python.exists() {
        return Ok(python);
    }
    let unfinished = kept.join(format!("unfinished-{:08x}", rand::random::<u32>()));
    let made = fill(&unfinished).and_then(|()| {
        let _ = std::fs::remove_dir_all(&ready); // whose interpreter is gone
        match std::fs::rename(&unfinished, &ready) {
            Err(error) if !python.exists() => Err(unwritable(&ready, error)),
            _ => Ok(()), // or somebody else was faster
        }
    });
    let _ = std::fs::remove_dir_all(&unfinished);
    made.map(|()| python)
}

fn fill(folder: &Path) -> Result<()> {
    Tool::new("python3", INSTALL).args(["-m", "venv"]).arg(folder).run().map_err(|error| {
        Error::new(Fault::Environment, "Python's `venv` made no environment to build in").because(error).help(INSTALL)
    })?;
    Tool::new(folder.join("bin/python3"), INSTALL)
        .args(PIP)
        .arg(format!("componentize-py=={COMPONENTIZE}"))
        .arg(format!("tzdata=={ZONES}"))
        .run()
        .map_err(|error| {
            Error::new(Fault::Environment, format!("`componentize-py` {COMPONENTIZE} could not be installed"))
                .because(error)
                .help("the first build needs PyPI, or a mirror that pip is configured for; later ones need no network")
        })
}

const PIP: [&str; 7] = ["-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];

/// The contract with what the SDK asks for to send requests. A component that has no use for it
/// must not ask: it would not be loaded where no host is granted.
fn with_http(wit: &Path, sdk: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let (folder, more) = (scratch.path().join("wit-http"), sdk.join("wit"));
    let world = "python-http.wit";
    if !more.join(world).is_file() {
        return Err(Error::new(Fault::Config, format!("the SDK in `{}` sends no requests", sdk.display())).help(
            "put `sdk/` and `wit/` of a new project in place of the old: `pgstream-host new other --lang python`",
        ));
    }
    let copied = copy(wit, &folder)
        .and_then(|()| std::fs::copy(more.join(world), folder.join(world)).map(drop))
        .and_then(|()| {
            ["clocks", "io", "http"].into_iter().try_for_each(|package| {
                let name = format!("{package}.wit");
                let deps = folder.join("deps").join(package);
                std::fs::create_dir_all(&deps)?;
                std::fs::copy(more.join(&name), deps.join(&name)).map(drop)
            })
        });
    copied.map_err(|error| unwritable(&folder, error))?;
    Ok(folder)
}

/// A folder that holds the time zones, and nothing else of the environment.
fn zones(python: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let say = "import importlib.util as u; print(u.find_spec('tzdata').submodule_search_locations[0])";
    let installed = Tool::new(python, INSTALL).args(["-I", "-c", say]).output()?;
    let folder = scratch.path().join("zones");
    let link = folder.join("tzdata");
    copy(Path::new(installed.trim()), &link).map_err(|error| unwritable(&link, error))?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == "__pycache__" {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Fetches the packages that the project needs. Only what is Python through and through can be part
/// of a component.
fn take_along(project: &Project, packages: &[String], to: &Path, tool: impl Fn() -> Tool) -> Result<()> {
    let listed = project.folder().join("requirements.txt");
    if packages.is_empty() && !listed.is_file() {
        return Ok(());
    }
    let mut pip = tool().args(PIP).args(["--no-compile", "--only-binary=:all:", "--platform=any", "--abi=none"]);
    pip = pip.arg("--implementation=py").arg(format!("--python-version={GUEST}")).arg("--target").arg(to);
    if listed.is_file() {
        pip = pip.arg("--requirement").arg(listed);
    }
    pip.arg("--").args(packages).run().map_err(|_| {
        Error::new(Fault::Handler, "the packages that the project depends on cannot be taken along").help(
            "what pip said stands above; a component takes pure Python only, packages with a wheel `…-none-any.whl`",
        )
    })
}

/// The project's own copy if it has one, or else what this program carries.
fn given(
    project: &Project,
    name: &str,
    holds: &str,
    scratch: &Scratch,
    files: impl Iterator<Item = template::File>,
) -> Result<PathBuf> {
    let own = project.folder().join(name);
    if own.join(holds).exists() {
        return Ok(own);
    }
    let folder = scratch.path().join(name);
    for (path, content) in files {
        write(&folder.join(path), &content)?;
    }
    Ok(folder)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let written = std::fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| std::fs::write(path, content));
    written.map_err(|error| unwritable(path, error))
}
