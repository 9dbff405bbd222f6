//! The settings of a transform of type `wasm`, and what the host asks of them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Engine, Tenant, Transform, TransformKind, digest_of, hash_of};
use crate::config::model::{Allow, Ids, Limits, Rejections};
use crate::config::{ComponentKind, Problems, Resource, Secret};
use crate::embedder::Embedder;
use crate::error::Result;
use crate::meter::TransformMeter;

/// Hands batches of events to a WebAssembly component.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WasmTransform {
    /// Sources whose events it gets.
    #[schemars(length(min = 1))]
    pub inputs: Vec<String>,
    /// The component's file, relative to the pipeline file.
    pub component: PathBuf,
    /// The folder that the component lies in, if a tenant's.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// Columns that the handler gets, beside those of the key, of whichever table has them. Default: all. What it does not
    /// read costs nothing when it is left out.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// The values that the handler reads through `config.get`.
    #[schemars(extend("additionalProperties" = { "type": ["string", "number", "boolean"] }))]
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Embedders that the handler may use. The first embeds texts of vectors that no embedder is named after.
    #[serde(default)]
    pub embedders: Vec<String>,
    /// Batches handled at once, each on a thread and an instance of its own.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default = "WasmTransform::default_workers")]
    pub workers: usize,
    /// The limits of one call.
    #[serde(default)]
    pub limits: Limits,
    /// The number of events that may end among the rejected before the pipeline stops.
    #[serde(default)]
    pub rejections: Rejections,
    /// The form of ids: they tell from which table a row is, or not, where the source has several.
    #[serde(default)]
    pub ids: Ids,
    /// The things that the handler may reach beyond its batch. Nothing, unless it is named here.
    #[serde(default)]
    pub allow: Allow,
}

impl WasmTransform {
    fn default_workers() -> usize {
        1 // a second one only pays where the handler, not the database, is what is slow
    }
}

impl ComponentKind for WasmTransform {
    const TYPE: &'static str = "wasm";

    fn locate(&mut self, folder: &Path) {
        self.component = folder.join(&self.component);
    }

    fn review(&self, problems: &mut Problems<'_, '_>) {
        let component = &self.component;
        if !component.is_file() {
            let found = if component.is_dir() { "a folder" } else { "no file" };
            let message = format!("there is {found} at `{}`", component.display());
            let help = "`component` is relative to the pipeline file; build the handler first, or correct the path";
            problems.at(&["component"], message, help);
        }
        let mut seen = HashSet::new();
        for (index, host) in self.allow.http.iter().enumerate() {
            let path = ["allow", "http", &index.to_string()];
            if !seen.insert(&host.host) {
                problems.at(&path, "the host stands twice in `http`", "remove one of the two");
            }
            for (header, value) in &host.headers {
                if let Some((message, help)) = header_problem(header, value) {
                    problems.at(&[&path[..], &["headers", header]].concat(), message, help);
                }
            }
        }
    }

    fn resources(&mut self) -> Vec<Resource<'_>> {
        let Self {
            inputs: _,
            component,
            folder,
            columns: _,
            config: _,
            embedders: _,
            workers: _, // counted over all pipelines of a tenant
            limits,
            rejections: _,
            ids: _,
            allow,
        } = self;
        let Allow { http } = allow;
        let limits = Resource::HandlerLimits(limits);
        let hosts = http.iter_mut().enumerate().map(|(index, host)| Resource::HttpHost { index, host });
        let component = Resource::Path { key: "component", path: component, folder };
        [limits].into_iter().chain(hosts).chain([component]).collect()
    }
}

impl TransformKind for WasmTransform {
    fn open(
        &self,
        engine: &Engine,
        tenant: &Tenant,
        name: &str,
        embedders: IndexMap<String, Arc<dyn Embedder>>,
        meter: Arc<TransformMeter>,
    ) -> Result<Transform> {
        Transform::load_metered(tenant, engine, name, self, embedders, meter)
    }

    fn hash(&self) -> Result<String> {
        hash_of(self)
    }

    fn digest(&self) -> Option<[u8; 32]> {
        digest_of(self)
    }

    fn component(&self) -> &PathBuf {
        &self.component
    }

    fn adapt(&mut self, other: &dyn TransformKind) {
        let Some(other) = other.as_kind::<Self>() else { return };
        self.component = other.component.clone();
        self.config = other.config.clone();
        self.columns = other.columns.clone();
        self.workers = other.workers;
        self.limits = other.limits.clone();
        self.allow = other.allow.clone();
        self.rejections = other.rejections.clone();
    }

    fn embedders(&self) -> &[String] {
        &self.embedders
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn columns(&self) -> Option<&[String]> {
        self.columns.as_deref()
    }

    fn rejections(&self) -> &Rejections {
        &self.rejections
    }

    fn ids(&self) -> Ids {
        self.ids
    }
}

/// Message and help about a header that the host cannot add to a handler's requests.
fn header_problem(name: &str, value: &Secret) -> Option<(String, &'static str)> {
    const FRAMING: [&str; 9] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
    ];
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some((format!("`{name}` cannot be the name of a header"), "use letters, digits and `-`"));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Some((
            format!("`{name}` belongs to the connection"),
            "it is set by whoever sends the request; remove it",
        ));
    }
    let wrong = http::HeaderValue::from_str(value.expose()).is_err() || value.expose().is_empty();
    let help = "look for a line break in it, or for a variable that is not set";
    wrong.then(|| (format!("what `{name}` holds cannot be the value of a header"), help))
}
