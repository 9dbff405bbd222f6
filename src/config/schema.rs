//! The JSON Schema of a pipeline file, for editors: made from the structs that read it.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::file::{File, Section};
use super::host_shape::Shape;
use super::kind::{Component, Components, KindEntry, Registry};

/// The schema of a whole pipeline file.
pub fn schema<C: Components>(registry: &Registry<C>) -> Value {
    let mut schema = generator().into_root_schema_for::<File>().to_value();
    fill(&mut schema, registry.sources);
    fill(&mut schema, registry.embedders);
    fill(&mut schema, registry.transforms);
    fill(&mut schema, registry.sinks);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "pgstream-host pipeline".into());
        object.insert("patternProperties".into(), json!({ "^x-": true }));
    }
    tidy(&mut schema);
    allow_references(&mut schema);
    schema
}

/// The schema of a host file.
pub(super) fn host_file<C: Components>(registry: &Registry<C>) -> Value {
    let mut schema = host(registry);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "pgstream-host host".into());
    }
    tidy(&mut schema);
    allow_references(&mut schema);
    schema
}

/// The same as the reader of the file needs it: with numbers as numbers.
pub(super) fn host<C: Components>(registry: &Registry<C>) -> Value {
    let mut schema = generator().into_root_schema_for::<Shape>().to_value();
    fill(&mut schema, registry.embedders);
    schema
}

/// Puts the kinds of a section where [`Section`] leaves room for them.
fn fill<C: Component>(schema: &mut Value, kinds: &[KindEntry<C>]) {
    let place = format!("/properties/{}/additionalProperties/oneOf", C::SECTION);
    if let Some(choices) = schema.pointer_mut(&place) {
        *choices = json!(kinds.iter().map(kind).collect::<Vec<Schema>>());
    }
}

/// Without what says nothing to an editor: Rust's names of number types, and defaults that are
/// "nothing".
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                object.remove("format");
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The schema of one kind of component, without the `type` that tells it, and without references to
/// elsewhere.
pub(super) fn of<C>(kind: &KindEntry<C>) -> Value {
    (kind.schema)(&mut generator()).to_value()
}

/// Every struct in its place: the reader of the schema, man or program, has no `$ref` to follow.
fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator()
}

impl JsonSchema for Section {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Section".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9_-]{1,63}$" },
            "additionalProperties": { "type": "object", "required": ["type"], "oneOf": [] },
        })
    }
}

fn kind<C>(kind: &KindEntry<C>) -> Schema {
    let mut schema = (kind.schema)(&mut generator());
    let mut properties = Map::new();
    properties.insert("type".into(), json!({ "const": kind.kind }));
    if let Some(Value::Object(own)) = schema.remove("properties") {
        properties.extend(own);
    }
    schema.insert("properties".into(), properties.into());
    schema
}

/// `dimension: ${DIM:-384}` is text to an editor. Plain text may hold references anyway.
fn allow_references(schema: &mut Value) {
    const NARROWING: [&str; 7] = ["type", "format", "pattern", "enum", "oneOf", "minimum", "maximum"];
    match schema {
        Value::Object(object) if is_narrow_scalar(object) => {
            let mut narrow = Map::new();
            for key in NARROWING {
                narrow.extend(object.remove(key).map(|value| (key.to_owned(), value)));
            }
            let reference = json!({ "type": "string", "pattern": r"\$\{" });
            object.insert("anyOf".into(), json!([narrow, reference]));
        }
        Value::Object(object) => object.values_mut().for_each(allow_references),
        Value::Array(items) => items.iter_mut().for_each(allow_references),
        _ => {}
    }
}

fn is_narrow_scalar(object: &Map<String, Value>) -> bool {
    let types = match object.get("type") {
        Some(Value::String(only)) => vec![only.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let number = types.iter().any(|name| matches!(*name, "integer" | "number" | "boolean"));
    let narrow_text = types.contains(&"string") && (object.contains_key("pattern") || object.contains_key("enum"));
    // An enum whose values are documented one by one is a choice of constants.
    let choices = object.get("oneOf").and_then(Value::as_array);
    let constants = choices.is_some_and(|all| all.iter().all(|one| one.get("const").is_some()));
    // `version` and `type` say how to read the rest, so they are given plainly.
    (number || narrow_text || constants) && !object.contains_key("const")
}
