//! Any bytes as a stream of pgoutput messages, and as rows of queries that join it: each is events or an error, never a
//! panic, never much memory; and the same however the stream is taken up.
//!
//! What is no message of pgoutput's but begins with one of these tags stands for what the source does between messages:
//! `r` a row that a query answered joins the stream, `e` a table is emptied, `f` a row fills the gaps of an event, and `t` a
//! row is asked for texts.

use bytes::{Buf, Bytes};

use crate::decode::{Catalog, DecodeError, Decoded, Decoder, Joins, ReadColumn, Reading, Shape, texts};
use crate::event::{Batch, BatchBuilder, Operation, ReplicaIdentity, Value};

/// Ten bytes of numeric are up to 147,456 digits; nothing else grows by more than a small factor.
const GROWTH: usize = 200_000;

pub(super) fn check(input: &[u8]) {
    let (mut plain, _) = decode(input, |decoder| decoder);
    let shown = show(&plain);

    let (renewable, outdated) = decode(input, Decoder::with_renewable_catalog);
    assert!(outdated || show(&renewable) == shown, "a catalogue that is up to date changes nothing");

    let chosen = input.first().map_or(0, |&byte| usize::from(byte)) % plain.events().len().max(1);
    if let Some(seen) = plain.events().get(chosen).map(|event| event.position) {
        let (rest, _) = decode(input, |decoder| decoder.resume_after(seen));
        let events = plain.events().iter().zip(&shown).filter(|(event, _)| event.position > seen);
        assert!(show(&rest).iter().eq(events.map(|(_, shown)| shown)), "exactly what was not seen comes again");
    }

    for message in messages(input).filter(|message| message.first() == Some(&b'f')) {
        fill(&mut plain, message);
    }
    assert!(plain.bytes() <= 2 * GROWTH * (input.len() + 1));
}

/// Decodes all of the input. Answers also whether the catalogue was found outdated.
fn decode(input: &[u8], begin: impl FnOnce(Decoder) -> Decoder) -> (Batch, bool) {
    let mut decoder = begin(Decoder::new(catalog()));
    let (mut out, mut readings, mut outdated) = (BatchBuilder::default(), vec![every()], false);
    for message in messages(input) {
        let before = (out.len(), out.bytes());
        let read = match message.first() {
            Some(b'r' | b'e') => join(&mut decoder, message, &readings, &mut out),
            Some(b'f') => continue, // once there is a batch
            Some(b't') => {
                let columns: Vec<usize> = message.iter().skip(1).take(3).map(|&byte| byte.into()).collect();
                let found = texts(&message[columns.len() + 1..], &columns);
                assert!(found.is_none_or(|found| found.len() == columns.len()));
                continue;
            }
            _ => decoder.decode(message, &mut out),
        };
        match read {
            Err(error) => {
                assert_eq!((out.len(), out.bytes()), before, "an error leaves nothing behind");
                outdated |= matches!(error, DecodeError::UnknownType { .. } | DecodeError::UnknownKey { .. });
            }
            Ok(Decoded::Rows { events, .. }) => assert_eq!(out.len(), before.0 + events as usize),
            Ok(Decoded::Relation { now, .. }) => readings.push(Reading::of(&now, &catalog())),
            Ok(_) => assert_eq!(out.len(), before.0),
        }
    }
    assert!(out.bytes() <= GROWTH * (input.len() + 1));
    (out.take(), outdated)
}

/// A row of a query, behind a byte that says of which and as what; or just that its table is emptied.
fn join(
    decoder: &mut Decoder,
    mut message: Bytes,
    readings: &[Reading],
    out: &mut BatchBuilder,
) -> Result<Decoded, DecodeError> {
    let (tag, choice) = (message.get_u8(), message.try_get_u8().unwrap_or_default());
    let reading = &readings[usize::from(choice >> 3) % readings.len()];
    let before = out.len();
    if tag == b'e' {
        decoder.empty(reading, out)?;
        return Ok(Decoded::Rows { events: (out.len() - before) as u32, incomplete: false });
    }
    let operation = if choice & 1 == 0 { Operation::Insert } else { Operation::Delete };
    let joins = Joins { operation, replayed: choice & 2 != 0 };
    let appended = decoder.read(reading, message, joins, out, |row| {
        assert_eq!(row.len(), reading.relation().columns.len());
        row.iter().for_each(|value| drop(std::hint::black_box(format!("{value:?}"))));
        choice & 4 == 0
    })?;
    Ok(Decoded::Rows { events: appended.into(), incomplete: false })
}

/// Fills the gaps of an event, which the message names, from the row behind it. What is no gap stays as it was.
fn fill(batch: &mut Batch, mut message: Bytes) {
    message.advance(1);
    let (event, skip) = (message.try_get_u8().unwrap_or_default().into(), message.try_get_u8().unwrap_or_default());
    let Some(found) = batch.events().get(event) else { return };
    let reading = Reading::of(batch.relation(found), &catalog());
    let row = |batch: &Batch| -> Vec<String> {
        batch.row(&batch.events()[event]).iter().map(|value| format!("{value:?}")).collect()
    };
    let (gap, old) = (format!("{:?}", Value::Unchanged), row(batch));
    let filled = reading.fill(&message, skip.into(), batch, event);
    let new = row(batch);
    assert!(old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| old == new || *old == gap));
    assert!(filled.is_err() || !new.contains(&gap), "nothing is missing in what was filled");
}

/// A table with a column of every shape, as a query reads it.
fn every() -> Reading {
    const TYPES: [u32; 19] =
        [20, 16, 17, 18, 25, 26, 114, 600, 700, 701, 1009, 1083, 1184, 1231, 1700, 2950, 3802, 16_400, 16_401];
    let column = |(index, &type_oid): (usize, &u32)| ReadColumn {
        name: format!("c{index}"),
        type_oid,
        type_modifier: -1,
        key: index == 0,
    };
    let columns: Vec<ReadColumn> = TYPES.iter().enumerate().map(column).collect();
    Reading::new(9, "public", "every", ReplicaIdentity::Default, &columns, &catalog())
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.add_type(16_400, "vector", Shape::Base);
    catalog.add_type(16_401, "_vector", Shape::Array { element: 16_400, delimiter: b',' });
    catalog.add_type(16_402, "halfvec", Shape::Base);
    catalog.add_type(16_403, "mood", Shape::Enum);
    catalog.set_primary_key(1, vec!["id".to_owned()], vec![Some("id".to_owned()), None]);
    catalog
}

/// One line per event.
fn show(batch: &Batch) -> Vec<String> {
    let line = |event| {
        let columns = batch.relation(event).columns.len();
        let rows: Vec<_> = [Some(batch.row(event)), batch.old_row(event)]
            .into_iter()
            .flatten()
            .map(|row| {
                assert!(row.is_empty() || row.len() == columns);
                row.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>()
            })
            .collect();
        format!("{} {:?} {} {rows:?}", event.position, event.operation, batch.relation(event))
    };
    batch.events().iter().map(line).collect()
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
