//! Payloads as both Qdrant sinks store them: the handler's object, with the id and group that only
//! the host needs.

use serde_json::{Map, Value};

use super::point_id::{GROUP_KEY, ID_KEY, PointId};
use super::{Hit, Upsert};
use crate::error::{Code, Error, Fault, Result};
use crate::lsn::Position;

/// The payload to store for a point that is written whole.
pub(super) fn payload(upsert: &Upsert<'_>) -> Result<Map<String, Value>> {
    let mut payload = handlers(&upsert.payload.text()?, upsert.position)?;
    if !PointId::says(&upsert.point.id) {
        payload.insert(ID_KEY.to_owned(), upsert.point.id.as_str().into());
    }
    if let Some(group) = upsert.group {
        payload.insert(GROUP_KEY.to_owned(), group.into());
    }
    Ok(payload)
}

/// Reads a payload that a handler wrote. Refuses keys that the host keeps for itself.
pub(super) fn handlers(text: &str, position: Position) -> Result<Map<String, Value>> {
    let payload: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        // The parser's own words may quote the text.
        let (line, column) = (error.line(), error.column());
        Error::new(
            Fault::Handler,
            format!("a payload is not a JSON object that can be stored (column {column} of line {line})"),
        )
        .code(Code::Sink)
        .at(format!("event {position}"))
        .help("payloads are JSON objects, nested at most 127 levels deep")
    })?;
    for key in [ID_KEY, GROUP_KEY] {
        if payload.contains_key(key) {
            return Err(Error::new(
                Fault::Handler,
                format!("a payload uses the key `{key}`, which the sink keeps for itself"),
            )
            .code(Code::Sink)
            .at(format!("event {position}"))
            .help(format!("rename the key in the handler, for instance to `{}`", key.trim_start_matches('_'))));
        }
    }
    Ok(payload)
}

/// A found point as the handler knows it.
pub(super) fn hit(id: PointId, score: f32, mut payload: Map<String, Value>) -> Hit {
    payload.shift_remove(GROUP_KEY);
    let id = match payload.shift_remove(ID_KEY) {
        Some(Value::String(original)) => original,
        _ => id.to_string(),
    };
    Hit { id, score, payload }
}
