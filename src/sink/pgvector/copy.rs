//! Rows in the binary format of COPY.

use bytes::{BufMut, Bytes, BytesMut};

use super::columns::{Column, Kind, MAX_SPARSE_DIMENSION};
use crate::command::Embedding;
use crate::error::{Code, Error, Fault, Result};
use crate::sink::Upsert;

/// Signature, flags, length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of a row's number of fields.
const TRAILER: i16 = -1;
const NULL: i32 = -1;
/// Version byte of jsonb's binary form.
const JSONB_VERSION: u8 = 1;

/// Writes rows of `id, group_id, <vectors>, payload` and hands them out in pieces.
#[derive(Debug)]
pub(super) struct CopyWriter {
    buffer: BytesMut,
}

impl CopyWriter {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::from(HEADER) }
    }

    /// Appends a row. The embeddings must have been admitted to the columns.
    pub(super) fn row(&mut self, upsert: &Upsert<'_>, columns: &[Column]) -> Result<()> {
        let fields = i16::try_from(columns.len() + 3).map_err(|_| too_large())?;
        self.buffer.put_i16(fields);
        self.field(|buffer| buffer.put_slice(upsert.point.id.as_bytes()))?;
        match upsert.group {
            Some(group) => self.field(|buffer| buffer.put_slice(group.as_bytes()))?,
            None => self.buffer.put_i32(NULL),
        }
        for column in columns {
            let given = upsert.point.embeddings.iter().find(|(vector, _)| *vector == column.vector);
            match given {
                Some((_, embedding)) => self.field(|buffer| put_embedding(buffer, embedding, column))?,
                None => self.buffer.put_i32(NULL),
            }
        }
        let payload = upsert.payload.text()?;
        self.field(|buffer| {
            buffer.put_u8(JSONB_VERSION);
            buffer.put_slice(payload.as_bytes());
        })
    }

    /// Returns the number of bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the bytes that were written since the last time.
    pub(super) fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// The last piece.
    pub(super) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(TRAILER);
        self.buffer.freeze()
    }

    fn field(&mut self, put: impl FnOnce(&mut BytesMut)) -> Result<()> {
        let at = self.buffer.len();
        self.buffer.put_i32(0);
        put(&mut self.buffer);
        let length = i32::try_from(self.buffer.len() - at - 4).map_err(|_| too_large())?;
        if let Some(place) = self.buffer.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }
}

fn put_embedding(buffer: &mut BytesMut, embedding: &Embedding, column: &Column) {
    match embedding {
        Embedding::Dense(values) => {
            buffer.reserve(4 + 4 * values.len());
            buffer.put_u16(values.len() as u16); // `admit` holds it below 16,001
            buffer.put_u16(0);
            values.iter().for_each(|value| buffer.put_f32(*value));
        }
        Embedding::Sparse { indices, values } => {
            debug_assert_eq!(column.kind, Kind::Sparse);
            // Postgres refuses zeros in a sparsevec; they mean the same as nothing.
            let elements = || indices.iter().zip(values).filter(|(_, value)| **value != 0.0);
            buffer.put_u32(column.dimension.unwrap_or(MAX_SPARSE_DIMENSION) as u32);
            buffer.put_u32(elements().count() as u32);
            buffer.put_u32(0);
            elements().for_each(|(index, _)| buffer.put_u32(*index));
            elements().for_each(|(_, value)| buffer.put_f32(*value));
        }
        Embedding::Text(_) => {}
    }
}

fn too_large() -> Error {
    Error::new(Fault::Data, "a point is larger than Postgres can take")
        .code(Code::Sink)
        .help("make the handler write smaller payloads: Postgres' limit is 1 GiB for a row")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Action, Command, Point};
    use crate::lsn::Position;
    use crate::sink::WriteSet;

    #[test]
    fn a_row_is_laid_out_as_postgres_reads_it() {
        let column = |vector: &str, kind| Column {
            vector: vector.into(),
            name: vector.into(),
            kind,
            dimension: Some(9),
            distance: None,
            half_index: false,
        };
        let columns = [column("", Kind::Vector), column("none", Kind::Vector), column("s", Kind::Sparse)];
        let point = Point {
            id: "é".into(),
            embeddings: vec![
                ("s".into(), Embedding::Sparse { indices: vec![1, 4, 8], values: vec![1.0, 0.0, -2.0] }),
                (String::new(), Embedding::Dense(vec![1.0, -0.5])),
            ],
            payload: "{}".into(),
        };
        let command = Command {
            position: Position::default(),
            action: Action::Replace { group: "g".into(), points: vec![point] },
        };
        let set = WriteSet::coalesce(&[&command]);
        let mut copy = CopyWriter::new();
        copy.row(&set.upserts[0], &columns).unwrap();
        let mut expected = HEADER.to_vec();
        expected.extend([0, 6]);
        expected.extend([0, 0, 0, 2, 0xC3, 0xA9]);
        expected.extend([0, 0, 0, 1, b'g']);
        expected.extend([0, 0, 0, 12, 0, 2, 0, 0, 0x3F, 0x80, 0, 0, 0xBF, 0, 0, 0]);
        expected.extend([0xFF; 4]);
        expected.extend([0, 0, 0, 28, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 0]);
        expected.extend([0, 0, 0, 1, 0, 0, 0, 8, 0x3F, 0x80, 0, 0, 0xC0, 0, 0, 0]);
        expected.extend([0, 0, 0, 3, 1, b'{', b'}']);
        assert_eq!(copy.take(), expected);
        assert_eq!(copy.finish(), [0xFF, 0xFF].as_slice());
    }
}
