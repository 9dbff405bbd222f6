//! Streams of messages, and what becomes of them.

mod encode;
#[path = "../../../tests/fuzz/checks/decode.rs"]
mod fuzzed;
mod hostile;
mod values;

use bytes::Bytes;

use super::*;
use crate::event::{Batch, Value};
use crate::lsn::Lsn;
use encode::{Message, Wire, begin, commit, delete, insert, relation, text, truncate, update};

const INT8: u32 = 20;
const TEXT: u32 = 25;

/// A connection: a decoder and the batch it fills.
struct Stream {
    decoder: Decoder,
    out: BatchBuilder,
}

impl Stream {
    /// Inside a transaction, with a table `public.t (id int8 primary key, body text)` of OID 1.
    fn open(identity: u8, catalog: Catalog) -> Self {
        let mut stream = Stream { decoder: Decoder::new(catalog), out: BatchBuilder::default() };
        stream.ok(begin(100));
        let full = identity == b'f';
        stream.ok(relation(1, identity, &[("id", INT8, true), ("body", TEXT, full)]));
        stream
    }

    fn ok(&mut self, message: Message) -> Decoded {
        self.decode(message).unwrap()
    }

    fn decode(&mut self, message: Message) -> Result<Decoded, DecodeError> {
        self.decoder.decode(message.bytes(), &mut self.out)
    }

    /// One line per event.
    fn events(mut self) -> Vec<String> {
        show(&self.out.take())
    }
}

fn show(batch: &Batch) -> Vec<String> {
    let line = |event| {
        let row: Vec<Value<'_>> = batch.row(event).iter().collect();
        let old = batch.old_row(event).map(|old| old.iter().collect::<Vec<_>>());
        let old = old.map(|old| format!(" from {old:?}")).unwrap_or_default();
        format!("{} {:?} {row:?}{old}", event.position, event.operation)
    };
    batch.events().iter().map(line).collect()
}

fn with_primary_key() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.set_primary_key(1, vec!["id".to_owned()], columns(&["id", "body"]));
    catalog
}

#[test]
fn a_transaction_becomes_events_and_an_end() {
    let mut stream = Stream::open(b'd', Catalog::default());
    stream.ok(Message::new(b'O').i64(5).cstr("elsewhere"));
    assert_eq!(stream.ok(insert(1, &[text("1"), text("a")])), Decoded::Rows { events: 1, incomplete: false });
    stream.ok(update(1, None, &[text("1"), Wire::Unchanged]));
    stream.ok(delete(1, b'K', &[text("1"), Wire::Null]));
    stream.ok(truncate(&[1]));
    assert_eq!(
        stream.ok(commit(100)),
        Decoded::Commit(Commit { commit_lsn: Lsn(100), end_lsn: Lsn(108), commit_time: 946_684_800_000_000 })
    );
    let batch = stream.out.take();
    assert_eq!(batch.ends_at(), Some(Lsn(108)));
    assert_eq!(
        show(&batch),
        [
            r#"0/64#0 Insert [Int(1), Text("a")]"#,
            "0/64#1 Update [Int(1), Unchanged]",
            "0/64#2 Delete [Int(1), Null]",
            "0/64#3 Truncate []",
        ]
    );
    let event = &batch.events()[0];
    assert_eq!((event.xid, event.commit_time), (7, 946_684_800_000_000));
    let relation = batch.relation(event);
    assert_eq!(relation.to_string(), "public.t");
    let columns: Vec<_> = relation.columns.iter().map(|c| (c.name.as_str(), c.type_name.as_str(), c.key)).collect();
    assert_eq!(columns, [("id", "int8", true), ("body", "text", false)]);
}

#[test]
fn a_changed_key_is_a_delete_and_an_insert() {
    let mut stream = Stream::open(b'd', Catalog::default());
    let moved = stream.ok(update(1, Some((b'K', &[text("1"), Wire::Null])), &[text("2"), text("a")]));
    assert_eq!(moved, Decoded::Rows { events: 2, incomplete: false });
    let moved = stream.ok(update(1, Some((b'K', &[text("2"), Wire::Null])), &[text("3"), Wire::Unchanged]));
    assert_eq!(moved, Decoded::Rows { events: 2, incomplete: true });
    assert_eq!(
        stream.events(),
        [
            "0/64#0 Delete [Int(1), Null]",
            r#"0/64#1 Insert [Int(2), Text("a")]"#,
            "0/64#2 Delete [Int(2), Null]",
            "0/64#3 Insert [Int(3), Unchanged]",
        ]
    );
}

#[test]
fn a_key_sent_because_it_is_toasted_is_no_change() {
    let mut stream = Stream::open(b'd', Catalog::default());
    stream.ok(relation(2, b'i', &[("key", TEXT, true), ("body", TEXT, false)]));
    stream.ok(update(2, Some((b'K', &[text("long"), Wire::Null])), &[Wire::Unchanged, text("b")]));
    stream.ok(update(2, Some((b'K', &[text("long"), Wire::Null])), &[text("long"), Wire::Unchanged]));
    assert_eq!(
        stream.events(),
        [r#"0/64#0 Update [Text("long"), Text("b")]"#, r#"0/64#2 Update [Text("long"), Unchanged]"#]
    );
}

#[test]
fn a_full_old_row_fills_in_what_was_not_sent() {
    let mut stream = Stream::open(b'f', with_primary_key());
    stream.ok(update(1, Some((b'O', &[text("1"), text("long")])), &[text("1"), Wire::Unchanged]));
    let moved = stream.ok(update(1, Some((b'O', &[text("1"), text("long")])), &[text("2"), Wire::Unchanged]));
    assert_eq!(moved, Decoded::Rows { events: 2, incomplete: false });
    stream.ok(delete(1, b'O', &[text("2"), text("long")]));
    assert_eq!(
        stream.events(),
        [
            r#"0/64#0 Update [Int(1), Text("long")] from [Int(1), Text("long")]"#,
            r#"0/64#2 Delete [Int(1), Text("long")]"#,
            r#"0/64#3 Insert [Int(2), Text("long")]"#,
            r#"0/64#4 Delete [Int(2), Text("long")]"#,
        ]
    );
}

#[test]
fn with_a_full_identity_the_key_is_the_primary_key_where_it_is_known() {
    let keys = |mut stream: Stream| {
        stream.ok(update(1, Some((b'O', &[text("1"), text("a")])), &[text("1"), text("b")]));
        let batch = stream.out.take();
        let keys: Vec<bool> = batch.relations()[0].columns.iter().map(|column| column.key).collect();
        (keys, batch.events().len())
    };
    assert_eq!(keys(Stream::open(b'f', with_primary_key())), (vec![true, false], 1));
    assert_eq!(keys(Stream::open(b'f', Catalog::default())), (vec![true, true], 2), "the whole row identifies it");
    let mut partly_published = Catalog::default();
    partly_published.set_primary_key(1, vec!["id".to_owned(), "tenant".to_owned()], columns(&["id", "body", "tenant"]));
    assert_eq!(keys(Stream::open(b'f', partly_published)), (vec![true, true], 2));
}

fn columns(names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| Some((*name).to_owned()).filter(|name| !name.is_empty())).collect()
}

/// The catalogue is that of now; the stream may tell of a time before or after a column of the key
/// was renamed.
#[test]
fn with_a_full_identity_a_renamed_key_is_known_by_its_place() {
    let key = |among: &[&str], streamed: &[&str]| {
        let mut catalog = Catalog::default();
        catalog.set_primary_key(2, vec!["id".to_owned()], columns(among));
        let mut stream = Stream::open(b'd', catalog.clone());
        let described: Vec<_> = streamed.iter().map(|name| (*name, INT8, true)).collect();
        let Decoded::Relation { now, .. } = stream.ok(relation(2, b'f', &described)) else { panic!("not a relation") };
        let key: String = now.columns.iter().filter(|column| column.key).map(|column| &*column.name).collect();
        let (described, mut out) = (relation(2, b'f', &described).bytes(), BatchBuilder::default());
        let strict = Decoder::new(catalog).with_renewable_catalog().decode(described, &mut out);
        (key, strict.is_ok())
    };
    assert_eq!(key(&["id", "a"], &["old", "a"]), ("old".into(), true));
    assert_eq!(key(&["a", "id", "b", "c"], &["a", "old"]), ("old".into(), true), "columns were added since");
    assert_eq!(key(&["", "id", "b"], &["old", "b"]), ("old".into(), true), "one was dropped before both");
    assert_eq!(key(&["", "id", "b"], &["a", "old", "b"]), ("aoldb".into(), false), "one was dropped since");
    assert_eq!(key(&["id", "a"], &["a"]), ("a".into(), true), "the key is not published");
}

#[test]
fn keys_of_floats_compare_as_postgres_does() {
    let mut stream = Stream::open(b'd', Catalog::default());
    stream.ok(relation(2, b'd', &[("key", 701, true)]));
    stream.ok(update(2, Some((b'K', &[text("NaN")])), &[text("NaN")]));
    stream.ok(update(2, Some((b'K', &[text("0")])), &[text("-0")]));
    assert_eq!(stream.events().len(), 2);
}

#[test]
fn a_relation_described_again_stays_the_same() {
    let mut stream = Stream::open(b'd', Catalog::default());
    let same = [("id", INT8, true), ("body", TEXT, false)];
    let (Decoded::Relation { now: first, .. }, Decoded::Relation { now: again, before: None }) =
        (stream.ok(relation(1, b'd', &same)), stream.ok(relation(1, b'd', &same)))
    else {
        panic!("not a relation");
    };
    assert!(Arc::ptr_eq(&first, &again));
    stream.ok(insert(1, &[text("1"), text("a")]));
    stream.ok(relation(1, b'd', &[("id", INT8, true)]));
    stream.ok(insert(1, &[text("2")]));
    stream.ok(insert(1, &[text("3")]));
    let batch = stream.out.take();
    assert_eq!(batch.relations().len(), 2);
    assert_eq!(batch.relation(&batch.events()[0]).columns.len(), 2);
}

#[test]
fn truncate_names_every_table() {
    let mut stream = Stream::open(b'd', Catalog::default());
    stream.ok(relation(2, b'd', &[]));
    assert_eq!(stream.ok(truncate(&[2, 1])), Decoded::Rows { events: 2, incomplete: false });
    let batch = stream.out.take();
    let oids: Vec<u32> = batch.events().iter().map(|event| batch.relation(event).id).collect();
    assert_eq!(oids, [2, 1]);
    assert!(batch.row(&batch.events()[0]).is_empty());
}

#[test]
fn messages_stand_inside_and_outside_of_transactions() {
    let message = |flag| Message::new(b'M').u8(flag).i64(9).cstr("pgstream").sized(b"tick");
    let mut stream = Stream { decoder: Decoder::new(Catalog::default()), out: BatchBuilder::default() };
    let expected = |transactional| LogicalMessage {
        prefix: "pgstream".to_owned(),
        content: Bytes::from_static(b"tick"),
        transactional,
        lsn: Lsn(9),
    };
    assert_eq!(stream.ok(message(0)), Decoded::Message(expected(false)));
    assert_eq!(stream.decode(message(1)).unwrap_err().to_string(), "Message message outside of a transaction");
    stream.ok(begin(1));
    assert_eq!(stream.ok(message(1)), Decoded::Message(expected(true)));
    assert!(!format!("{:?}", expected(true)).contains("tick"));
}

#[test]
fn what_was_seen_on_another_connection_is_not_added_again() {
    let position = Position { lsn: Lsn(100), ordinal: 1 };
    let mut stream = Stream::open(b'd', Catalog::default());
    stream.decoder = Decoder::new(Catalog::default()).resume_after(position);
    stream.ok(begin(100));
    stream.ok(relation(1, b'd', &[("id", INT8, true), ("body", TEXT, false)]));
    let row = |id| [text(id), text("a")];
    assert_eq!(stream.ok(insert(1, &row("1"))), Decoded::Rows { events: 0, incomplete: false });
    assert_eq!(stream.out.bytes(), 0, "nothing of a seen event is kept");
    // Its delete was seen, its insert was not: the numbers go on as they did there.
    let split = update(1, Some((b'K', &[text("1"), Wire::Null])), &row("2"));
    assert_eq!(stream.ok(split), Decoded::Rows { events: 1, incomplete: false });
    stream.ok(insert(1, &row("3")));
    assert_eq!(stream.events(), [r#"0/64#2 Insert [Int(2), Text("a")]"#, r#"0/64#3 Insert [Int(3), Text("a")]"#]);
}

#[test]
fn every_refusal_says_what_and_where_and_leaves_nothing_behind() {
    let refusals: [(Message, &str); 17] = [
        (Message::default(), "malformed empty message: it has no tag"),
        (Message::new(b'S'), "unknown message tag 0x53"),
        (Message::new(b'I').u8(0), "malformed Insert message: it ends too early"),
        (insert(9, &[]), "Insert message for relation 9, which was never described"),
        (truncate(&[1, 9]), "Truncate message for relation 9, which was never described"),
        (insert(1, &[text("1")]), "a row of `public.t` with 1 values, the relation has 2 columns"),
        (insert(1, &[text("1"), text("secret")]).u8(0), "malformed Insert message: bytes after its end"),
        (
            insert(1, &[text("1x"), text("secret")]),
            "column `id` of `public.t`: not a valid `int8`: not a whole number of its width",
        ),
        (
            insert(1, &[Wire::Binary(vec![0; 9]), text("")]),
            "column `id` of `public.t`: not a valid `int8`: bytes after its end",
        ),
        (
            insert(1, &[Wire::Binary(vec![0; 7]), text("")]),
            "column `id` of `public.t`: not a valid `int8`: it ends too early",
        ),
        (
            Message::new(b'I').u32(1).u8(b'N').i16(2).u8(b't').i32(i32::MAX),
            "malformed Insert message: it ends too early",
        ),
        (Message::new(b'I').u32(1).u8(b'N').i16(2).u8(b't').i32(-1), "malformed Insert message: a negative length"),
        (Message::new(b'I').u32(1).u8(b'N').i16(2).u8(b'x'), "malformed Insert message: a column of an unknown format"),
        (Message::new(b'I').u32(1).u8(b'K'), "malformed Insert message: a row of an unknown kind"),
        (Message::new(b'T').i32(i32::MAX).u8(0), "malformed Truncate message: too many relations"),
        (begin(200), "Begin message inside a transaction"),
        (commit(200), "Commit message of another transaction"),
    ];
    for (message, refusal) in refusals {
        let mut stream = Stream::open(b'd', Catalog::default());
        stream.ok(insert(1, &[text("1"), text("a")]));
        let before = (stream.out.bytes(), stream.out.len());
        let error = stream.decode(message).unwrap_err();
        assert_eq!(error.to_string(), refusal);
        assert_eq!((stream.out.bytes(), stream.out.len()), before, "{refusal}");
    }
    let mut outside = Stream { decoder: Decoder::new(Catalog::default()), out: BatchBuilder::default() };
    for (message, refusal) in [
        (insert(1, &[]), "Insert message outside of a transaction"),
        (truncate(&[]), "Truncate message outside of a transaction"),
        (commit(1), "Commit message outside of a transaction"),
    ] {
        assert_eq!(outside.decode(message).unwrap_err().to_string(), refusal);
    }
}

#[test]
fn a_binary_value_of_an_unknown_type_asks_for_text() {
    let mut stream = Stream::open(b'd', Catalog::default());
    stream.ok(relation(2, b'd', &[("address", 869, false)]));
    stream.ok(insert(2, &[text("::1")]));
    let error = stream.decode(insert(2, &[Wire::Binary(vec![3, 128, 0, 16])])).unwrap_err();
    assert!(matches!(&error, DecodeError::BinaryOnly { type_name, .. } if type_name == "inet"), "{error}");
    assert_eq!(error.to_string(), "column `address` of `public.t`: `inet` cannot be read in binary format");
    assert_eq!(stream.events(), [r#"0/64#0 Insert [Other("::1")]"#]);
    assert!(Catalog::default().binary_is_readable([INT8, TEXT, 1016, 2951]));
    assert!(!Catalog::default().binary_is_readable([INT8, 869]));
    assert!(!Catalog::default().binary_is_readable([1041]), "nor can its array be");
}

#[test]
fn types_of_the_database_are_known_by_catalogue_or_by_message() {
    let mut catalog = Catalog::default();
    catalog.add_type(16_400, "email", Shape::Domain(16_401));
    catalog.add_type(16_401, "short", Shape::Domain(1043));
    catalog.add_type(16_402, "mood", Shape::Enum);
    catalog.add_type(16_403, "_mood", Shape::Array { element: 16_402, delimiter: b',' });
    catalog.add_type(16_404, "halfvec", Shape::Base);
    catalog.add_type(16_405, "_halfvec", Shape::Array { element: 16_404, delimiter: b',' });
    catalog.add_type(16_406, "loop", Shape::Domain(16_406));
    assert!(catalog.binary_is_readable([16_400, 16_401, 16_402, 16_403, 16_404, 16_405]));
    assert!(!catalog.binary_is_readable([16_406, 99_999]));
    let names = [16_400, 16_403, 16_405, 1016, 99_999].map(|oid| catalog.type_name(oid));
    assert_eq!(names, ["varchar", "mood[]", "halfvec[]", "int8[]", "99999"]);

    let mut stream = Stream::open(b'd', Catalog::default());
    stream.ok(Message::new(b'Y').u32(16_500).cstr("extensions").cstr("vector"));
    stream.ok(Message::new(b'Y').u32(16_501).cstr("").cstr("int4"));
    stream.ok(Message::new(b'Y').u32(16_502).cstr("").cstr("_text"));
    stream.ok(Message::new(b'Y').u32(16_503).cstr("public").cstr("mood"));
    let columns = [("v", 16_500, false), ("d", 16_501, false), ("a", 16_502, false), ("m", 16_503, false)];
    let Decoded::Relation { now: described, .. } = stream.ok(relation(2, b'd', &columns)) else {
        panic!("not a relation")
    };
    let names: Vec<_> = described.columns.iter().map(|column| column.type_name.as_str()).collect();
    assert_eq!(names, ["vector", "int4", "text[]", "mood"]);
    stream.ok(insert(2, &[text("[1,2.5]"), text("5"), text("{a}"), text("glad")]));
    assert_eq!(stream.events(), [r#"0/64#0 Insert [Vector([1.0, 2.5]), Int(5), Json("[\"a\"]"), Other("glad")]"#]);
}

/// The corpus from which the fuzzer starts passes without the fuzzer, too.
#[test]
fn the_corpus_is_decoded_without_a_panic() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/decode");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 3);
    for file in files {
        fuzzed::check(&std::fs::read(&file).unwrap());
    }
}

/// Sinks skip what lies before a position that they stored, so it must name the same row in every
/// run.
#[test]
fn positions_are_the_same_whatever_is_wanted_and_known_of_the_tables() {
    let columns = [("id", INT8, true), ("body", TEXT, true)];
    let row = |id| [text(id), text("a")];
    let old = row("1");
    let messages = || {
        vec![
            insert(1, &row("1")),
            insert(2, &row("1")),
            update(1, Some((b'O', &old)), &row("1")),
            update(2, Some((b'O', &old)), &row("1")),
            update(2, None, &row("1")),
            update(1, Some((b'O', &old)), &row("2")),
            truncate(&[2, 1]),
            delete(2, b'O', &row("1")),
            insert(1, &row("3")),
        ]
    };
    let run = |decoder: Decoder| {
        let mut stream = Stream { decoder, out: BatchBuilder::default() };
        stream.ok(begin(100));
        stream.ok(relation(1, b'f', &columns));
        stream.ok(relation(2, b'f', &columns));
        messages().into_iter().for_each(|message| drop(stream.ok(message)));
        let batch = stream.out.take();
        let of_the_first = batch.events().iter().filter(|event| batch.relation(event).id == 1);
        of_the_first.map(|event| (event.position.ordinal, event.operation)).collect::<Vec<_>>()
    };
    let mut keyed = Catalog::default();
    keyed.set_primary_key(1, vec!["body".to_owned()], self::columns(&["id", "body"]));
    let split = run(Decoder::new(Catalog::default()));
    assert_eq!(
        split,
        [
            (0, Operation::Insert),
            (2, Operation::Update),
            (7, Operation::Delete),
            (8, Operation::Insert),
            (10, Operation::Truncate),
            (12, Operation::Insert),
        ]
    );
    assert_eq!(run(Decoder::new(Catalog::default()).with_tables([1])), split, "with one table fewer");
    let whole = [(0, Operation::Insert), (2, Operation::Update), (7, Operation::Update)];
    let whole: Vec<_> = whole.into_iter().chain(split[4..].iter().copied()).collect();
    assert_eq!(run(Decoder::new(keyed).with_tables([1])), whole, "with another key");
}
