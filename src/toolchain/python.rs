//! Components from Python.

use std::path::Path;

use super::Project;
use crate::error::{Error, Fault, Result};

/// Builds the project; the component goes to `out`.
pub(super) fn build(project: &Project, _out: &Path) -> Result<()> {
    Err(Error::new(Fault::Bug, format!("this program cannot build {} yet", project.language())))
}
