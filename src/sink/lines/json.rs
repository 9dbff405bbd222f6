//! Commands and rejected events as lines of JSON. Payloads are embedded as they stand: no number
//! loses a digit.

use serde::Serialize;

use super::settings::Vectors;
use crate::command::{Action, Command, Embedding, Point};
use crate::sink::DeadLetter;

/// Numbers that are written of a vector that is cut short.
const SHOWN: usize = 3;

/// Vectors of so few numbers are written whole.
const SHORT: usize = 8;

/// Appends the line of a command.
pub(super) fn command(out: &mut Vec<u8>, command: &Command, vectors: Vectors) {
    let position = command.position.to_string();
    let (action, head) = match &command.action {
        Action::Upsert(_) => ("upsert", None),
        Action::Patch { id, .. } => ("patch", Some(("id", id))),
        Action::Replace { group, .. } => ("replace", Some(("group", group))),
        Action::PatchGroup { group, .. } => ("patch_group", Some(("group", group))),
        Action::Delete { id } => ("delete", Some(("id", id))),
        Action::DeleteGroup { group } => ("delete_group", Some(("group", group))),
        Action::Clear => ("clear", None),
    };
    out.extend(b"{\"position\":");
    value(out, &position);
    out.extend(b",\"action\":");
    value(out, action);
    if let Some((key, name)) = head {
        out.push(b',');
        value(out, key);
        out.push(b':');
        value(out, name);
    }
    match &command.action {
        Action::Upsert(written) => {
            out.push(b',');
            members(out, written, vectors);
        }
        Action::Replace { points, .. } => {
            out.extend(b",\"points\":[");
            for (index, written) in points.iter().enumerate() {
                out.extend(if index == 0 { &b"{"[..] } else { b",{" });
                members(out, written, vectors);
                out.push(b'}');
            }
            out.push(b']');
        }
        Action::Patch { payload, .. } | Action::PatchGroup { payload, .. } => {
            out.extend(b",\"payload\":");
            raw(out, payload);
        }
        Action::Delete { .. } | Action::DeleteGroup { .. } | Action::Clear => {}
    }
    out.extend(b"}\n");
}

/// Appends the line of a rejected event.
pub(super) fn rejected(out: &mut Vec<u8>, pipeline: &str, letter: &DeadLetter) {
    out.extend(b"{\"position\":");
    value(out, &letter.position.to_string());
    out.extend(b",\"at\":");
    value(out, &letter.at);
    let mut text = |key: &[u8], text: &str| {
        out.extend(key);
        value(out, text);
    };
    text(b",\"pipeline\":", pipeline);
    text(b",\"transform\":", &letter.transform);
    text(b",\"handler\":", &letter.handler);
    if let Some(sink) = &letter.sink {
        text(b",\"sink\":", sink);
    }
    text(b",\"code\":", letter.code.as_str());
    text(b",\"reason\":", &letter.reason);
    text(b",\"table\":", &letter.table);
    out.extend(b",\"event\":");
    raw(out, &letter.event);
    out.extend(b"}\n");
}

fn members(out: &mut Vec<u8>, point: &Point, vectors: Vectors) {
    out.extend(b"\"id\":");
    value(out, &point.id);
    out.extend(b",\"embeddings\":{");
    for (index, (name, embedding)) in point.embeddings.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        value(out, name);
        out.push(b':');
        match embedding {
            Embedding::Dense(values) => numbers(out, values, vectors),
            Embedding::Sparse { indices, values } => {
                out.extend(b"{\"indices\":");
                numbers(out, indices, vectors);
                out.extend(b",\"values\":");
                numbers(out, values, vectors);
                out.push(b'}');
            }
            Embedding::Text(text) => value(out, text),
        }
    }
    out.extend(b"},\"payload\":");
    raw(out, &point.payload);
}

/// The numbers of a vector, or the first of them, and in words how many there are beyond.
fn numbers<T: Serialize>(out: &mut Vec<u8>, values: &[T], vectors: Vectors) {
    match values.get(..SHOWN) {
        Some(shown) if vectors == Vectors::Short && values.len() > SHORT => {
            out.push(b'[');
            for number in shown {
                value(out, number);
                out.push(b',');
            }
            value(out, &format!("… {} more", values.len() - SHOWN));
            out.push(b']');
        }
        _ => value(out, values),
    }
}

/// JSON that is JSON already. Its line breaks, which can only stand between tokens, must not break
/// the line.
fn raw(out: &mut Vec<u8>, json: &str) {
    out.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Neither the types used here nor a vector of bytes can fail; a reader would see the null.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.extend(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::lsn::{Lsn, Position};

    fn line(action: Action) -> String {
        let position = Position { lsn: Lsn(0x16B3748), ordinal: 3 };
        let mut out = Vec::new();
        command(&mut out, &Command { position, action }, Vectors::Whole);
        String::from_utf8(out).unwrap()
    }

    fn point(id: &str) -> Point {
        let sparse = Embedding::Sparse { indices: vec![1, 9], values: vec![0.25, 1e-7] };
        Point {
            id: id.into(),
            embeddings: vec![(String::new(), Embedding::Dense(vec![0.1, -2.0])), ("words".into(), sparse)],
            payload: "{\n  \"n\": 12345678901234567890.10,\r\n\t\"t\": \"a\\nb\"}".into(),
        }
    }

    #[test]
    fn every_action_is_one_line() {
        let a = r#""id":"a\"\n☃","embeddings":{"":[0.1,-2.0],"words":{"indices":[1,9],"values":[0.25,1e-7]}},"payload":{   "n": 12345678901234567890.10,  	"t": "a\nb"}"#;
        let b = a.replace(r#"a\"\n☃"#, "b");
        let cases = [
            (Action::Upsert(point("a\"\n☃")), format!(r#""action":"upsert",{a}"#)),
            (
                Action::Replace { group: "g".into(), points: vec![point("a\"\n☃"), point("b")] },
                format!(r#""action":"replace","group":"g","points":[{{{a}}},{{{b}}}]"#),
            ),
            (
                Action::Replace { group: "g".into(), points: vec![] },
                r#""action":"replace","group":"g","points":[]"#.into(),
            ),
            (
                Action::Patch { id: "a".into(), payload: "{\"x\":1}".into() },
                r#""action":"patch","id":"a","payload":{"x":1}"#.into(),
            ),
            (
                Action::PatchGroup { group: "g".into(), payload: "{}".into() },
                r#""action":"patch_group","group":"g","payload":{}"#.into(),
            ),
            (Action::Delete { id: "a".into() }, r#""action":"delete","id":"a""#.into()),
            (Action::DeleteGroup { group: "g".into() }, r#""action":"delete_group","group":"g""#.into()),
            (Action::Clear, r#""action":"clear""#.into()),
        ];
        for (action, rest) in cases {
            let line = line(action);
            assert_eq!(line, format!("{{\"position\":\"0/16B3748#3\",{rest}}}\n"));
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
    }

    #[test]
    fn long_vectors_are_cut_short_where_a_person_reads() {
        let written = |len: u8, vectors| {
            let mut point = point("a");
            point.payload = "{}".into();
            point.embeddings = vec![(String::new(), Embedding::Dense((0..len).map(f32::from).collect()))];
            let mut out = Vec::new();
            let position = Position::default();
            command(&mut out, &Command { position, action: Action::Upsert(point) }, vectors);
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()["embeddings"][""].to_string()
        };
        assert_eq!(written(9, Vectors::Short), r#"[0.0,1.0,2.0,"… 6 more"]"#);
        assert_eq!(written(4, Vectors::Short), "[0.0,1.0,2.0,3.0]");
        assert_eq!(written(9, Vectors::Whole), "[0.0,1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]");
    }

    #[test]
    fn a_rejected_event_is_one_line() {
        let letter = DeadLetter {
            position: Position { lsn: Lsn(0x16B3748), ordinal: 0 },
            at: 1_767_225_600_000_000,
            transform: "embed".into(),
            handler: "5e1f".into(),
            sink: None,
            code: Code::Trap,
            reason: "no\n\"text\"".into(),
            table: "public.docs".into(),
            key: "{}".into(),
            replayed: false,
            event: "{\"table\":\n\"docs\"}".into(),
        };
        let line = |letter: &DeadLetter| {
            let mut out = Vec::new();
            rejected(&mut out, "shop", letter);
            String::from_utf8(out).unwrap()
        };
        let whole = r#"{"position":"0/16B3748#0","at":1767225600000000,"pipeline":"shop","transform":"embed","handler":"5e1f","code":"trap","reason":"no\n\"text\"","table":"public.docs","event":{"table": "docs"}}"#;
        assert_eq!(line(&letter), whole.to_owned() + "\n");
        let refused = DeadLetter { sink: Some("search".into()), ..letter };
        assert!(line(&refused).contains(r#""handler":"5e1f","sink":"search","code":"#));
    }
}
