//! Writes pgoutput messages, as the server does: the other half of what the tests compare.

use bytes::Bytes;

/// A column of a row on the wire.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

pub(crate) fn text(text: &str) -> Wire {
    Wire::Text(text.as_bytes().to_vec())
}

/// Name, type and whether it is marked as key.
pub(crate) type Column<'a> = (&'a str, u32, bool);

/// Appends big-endian fields to a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    pub(crate) fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }

    pub(crate) fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn cstr(self, value: &str) -> Self {
        self.raw(value.as_bytes()).u8(0)
    }

    pub(crate) fn sized(self, value: &[u8]) -> Self {
        self.i32(value.len() as i32).raw(value)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn row(self, kind: u8, row: &[Wire]) -> Self {
        let head = self.u8(kind).i16(row.len() as i16);
        row.iter().fold(head, |message, column| match column {
            Wire::Null => message.u8(b'n'),
            Wire::Unchanged => message.u8(b'u'),
            Wire::Text(bytes) => message.u8(b't').sized(bytes),
            Wire::Binary(bytes) => message.u8(b'b').sized(bytes),
        })
    }

    pub(crate) fn bytes(self) -> Bytes {
        Bytes::from(self.0)
    }
}

pub(crate) fn begin(lsn: u64) -> Message {
    Message::new(b'B').i64(lsn as i64).i64(0).u32(7)
}

pub(crate) fn commit(lsn: u64) -> Message {
    Message::new(b'C').u8(0).i64(lsn as i64).i64(lsn as i64 + 8).i64(0)
}

pub(crate) fn relation(oid: u32, identity: u8, columns: &[Column<'_>]) -> Message {
    let head = Message::new(b'R').u32(oid).cstr("public").cstr("t").u8(identity).i16(columns.len() as i16);
    columns
        .iter()
        .fold(head, |message, (name, type_oid, key)| message.u8((*key).into()).cstr(name).u32(*type_oid).i32(-1))
}

pub(crate) fn insert(oid: u32, row: &[Wire]) -> Message {
    Message::new(b'I').u32(oid).row(b'N', row)
}

pub(crate) fn update(oid: u32, old: Option<(u8, &[Wire])>, new: &[Wire]) -> Message {
    let head = Message::new(b'U').u32(oid);
    match old {
        Some((kind, old)) => head.row(kind, old).row(b'N', new),
        None => head.row(b'N', new),
    }
}

pub(crate) fn delete(oid: u32, kind: u8, old: &[Wire]) -> Message {
    Message::new(b'D').u32(oid).row(kind, old)
}

pub(crate) fn truncate(oids: &[u32]) -> Message {
    oids.iter().fold(Message::new(b'T').i32(oids.len() as i32).u8(1), |message, oid| message.u32(*oid))
}
