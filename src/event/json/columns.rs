//! The columns that an event in its JSON form has.

use super::read::Flaw;
use super::tree::Json;
use super::value;

/// Columns of a table; Postgres has no more.
const MAX_COLUMNS: usize = 1600;

/// Name and type of each column: of `types`, or else of the rows.
pub(super) fn columns(event: &Json) -> Result<Vec<(&str, &str)>, Flaw> {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    match event.get("types") {
        Some(Json::Object(types)) => {
            for (name, type_name) in types {
                let Json::Text(type_name) = type_name else {
                    let what = format!("expected the name of a type, found {}", type_name.kind());
                    return Err(Flaw::new(what, "write `int8`, `text` or another of Postgres' names")
                        .within(name)
                        .within("types"));
                };
                if columns.iter().any(|(known, _)| known == name) {
                    return Err(Flaw::new(format!("column `{name}` stands twice"), "").within(name).within("types"));
                }
                columns.push((name, type_name));
            }
        }
        None | Some(Json::Null) => {
            for row in ["row", "old_row"] {
                let Some(Json::Object(entries)) = event.get(row) else { continue };
                for (name, value) in entries {
                    if !columns.iter().any(|(known, _)| known == name) {
                        columns.push((name, value::guess(value)));
                    }
                    if columns.len() > MAX_COLUMNS {
                        break;
                    }
                }
            }
        }
        Some(other) => {
            let what = format!("expected an object with the type of each column, found {}", other.kind());
            return Err(Flaw::new(what, "").within("types"));
        }
    }
    if columns.len() > MAX_COLUMNS {
        return Err(Flaw::new(format!("there are more than {MAX_COLUMNS} columns"), ""));
    }
    Ok(columns)
}
