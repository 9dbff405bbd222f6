//! Debezium's envelope: `before`, `after`, `op` and `source`, with or without the schema beside it,
//! and with or without the message's key.

use super::debezium_value::{Field, value};
use crate::event::json::{Flaw, Json};

/// The events of a message: none for a tombstone, a heartbeat or a message about transactions, two
/// where a key changed.
///
/// # Errors
/// A flaw that says what is wrong with the message; never a value of it.
pub(super) fn events(message: &Json, key: &[String]) -> Result<Vec<Json>, Flaw> {
    // As consumers of Kafka write a record.
    let (record_key, message) = match (message.get("key"), message.get("value")) {
        (Some(key), Some(value)) if message.get("op").is_none() => (Some(key), value),
        _ => (None, message),
    };
    let (schema, payload) = unwrapped(message);
    if *payload == Json::Null {
        return Ok(Vec::new());
    }
    let Some(Json::Text(op)) = payload.get("op") else {
        return match is_other_message(payload) {
            true => Ok(Vec::new()),
            false => Err(Flaw::new(
                "it is neither an event with `operation` nor Debezium's envelope with `op`",
                "record with `pgstream-host tap --record`, or let Debezium send the whole envelope, without \
                 `ExtractNewRecordState`",
            )),
        };
    };
    if op == "m" {
        return Ok(Vec::new()); // a message in the log
    }
    let envelope = Envelope { payload, schema, op };
    envelope.events(record_key, key)
}

/// A message without its schema, which stands beside its payload.
fn unwrapped(message: &Json) -> (Option<&Json>, &Json) {
    match (message.get("schema"), message.get("payload")) {
        (Some(schema), Some(payload)) => (Some(schema).filter(|schema| **schema != Json::Null), payload),
        (None, Some(payload)) if message.get("op").is_none() => (None, payload),
        _ => (None, message),
    }
}

/// Heartbeats, and where transactions begin and end.
fn is_other_message(payload: &Json) -> bool {
    let Json::Object(fields) = payload else { return false };
    let has = |name: &str| payload.get(name).is_some();
    (fields.len() == 1 && has("ts_ms")) || (has("status") && has("id") && has("event_count"))
}

struct Envelope<'m> {
    payload: &'m Json,
    schema: Option<&'m Json>,
    op: &'m str,
}

impl Envelope<'_> {
    fn events(&self, record_key: Option<&Json>, key: &[String]) -> Result<Vec<Json>, Flaw> {
        let source = self.payload.get("source").unwrap_or(&Json::Null);
        let text = |field: &str| match source.get(field) {
            Some(Json::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let table = text("table").or_else(|| text("collection"));
        let table = table.ok_or_else(|| Flaw::new("it names no table", "").within("table").within("source"))?;
        let schema = text("schema").or_else(|| text("db")).unwrap_or_else(|| "public".to_owned());
        let fields = self.fields();
        let before = self.row("before", fields.as_deref())?;
        let after = self.row("after", fields.as_deref())?;
        let columns: Vec<&String> = match &fields {
            Some(fields) => fields.iter().map(|field| &field.name).collect(),
            None => {
                let mut names: Vec<&String> = Vec::new();
                for (name, _) in after.iter().chain(&before).flatten() {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                names
            }
        };
        let key = self.key(record_key, key, &columns)?;
        let keys = Json::List(key.iter().map(|name| Json::Text(name.clone())).collect());
        let mut head = vec![
            ("schema".to_owned(), Json::Text(schema)),
            ("table".to_owned(), Json::Text(table)),
            ("key".to_owned(), keys),
            ("commit_time".to_owned(), Json::Number(self.commit_time(source).to_string())),
        ];
        if let Some(fields) = &fields {
            let types = fields.iter().map(|field| (field.name.clone(), Json::Text(field.type_name.to_owned())));
            head.push(("types".to_owned(), Json::Object(types.collect())));
        }
        if let Some(Json::Number(xid)) = source.get("txId")
            && xid.parse::<u32>().is_ok()
        {
            head.push(("xid".to_owned(), Json::Number(xid.clone())));
        }
        let event = |operation: &str, row: Option<Row>, old: Option<Row>| {
            let mut fields = vec![("operation".to_owned(), Json::Text(operation.to_owned()))];
            fields.extend(head.iter().cloned());
            fields.extend(row.map(|row| ("row".to_owned(), Json::Object(row))));
            fields.extend(old.map(|row| ("old_row".to_owned(), Json::Object(row))));
            if self.op == "r" {
                fields.push(("snapshot".to_owned(), Json::Bool(true)));
            }
            Json::Object(fields)
        };
        let lacks = |side: &str| Flaw::new("the change has no row there", "").within(side);
        match self.op {
            "c" | "r" => Ok(vec![event("insert", Some(after.ok_or_else(|| lacks("after"))?), None)]),
            "u" => {
                let after = after.ok_or_else(|| lacks("after"))?;
                match before {
                    Some(before) if moved(&key, &before, &after) => {
                        Ok(vec![event("delete", Some(before), None), event("insert", Some(after), None)])
                    }
                    before => Ok(vec![event("update", Some(after), before)]),
                }
            }
            "d" => Ok(vec![event("delete", Some(before.ok_or_else(|| lacks("before"))?), None)]),
            "t" => Ok(vec![event("truncate", None, None)]),
            _ => Err(Flaw::new("expected one of `c`, `r`, `u`, `d`, `t`, `m`", "").within("op")),
        }
    }

    /// The columns as the schema tells them; None without one.
    fn fields(&self) -> Option<Vec<Field<'_>>> {
        let Some(Json::List(parts)) = self.schema?.get("fields") else { return None };
        let side = |name: &str| parts.iter().find(|part| part.get("field") == Some(&Json::Text(name.to_owned())));
        let Some(Json::List(fields)) = side("after").or_else(|| side("before"))?.get("fields") else { return None };
        Some(fields.iter().filter_map(Field::read).collect())
    }

    /// One side of the change, with values as this host writes them.
    fn row(&self, side: &str, fields: Option<&[Field<'_>]>) -> Result<Option<Row>, Flaw> {
        let entries = match self.payload.get(side) {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::Object(entries)) => entries,
            Some(other) => {
                return Err(Flaw::new(format!("expected a row as an object, found {}", other.kind()), "").within(side));
            }
        };
        let mut row = Row::new();
        for (name, json) in entries {
            let field = fields.and_then(|fields| fields.iter().find(|field| field.name == *name));
            let value = value(field, json).map_err(|flaw| flaw.within(name).within(side))?;
            row.push((name.clone(), value));
        }
        Ok(Some(row))
    }

    /// The columns of the key: as the record names them, else as the settings do.
    fn key(&self, record_key: Option<&Json>, settings: &[String], columns: &[&String]) -> Result<Vec<String>, Flaw> {
        if self.op == "t" {
            return Ok(Vec::new());
        }
        let named: Vec<String> = match record_key.map(|key| unwrapped(key).1) {
            Some(Json::Object(fields)) => fields.iter().map(|(name, _)| name.clone()).collect(),
            _ => settings.to_vec(),
        };
        let key: Vec<String> = named.into_iter().filter(|name| columns.contains(&name)).collect();
        if key.is_empty() {
            let help = "add `key: [id]` to the source, with the columns of the primary key";
            return Err(Flaw::new("the message does not name the columns of its key, nor does the source", help));
        }
        Ok(key)
    }

    /// In µs since 1970-01-01 UTC; 0 if it is not known.
    fn commit_time(&self, source: &Json) -> i64 {
        let number = |json: &Json, field: &str| match json.get(field) {
            Some(Json::Number(text)) => text.parse::<i64>().ok(),
            _ => None,
        };
        let millis = |json: &Json| number(json, "ts_ms").and_then(|millis| millis.checked_mul(1000));
        number(source, "ts_us").or_else(|| millis(source)).or_else(|| millis(self.payload)).unwrap_or_default()
    }
}

type Row = Vec<(String, Json)>;

/// Tells if the row has another key than before. Without a replica identity that has the key, the
/// old one is null and says nothing.
fn moved(key: &[String], before: &Row, after: &Row) -> bool {
    let of = |row: &Row, name: &String| row.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let known = key.iter().all(|name| of(before, name).is_some_and(|value| value != Json::Null));
    known && key.iter().any(|name| of(before, name) != of(after, name))
}
