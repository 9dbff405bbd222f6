//! The pipeline file as a command takes it: one of the host's own user, or a tenant's, within what the host file grants.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{load, show, tenants};
use crate::config::{self, model};
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
        // Before the rest: what the host lends to tenants would seem to be missing.
        if let Ok(Some(tenant)) = config::tenant_of(&self.file) {
            let what = format!("the pipeline in `{}` is one of tenant `{tenant}`", self.file.display());
            return Err(Error::new(Fault::Config, what)
                .because("its slot and its dead letters go by a name that begins with the tenant's")
                .help("name the host file that it runs with: `--host host.yaml`"));
        }
        Ok(load(&self.file).map(|settings| Loaded { settings, lent: Embedders::new() }))
    }

    /// As it was typed, for commands that are to be typed next.
    pub(super) fn typed(&self) -> String {
        let file = self.file.display();
        self.host.as_ref().map_or_else(|| file.to_string(), |host| format!("{file} --host {}", host.display()))
    }
}
