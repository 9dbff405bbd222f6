//! The pipeline file as a command takes it: one of the host's own user, or a tenant's, within what the host file grants.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{show, tenants};
use crate::config::{Diagnostics, Grants, HandedFile, model};
use crate::error::{Error, Fault, Result};
use crate::host::{Embedders, Refusal};

#[derive(Debug, clap::Args)]
pub(super) struct PipelineFile {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The host file, for the pipeline of a tenant: it goes by the name and the grants that it has there.
    #[arg(long, value_name = "HOST.YAML")]
    host: Option<PathBuf>,
}

/// A pipeline file that was read.
pub(super) struct Loaded {
    pub(super) settings: model::Pipeline,
    /// Embedders that the host lends to it.
    pub(super) lent: Embedders,
}

impl PipelineFile {
    /// Reads the file. An exit code if it is wrong, which has been said then.
    ///
    /// # Errors
    /// `Config` if the pipeline is a tenant's and no host file is named, or goes beyond what its tenant is granted.
    pub(super) fn load(&self) -> Result<std::result::Result<Loaded, ExitCode>> {
        if let Some(host) = &self.host {
            return match tenants::admit_one(host, &self.file)? {
                Ok(admitted) => Ok(Ok(Loaded { settings: admitted.settings, lent: admitted.owner.embedders })),
                Err(Refusal::File(diagnostics)) => Ok(Err(show(&diagnostics))),
                Err(Refusal::Grant(error)) => Err(error),
            };
        }
        let read = own(&self.file)?;
        Ok(read.map(|settings| Loaded { settings, lent: Embedders::new() }).map_err(|diagnostics| show(&diagnostics)))
    }

    /// As it was typed, for commands that are to be typed next.
    pub(super) fn typed(&self) -> String {
        let file = self.file.display();
        self.host.as_ref().map_or_else(|| file.to_string(), |host| format!("{file} --host {}", host.display()))
    }
}

/// Reads a pipeline file of the host's own user: with the whole environment, and with files anywhere.
///
/// # Errors
/// `Config` if the pipeline is a tenant's.
pub(super) fn own(file: &Path) -> Result<std::result::Result<model::Pipeline, Diagnostics>> {
    let refuse = |tenant: &str| {
        Err(Error::new(Fault::Config, format!("the pipeline in `{}` is one of tenant `{tenant}`", file.display()))
            .because(
                "it goes by a name that begins with the tenant's, and may use what the host file grants, and no more",
            )
            .help("name the host file that it runs with: `--host host.yaml`"))
    };
    // Before the rest: what the host lends to tenants would seem to be missing.
    let handed = match HandedFile::read(file, None) {
        Ok(handed) => handed,
        Err(diagnostics) => return Ok(Err(diagnostics)),
    };
    match handed.tenant() {
        Ok(Some(tenant)) => refuse(&tenant),
        _ => Ok(handed.parse(&Grants::default())),
    }
}
