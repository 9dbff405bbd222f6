//! Components from JavaScript and TypeScript: npm fetches what the project pins, the SDK's `build.js` bundles and componentizes.
//!
//! The versions of esbuild, componentize-qjs and TypeScript are pinned in the templates' `package.json`, that of the runtime
//! by its file in the SDK.

use std::path::{Path, PathBuf};

use super::tool::Tool;
use super::{Language, Project};
use crate::error::{Error, Fault, Result};

const INSTALL: &str = "install Node.js 20 or newer, which brings npm: https://nodejs.org, `apt install nodejs npm` or `brew install node`";

/// Builds the project; the component goes to `out`.
pub(super) fn build(project: &Project, out: &Path) -> Result<()> {
    if !project.folder().join("node_modules").is_dir() {
        let locked = project.folder().join("package-lock.json").is_file();
        Tool::new("npm", INSTALL)
            .within(project.folder())
            .args([if locked { "ci" } else { "install" }, "--no-audit", "--no-fund", "--loglevel=error"])
            .run()?;
    }
    Tool::new("node", INSTALL).within(project.folder()).arg(script(project)?).arg(project.folder()).arg(out).run()
}

/// `build.js` of the SDK that the project uses.
fn script(project: &Project) -> Result<PathBuf> {
    let modules = project.folder().join("node_modules");
    let script = modules.join("pgstream-handler").join("build.js");
    if script.is_file() {
        return Ok(script);
    }
    let wants = match project.language() {
        Language::TypeScript => "ts",
        _ => "js",
    };
    Err(Error::new(Fault::Config, format!("`{}` does not hold `pgstream-handler`", modules.display())).help(format!(
        "run `npm install` there; package.json names it as `\"pgstream-handler\": \"file:sdk\"`, as in a project of \
         `pgstream-host new --lang {wants}`"
    )))
}
