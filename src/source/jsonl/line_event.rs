//! A line as events in this host's own JSON form, whichever form it has.

use super::debezium;
use super::jsonl_settings::LineFormat;
use crate::event::json::{Flaw, Json};
use crate::lsn::{Lsn, Position};

/// The events that a line holds, in its order; most often one. None in what only marks something:
/// an empty line, a tombstone.
///
/// # Errors
/// A flaw that says what is wrong with the line; never a value of it.
pub(super) fn events(line: &[u8], format: LineFormat, key: &[String]) -> Result<Vec<Json>, Flaw> {
    let text = std::str::from_utf8(line).map_err(|_| Flaw::new("it is not UTF-8 text", ""))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let json = Json::parse(text).map_err(|error| Flaw::new(error.to_string(), "each line is an event as JSON"))?;
    let own = match format {
        LineFormat::Auto => json.get("operation").is_some() || json.rejected_event().is_some(),
        LineFormat::Events => true,
        LineFormat::Debezium => false,
    };
    if !own {
        return debezium::events(&json, key);
    }
    let event = json.rejected_event().cloned().unwrap_or(json);
    Ok(vec![with_key(event, key)])
}

/// The table of an event, as `schema.table`.
pub(super) fn table(event: &Json) -> Option<String> {
    let text = |field| match event.get(field) {
        Some(Json::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    Some(format!("{}.{}", text("schema").unwrap_or("public"), text("table")?))
}

/// The event at a place of this source's, whatever place it had where it was recorded.
pub(super) fn at(event: Json, position: Position) -> Json {
    let Json::Object(mut fields) = event else { return event };
    fields.retain(|(name, _)| name != "lsn" && name != "ordinal");
    fields.push(("lsn".to_owned(), Json::Text(position.lsn.to_string())));
    fields.push(("ordinal".to_owned(), Json::Number(position.ordinal.to_string())));
    Json::Object(fields)
}

/// The place of an event of the line that ends there: behind those of all lines before it. None is
/// zero, as each line has a byte.
pub(super) fn place(end: u64, ordinal: usize) -> Position {
    Position { lsn: Lsn(end), ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX) }
}

/// The event with the columns of its key, unless it names them.
fn with_key(event: Json, key: &[String]) -> Json {
    let Json::Object(mut fields) = event else { return event };
    let named = fields.iter().any(|(name, value)| name == "key" && *value != Json::Null);
    if !named && !key.is_empty() {
        let has = |column: &&String| {
            let lists = fields.iter().filter(|(name, _)| matches!(name.as_str(), "types" | "row" | "old_row"));
            lists.into_iter().any(|(_, columns)| columns.get(column).is_some())
        };
        let names: Vec<Json> = key.iter().filter(has).map(|name| Json::Text(name.clone())).collect();
        fields.retain(|(name, _)| name != "key");
        fields.push(("key".to_owned(), Json::List(names)));
    }
    Json::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, key: &[&str]) -> Result<Vec<String>, String> {
        let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
        let events = events(line.as_bytes(), LineFormat::Auto, &key).map_err(|flaw| flaw.to_string())?;
        Ok(events.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_line_of_ours_keeps_what_it_says_and_gets_the_key_that_it_does_not_name() {
        let line = r#"{"operation":"insert","table":"t","row":{"id":1,"a":"x"}}"#;
        assert_eq!(read(line, &[]).unwrap(), [line]);
        let keyed = r#"{"operation":"insert","table":"t","row":{"id":1,"a":"x"},"key":["id"]}"#;
        assert_eq!(read(line, &["id", "other"]).unwrap(), [keyed]);
        assert_eq!(read(keyed, &["a"]).unwrap(), [keyed], "its own word counts");
        let letter = format!(r#"{{"position":"0/1#0","reason":"no","event":{line}}}"#);
        assert_eq!(read(&letter, &[]).unwrap(), [line], "a rejected event");
        assert_eq!(read("  ", &[]).unwrap(), Vec::<String>::new());
        assert_eq!(table(&Json::parse(line).unwrap()).unwrap(), "public.t");
        let placed = at(Json::parse(r#"{"lsn":"0/1","ordinal":7,"table":"t"}"#).unwrap(), place(16, 2));
        assert_eq!(placed.to_string(), r#"{"table":"t","lsn":"0/10","ordinal":2}"#);
    }

    #[test]
    fn what_is_no_event_is_said_without_a_value() {
        assert_eq!(read("{\"secret", &[]).unwrap_err(), "a string without its closing quote at line 1 column 2");
        let other = read(r#"{"secret":1}"#, &[]).unwrap_err();
        assert!(!other.contains("secret"), "{other}");
    }
}
