//! `count`: entries of an answer and values in them, counted before it is read: one of two bytes
//! takes hundreds once it is read.

/// The depth to which messages may lie in each other, and to which they are read.
const DEPTH: u32 = 100;

/// The messages of which an answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// An answer whose entries are points, in this field.
    Points(u64),
    /// An answer whose entries say how something went, in this field.
    Words(u64),
    Word,
    Point,
    /// One key of a payload, and its value.
    Entry,
    Value,
    Object,
    List,
    Vectors,
    Named,
    NamedVector,
    Vector,
    /// A vector of vectors.
    Rows,
    Row,
}

impl Part {
    /// The message that a field of it holds, as `qdrant.proto` has them. None for texts, numbers,
    /// and what is not kept.
    fn below(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Points(list), _) if field == list => Self::Point,
            (Self::Words(list), _) if field == list => Self::Word,
            (Self::Point, 2) | (Self::Object, 1) => Self::Entry,
            // One that was found has them in another field than one that was looked up.
            (Self::Point, 4 | 6) => Self::Vectors,
            (Self::Entry, 2) | (Self::List, 1) => Self::Value,
            (Self::Value, 6) => Self::Object,
            (Self::Value, 7) => Self::List,
            (Self::Vectors, 1) | (Self::NamedVector, 2) => Self::Vector,
            (Self::Vectors, 2) => Self::Named,
            (Self::Named, 1) => Self::NamedVector,
            (Self::Vector, 103) => Self::Rows,
            (Self::Rows, 1) => Self::Row,
            _ => return None,
        })
    }
}

/// The number of entries that an answer holds, and of the values in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) entries: usize,
    /// Entries, and all that is nested in them.
    pub(super) values: usize,
}

/// Counts what a message holds. None if it is no message, or nested deeper than any is read.
pub(super) fn count(answer: Part, message: &[u8]) -> Option<Count> {
    let mut count = Count::default();
    walk(answer, message, DEPTH, &mut count)?;
    Some(count)
}

fn walk(part: Part, mut message: &[u8], depth: u32, count: &mut Count) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = match tag & 7 {
            0 => varint(&mut message).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (body, rest) = message.split_at_checked(length)?;
        message = rest;
        let Some(below) = part.below(tag >> 3).filter(|_| tag & 7 == 2) else { continue };
        count.values += 1;
        match below {
            Part::Word => count.entries += 1,
            Part::Row => {}
            _ => {
                count.entries += usize::from(below == Part::Point);
                walk(below, body, depth, count)?;
            }
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use qdrant_client::qdrant::value::Kind;
    use qdrant_client::qdrant::{ListValue, QueryResponse, RetrievedPoint, ScoredPoint, ScrollResponse, Struct, Value};
    use tonic_prost::prost::Message;

    fn list(values: Vec<Value>) -> Value {
        Value { kind: Some(Kind::ListValue(ListValue { values })) }
    }

    /// A payload of `count` values below each of two keys, one of them in an object.
    fn payload(count: usize) -> std::collections::HashMap<String, Value> {
        let values = list(vec![Value { kind: Some(Kind::BoolValue(true)) }; count]);
        let object = Struct { fields: [("of".to_owned(), values.clone())].into() };
        [("a".to_owned(), values), ("b".to_owned(), Value { kind: Some(Kind::StructValue(object)) })].into()
    }

    #[test]
    fn all_that_is_nested_in_a_point_counts() {
        // Per point: itself; key, value, list and its values; the same once more, below an object, with key and value.
        let nested = |count: usize| 1 + (3 + count) + (3 + 3 + count);
        let point = ScoredPoint { payload: payload(9), ..ScoredPoint::default() };
        let answer = QueryResponse { result: vec![point; 3], time: 1.0, usage: None }.encode_to_vec();
        assert_eq!(count(Part::Points(1), &answer), Some(Count { entries: 3, values: 3 * nested(9) }));
        let point = RetrievedPoint { payload: payload(5), ..RetrievedPoint::default() };
        let answer = ScrollResponse { result: vec![point], ..ScrollResponse::default() }.encode_to_vec();
        assert_eq!(count(Part::Points(2), &answer), Some(Count { entries: 1, values: nested(5) }));
    }

    #[test]
    fn what_is_nested_deeper_than_it_is_read_is_no_answer() {
        let nested = (0..200).fold(list(Vec::new()), |value, _| list(vec![value]));
        let point = ScoredPoint { payload: [("a".to_owned(), nested)].into(), ..ScoredPoint::default() };
        let answer = QueryResponse { result: vec![point], time: 1.0, usage: None }.encode_to_vec();
        assert_eq!(count(Part::Points(1), &answer), None);
    }

    proptest! {
        #[test]
        fn entries_of_any_bytes_are_counted_or_it_is_no_message(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = count(Part::Points(1), &bytes);
        }

        #[test]
        fn all_entries_are_counted(entries in 0..500_usize, length in 0..300_u16) {
            let entry = [&[0x0a, (length % 128) as u8 | 128, (length / 128) as u8][..], &vec![7; length.into()]].concat();
            let time = [&[0x11][..], &[1; 8]].concat(); // field 2, fixed64
            let counted = count(Part::Words(1), &[entry.repeat(entries), time].concat());
            prop_assert_eq!(counted, Some(Count { entries, values: entries }));
        }
    }
}
