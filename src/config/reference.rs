//! The reference of all settings as Markdown: made from the schema, so that it cannot lag behind.

use serde_json::{Map, Value};

use super::kind::{Components, Registry};
use super::schema::{host_file, schema};

/// Tables of every setting: outside the sections, then each section with its kinds.
pub fn reference<C: Components>(registry: &Registry<C>) -> String {
    let schema = schema(registry);
    let mut out = String::new();
    let sections = || fields(&schema).filter(|(_, field)| kinds(field).next().is_some());
    out.push_str("### The file\n\n");
    table(&mut out, rows(&schema, "").into_iter());
    for (name, section) in sections() {
        out.push_str(&format!("\n### `{name}`\n\n{}\n", description(section)));
        for kind in kinds(section) {
            let constant = kind.pointer("/properties/type/const").and_then(Value::as_str).unwrap_or_default();
            out.push_str(&format!("\n#### `type: {constant}`\n\n{}\n\n", description(kind)));
            table(&mut out, rows(kind, "").into_iter().filter(|row| row.name != "type"));
        }
    }
    out
}

/// A table of every setting of a host file.
pub fn host_reference<C: Components>(registry: &Registry<C>) -> String {
    let mut out = String::new();
    table(&mut out, rows(&host_file(registry), "").into_iter());
    out
}

struct Row {
    name: String,
    kind: String,
    default: String,
    meaning: String,
}

fn table(out: &mut String, rows: impl Iterator<Item = Row>) {
    out.push_str("| setting | value | default | meaning |\n|---|---|---|---|\n");
    for Row { name, kind, default, meaning } in rows {
        out.push_str(&format!("| `{name}` | {kind} | {default} | {meaning} |\n"));
    }
}

/// The settings of a map, those of maps inside it under their path.
fn rows(schema: &Value, prefix: &str) -> Vec<Row> {
    let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let mut out = Vec::new();
    for (name, field) in fields(schema) {
        let inner = inner(field);
        let default = match field.get("default") {
            _ if required.contains(&&Value::from(name)) => "**required**".to_owned(),
            Some(Value::Object(object)) if object.is_empty() => "none".to_owned(),
            Some(Value::Object(_)) | None => String::new(),
            Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
            Some(default) => format!("`{}`", plain(default)),
        };
        let name = format!("{prefix}{name}");
        out.push(Row { kind: value(field), default, meaning: description(field), name: name.clone() });
        if kinds(field).next().is_none() {
            out.extend(rows(inner, &format!("{name}.")));
            if let Some(entry) = inner.get("additionalProperties").filter(|entry| entry.get("properties").is_some()) {
                out.extend(rows(entry, &format!("{name}.<name>.")));
            }
            if let Some(item) = inner.get("items").map(self::inner).filter(|item| item.get("properties").is_some()) {
                out.extend(rows(item, &format!("{name}[].")));
            }
        }
    }
    out
}

fn fields(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields: Option<&Map<String, Value>> = schema.get("properties").and_then(Value::as_object);
    fields.into_iter().flatten().map(|(name, field)| (name.as_str(), field))
}

/// The kinds of component in a section.
fn kinds(section: &Value) -> impl Iterator<Item = &Value> {
    let kinds = section.pointer("/additionalProperties/oneOf").and_then(Value::as_array);
    kinds.into_iter().flatten()
}

/// Returns the schema of a field's value, without the alternatives "a reference" and "nothing".
fn inner(field: &Value) -> &Value {
    let choices = field.get("anyOf").and_then(Value::as_array);
    choices.and_then(|choices| choices.first()).unwrap_or(field)
}

/// Describes in words the values that a field takes.
fn value(field: &Value) -> String {
    let schema = inner(field);
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        let names: Vec<_> = choices.iter().filter_map(|choice| choice.get("const")).map(plain).collect();
        return names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(constant) = schema.get("const") {
        return format!("`{}`", plain(constant));
    }
    let kind = match schema.get("type") {
        Some(Value::Array(several)) => several.first().and_then(Value::as_str).unwrap_or_default(),
        Some(only) => only.as_str().unwrap_or_default(),
        None => "",
    };
    let word = match (kind, schema.get("format").and_then(Value::as_str)) {
        (_, Some("size")) => "size",
        (_, Some("span")) => "time",
        ("integer", _) => "whole number",
        ("number", _) => "number",
        ("boolean", _) => "`true`, `false`",
        ("array", _) => "list",
        ("object", _) => "map",
        _ => "text",
    };
    let bound = |name: &str| {
        let stated = schema.get(name).or_else(|| field.get(format!("x-{name}")));
        stated.map(plain)
    };
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!("{word}, {low} to {high}"),
        (Some(low), None) => format!("{word}, at least {low}"),
        (None, Some(high)) => format!("{word}, at most {high}"),
        (None, None) => word.to_owned(),
    }
}

fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
