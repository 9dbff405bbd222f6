//! Limits of a pipeline file of a tenant: each of its settings is held against the grants of the
//! host file.
//!
//! The file was written by somebody whom the host's owner does not trust. Every setting that names
//! a place, in the file system, on the network or in a database, is checked here: components name
//! them as their [`Resource`]s, and each kind of resource is matched, so that a new one does not
//! slip by.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use super::objections::Objections;
use crate::components::PipelineSettings;
use crate::config::{MAX_IDENTIFIER, Resource, SLOT_PREFIX, Secret, Size, default_slot, model};
use crate::error::{Error, Fault, Result};
use crate::postgres::{Address, Root, Url};
use crate::sink::SinkKind;
use crate::transform::is_of_the_connection;

/// A tenant, what it is granted, and its folder.
pub(super) struct Scope {
    pub(super) name: String,
    pub(super) granted: model::Tenant,
    pub(super) folder: PathBuf,
}

impl Scope {
    /// Finds what goes beyond a grant. The name becomes the tenant's own, and paths absolute.
    pub(super) fn confine(&self, settings: &mut PipelineSettings) -> Objections {
        settings.name = format!("{}-{}", self.name, settings.name);
        self.look_over(settings)
    }

    /// As [`confine`](Self::confine), for settings that have their name already.
    pub(super) fn look_over(&self, settings: &mut PipelineSettings) -> Objections {
        let mut found = Objections::default();
        for name in settings.embedders.keys() {
            let error = self.beyond(format!("it defines an embedder `{name}`, and embedders are the host's here"));
            let help = format!("remove `embedders.{name}`, and name one that tenant `{}` is granted", self.name);
            found.refuse(&["embedders", name], error.help(help));
        }
        let slot = default_slot(&settings.name);
        if slot.len() > MAX_IDENTIFIER {
            let error = self.beyond(format!("its slot would be named `{slot}`, which is longer than Postgres allows"));
            found.refuse(&["name"], error.help("choose a shorter `name`"));
        }
        let source = settings.source.resources();
        found.within(&["sources", &settings.source_name], |found| self.resources(source, found));
        for (name, transform) in &mut settings.transforms {
            found.within(&["transforms", name], |found| self.resources(transform.resources(), found));
        }
        for (name, sink) in &mut settings.sinks {
            found.within(&["sinks", name], |found| self.sink(&mut **sink, found));
        }
        found
    }

    fn limits(&self, limits: &model::Limits, found: &mut Objections) {
        let model::Limits { memory, deadline, output, http } = limits;
        let most = &self.granted.limits;
        let over = [
            ("memory", *memory > most.memory, most.memory.to_string()),
            ("deadline", deadline.0 > most.deadline.0, most.deadline.to_string()),
            ("output", *output > most.output, most.output.to_string()),
            ("http.requests", http.requests > most.http.requests, most.http.requests.to_string()),
            ("http.timeout", http.timeout.0 > most.http.timeout.0, most.http.timeout.to_string()),
            ("http.wait", http.wait.0 > most.http.wait.0, most.http.wait.to_string()),
            ("http.sent", http.sent > most.http.sent, most.http.sent.to_string()),
            ("http.received", http.received > most.http.received, most.http.received.to_string()),
        ];
        for (key, _, most) in over.iter().filter(|(_, over, _)| *over) {
            let error =
                self.beyond(format!("`limits.{key}` is more than the {most} that tenant `{}` may have", self.name));
            let help = format!("lower it, or raise `tenants.{}.limits.{key}` in the host file", self.name);
            let keys: Vec<&str> = ["limits"].into_iter().chain(key.split('.')).collect();
            found.refuse(&keys, error.help(help));
        }
    }

    /// Adds what the host file adds to the requests of this host.
    fn http_host(&self, wanted: &mut model::HttpHost) -> Result<()> {
        let name = &wanted.host;
        let help = format!("add it to `tenants.{}.http` in the host file", self.name);
        let Some(granted) = self.granted.http.iter().find(|granted| granted.host == *name) else {
            return Err(self.beyond(format!("handlers of tenant `{}` may not reach `{name}`", self.name)).help(help));
        };
        if wanted.private.iter().any(|network| !granted.private.contains(network)) {
            let what = format!("`{name}` may not stand for the `private` addresses that the file names");
            return Err(self.beyond(what).help(help));
        }
        if let Some(name) = wanted.headers.keys().find(|name| is_of_the_connection(name)) {
            let what = format!("the header `{name}` of `{}` is the host's to set", wanted.host);
            return Err(self.beyond(what).help(format!("remove `{name}` from its `headers`")));
        }
        // A name in another case is the same name, and what the host file says has the last word.
        let granted_too = |name: &String| granted.headers.keys().any(|other| other.eq_ignore_ascii_case(name));
        wanted.headers.retain(|name, _| !granted_too(name));
        wanted.headers.extend(granted.headers.clone());
        Ok(())
    }

    fn sink(&self, sink: &mut dyn SinkKind, found: &mut Objections) {
        let kind = sink.kind();
        if !self.granted.sinks.iter().any(|granted| granted == kind) {
            let error = self.beyond(format!("tenant `{}` may not use sinks of type `{kind}`", self.name));
            let help = format!("add `{kind}` to `tenants.{}.sinks` in the host file", self.name);
            found.refuse(&["type"], error.help(help));
        }
        self.resources(sink.resources(), found);
    }

    /// Finds what is not granted, and makes paths absolute.
    fn resources(&self, resources: Vec<Resource<'_>>, found: &mut Objections) {
        resources.into_iter().for_each(|resource| self.resource(resource, found));
    }

    fn resource(&self, resource: Resource<'_>, found: &mut Objections) {
        match resource {
            Resource::Postgres { logins, folder } => {
                *folder = Some(self.folder.clone());
                for login in logins {
                    self.postgres(login.keys, login.url, login.password_file, found);
                }
            }
            Resource::SlotName { key, name } => {
                found.note(&[key], self.slot_name(key, name));
            }
            Resource::Stdin { key } => {
                let error = self.beyond("it reads standard input, which is the host's own");
                found.refuse(&[key], error.help("let it read a file in the tenant's folder: `path: events.jsonl`"));
            }
            Resource::HttpUrl { key, url } => {
                found.note(&[key], self.http_url(url));
            }
            Resource::Path { key, path, folder } => {
                *folder = Some(self.folder.clone());
                self.place(&[key], path, found);
            }
            Resource::Table { key, name } => {
                found.note(&[key], self.prefix(key, name, name.split_once('.')));
                // As what it was judged, whatever schemas the role's own settings name first.
                if !name.contains('.') {
                    *name = format!("public.{name}");
                }
            }
            Resource::Name { key, name } => {
                found.note(&[key], self.prefix(key, name, None));
            }
            Resource::HandlerLimits(limits) => self.limits(limits, found),
            Resource::HttpHost { index, host } => {
                found.note(&["allow", "http", &index.to_string()], self.http_host(host));
            }
            Resource::RowBytes { bytes, usual } => {
                found.note(&["max_row"], self.lower("max_row", bytes, usual, self.granted.max_row));
            }
            Resource::BatchBytes { bytes, usual } => {
                let granted = self.granted.batch;
                found.note(&["batch", "max_bytes"], self.lower("batch.max_bytes", bytes, usual, granted));
            }
        }
    }

    fn slot_name(&self, key: &str, name: &str) -> Result<()> {
        let own = format!("{SLOT_PREFIX}{}_", self.name.replace('-', "_"));
        if name.starts_with(&own) {
            return Ok(());
        }
        Err(self
            .beyond(format!("`{key}: {name}` could be another tenant's"))
            .help(format!("leave `{key}` out, or begin it with `{own}`")))
    }

    /// Bounds what the file says by what is granted. Where it says what is usual, or nothing, that
    /// is lowered.
    fn lower(&self, key: &str, bytes: &mut Size, usual: Size, most: Size) -> Result<()> {
        if *bytes == usual {
            *bytes = usual.min(most);
        }
        if *bytes <= most {
            return Ok(());
        }
        let grant = key.split('.').next().unwrap_or(key);
        Err(self
            .beyond(format!("`{key}` is more than the {most} that tenant `{}` may have", self.name))
            .help(format!("lower it, or raise `tenants.{}.{grant}` in the host file", self.name)))
    }

    /// The server, the login and the certificates of a database. `keys` are those of the URL and of
    /// the password's file.
    fn postgres(&self, keys: [&str; 2], url: &Secret, password_file: &mut Option<PathBuf>, found: &mut Objections) {
        let [key, of_file] = keys;
        let login = password_file.clone();
        if let Some(file) = password_file {
            self.place(&[of_file], file, found);
        }
        let Some(parsed) = found.note(&[key], Url::parse(url, login)) else { return };
        found.note(
            &[key],
            match &parsed.address {
                Address::Tcp(host, port) => self.server(host, *port),
                Address::Unix(folder, _) => self.socket(folder),
            },
        );
        if parsed.borrows_password {
            // Else `PGPASSWORD` of the host would go to a server of the tenant's choice.
            let error = self.beyond("its database URL has no password, and may not use the host's");
            found.refuse(&[key], error.help("write it into the URL, or name a `password_file`"));
        }
        let root = match &parsed.ssl.root {
            Some(Root::File(file)) => Some(file),
            Some(Root::System) | None => None,
        };
        for file in root.into_iter().chain(parsed.ssl.identity.iter().flat_map(|(one, other)| [one, other])) {
            if file.is_absolute() {
                found.note(&[key], self.path(key, file));
            } else {
                let error = self.beyond("a certificate in its database URL is named by a relative path");
                found.refuse(&[key], error.help("write the whole path"));
            }
        }
    }

    /// Makes a path of the file absolute.
    fn place(&self, keys: &[&str], path: &mut PathBuf, found: &mut Objections) {
        if let Some(inside) = found.note(keys, self.path(keys.last().unwrap_or(&""), path)) {
            *path = inside;
        }
    }

    fn http_url(&self, url: &str) -> Result<()> {
        // Read by what the driver reads it with, and with the ports that it takes.
        let parsed: Option<http::Uri> = url.parse().ok();
        let place = parsed.as_ref().and_then(|uri| {
            let usual = if uri.scheme_str()? == "https" { 443 } else { 80 };
            Some((uri.host()?, uri.port_u16().unwrap_or(usual)))
        });
        let Some((host, port)) = place else {
            return Err(self.beyond("its `url` names no host").help("write `url: http://host:port`"));
        };
        self.server(host, port)
    }

    fn server(&self, host: &str, port: u16) -> Result<()> {
        let host = Server::host(host);
        let granted = self.granted.servers.iter().filter_map(|text| Server::parse(text));
        if granted.into_iter().any(|server| server.host == host && server.port.is_none_or(|only| only == port)) {
            return Ok(());
        }
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Err(self.unreachable(&shown))
    }

    /// The folder of a socket, which is named exactly so.
    fn socket(&self, folder: &Path) -> Result<()> {
        if self.granted.servers.iter().any(|granted| Path::new(granted) == folder) {
            return Ok(());
        }
        Err(self.unreachable(&folder.display().to_string()))
    }

    fn unreachable(&self, server: &str) -> Error {
        self.beyond(format!("tenant `{}` may not connect to `{server}`", self.name))
            .help(format!("add it to `tenants.{}.servers` in the host file", self.name))
    }

    fn prefix(&self, key: &str, name: &str, qualified: Option<(&str, &str)>) -> Result<()> {
        let own = || vec![format!("{}_", self.name), format!("{}-", self.name)];
        let prefixes = self.granted.prefixes.clone().unwrap_or_else(own);
        let (schema, table) = qualified.unwrap_or(("public", name));
        let qualified = format!("{schema}.{table}");
        let begins = |prefix: &String| {
            if prefix.contains('.') { qualified.starts_with(prefix) } else { table.starts_with(prefix) }
        };
        if prefixes.iter().any(begins) {
            return Ok(());
        }
        let allowed: Vec<String> = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
        Err(self
            .beyond(format!("`{key}: {name}` may be another tenant's"))
            .help(format!("begin its name with {}", allowed.join(" or "))))
    }

    /// A path of the file, which has to stay within the tenant's folder. Relative ones start there.
    fn path(&self, key: &str, path: &Path) -> Result<PathBuf> {
        let help = "paths of a tenant start at its folder and stay in it, also through symbolic links";
        inside(&self.folder, &self.folder.join(path)).map_err(|error| {
            error.within(format!("`{key}` leads out of the folder of tenant `{}`", self.name)).help(help)
        })
    }

    fn beyond(&self, what: impl Into<String>) -> Error {
        Error::new(Fault::Config, what)
    }
}

/// A server that was granted, with one port or all.
struct Server {
    host: String,
    port: Option<u16>,
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        let alone = |host: &str| Some(Self { host: Self::host(host), port: None });
        if text.starts_with('/') {
            return None;
        }
        if text.parse::<IpAddr>().is_ok() {
            return alone(text);
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                Some(Self { host: Self::host(host), port: Some(port.parse().ok()?) })
            }
            _ => alone(text),
        }
    }

    /// The one form of a host in which it is compared: resolvers take no notice of case, nor of a
    /// dot at the end.
    fn host(text: &str) -> String {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase(),
        }
    }
}

/// Returns the real place of `path`, if that is in `folder`, which is canonical. A path that is not
/// there yet is judged by the longest part of it that is. Nothing but plain files and folders is
/// let through: a pipe could hold a thread for ever.
pub(super) fn inside(folder: &Path, path: &Path) -> Result<PathBuf> {
    let refuse = |why: &str| Err(Error::new(Fault::Config, why));
    if path.components().any(|part| part == Component::ParentDir) {
        return refuse("a path with `..` is not followed");
    }
    let (mut there, mut missing) = (path, Vec::new());
    while there.symlink_metadata().is_err() {
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name);
                there = parent;
            }
            _ => return refuse("no part of the path is there"),
        }
    }
    let Ok(mut real) = there.canonicalize() else { return refuse("it is a symbolic link that leads nowhere") };
    if !real.starts_with(folder) {
        return refuse("it lies elsewhere");
    }
    if !real.is_file() && !real.is_dir() {
        return refuse("it is neither a file nor a folder");
    }
    real.extend(missing.into_iter().rev());
    Ok(real)
}

/// Tells if the name is the pattern, or begins with the part of the pattern before its `*`.
pub(super) fn covers(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}
