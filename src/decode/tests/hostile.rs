//! Bytes that no server sends: they may be refused, but never do harm.

use proptest::prelude::*;

use super::encode::{Column, commit, relation};
use super::*;

const COLUMNS: [Column<'_>; 10] = [
    ("id", INT8, true),
    ("body", TEXT, false),
    ("price", 1700, false),
    ("tags", 1009, false),
    ("counts", 1231, false),
    ("at", 1184, false),
    ("data", 17, false),
    ("v", 16_400, false),
    ("uuid", 2950, false),
    ("doc", 3802, false),
];

/// The messages of a small transaction with every kind of message and both formats.
fn messages() -> Vec<Bytes> {
    let row = [
        text("1"),
        text("body"),
        Wire::Binary(vec![0, 1, 0, 0, 0, 0, 0, 2, 0, 5]),
        text(r#"[0:1]={"a \"b\"",NULL}"#),
        Wire::Binary(Message::default().i32(1).i32(1).u32(1700).i32(2).i32(1).sized(&[0; 8]).i32(-1).0),
        text("2024-05-17 08:30:00.25+00"),
        text("\\x00ff"),
        Wire::Binary(vec![0, 1, 0, 0, 0, 0, 0, 0]),
        Wire::Binary(vec![7; 16]),
        Wire::Binary(b"\x01{}".to_vec()),
    ];
    let mut key = vec![text("2")];
    key.resize(row.len(), Wire::Null);
    [
        begin(100),
        Message::new(b'O').i64(1).cstr("origin"),
        Message::new(b'Y').u32(16_400).cstr("public").cstr("vector"),
        relation(1, b'd', &COLUMNS),
        insert(1, &row),
        update(1, None, &row),
        update(1, Some((b'K', &key)), &row),
        update(1, Some((b'O', &row)), &row),
        delete(1, b'K', &key),
        truncate(&[1]),
        Message::new(b'M').u8(1).i64(5).cstr("prefix").sized(b"content"),
        commit(100),
    ]
    .map(Message::bytes)
    .to_vec()
}

/// The same transaction, with what the source does in between, as the fuzzer's check takes them.
fn joined() -> Vec<Vec<u8>> {
    let uuid = "00000000-0000-0000-0000-000000000000";
    let cells = ["1", "body", "1.5", "{a,NULL}", "{1.5}", "2024-05-17 08:30:00+00", "\\x00", "[1,2]", uuid, "{}"];
    let answer = |message: Message, cells: &[&str]| {
        cells.iter().fold(message.i16(cells.len() as i16), |message, cell| message.sized(cell.as_bytes())).bytes()
    };
    let filling: Vec<&str> = ["key"].into_iter().chain(cells).collect();
    let first_table = 1 << 3;
    let mut stream = messages();
    let commit = stream.pop();
    stream.extend([
        insert(1, &vec![Wire::Unchanged; COLUMNS.len()]).bytes(),
        answer(Message::new(b'r').u8(first_table), &cells),
        answer(Message::new(b'r').u8(first_table | 1 | 2), &cells),
        answer(Message::new(b'r').u8(first_table | 4), &cells),
        answer(Message::new(b'r').u8(0), &["1"; 19]),
        Message::new(b'e').u8(first_table).bytes(),
        answer(Message::new(b'f').u8(7).u8(1), &filling),
        answer(Message::new(b't').raw(&[2, 0, 5]), &cells),
    ]);
    stream.into_iter().chain(commit).map(|message| message.to_vec()).collect()
}

/// Messages behind their lengths.
fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| [&(message.len() as u16).to_be_bytes(), &message[..]].concat()).collect()
}

/// Decodes all messages up to `index`, then `message`; reads every value of what came out.
fn decode_at(index: usize, message: Bytes) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder::new(Catalog::default());
    let mut out = BatchBuilder::default();
    for message in messages().into_iter().take(index) {
        decoder.decode(message, &mut out).unwrap();
    }
    let decoded = decoder.decode(message, &mut out);
    let batch = out.take();
    assert!(batch.bytes() < 10_000_000);
    show(&batch);
    decoded
}

#[test]
fn every_message_is_understood_whole_and_no_part_of_one_is() {
    for (index, message) in messages().into_iter().enumerate() {
        decode_at(index, message.clone()).unwrap();
        for end in 0..message.len() {
            assert!(decode_at(index, message.slice(..end)).is_err(), "message {index} up to {end}");
        }
        let longer = Bytes::from([&message, &b"\0"[..]].concat());
        assert!(decode_at(index, longer).is_err(), "message {index} and a byte");
    }
}

#[test]
fn descriptions_without_end_are_not_kept() {
    let name = "n".repeat(1000);
    let columns: Vec<Column<'_>> = (0..1000).map(|_| (name.as_str(), INT8, false)).collect();
    let types = |oid: u32| Message::new(b'Y').u32(1_000_000 + oid).cstr("public").cstr(&name);
    let tables = |oid: u32| relation(oid, b'd', &columns);
    let ends = |message: &dyn Fn(u32) -> Message, most: u32| {
        let (mut decoder, mut batch) = (Decoder::new(Catalog::default()), BatchBuilder::default());
        let refused = (0..=most).find_map(|oid| decoder.decode(message(oid).bytes(), &mut batch).err());
        assert_eq!(refused, Some(DecodeError::Crowded));
    };
    ends(&tables, (described::DESCRIBED >> 20) as u32 + 1);
    ends(&types, (described::DESCRIBED / 1000) as u32);
    // The same one again is no more than it was.
    let (mut decoder, mut batch) = (Decoder::new(Catalog::default()), BatchBuilder::default());
    for _ in 0..50 {
        decoder.decode(tables(1).bytes(), &mut batch).unwrap();
    }
    let long = Message::new(b'Y').u32(1_000_000).cstr("public").cstr(&"n".repeat(2000));
    assert!(matches!(decoder.decode(long.bytes(), &mut batch), Err(DecodeError::Malformed { .. })));
}

#[test]
fn the_fuzzer_begins_with_a_stream_that_rows_join() {
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/decode/joined");
    let stream = framed(&joined());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(seed, &stream).unwrap();
    }
    assert!(std::fs::read(seed).is_ok_and(|seed| seed == stream), "BLESS=1 writes the seed anew");
}

proptest! {
    #[test]
    fn a_damaged_stream_is_the_same_however_it_is_taken_up(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut stream = joined();
        for (message, at, byte) in damage {
            let message = message.index(stream.len());
            let at = at.index(stream[message].len());
            stream[message][at] = byte;
        }
        fuzzed::check(&framed(&stream));
    }

    #[test]
    fn a_damaged_message_never_panics(
        index in 0..12_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut message = messages()[index].to_vec();
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let _ = decode_at(index, message.into());
    }

    #[test]
    fn noise_never_panics(tag in proptest::sample::select(b"BCORYIUDTM".to_vec()), noise: Vec<u8>) {
        let _ = decode_at(4, [&[tag], noise.as_slice()].concat().into());
    }

    #[test]
    fn noise_in_a_column_never_panics(
        column in 0..COLUMNS.len(),
        binary: bool,
        noise in prop_oneof![any::<Vec<u8>>(), "[\\[{\"\\\\,0-9NULa:=}\\]-]{0,40}".prop_map(String::into_bytes)],
    ) {
        let mut row = vec![Wire::Null; COLUMNS.len()];
        row[column] = if binary { Wire::Binary(noise) } else { Wire::Text(noise) };
        let _ = decode_at(4, insert(1, &row).bytes());
    }
}
