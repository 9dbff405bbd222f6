//! The pipelines that a command line names: read from their files, and read again when those change.

use std::path::{Path, PathBuf};

use super::files::{pipeline_files, yaml_files};
use crate::components::REGISTRY;
use crate::config::{self, Diagnostics, model};
use crate::error::{Error, Fault, Result};
use crate::host::{self, FileReading, Host, PipelineSpec, Tenants};
use crate::transform::Compiler;

/// Folders in folders beyond this are not looked into, where there are tenants. Without, none are.
const DEPTH: usize = 8;

/// Files and folders of pipelines, and what their owners may do.
pub(super) struct Pipelines {
    paths: Vec<PathBuf>,
    host_file: Option<PathBuf>,
    tenants: Tenants,
}

impl Pipelines {
    /// Opens the host file, if there is one, and the host that it describes. The problems of a host file that is wrong are no
    /// error.
    pub(super) fn open(
        paths: Vec<PathBuf>,
        host_file: Option<PathBuf>,
    ) -> Result<std::result::Result<(Option<Host>, Self), Diagnostics>> {
        let Some(file) = &host_file else {
            return Ok(Ok((None, Self { paths, host_file, tenants: Tenants::without_host_file() })));
        };
        let opened = open_host(file)?;
        Ok(opened.map(|(host, tenants)| (Some(host), Self { paths, host_file, tenants })))
    }

    /// Tells if the pipelines are those of tenants.
    pub(super) fn have_tenants(&self) -> bool {
        self.host_file.is_some()
    }

    /// The settings of the API in the host file, with paths that lead where they do from it.
    pub(super) fn api(&self) -> model::Api {
        let mut api = self.tenants.api();
        let folder = self.host_file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        for path in api.tokens.iter_mut().map(|token| &mut token.file).chain(&mut api.socket) {
            *path = folder.join(&path);
        }
        api
    }

    /// Reads the pipeline files.
    ///
    /// # Errors
    /// `Config` if there is none.
    pub(super) fn read(&mut self) -> Result<Vec<FileReading>> {
        let files = self.files()?;
        Ok(self.tenants.read(files, &[]))
    }

    /// Reads all files again. `running` are the pipelines that run. The tenants that were read count once they are
    /// [adopted](Self::adopt).
    ///
    /// # Errors
    /// `Config` if there is no pipeline file any more, or the host file is wrong in what it says of the machine.
    pub(super) fn read_again(
        &self,
        host: &Host,
        running: &[PipelineSpec],
    ) -> Result<std::result::Result<(Vec<FileReading>, Tenants), Diagnostics>> {
        let settings = match self.host_file.as_deref().map(|file| config::load_host(&REGISTRY, file)) {
            Some(Err(diagnostics)) => return Ok(Err(diagnostics)),
            Some(Ok(settings)) => Some(settings),
            None => None,
        };
        let mut tenants = self.tenants.again(host, self.host_file.as_deref().zip(settings.as_ref()))?;
        let readings = tenants.read(self.files()?, running);
        Ok(Ok((readings, tenants)))
    }

    /// Has these tenants from now on.
    pub(super) fn adopt(&mut self, tenants: Tenants) {
        self.tenants = tenants;
    }

    /// The files that decide over the pipelines, beside components.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let depth = if self.have_tenants() { DEPTH } else { 0 };
        yaml_files(&self.paths, depth).into_iter().chain(self.host_file.clone()).collect()
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let Some(host) = &self.host_file else { return pipeline_files(&self.paths, 0) };
        let mut files = pipeline_files(&self.paths, DEPTH)?;
        // The host file often lies beside the tenants' folders.
        let own = host.canonicalize().ok();
        files.retain(|pipeline| own.is_none() || pipeline.canonicalize().ok() != own);
        if files.is_empty() {
            return Err(
                Error::new(Fault::Config, "there is no pipeline file").help("pipeline files end in `.yaml` or `.yml`")
            );
        }
        Ok(files)
    }
}

/// Opens a host file: the host that it describes, and its tenants.
pub(super) fn open_host(file: &Path) -> Result<std::result::Result<(Host, Tenants), Diagnostics>> {
    match config::load_host(&REGISTRY, file) {
        Ok(settings) => {
            Tenants::open(file, &settings, host::cache_folder().as_deref(), Compiler::this_program()).map(Ok)
        }
        Err(diagnostics) => Ok(Err(diagnostics)),
    }
}
