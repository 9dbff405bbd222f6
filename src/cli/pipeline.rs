//! The pipeline file as a command takes it: one of the host's own user, or a tenant's, within what the host file grants.

use std::path::PathBuf;
use std::process::ExitCode;

use super::pipelines::open_host;
use super::show;
use crate::components::PipelineSettings;
use crate::error::Result;
use crate::host::{Embedders, Refusal, Tenants};

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
    pub(super) settings: PipelineSettings,
    /// Embedders that the host lends to it.
    pub(super) lent: Embedders,
}

impl PipelineFile {
    /// Reads the file. An exit code if it is wrong, which has been said then.
    ///
    /// # Errors
    /// `Config` if the pipeline is a tenant's and no host file is named, or goes beyond what its tenant is granted.
    pub(super) fn load(&self) -> Result<std::result::Result<Loaded, ExitCode>> {
        let mut tenants = match self.host.as_deref().map(open_host).transpose()? {
            Some(Ok((_, tenants))) => tenants,
            Some(Err(diagnostics)) => return Ok(Err(show(&diagnostics))),
            None => Tenants::without_host_file(),
        };
        match tenants.admit(&self.file) {
            Ok(admitted) => Ok(Ok(Loaded { settings: admitted.settings, lent: admitted.owner.embedders })),
            Err(Refusal::File(diagnostics)) => Ok(Err(show(&diagnostics))),
            Err(Refusal::Grant(error)) => Err(error),
        }
    }

    /// As it was typed, for commands that are to be typed next.
    pub(super) fn typed(&self) -> String {
        let file = self.file.display();
        self.host.as_ref().map_or_else(|| file.to_string(), |host| format!("{file} --host {}", host.display()))
    }
}
