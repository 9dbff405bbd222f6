//! Components from JavaScript and TypeScript: npm fetches what the project pins, the SDK's
//! `build.js` bundles and componentizes.
//!
//! The versions of esbuild, componentize-qjs and TypeScript are pinned in the templates'
//! `package.json`, that of the runtime by its file in the SDK.

use std::path::{Path, PathBuf};

use super::tool::Tool;
use super::{Language, Project};
use crate::error::{Error, Fault, Result};

const INSTALL: &str = "install Node.js 20 or newer, which brings npm: https://nodejs.org, `apt install nodejs npm` or `brew install node`";

/// Builds the project; the component goes to `out`.
pub(super) fn build(project: &Project, out: &Path) -> Result<()> {
    let folder = project.folder();
    if script(folder).is_none() && !folder.join("node_modules").is_dir() {
        let locked = folder.join("package-lock.json").is_file();
        Tool::new("npm", INSTALL)
            .within(folder)
            .args([if locked { "ci" } else { "install" }, "--no-audit", "--no-fund", "--loglevel=error"])
            .run()?;
    }
    let script = script(folder).ok_or_else(|| missing(project))?;
    Tool::new("node", INSTALL).within(folder).arg(script).arg(folder).arg(out).run()
}

/// `build.js` of the SDK that the project uses: where Node.js looks for it, which is also in the
/// folders above. A workspace keeps what its members need in its own `node_modules`.
fn script(project: &Path) -> Option<PathBuf> {
    let scripts = project.ancestors().map(|folder| folder.join("node_modules/pgstream-handler/build.js"));
    scripts.into_iter().find(|script| script.is_file())
}

fn missing(project: &Project) -> Error {
    let folder = project.folder();
    let wants = match project.language() {
        Language::TypeScript => "ts",
        _ => "js",
    };
    let names = std::fs::read_to_string(folder.join("package.json")).unwrap_or_default().contains("pgstream-handler");
    let error = Error::new(Fault::Config, format!("`pgstream-handler` is not installed for `{}`", folder.display()));
    if !names {
        return error.help(format!(
            "name it in package.json, `\"dependencies\": {{ \"pgstream-handler\": \"file:sdk\" }}`, as in a project of \
             `pgstream-host new --lang {wants}`, then `npm install`"
        ));
    }
    error.help(match workspace(folder) {
        Some(above) => format!(
            "`{}` is an npm workspace that does not take this folder in: add it to its `workspaces`, or run \
             `npm install --no-workspaces` in this folder",
            above.display()
        ),
        None => format!("run `npm install` in `{}`, and see what it says", folder.display()),
    })
}

/// The workspace in whose folder the project lies: npm acts for that instead.
fn workspace(project: &Path) -> Option<&Path> {
    let is_one = |folder: &&Path| {
        let text = std::fs::read_to_string(folder.join("package.json")).unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|package| package.get("workspaces").is_some())
    };
    project.ancestors().skip(1).find(is_one)
}
