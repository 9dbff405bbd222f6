//! Any bytes as a stream of pgoutput messages: each is events or an error, never a panic, never much memory.

use bytes::Bytes;

use crate::decode::{Catalog, Decoded, Decoder, Shape};
use crate::event::BatchBuilder;

pub(super) fn check(input: &[u8]) {
    let mut catalog = Catalog::default();
    catalog.add_type(16_400, "vector", Shape::Base);
    catalog.add_type(16_401, "_vector", Shape::Array { element: 16_400, delimiter: b',' });
    catalog.add_type(16_402, "halfvec", Shape::Base);
    catalog.add_type(16_403, "mood", Shape::Enum);
    catalog.set_primary_key(1, vec!["id".to_owned()], vec![Some("id".to_owned()), None]);
    let mut decoder = Decoder::new(catalog);
    let mut out = BatchBuilder::default();

    for message in messages(input) {
        let before = (out.len(), out.bytes());
        match decoder.decode(message, &mut out) {
            Err(_) => assert_eq!((out.len(), out.bytes()), before, "an error leaves nothing behind"),
            Ok(Decoded::Rows { events, .. }) => assert_eq!(out.len(), before.0 + events as usize),
            Ok(_) => assert_eq!(out.len(), before.0),
        }
    }

    // Ten bytes of numeric are up to 147,456 digits; nothing else grows by more than a small factor.
    assert!(out.bytes() <= 200_000 * (input.len() + 1));
    let batch = out.take();
    for event in batch.events() {
        let columns = batch.relation(event).columns.len();
        for row in [Some(batch.row(event)), batch.old_row(event)].into_iter().flatten() {
            assert!(row.is_empty() || row.len() == columns);
            row.iter().for_each(|value| drop(std::hint::black_box(format!("{value:?}"))));
        }
    }
}

/// Messages, each behind two bytes of length; what is left over is a message too.
fn messages(mut input: &[u8]) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let (message, rest) = match input {
            [] => return None,
            [high, low, rest @ ..] => {
                rest.split_at_checked((*high as usize) << 8 | *low as usize).unwrap_or((rest, &[]))
            }
            [_] => (input, &[][..]),
        };
        input = rest;
        Some(Bytes::copy_from_slice(message))
    })
}
