//! Numbers, sizes, times, texts and lists of a file against the bounds that the schema states.

use serde_json::Value;

use super::diagnostic::Findings;
use super::units::{Size, Span};
use super::yaml::{Kind, Node};

/// Compares a value under `key` with the bounds in its schema, and so on inside it.
pub(super) fn bounds(key: &str, node: &Node, schema: &Value, id: usize, findings: &mut Findings<'_>) {
    for choice in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        bounds(key, node, choice, id, findings);
    }
    match &node.kind {
        Kind::Map(entries) => {
            for entry in entries {
                let own = schema.get("properties").and_then(|fields| fields.get(&entry.key));
                let other = schema.get("additionalProperties");
                if let Some(schema) = own.or(other) {
                    bounds(&entry.key, &entry.value, schema, entry.id, findings);
                }
            }
        }
        Kind::List(items) => {
            if items.is_empty() && schema.get("minItems").is_some() {
                findings.at(id, format!("`{key}` is empty"), format!("write `{key}: […]` with at least one"));
            }
            for item in items {
                schema.get("items").into_iter().for_each(|schema| bounds(key, item, schema, item.id, findings));
            }
        }
        Kind::Scalar(scalar) => {
            if scalar.text.is_empty() && schema.get("minLength").is_some() {
                findings.at(id, format!("`{key}` is empty"), "");
            }
            // JSON Schema has no bounds for text, so those of sizes and times stand under names of our own.
            let stated = |name: &str| schema.get(name).or_else(|| schema.get(format!("x-{name}")));
            let bound = |name: &str| stated(name).and_then(|bound| Bound::new(bound, &scalar.text));
            let (low, high) = (bound("minimum"), bound("maximum"));
            let shown = |name: &str| stated(name).map(|bound| bound.to_string().replace('"', ""));
            let beyond =
                low.is_some_and(|low| low.value < low.bound) || high.is_some_and(|high| high.value > high.bound);
            if beyond {
                let allowed = match (shown("minimum"), shown("maximum")) {
                    (Some(low), Some(high)) => format!("from {low} to {high}"),
                    (Some(low), None) => format!("at least {low}"),
                    (None, high) => format!("at most {}", high.unwrap_or_default()),
                };
                findings.at(node.id, format!("`{key}` is out of range"), format!("write a value {allowed}"));
            }
        }
        Kind::Null | Kind::Hole => {}
    }
}

/// A value beside a bound for it, both in the unit of the bound.
#[derive(Clone, Copy)]
struct Bound {
    value: u128,
    bound: u128,
}

impl Bound {
    fn new(bound: &Value, text: &str) -> Option<Self> {
        if let Some(bound) = bound.as_u64() {
            return Some(Self { value: text.parse().ok()?, bound: bound.into() });
        }
        let bound = bound.as_str()?;
        match (bound.parse::<Size>(), bound.parse::<Span>()) {
            (Ok(size), _) => Some(Self { value: text.parse::<Size>().ok()?.0.into(), bound: size.0.into() }),
            (_, Ok(span)) => Some(Self { value: text.parse::<Span>().ok()?.0.as_nanos(), bound: span.0.as_nanos() }),
            _ => None,
        }
    }
}
