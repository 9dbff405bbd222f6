//! Values of every type: what a model value is in text, in binary and as an event's value.

use proptest::prelude::*;

use super::encode::{Wire, insert, relation};
use super::*;

/// A value with both of its forms on the wire, written independently of what reads them.
#[derive(Clone, Debug)]
struct Model {
    type_oid: u32,
    array_oid: u32,
    text: String,
    binary: Vec<u8>,
    value: Expected,
    /// As the element of an array.
    json: String,
}

#[derive(Clone, Debug)]
enum Expected {
    Bool(bool),
    Int(i64),
    Float(f64),
    Numeric(String),
    Text(String),
    Bytes(Vec<u8>),
    Timestamp(i64),
    Date(i32),
    Time(i64),
    Uuid(String),
    Json(String),
    Vector(Vec<f32>),
    Other(String),
}

impl Expected {
    fn value(&self) -> Value<'_> {
        match self {
            Expected::Bool(value) => Value::Bool(*value),
            Expected::Int(value) => Value::Int(*value),
            Expected::Float(value) => Value::Float(*value),
            Expected::Numeric(value) => Value::Numeric(value),
            Expected::Text(value) => Value::Text(value),
            Expected::Bytes(value) => Value::Bytes(value),
            Expected::Timestamp(value) => Value::Timestamp(*value),
            Expected::Date(value) => Value::Date(*value),
            Expected::Time(value) => Value::Time(*value),
            Expected::Uuid(value) => Value::Uuid(value),
            Expected::Json(value) => Value::Json(value),
            Expected::Vector(value) => Value::Vector(value),
            Expected::Other(value) => Value::Other(value),
        }
    }
}

const VECTOR: u32 = 16_400;
const HALFVEC: u32 = 16_402;
const MOOD: u32 = 16_404;

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (oid, name, shape) in
        [(VECTOR, "vector", Shape::Base), (HALFVEC, "halfvec", Shape::Base), (MOOD, "mood", Shape::Enum)]
    {
        catalog.add_type(oid, name, shape);
        catalog.add_type(oid + 1, format!("_{name}"), Shape::Array { element: oid, delimiter: b',' });
    }
    catalog
}

fn any_model() -> impl Strategy<Value = Model> {
    prop_oneof![
        whole_numbers(),
        floats(),
        numerics(),
        texts(),
        bytes(),
        times(),
        vectors(),
        any::<bool>().prop_map(|value| Model {
            type_oid: 16,
            array_oid: 1000,
            text: if value { "t" } else { "f" }.to_owned(),
            binary: vec![value.into()],
            value: Expected::Bool(value),
            json: value.to_string(),
        }),
        any::<u128>().prop_map(|value| {
            let text = uuid::Uuid::from_u128(value).to_string();
            Model {
                type_oid: 2950,
                array_oid: 2951,
                binary: value.to_be_bytes().to_vec(),
                value: Expected::Uuid(text.clone()),
                json: format!("\"{text}\""),
                text,
            }
        }),
    ]
}

fn whole_numbers() -> impl Strategy<Value = Model> {
    let model = |type_oid, array_oid, value: i64, width: usize| Model {
        type_oid,
        array_oid,
        text: value.to_string(),
        binary: value.to_be_bytes()[8 - width..].to_vec(),
        value: Expected::Int(value),
        json: value.to_string(),
    };
    prop_oneof![
        any::<i16>().prop_map(move |value| model(21, 1005, value.into(), 2)),
        any::<i32>().prop_map(move |value| model(23, 1007, value.into(), 4)),
        any::<i64>().prop_map(move |value| model(20, 1016, value, 8)),
        any::<u32>().prop_map(move |value| model(26, 1028, value.into(), 4)),
    ]
}

fn named(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

fn floats() -> impl Strategy<Value = Model> {
    let all = proptest::num::f64::ANY;
    let narrow = proptest::num::f32::ANY;
    prop_oneof![
        all.prop_map(|value| Model {
            type_oid: 701,
            array_oid: 1022,
            text: named(value).map_or_else(|| format!("{value:e}"), str::to_owned),
            binary: value.to_be_bytes().to_vec(),
            value: Expected::Float(value),
            json: named(value).map_or_else(|| format!("{value:?}"), |name| format!("\"{name}\"")),
        }),
        narrow.prop_map(|value| Model {
            type_oid: 700,
            array_oid: 1021,
            text: named(value.into()).map_or_else(|| format!("{value:e}"), str::to_owned),
            binary: value.to_be_bytes().to_vec(),
            value: Expected::Float(value.into()),
            json: named(value.into()).map_or_else(|| format!("{value:?}"), |name| format!("\"{name}\"")),
        }),
    ]
}

/// From the decimal digits, groups of four on both sides of the point, as `numeric_send` writes
/// them.
fn numerics() -> impl Strategy<Value = Model> {
    let number = ("(0|[1-9][0-9]{0,30})", "[0-9]{0,20}", any::<bool>()).prop_map(|(whole, fraction, negative)| {
        let pad = (4 - whole.len() % 4) % 4;
        let digits = format!("{}{whole}{fraction}{}", "0".repeat(pad), "0".repeat((4 - fraction.len() % 4) % 4));
        let mut groups: Vec<u16> =
            digits.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap().parse().unwrap()).collect();
        let mut weight = (whole.len() + pad) as i16 / 4 - 1;
        while groups.first() == Some(&0) {
            groups.remove(0);
            weight -= 1;
        }
        while groups.last() == Some(&0) {
            groups.pop();
        }
        let negative = negative && !groups.is_empty();
        let mut binary = Vec::new();
        binary.extend((groups.len() as i16).to_be_bytes());
        binary.extend(if groups.is_empty() { 0_i16 } else { weight }.to_be_bytes());
        binary.extend(if negative { 0x4000_u16 } else { 0 }.to_be_bytes());
        binary.extend((fraction.len() as i16).to_be_bytes());
        groups.iter().for_each(|group| binary.extend(group.to_be_bytes()));
        let (sign, point) = (if negative { "-" } else { "" }, if fraction.is_empty() { "" } else { "." });
        (format!("{sign}{whole}{point}{fraction}"), binary)
    });
    let name = prop_oneof![Just(("NaN", 0xC0)), Just(("Infinity", 0xD0)), Just(("-Infinity", 0xF0))]
        .prop_map(|(name, sign)| (name.to_owned(), vec![0, 0, 0, 0, sign, 0, 0, 0]));
    prop_oneof![9 => number, 1 => name].prop_map(|(text, binary)| Model {
        type_oid: 1700,
        array_oid: 1231,
        binary,
        value: Expected::Numeric(text.clone()),
        json: format!("\"{text}\""),
        text,
    })
}

fn texts() -> impl Strategy<Value = Model> {
    let types = proptest::sample::select(vec![(25, 1009), (1043, 1015), (1042, 1014), (19, 1003), (MOOD, MOOD + 1)]);
    let plain = (types, ".*|[\"\\\\{},a ]{0,8}|NULL").prop_map(|((type_oid, array_oid), text)| Model {
        type_oid,
        array_oid,
        binary: text.as_bytes().to_vec(),
        value: Expected::Text(text.clone()),
        json: serde_json::to_string(&text).unwrap(),
        text,
    });
    let char = any::<u8>().prop_map(|byte| {
        let text = match byte {
            0 => String::new(),
            1..=127 => char::from(byte).to_string(),
            _ => format!("\\{byte:03o}"),
        };
        Model {
            type_oid: 18,
            array_oid: 1002,
            binary: vec![byte],
            value: Expected::Text(text.clone()),
            json: serde_json::to_string(&text).unwrap(),
            text,
        }
    });
    let json = (any::<bool>(), ".*").prop_map(|(binary, text)| {
        let text = serde_json::json!({ "key": text }).to_string();
        Model {
            type_oid: if binary { 3802 } else { 114 },
            array_oid: if binary { 3807 } else { 199 },
            binary: [if binary { &[1][..] } else { &[] }, text.as_bytes()].concat(),
            value: Expected::Json(text.clone()),
            json: text.clone(),
            text,
        }
    });
    prop_oneof![plain, char, json]
}

fn bytes() -> impl Strategy<Value = Model> {
    (any::<Vec<u8>>(), any::<bool>()).prop_map(|(bytes, hex)| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let escaped = bytes.iter().map(|byte| match byte {
            b'\\' => "\\\\".to_owned(),
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\{byte:03o}"),
        });
        Model {
            type_oid: 17,
            array_oid: 1001,
            text: if hex { format!("\\x{digits}") } else { escaped.collect() },
            binary: bytes.clone(),
            value: Expected::Bytes(bytes),
            json: format!(r#""\\x{digits}""#),
        }
    })
}

const DAY: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Written with `jiff`, so up to the year 9999; `time.rs` tests what lies beyond.
fn times() -> impl Strategy<Value = Model> {
    let timestamp = (-60_000_000_000_000_000_i64..250_000_000_000_000_000, any::<bool>()).prop_map(|(micros, zone)| {
        let civil = jiff::Timestamp::from_microsecond(micros).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime();
        Model {
            type_oid: if zone { 1184 } else { 1114 },
            array_oid: if zone { 1185 } else { 1115 },
            text: format!("{} {}{}", civil.date(), civil.time(), if zone { "+00" } else { "" }),
            binary: (micros - EPOCH_MICROS).to_be_bytes().to_vec(),
            value: Expected::Timestamp(micros),
            json: micros.to_string(),
        }
    });
    let infinite = (any::<bool>(), any::<bool>()).prop_map(|(negative, zone)| {
        let (text, micros) = if negative { ("-infinity", i64::MIN) } else { ("infinity", i64::MAX) };
        Model {
            type_oid: if zone { 1184 } else { 1114 },
            array_oid: if zone { 1185 } else { 1115 },
            text: text.to_owned(),
            binary: micros.to_be_bytes().to_vec(),
            value: Expected::Timestamp(micros),
            json: micros.to_string(),
        }
    });
    let date = prop_oneof![
        9 => (-700_000..2_900_000_i32).prop_map(|days| {
            let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(days);
            (date.to_string(), days - 10_957, days)
        }),
        1 => Just(("infinity".to_owned(), i32::MAX, i32::MAX)),
        1 => Just(("-infinity".to_owned(), i32::MIN, i32::MIN)),
    ];
    let date = date.prop_map(|(text, binary, days)| Model {
        type_oid: 1082,
        array_oid: 1182,
        text,
        binary: binary.to_be_bytes().to_vec(),
        value: Expected::Date(days),
        json: days.to_string(),
    });
    let time = (0..=DAY).prop_map(|micros| {
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        Model {
            type_oid: 1083,
            array_oid: 1183,
            text: format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60),
            binary: micros.to_be_bytes().to_vec(),
            value: Expected::Time(micros),
            json: micros.to_string(),
        }
    });
    let beyond =
        (9_223_372_036_854_775..9_223_371_331_200_000_000_i64).prop_map(|micros| micros.max(i64::MAX - EPOCH_MICROS));
    let beyond = (beyond, any::<bool>()).prop_map(|(micros, zone)| {
        let mut text = Vec::new();
        time::write_timestamp(micros, zone, &mut text);
        let text = String::from_utf8(text).unwrap();
        Model {
            type_oid: if zone { 1184 } else { 1114 },
            array_oid: if zone { 1185 } else { 1115 },
            binary: micros.to_be_bytes().to_vec(),
            value: Expected::Other(text.clone()),
            json: format!("\"{text}\""),
            text,
        }
    });
    prop_oneof![8 => timestamp, 1 => infinite, 1 => beyond, 4 => date, 4 => time]
}

fn vectors() -> impl Strategy<Value = Model> {
    let finite = proptest::num::f32::NORMAL | proptest::num::f32::ZERO | proptest::num::f32::SUBNORMAL;
    let vector = proptest::collection::vec(finite, 0..20).prop_map(|numbers| {
        (VECTOR, numbers.clone(), { numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>() })
    });
    // Known pairs of IEEE 754 binary16: zeros, least and largest subnormal, least normal, a third, the largest.
    let pairs = [
        (0x0000, 0.0),
        (0x8000, -0.0),
        (0x0001, 5.960_464_5e-8),
        (0x83FF, -6.097_555e-5),
        (0x0400, 6.103_515_6e-5),
        (0x3555, 0.333_251_95),
        (0x3C00, 1.0),
        (0xC000, -2.0),
        (0x7BFF, 65_504.0),
    ];
    let half = proptest::collection::vec(proptest::sample::select(pairs.to_vec()), 0..20).prop_map(|numbers| {
        let bytes = numbers.iter().flat_map(|(bits, _): &(u16, f32)| bits.to_be_bytes()).collect();
        (HALFVEC, numbers.iter().map(|(_, number)| *number).collect(), bytes)
    });
    prop_oneof![vector, half].prop_map(|(type_oid, numbers, bytes): (u32, Vec<f32>, Vec<u8>)| {
        let join = |show: fn(&f32) -> String| format!("[{}]", numbers.iter().map(show).collect::<Vec<_>>().join(","));
        Model {
            type_oid,
            array_oid: type_oid + 1,
            text: join(|number| number.to_string()),
            binary: [&(numbers.len() as i16).to_be_bytes()[..], &[0, 0], &bytes].concat(),
            json: join(|number| format!("{number:?}")),
            value: Expected::Vector(numbers.clone()),
        }
    })
}

/// Decodes a row of one column.
fn decode(type_oid: u32, wire: Wire) -> Result<Batch, DecodeError> {
    let mut stream = Stream::open(b'd', catalog());
    stream.ok(relation(2, b'd', &[("c", type_oid, false)]));
    stream.decode(insert(2, &[wire]))?;
    Ok(stream.out.take())
}

fn only(batch: &Batch) -> Value<'_> {
    batch.row(&batch.events()[0]).get(0).unwrap()
}

/// An array as `array_out` writes it, quoting every element that might need it.
fn array_text(elements: &[Option<String>], lengths: &[usize]) -> String {
    let Some((length, inner)) = lengths.split_first() else {
        return match &elements[0] {
            None => "NULL".to_owned(),
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric()) && text != "NULL" => {
                text.clone()
            }
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        };
    };
    let parts = elements.chunks(elements.len() / length).map(|part| array_text(part, inner));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

fn array_json(elements: &[Option<String>], lengths: &[usize]) -> String {
    let Some((length, inner)) = lengths.split_first() else {
        return elements[0].clone().unwrap_or("null".to_owned());
    };
    let parts = elements.chunks(elements.len() / length).map(|part| array_json(part, inner));
    format!("[{}]", parts.collect::<Vec<_>>().join(","))
}

fn array_binary(type_oid: u32, elements: &[Option<Vec<u8>>], lengths: &[usize]) -> Vec<u8> {
    let head = Message::default().i32(lengths.len() as i32).i32(elements.contains(&None).into()).u32(type_oid);
    let head = lengths.iter().fold(head, |head, length| head.i32(*length as i32).i32(1));
    let all = elements.iter().fold(head, |array, element| match element {
        None => array.i32(-1),
        Some(bytes) => array.sized(bytes),
    });
    all.0
}

proptest! {
    #[test]
    fn text_and_binary_give_the_value(model in any_model()) {
        for wire in [Wire::Text(model.text.clone().into()), Wire::Binary(model.binary.clone())] {
            let batch = decode(model.type_oid, wire.clone()).unwrap();
            let (found, expected) = (only(&batch), model.value.value());
            // NaN is not equal to itself, but looks like it.
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{:?}", wire);
        }
    }

    #[test]
    fn text_and_binary_give_the_array(
        model in any_model(),
        present in proptest::collection::vec(proptest::bool::weighted(0.8), 24),
        lengths in proptest::collection::vec(1..=2_usize, 0..=4),
        lower_bounds: bool,
    ) {
        let total = lengths.iter().product::<usize>();
        let pick = |of: &str| -> Vec<Option<String>> {
            present.iter().take(total).map(|present| present.then(|| of.to_owned())).collect()
        };
        let present = present.iter().take(total).map(|present| present.then(|| model.binary.clone()));
        let (text, json, binary) = match lengths.as_slice() {
            [] => ("{}".to_owned(), "[]".to_owned(), array_binary(model.type_oid, &[], &[])),
            lengths => (
                array_text(&pick(&model.text), lengths),
                array_json(&pick(&model.json), lengths),
                array_binary(model.type_oid, &present.collect::<Vec<_>>(), lengths),
            ),
        };
        let bounds = if lower_bounds { "[-1:7][0:3]=" } else { "" };
        for wire in [Wire::Text(format!("{bounds}{text}").into()), Wire::Binary(binary)] {
            let batch = decode(model.array_oid, wire.clone()).unwrap();
            let Value::Json(found) = only(&batch) else { panic!("not JSON") };
            prop_assert_eq!(found, &json, "{:?}", wire);
            prop_assert!(serde_json::from_str::<serde_json::Value>(found).is_ok());
        }
    }
}

#[test]
fn text_stands_where_the_server_put_it() {
    let batch = decode(TEXT, Wire::Text(b"long".to_vec())).unwrap();
    let plain = batch.bytes();
    let longer = decode(TEXT, Wire::Text(vec![b'x'; 1004])).unwrap().bytes();
    assert_eq!(longer - plain, 1000, "no second copy of a text");
}

#[test]
fn elements_of_other_types_are_strings_of_their_text() {
    for (array_oid, text, json) in [
        (1187, r#"{"1 day",NULL}"#, r#"["1 day",null]"#),
        (1020, "{(1,1),(0,0);(2,2),(0,0)}", r#"["(1,1),(0,0)","(2,2),(0,0)"]"#),
    ] {
        let batch = decode(array_oid, Wire::Text(text.into())).unwrap();
        assert_eq!(only(&batch), Value::Json(json));
    }
}

#[test]
fn a_text_in_no_encoding_comes_as_the_bytes_that_it_is() {
    for wire in [Wire::Binary(vec![b'a', 0xC0]), Wire::Text(vec![b'a', 0xC0])] {
        let batch = decode(25, wire.clone()).unwrap();
        assert!(matches!(only(&batch), Value::Bytes([b'a', 0xC0])), "{wire:?}: {:?}", only(&batch));
    }
}

#[test]
fn values_that_are_none_are_refused() {
    let text = |oid, text: &str| (oid, Wire::Text(text.into()));
    let binary = |oid, bytes: &[u8]| (oid, Wire::Binary(bytes.into()));
    for (oid, wire) in [
        text(16, "true"),
        text(21, "32768"),
        text(23, ""),
        text(701, "nan"),
        text(701, "1e999"),
        text(1700, "1e5"),
        text(17, "\\x0"),
        text(17, "\\xzz"),
        text(17, "\\400"),
        text(1184, "2024-01-01 00:00:00"),
        text(1114, "2024-01-01 00:00:00+00"),
        text(1082, "01/02/2024"),
        text(1083, "25:00:00"),
        text(2950, "D7C1B4A0-0000-0000-0000-000000000000"),
        text(VECTOR, "[1,NaN]"),
        text(VECTOR, "1,2"),
        text(1007, "{1,2"),
        text(1007, "{1,,2}"),
        text(1007, "{1}{2}"),
        text(1007, "{1,x}"),
        text(1007, "1"),
        text(1007, ""),
        text(1007, "[0:1]"),
        text(1007, "[x]={1}"),
        text(1009, "{\"a}"),
        text(1009, "{\"a\\"),
        text(1009, "{a\"b}"),
        text(1009, "{{{{{{{1}}}}}}}"),
        binary(16, &[]),
        binary(1083, &[0xFF; 8]),
        binary(1082, &[0x7F, 0xFF, 0xFF, 0xF0]),
        binary(2950, &[0; 15]),
        binary(3802, &[2, b'1']),
        binary(3802, &[]),
        binary(VECTOR, &[0x7F, 0xFF, 0, 0, 0, 0, 0, 0]),
        binary(VECTOR, &[0, 1, 0, 0, 0x7F, 0xC0, 0, 0]),
        binary(1007, &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 23]),
        // 2^31 - 1 elements, announced and not there
        binary(1007, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1]),
        // elements of another type
        binary(1007, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]),
    ] {
        let refused = decode(oid, wire.clone());
        assert!(matches!(refused, Err(DecodeError::Value { .. })), "{oid} {wire:?}: {refused:?}");
    }
}
