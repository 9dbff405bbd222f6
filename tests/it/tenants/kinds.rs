//! Every kind of component in the list, named by a tenant who was granted nothing that it needs.

use std::path::{Path, PathBuf};

use pgstream_host::components::REGISTRY;
use pgstream_host::config::{self, Resource};
use pgstream_host::host::{Refusal, Tenants};
use pgstream_host::transform::Compiler;
use serde_json::{Map, Value, json};

/// Settings of a component that name nothing that is the tenant's own: all that must be given, and every URL.
fn settings(schema: &Value, scheme: &str, input: &str) -> Value {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let fields = schema["properties"].as_object().cloned().unwrap_or_default();
    let named = |key: &str| required.iter().any(|name| name == key) || matches!(key, "type" | "url");
    let mut out = Map::new();
    for (key, field) in &fields {
        if named(key) || (required.is_empty() && out.is_empty()) {
            out.insert(key.clone(), value(key, field, scheme, input));
        }
    }
    Value::Object(out)
}

fn value(key: &str, field: &Value, scheme: &str, input: &str) -> Value {
    let field = field.get("anyOf").and_then(|choices| choices.get(0)).unwrap_or(field);
    if let Some(constant) = field.get("const") {
        return constant.clone();
    }
    let kind = field["type"].as_str().or_else(|| field["type"][0].as_str()).unwrap_or("string");
    match (kind, key) {
        ("object", _) => settings(field, scheme, input),
        ("array", "inputs") => json!([input]),
        ("array", _) => json!(["public.elsewhere"]),
        ("integer" | "number", _) => field.get("minimum").cloned().unwrap_or(json!(1)),
        ("boolean", _) => json!(false),
        (_, "url") => json!(format!("{scheme}://app:secret@elsewhere.example:6334/shop")),
        (_, "component") => json!("../elsewhere.wasm"),
        (_, "path") => json!("../elsewhere"),
        _ => json!("elsewhere"),
    }
}

/// The kinds of a section, by the schema of the file.
fn kinds(section: &str) -> Vec<Value> {
    let schema = config::schema(&REGISTRY);
    schema["properties"][section]["additionalProperties"]["oneOf"].as_array().cloned().unwrap_or_default()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("acme")).unwrap();
        for file in ["acme/handler.wasm", "elsewhere.wasm"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        Self(folder)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(path)
    }

    /// The tenant's pipeline with one component of a section replaced; None if the file has mistakes.
    fn pipeline(&self, section: &str, component: &Value) -> Option<PathBuf> {
        let mut file = json!({
            "version": 1, "name": "documents", "tenant": "acme",
            "sources": { "db": {
                "type": "postgres", "url": "postgres://app:secret@db.example/shop", "tables": ["public.documents"],
            } },
            "transforms": { "embed": { "type": "wasm", "inputs": ["db"], "component": "handler.wasm" } },
            "sinks": { "out": { "type": "blackhole", "inputs": ["embed"] } },
        });
        match section {
            "sources" => file["sources"]["db"] = component.clone(),
            "embedders" => {
                file["embedders"] = json!({ "words": component });
                file["transforms"]["embed"]["embedders"] = json!(["words"]);
            }
            "transforms" => file["transforms"]["embed"] = component.clone(),
            _ => file["sinks"]["other"] = component.clone(),
        }
        let path = self.path("acme/pipeline.yaml");
        std::fs::write(&path, file.to_string()).unwrap();
        config::load(&REGISTRY, &path).ok().map(|_| path)
    }

    /// A file with a component of this kind that has no mistakes, but names what is not the tenant's.
    fn foreign(&self, section: &str, kind: &Value) -> PathBuf {
        let inputs: &[&str] = match section {
            "transforms" => &["db"],
            _ => &["embed", "embed.rejected"],
        };
        let choices = inputs.iter().flat_map(|input| ["postgres", "http"].map(|scheme| (scheme, *input)));
        let mut files = choices.filter_map(|(scheme, input)| self.pipeline(section, &settings(kind, scheme, input)));
        files.next().unwrap_or_else(|| panic!("make settings of {}", kind["properties"]["type"]["const"]))
    }

    fn admit(&self, sinks: &[&str], file: &Path) -> Result<(), String> {
        let host = json!({ "version": 1, "tenants": { "acme": {
            "folder": "acme", "sinks": sinks, "servers": ["db.example"],
        } } });
        let host = config::parse_host(&REGISTRY, "host.yaml", &host.to_string(), &|_| None).unwrap();
        let (_, mut tenants) = Tenants::open(&self.path("host.yaml"), &host, None, Compiler::in_process()).unwrap();
        match tenants.admit(file) {
            Ok(_) => Ok(()),
            Err(Refusal::Grant(error)) => Err(error.report()),
            Err(Refusal::File(problems)) => Err(problems.render(false)),
        }
    }
}

#[test]
fn no_kind_of_sink_is_opened_for_a_tenant_who_was_not_granted_it() {
    let place = Place::new();
    let kinds = kinds("sinks");
    assert_eq!(kinds.len(), REGISTRY.sinks.len());
    for (kind, entry) in kinds.iter().zip(REGISTRY.sinks) {
        let refused = place.admit(&["blackhole"], &place.foreign("sinks", kind));
        if entry.kind() == "blackhole" {
            assert_eq!(refused, Ok(()));
        } else {
            let wanted = format!("tenant `acme` may not use sinks of type `{}`", entry.kind());
            assert!(refused.as_ref().is_err_and(|why| why.contains(&wanted)), "{}: {refused:?}", entry.kind());
        }
    }
}

/// Whatever a kind says that it reaches is refused, if that is somebody else's.
#[test]
fn no_kind_of_sink_reaches_what_is_not_granted_although_its_type_is() {
    let place = Place::new();
    for (kind, entry) in kinds("sinks").iter().zip(REGISTRY.sinks) {
        let file = place.foreign("sinks", kind);
        let mut read = config::load(&REGISTRY, &file).unwrap();
        let reaches = read.sinks["other"].resources().iter().any(|it| !matches!(it, Resource::BatchBytes { .. }));
        let admitted = place.admit(&["blackhole", entry.kind()], &file);
        assert_eq!(admitted.is_err(), reaches, "{}: {admitted:?}", entry.kind());
    }
}

#[test]
fn no_kind_of_source_embedder_or_transform_reaches_what_is_not_granted() {
    let place = Place::new();
    let tried = |section: &str, names: Vec<&'static str>| {
        let kinds = kinds(section);
        assert!(kinds.len() == names.len() && !kinds.is_empty());
        for (kind, name) in kinds.iter().zip(names) {
            let admitted = place.admit(&["blackhole"], &place.foreign(section, kind));
            assert!(admitted.is_err(), "a tenant may use {section} of type `{name}` as it likes");
        }
    };
    tried("sources", REGISTRY.sources.iter().map(|entry| entry.kind()).collect());
    tried("embedders", REGISTRY.embedders.iter().map(|entry| entry.kind()).collect());
    tried("transforms", REGISTRY.transforms.iter().map(|entry| entry.kind()).collect());
}
