//! `Tenants`: the owners of pipelines. Reads pipeline files, each within what its owner may do and
//! has left. Without a host file there is one owner, who may do everything.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::grants::{self, Scope};
use super::objections::Objections;
use super::{Embedders, Host, Owner, PipelineSpec};
use crate::components::{HostSettings, PipelineSettings, REGISTRY};
use crate::config::model::Api;
use crate::config::{Diagnostics, Grants, HandedFile};
use crate::embedder;
use crate::error::{Error, Fault, Result};
use crate::source::Claim;
use crate::transform::{Allowance, Compiler, Resources, Tenant};

/// The tenants, and what each has used up of its grants.
pub struct Tenants {
    /// Empty without a host file.
    members: BTreeMap<String, Member>,
    /// Whoever runs the process, where there is no host file.
    everything: Option<Member>,
    settings: Option<HostSettings>,
}

struct Member {
    owner: Owner,
    folder: PathBuf,
    usage: Usage,
}

/// The totals of an owner's pipelines.
#[derive(Default)]
struct Usage {
    /// The names of pipelines by what their sources claim, or by themselves where that is nothing.
    names: HashMap<String, String>,
    workers: usize,
    outlets: usize,
}

/// A pipeline that may run, under its full name, and whose it is.
pub struct Admitted {
    /// As the file says, but for the name, which begins with the tenant's, and for paths, which are
    /// absolute.
    pub settings: PipelineSettings,
    /// The owner, which it shares with the owner's other pipelines.
    pub owner: Owner,
}

/// The reason for which a pipeline may not run.
#[derive(Debug)]
pub enum Refusal {
    /// The file has mistakes.
    File(Diagnostics),
    /// It goes beyond what its tenant is granted.
    Grant(Error),
}

/// A pipeline file as it was read.
pub struct FileReading {
    /// The file.
    pub file: PathBuf,
    /// The pipeline in it.
    pub read: std::result::Result<PipelineSpec, Refusal>,
}

impl Tenants {
    /// The host of a host file, and its tenants. `file` is where the host file lies: folders are
    /// relative to it. What compiling may take is as the file says, whatever `compiler` says.
    ///
    /// # Errors
    /// `Config` if a folder of a tenant is not there or is also another's, `Environment` if the
    /// engine does not start.
    pub fn open(
        file: &Path,
        settings: &HostSettings,
        cache_dir: Option<&Path>,
        compiler: Compiler,
    ) -> Result<(Host, Self)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = cores.saturating_sub(settings.reserve_cores).max(1);
        let compiler = compiler.within(settings.compile.memory.0, settings.compile.time.0);
        let host = Host::with(&Resources { cache_dir, cache_bytes: settings.cache.0, cores, compiler })?;
        let members = Self::members(file, settings, &host, None)?;
        Ok((host, Self { members, everything: None, settings: Some(settings.clone()) }))
    }

    /// Without a host file: one tenant, who may do everything.
    pub fn without_host_file() -> Self {
        let member = Member { owner: Owner::of_everything(), folder: PathBuf::new(), usage: Usage::default() };
        Self { members: BTreeMap::new(), everything: Some(member), settings: None }
    }

    /// Access to the API, as the host file says.
    pub fn api(&self) -> Api {
        self.settings.as_ref().map_or_else(Api::default, |settings| settings.api.clone())
    }

    /// The same tenants with nothing used up, for files that are read again. Tenants whose grants
    /// are the same stay the same, with what they have used of their embedders' budgets. `settings`
    /// are those of the host file as it is now, if there is one.
    ///
    /// # Errors
    /// `Config` if a folder of a tenant is not there or is also another's.
    pub fn again(&self, host: &Host, file: Option<(&Path, &HostSettings)>) -> Result<Self> {
        let Some((file, settings)) = file else { return Ok(Self::without_host_file()) };
        let members = Self::members(file, settings, host, Some(self))?;
        if let Some(before) = &self.settings {
            let process = |of: &HostSettings| (of.reserve_cores, of.cache, of.compile.clone());
            if process(before) != process(settings) {
                tracing::warn!(
                    "`reserve_cores`, `cache` and `compile` of the host file change with the next start of the process"
                );
            }
        }
        Ok(Self { members, everything: None, settings: Some(settings.clone()) })
    }

    fn members(
        file: &Path,
        settings: &HostSettings,
        host: &Host,
        before: Option<&Self>,
    ) -> Result<BTreeMap<String, Member>> {
        let base = file.parent().unwrap_or(Path::new(""));
        let lent = before.and_then(|before| before.settings.as_ref()).map(|before| &before.embedders);
        let mut members: BTreeMap<String, Member> = BTreeMap::new();
        for (name, tenant) in &settings.tenants {
            let at = format!("`tenants.{name}.folder`");
            let folder = base.join(&tenant.folder).canonicalize().map_err(|error| {
                let what = format!("the folder `{}` of tenant `{name}` is not there", tenant.folder.display());
                Error::new(Fault::Config, what).because(error).at(&at).help("make it; it is relative to the host file")
            })?;
            let other = members
                .iter()
                .find(|(_, other)| other.folder.starts_with(&folder) || folder.starts_with(&other.folder));
            if let Some((other, _)) = other {
                let what = format!("the folders of tenants `{name}` and `{other}` are one inside the other");
                let help = "give each tenant a folder of its own: it can read and write all that is in it";
                return Err(Error::new(Fault::Config, what).at(at).help(help));
            }
            let same = before.and_then(|before| before.members.get(name)).filter(|before| {
                let granted = before.owner.scope.as_ref().map(|scope| &scope.granted);
                granted == Some(tenant) && before.folder == folder && lent == Some(&settings.embedders)
            });
            let owner = match same {
                Some(same) => same.owner.clone(),
                None => owner(
                    host,
                    settings,
                    Scope { name: name.clone(), granted: tenant.clone(), folder: folder.clone() },
                )?,
            };
            members.insert(name.clone(), Member { owner, folder, usage: Usage::default() });
        }
        Ok(members)
    }

    /// Reads pipeline files, in their order. `running` are pipelines that run: one whose file is
    /// wrong by now goes on, and counts among those of its owner before all others.
    pub fn read(&mut self, files: Vec<PathBuf>, running: &[PipelineSpec]) -> Vec<FileReading> {
        let read: Vec<_> = files.into_iter().map(|file| (self.confined(&file), file)).collect();
        for (_, file) in read.iter().filter(|(read, _)| !read.as_ref().is_ok_and(Confined::is_fine)) {
            for spec in running.iter().filter(|spec| spec.file.as_ref() == Some(file)) {
                if let Some(member) = self.member_of(&spec.owner) {
                    member.usage.add(&spec.settings);
                }
            }
        }
        let count = |(read, file): (std::result::Result<Confined, Refusal>, PathBuf)| {
            let read = read.and_then(|confined| self.count(confined));
            let read = read.map(|Admitted { settings, owner }| PipelineSpec::new(Some(file.clone()), settings, owner));
            FileReading { file, read }
        };
        read.into_iter().map(count).collect()
    }

    /// Reads a pipeline file with nothing but what its tenant is granted, and counts it among the
    /// tenant's pipelines.
    pub fn admit(&mut self, file: &Path) -> Result<Admitted, Refusal> {
        let confined = self.confined(file)?;
        self.count(confined)
    }

    fn member_of(&mut self, owner: &Owner) -> Option<&mut Member> {
        match owner.name() {
            Some(name) => self.members.get_mut(name),
            None => self.everything.as_mut(),
        }
    }

    fn count(&mut self, confined: Confined) -> Result<Admitted, Refusal> {
        let Confined { settings, owner, handed, mut found } = confined;
        match (self.member_of(&owner), &owner.scope) {
            (Some(member), Some(scope)) => member.usage.fits(scope, &settings, &mut found),
            (Some(member), None) => member.usage.is_single(&settings).map_err(Refusal::Grant)?,
            (None, _) => {}
        }
        let found = found.into_list();
        if !found.is_empty() {
            return Err(Refusal::File(handed.refuse(&found)));
        }
        if let Some(member) = self.member_of(&owner) {
            member.usage.add(&settings);
        }
        Ok(Admitted { settings, owner })
    }

    /// Reads a pipeline file with nothing but what its tenant is granted.
    fn confined(&self, file: &Path) -> Result<Confined, Refusal> {
        if let Some(Member { owner, .. }) = &self.everything {
            let (settings, handed) = untenanted(file)?;
            return Ok(Confined { settings, owner: owner.clone(), handed, found: Objections::default() });
        }
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
        let Some((owner, scope)) = self.members.get(&name).and_then(|it| Some((&it.owner, it.owner.scope.as_ref()?)))
        else {
            let error = Error::new(Fault::Config, "the pipeline names a tenant that the host file does not know");
            return Err(refused(error.help("correct `tenant`, or add the tenant to the host file")));
        };
        if home.is_none_or(|(owner, ..)| owner != name) {
            let what = format!("the file says that it is of tenant `{name}`, and does not lie in that tenant's folder");
            let help = "whoever can write into a tenant's folder speaks for it: move the file there";
            return Err(refused(Error::new(Fault::Config, what).help(help)));
        }
        let embedders: Vec<String> = scope.granted.embedders.keys().cloned().collect();
        let env = &scope.granted.env;
        let lookup = |variable: &str| {
            env.iter().any(|granted| grants::covers(granted, variable)).then(|| std::env::var(variable).ok())?
        };
        let grants = Grants { lookup: &lookup, embedders: &embedders };
        let mut settings = handed.parse(&REGISTRY, &grants).map_err(Refusal::File)?;
        let found = scope.confine(&mut settings);
        Ok(Confined { settings, owner: owner.clone(), handed, found })
    }

    /// The tenant in whose folder a file lies, or is named as if it did; where that is, and the
    /// folder.
    fn home_of(&self, file: &Path) -> Option<(String, PathBuf, PathBuf)> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named = || Some(folder.canonicalize().ok()?.join(file.file_name()?));
        [file.canonicalize().ok(), named()].into_iter().flatten().find_map(|place| {
            let (name, member) = self.members.iter().find(|(_, member)| place.starts_with(&member.folder))?;
            Some((name.clone(), place, member.folder.clone()))
        })
    }
}

/// A file that was read, and is not counted yet.
struct Confined {
    settings: PipelineSettings,
    owner: Owner,
    handed: HandedFile,
    /// The settings that go beyond its grants.
    found: Objections,
}

impl Confined {
    fn is_fine(&self) -> bool {
        self.found.is_empty()
    }
}

impl Usage {
    fn add(&mut self, settings: &PipelineSettings) {
        let claimed = settings.source.claim(&settings.name).ok().flatten().map(|claim| claim.what);
        self.names.insert(claimed.unwrap_or_else(|| settings.name.clone()), settings.name.clone());
        self.workers += workers(settings);
        self.outlets += settings.sinks.len();
    }

    /// Refuses a pipeline that could not be told apart from another one, or would fight with it
    /// over a slot.
    fn is_single(&self, settings: &PipelineSettings) -> Result<()> {
        let name = &settings.name;
        if self.names.values().any(|other| other == name) {
            let what = format!("two of the files name their pipeline `{name}`");
            return Err(Error::new(Fault::Config, what)
                .help("slot and publication are named after the pipeline: give each file a `name` of its own"));
        }
        // A source that cannot be read is told of by who opens it.
        let Ok(Some(Claim { what, help })) = settings.source.claim(name) else { return Ok(()) };
        match self.names.get(&what) {
            Some(other) => {
                let what = format!("the pipelines `{other}` and `{name}` would both read {what}");
                Err(Error::new(Fault::Config, what).help(format!("give one of them {help}")))
            }
            None => Ok(()),
        }
    }

    /// Looks at what all pipelines of the tenant would have together.
    fn fits(&self, scope: &Scope, settings: &PipelineSettings, found: &mut Objections) {
        let Scope { name: tenant, granted, .. } = scope;
        let mut beyond = |what: String, at: &str, key: &str| {
            let help = format!("raise `tenants.{tenant}.{key}` in the host file, or run fewer");
            found.refuse(&[at], Error::new(Fault::Config, what).help(help));
        };
        let (pipelines, limit) = (self.names.len() + 1, granted.pipelines);
        if pipelines > limit {
            let what = format!("tenant `{tenant}` already has the {limit} pipelines that it may have");
            beyond(what, "tenant", "pipelines");
        }
        let (workers, limit) = (workers(settings), granted.workers);
        if self.workers + workers > limit {
            let left = limit.saturating_sub(self.workers);
            let what = format!("it wants {workers} workers, tenant `{tenant}` has {left} left of {limit}");
            beyond(what, "transforms", "workers");
        }
        let (outlets, limit) = (settings.sinks.len(), granted.outlets);
        if self.outlets + outlets > limit {
            let left = limit.saturating_sub(self.outlets);
            let what = format!("it wants {outlets} sinks, tenant `{tenant}` has {left} left of {limit}");
            beyond(what, "sinks", "outlets");
        }
        let named = self.names.values().any(|other| *other == settings.name);
        if named {
            let what = format!("another pipeline of tenant `{tenant}` has the name `{}` already", settings.name);
            let error = Error::new(Fault::Config, what);
            let help = "slot and publication are named after it: choose another `name`";
            found.refuse(&["name"], error.help(help));
        }
        let source = &settings.source_name;
        let claim = found.note(&["sources", source], settings.source.claim(&settings.name)).flatten();
        if let Some(Claim { what, help }) = claim
            && self.names.contains_key(&what)
            && !named
        {
            let told = format!("another pipeline of tenant `{tenant}` reads {what} already");
            found.refuse(&["sources", source], Error::new(Fault::Config, told).help(format!("choose {help}")));
        }
    }
}

fn workers(settings: &PipelineSettings) -> usize {
    settings.transforms.values().map(|transform| transform.workers()).sum()
}

/// Reads a pipeline file of the host's own user: with the whole environment, and with files
/// anywhere.
fn untenanted(file: &Path) -> Result<(PipelineSettings, HandedFile), Refusal> {
    let handed = HandedFile::read(file, None).map_err(Refusal::File)?;
    // Before the rest: what the host lends to tenants would seem to be missing.
    if let Ok(Some(tenant)) = handed.tenant() {
        let what = format!("the pipeline in `{}` is one of tenant `{tenant}`", file.display());
        let error = Error::new(Fault::Config, what).because(
            "it goes by a name that begins with the tenant's, and may use what the host file grants, and no more",
        );
        return Err(Refusal::Grant(error.help("name the host file that it runs with: `--host host.yaml`")));
    }
    let settings = handed.parse(&REGISTRY, &Grants::default()).map_err(Refusal::File)?;
    Ok((settings, handed))
}

fn owner(host: &Host, settings: &HostSettings, scope: Scope) -> Result<Owner> {
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
            embedders.insert(lent.clone(), embedder::open_within(lent, &**embedder, budget)?);
        }
    }
    let tenant = Tenant::new(host.engine(), &scope.name, &allowance);
    let (tenant, scope) = (Some(tenant), Some(Arc::new(scope)));
    Ok(Owner { tenant, scope, compiling: Arc::new(Semaphore::new(1)), embedders })
}
