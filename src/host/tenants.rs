//! Which pipelines a host with tenants runs: those that keep within what the host file grants their tenant.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::grants::{self, Scope};
use super::objections::Objections;
use super::{Embedders, Host, Owner};
use crate::config::{Diagnostics, Grants, HandedFile, model};
use crate::embedder;
use crate::error::{Error, Fault, Result};
use crate::source::{Claim, kind_of};
use crate::transform::{Allowance, Compiler, Resources, Tenant};

/// The tenants of a host file, and what each has used up of its grants.
pub struct Tenants {
    members: BTreeMap<String, Member>,
}

struct Member {
    owner: Owner,
    names: HashSet<String>,
    claims: HashSet<String>,
    workers: usize,
    outlets: usize,
}

/// A pipeline that may run, under its full name, and whose it is.
pub struct Admitted {
    /// As the file says, but for the name, which begins with the tenant's, and for paths, which are absolute.
    pub settings: model::Pipeline,
    /// What it shares with its tenant's other pipelines.
    pub owner: Owner,
}

/// Why a pipeline may not run.
#[derive(Debug)]
pub enum Refusal {
    /// The file has mistakes.
    File(Diagnostics),
    /// It goes beyond what its tenant is granted.
    Grant(Error),
}

impl Tenants {
    /// The host of a host file, and its tenants. `file` is where the host file lies: folders are relative to it. What compiling
    /// may take is as the file says, whatever `compiler` says.
    ///
    /// # Errors
    /// `Config` if a folder of a tenant is not there or is also another's, `Environment` if the engine does not start.
    pub fn open(
        file: &Path,
        settings: &model::HostFile,
        cache_dir: Option<&Path>,
        compiler: Compiler,
    ) -> Result<(Host, Self)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = cores.saturating_sub(settings.reserve_cores).max(1);
        let compiler = compiler.within(settings.compile.memory.0, settings.compile.time.0);
        let host = Host::with(&Resources { cache_dir, cache_bytes: settings.cache.0, cores, compiler })?;
        let base = file.parent().unwrap_or(Path::new(""));
        let mut members: BTreeMap<String, Member> = BTreeMap::new();
        for (name, tenant) in &settings.tenants {
            let at = format!("`tenants.{name}.folder`");
            let folder = base.join(&tenant.folder).canonicalize().map_err(|error| {
                let what = format!("the folder `{}` of tenant `{name}` is not there", tenant.folder.display());
                Error::new(Fault::Config, what).because(error).at(&at).help("make it; it is relative to the host file")
            })?;
            let other = members
                .iter()
                .find(|(_, other)| other.folder().starts_with(&folder) || folder.starts_with(other.folder()));
            if let Some((other, _)) = other {
                let what = format!("the folders of tenants `{name}` and `{other}` are one inside the other");
                let help = "give each tenant a folder of its own: it can read and write all that is in it";
                return Err(Error::new(Fault::Config, what).at(at).help(help));
            }
            let scope = Scope { name: name.clone(), granted: tenant.clone(), folder };
            let owner = owner(&host, settings, scope)?;
            let (names, claims) = (HashSet::new(), HashSet::new());
            members.insert(name.clone(), Member { owner, names, claims, workers: 0, outlets: 0 });
        }
        Ok((host, Self { members }))
    }

    /// Reads a pipeline file with nothing but what its tenant is granted, and counts it among the tenant's pipelines.
    pub fn admit(&mut self, file: &Path) -> Result<Admitted, Refusal> {
        let refused = |error: Error| Refusal::Grant(error.at(format!("`{}`", file.display())));
        let home = self.home_of(file);
        let read = match &home {
            Some((_, place, folder)) => HandedFile::read(place, Some(folder)),
            // It is nobody's, and read only to say why it is not run.
            None => HandedFile::read(file, None),
        };
        let handed = read.map_err(Refusal::File)?;
        let Some(name) = handed.tenant().map_err(Refusal::File)? else {
            let error =
                Error::new(Fault::Config, "the pipeline names no tenant, and this host runs pipelines of tenants only");
            return Err(refused(error.help("write `tenant: …` with the name that the host file has for you")));
        };
        let Some(member) = self.members.get_mut(&name) else {
            let error = Error::new(Fault::Config, "the pipeline names a tenant that the host file does not know");
            return Err(refused(error.help("correct `tenant`, or add the tenant to the host file")));
        };
        if home.is_none_or(|(owner, ..)| owner != name) {
            let what = format!("the file says that it is of tenant `{name}`, and does not lie in that tenant's folder");
            let help = "whoever can write into a tenant's folder speaks for it: move the file there";
            return Err(refused(Error::new(Fault::Config, what).help(help)));
        }
        let embedders: Vec<String> = member.granted().embedders.keys().cloned().collect();
        let env = &member.granted().env;
        let lookup = |variable: &str| {
            env.iter().any(|granted| grants::covers(granted, variable)).then(|| std::env::var(variable).ok())?
        };
        let grants = Grants { lookup: &lookup, embedders: &embedders };
        let mut settings = handed.parse(&grants).map_err(Refusal::File)?;
        let mut found = member.owner.scope.confine(&mut settings);
        let claim = member.count(&name, &settings, &mut found);
        let found = found.into_list();
        if !found.is_empty() {
            return Err(Refusal::File(handed.refuse(&found)));
        }
        member.take(&settings, claim);
        Ok(Admitted { settings, owner: member.owner.clone() })
    }

    /// The tenant in whose folder a file lies, or is named as if it did; where that is, and the folder.
    fn home_of(&self, file: &Path) -> Option<(String, PathBuf, PathBuf)> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named = || Some(folder.canonicalize().ok()?.join(file.file_name()?));
        [file.canonicalize().ok(), named()].into_iter().flatten().find_map(|place| {
            let (name, member) = self.members.iter().find(|(_, member)| place.starts_with(member.folder()))?;
            let folder = member.folder().to_owned();
            Some((name.clone(), place, folder))
        })
    }
}

impl Member {
    fn granted(&self) -> &model::Tenant {
        &self.owner.scope.granted
    }

    fn folder(&self) -> &Path {
        &self.owner.scope.folder
    }

    /// Looks at what all pipelines of the tenant would have together. Answers what of the source the pipeline
    /// claims for itself.
    fn count(&self, tenant: &str, settings: &model::Pipeline, found: &mut Objections) -> Option<String> {
        let mut beyond = |what: String, at: &str, key: &str| {
            let help = format!("raise `tenants.{tenant}.{key}` in the host file, or run fewer");
            found.refuse(&[at], Error::new(Fault::Config, what).help(help));
        };
        let (pipelines, limit) = (self.names.len() + 1, self.granted().pipelines);
        if pipelines > limit {
            let what = format!("tenant `{tenant}` already has the {limit} pipelines that it may have");
            beyond(what, "tenant", "pipelines");
        }
        let (workers, limit) = (workers(settings), self.granted().workers);
        if self.workers + workers > limit {
            let left = limit - self.workers;
            let what = format!("it wants {workers} workers, tenant `{tenant}` has {left} left of {limit}");
            beyond(what, "transforms", "workers");
        }
        let (outlets, limit) = (settings.sinks.len(), self.granted().outlets);
        if self.outlets + outlets > limit {
            let left = limit - self.outlets;
            let what = format!("it wants {outlets} sinks, tenant `{tenant}` has {left} left of {limit}");
            beyond(what, "sinks", "outlets");
        }
        if self.names.contains(&settings.name) {
            let what = format!("another pipeline of tenant `{tenant}` has the name `{}` already", settings.name);
            let error = Error::new(Fault::Config, what);
            let help = "slot and publication are named after it: choose another `name`";
            found.refuse(&["name"], error.help(help));
        }
        let source = &settings.source.0;
        let claim = kind_of(&settings.source).claim(&settings.name);
        let Claim { what, help } = found.note(&["sources", source], claim)??;
        if self.claims.contains(&what) && !self.names.contains(&settings.name) {
            let told = format!("another pipeline of tenant `{tenant}` reads {what} already");
            found.refuse(&["sources", source], Error::new(Fault::Config, told).help(format!("choose {help}")));
        }
        Some(what)
    }

    /// Counts a pipeline among the tenant's.
    fn take(&mut self, settings: &model::Pipeline, claim: Option<String>) {
        self.names.insert(settings.name.clone());
        self.claims.extend(claim);
        self.workers += workers(settings);
        self.outlets += settings.sinks.len();
    }
}

fn workers(settings: &model::Pipeline) -> usize {
    settings.transforms.values().map(|model::Transform::Wasm(wasm)| wasm.workers).sum()
}

fn owner(host: &Host, settings: &model::HostFile, scope: Scope) -> Result<Owner> {
    let tenant = &scope.granted;
    let allowance = Allowance {
        weight: tenant.weight,
        memory: usize::try_from(tenant.memory.0).unwrap_or(usize::MAX),
        log_lines: tenant.log_lines,
        requests: tenant.requests,
    };
    let mut embedders = Embedders::new();
    for (lent, budget) in &tenant.embedders {
        if let Some(embedder) = settings.embedders.get(lent) {
            embedders.insert(lent.clone(), embedder::open_within(lent, embedder, budget)?);
        }
    }
    let tenant = Tenant::new(host.engine(), &scope.name, &allowance);
    Ok(Owner { tenant, scope: Arc::new(scope), compiling: Arc::new(Semaphore::new(1)), embedders })
}
