//! The types that every Postgres has: their fixed OIDs, those of their arrays, their names, how to
//! read them.

use super::codec::{Codec, Elements};

pub(super) struct Builtin {
    oid: u32,
    array_oid: u32,
    pub(super) name: &'static str,
    pub(super) codec: Codec,
}

impl Builtin {
    /// Describes the elements of an array of this type.
    pub(super) fn elements(&self) -> Elements {
        // `box` is the only core type with a delimiter of its own: its text holds commas.
        Elements { oid: self.oid, delimiter: if self.name == "box" { b';' } else { b',' } }
    }
}

pub(super) fn by_oid(oid: u32) -> Option<&'static Builtin> {
    let index = TYPES.binary_search_by_key(&oid, |builtin| builtin.oid).ok()?;
    TYPES.get(index)
}

pub(super) fn by_array_oid(oid: u32) -> Option<&'static Builtin> {
    TYPES.iter().find(|builtin| builtin.array_oid == oid)
}

pub(super) fn by_name(name: &str) -> Option<&'static Builtin> {
    TYPES.iter().find(|builtin| builtin.name == name)
}

const fn row(oid: u32, array_oid: u32, name: &'static str, codec: Codec) -> Builtin {
    Builtin { oid, array_oid, name, codec }
}

/// In rising order of OIDs. `pg_type.dat` never changes an OID once released.
static TYPES: &[Builtin] = &[
    row(16, 1000, "bool", Codec::Bool),
    row(17, 1001, "bytea", Codec::Bytes),
    row(18, 1002, "char", Codec::Char),
    row(19, 1003, "name", Codec::Text),
    row(20, 1016, "int8", Codec::Int8),
    row(21, 1005, "int2", Codec::Int2),
    row(22, 1006, "int2vector", Codec::Other),
    row(23, 1007, "int4", Codec::Int4),
    row(24, 1008, "regproc", Codec::Other),
    row(25, 1009, "text", Codec::Text),
    row(26, 1028, "oid", Codec::Oid),
    row(27, 1010, "tid", Codec::Other),
    row(28, 1011, "xid", Codec::Other),
    row(29, 1012, "cid", Codec::Other),
    row(30, 1013, "oidvector", Codec::Other),
    row(114, 199, "json", Codec::Json),
    row(142, 143, "xml", Codec::Other),
    row(600, 1017, "point", Codec::Other),
    row(601, 1018, "lseg", Codec::Other),
    row(602, 1019, "path", Codec::Other),
    row(603, 1020, "box", Codec::Other),
    row(604, 1027, "polygon", Codec::Other),
    row(628, 629, "line", Codec::Other),
    row(650, 651, "cidr", Codec::Other),
    row(700, 1021, "float4", Codec::Float4),
    row(701, 1022, "float8", Codec::Float8),
    row(718, 719, "circle", Codec::Other),
    row(774, 775, "macaddr8", Codec::Other),
    row(790, 791, "money", Codec::Other),
    row(829, 1040, "macaddr", Codec::Other),
    row(869, 1041, "inet", Codec::Other),
    row(1033, 1034, "aclitem", Codec::Other),
    row(1042, 1014, "bpchar", Codec::Text),
    row(1043, 1015, "varchar", Codec::Text),
    row(1082, 1182, "date", Codec::Date),
    row(1083, 1183, "time", Codec::Time),
    row(1114, 1115, "timestamp", Codec::Timestamp),
    row(1184, 1185, "timestamptz", Codec::TimestampTz),
    row(1186, 1187, "interval", Codec::Other),
    row(1266, 1270, "timetz", Codec::Other),
    row(1560, 1561, "bit", Codec::Other),
    row(1562, 1563, "varbit", Codec::Other),
    row(1700, 1231, "numeric", Codec::Numeric),
    row(1790, 2201, "refcursor", Codec::Other),
    row(2202, 2207, "regprocedure", Codec::Other),
    row(2203, 2208, "regoper", Codec::Other),
    row(2204, 2209, "regoperator", Codec::Other),
    row(2205, 2210, "regclass", Codec::Other),
    row(2206, 2211, "regtype", Codec::Other),
    row(2950, 2951, "uuid", Codec::Uuid),
    row(2970, 2949, "txid_snapshot", Codec::Other),
    row(3220, 3221, "pg_lsn", Codec::Other),
    row(3614, 3643, "tsvector", Codec::Other),
    row(3615, 3645, "tsquery", Codec::Other),
    row(3642, 3644, "gtsvector", Codec::Other),
    row(3734, 3735, "regconfig", Codec::Other),
    row(3769, 3770, "regdictionary", Codec::Other),
    row(3802, 3807, "jsonb", Codec::Jsonb),
    row(3904, 3905, "int4range", Codec::Other),
    row(3906, 3907, "numrange", Codec::Other),
    row(3908, 3909, "tsrange", Codec::Other),
    row(3910, 3911, "tstzrange", Codec::Other),
    row(3912, 3913, "daterange", Codec::Other),
    row(3926, 3927, "int8range", Codec::Other),
    row(4072, 4073, "jsonpath", Codec::Other),
    row(4089, 4090, "regnamespace", Codec::Other),
    row(4096, 4097, "regrole", Codec::Other),
    row(4191, 4192, "regcollation", Codec::Other),
    row(4451, 6150, "int4multirange", Codec::Other),
    row(4532, 6151, "nummultirange", Codec::Other),
    row(4533, 6152, "tsmultirange", Codec::Other),
    row(4534, 6153, "tstzmultirange", Codec::Other),
    row(4535, 6155, "datemultirange", Codec::Other),
    row(4536, 6157, "int8multirange", Codec::Other),
    row(5038, 5039, "pg_snapshot", Codec::Other),
    row(5069, 271, "xid8", Codec::Other),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;
    use crate::event::json::{Json, Reader};

    /// `event` knows nothing of `decode`, and so has names of its own.
    #[test]
    fn a_plain_text_is_read_as_other_where_the_decoder_makes_other_of_it() {
        for builtin in TYPES {
            let name = builtin.name;
            let event =
                format!(r#"{{"operation":"insert","table":"t","types":{{"c":"{name}"}},"row":{{"c":"a text"}}}}"#);
            let mut reader = Reader::default();
            let read = reader.push(&Json::parse(&event).unwrap());
            let batch = reader.finish();
            let value = batch.events().first().and_then(|event| batch.row(event).get(0));
            let other = read.is_ok() && value == Some(Value::Other("a text"));
            assert_eq!(other, builtin.codec == Codec::Other, "{name} {value:?}");
        }
    }
}
