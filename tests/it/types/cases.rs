//! Every type with its edges: how a handler is to see it, and values to try.

use super::Kind::{self, *};

/// A column of the oracle's tables.
pub(super) struct Case {
    /// As SQL.
    pub(super) sql: &'static str,
    pub(super) kind: Kind,
    /// As Postgres reads them under any settings.
    pub(super) values: &'static [&'static str],
}

const fn case(sql: &'static str, kind: Kind, values: &'static [&'static str]) -> Case {
    Case { sql, kind, values }
}

/// Types that no value can be given to: the server's own.
pub(super) const WITHOUT_VALUES: &[&str] = &[
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
];

/// Made before the tables.
pub(super) const OWN_TYPES: &str = "
    CREATE SCHEMA other;
    CREATE TYPE mood AS ENUM ('glad', 'sehr, \"sehr\" böse', 'NULL', '');
    CREATE TYPE other.date AS ENUM ('a name that is built in');
    CREATE DOMAIN email AS varchar(80);
    CREATE DOMAIN positive AS int4 CHECK (value > 0);
    CREATE DOMAIN tiny AS positive CHECK (value < 10);
    CREATE DOMAIN numbers AS int4[];
    CREATE DOMAIN feeling AS mood;
    CREATE TYPE pair AS (a int4, b text);
    CREATE TYPE other.vector AS (x int4);
    CREATE TYPE span AS RANGE (subtype = float8, multirange_type_name = spans)";

/// What the types of [`OWN_TYPES`] look like.
pub(super) const OWN: &[Case] = &[
    case("mood", Text, &["glad", "sehr, \"sehr\" böse", "NULL", ""]),
    case("other.date", Text, &["a name that is built in"]),
    case("email", Text, &["a@b", ""]),
    case("positive", Int, &["1", "2147483647"]),
    case("tiny", Int, &["9"]),
    case("feeling", Text, &["glad"]),
    case("numbers", List, &["{1,2}", "{}", "{{1,NULL},{3,4}}"]),
    case("pair", Other, &["(1,\"b c\")", "(,)", "(-1,\"\"\"\")"]),
    case("other.vector", Other, &["(1)"]),
    case("span", Other, &["[1.5,2.5)", "empty", "(,)"]),
    case("spans", Other, &["{[1,2),[3,4)}", "{}"]),
];

/// Those of extensions, by the extension's name.
pub(super) const EXTENSIONS: &[(&str, &[Case])] = &[
    (
        "vector",
        &[
            case("vector", Vector, &["[1,-2.5,1e-10]", "[0.1,3e38,-0]", "[1e-45]"]),
            case("vector(2)", Vector, &["[0,1]"]),
            case("halfvec", Vector, &["[1,-2.5,65504]", "[0.00006,0.1,-0,5.9604645e-08]"]),
            case("sparsevec", Other, &["{1:0.5,3:2}/5", "{}/3"]),
        ],
    ),
    ("citext", &[case("citext", Text, &["MiXed", ""])]),
    ("hstore", &[case("hstore", Other, &["a=>1, \"b c\"=>NULL", ""])]),
    ("ltree", &[case("ltree", Other, &["top.science", ""])]),
];

/// Core's.
pub(super) const CORE: &[Case] = &[
    case("bool", Bool, &["true", "false"]),
    case("int2", Int, &["-32768", "32767", "0"]),
    case("int4", Int, &["-2147483648", "2147483647"]),
    case("int8", Int, &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    case("oid", Int, &["0", "4294967295"]),
    case("float4", Float, &["0.1", "-3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity", "16777217", "-0"]),
    case(
        "float8",
        Float,
        &[
            "0.1",
            "1.7976931348623157e308",
            "5e-324",
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "1e16",
            "0.30000000000000004",
        ],
    ),
    case("numeric", Numeric, NUMERICS),
    case("numeric(12,4)", Numeric, &["0", "-1.5", "12345678.9999", "NaN"]),
    case("numeric(3,-2)", Numeric, &["12345", "-49", "0"]),
    case("numeric(3,5)", Numeric, &["0.00123", "0"]),
    case("text", Text, TEXTS),
    case("varchar", Text, TEXTS),
    case("varchar(40)", Text, &["exactly", ""]),
    case("bpchar", Text, &["trailing  ", ""]),
    case("bpchar(40)", Text, &["padded", "ü"]),
    case("\"char\"", Text, &["a", "", "\\303", "\\001", "\"", "\\\\"]),
    case("name", Text, &["a_name", "", "ünïcödé"]),
    case("bytea", Bytes, &["\\x", "\\x00ff5c27", "plain"]),
    case("timestamp", Timestamp, TIMESTAMPS),
    case("timestamp(0)", Timestamp, &["1999-12-31 23:59:59.6"]),
    case(
        "timestamptz",
        Timestamp,
        &[
            "1970-01-01 00:00+00",
            "1890-01-01 00:00-00:44:30",
            "infinity",
            "-infinity",
            "0044-03-15 12:00+00 BC",
            "4714-11-24 00:00+00 BC",
            "2024-10-27 02:30+01",
            "2024-06-01 00:00 America/St_Johns",
            "294246-01-01 00:00+00",
            "294276-12-31 23:59:59.999999+00",
        ],
    ),
    case(
        "date",
        Date,
        &["1970-01-01", "0001-01-01 BC", "4714-11-24 BC", "5874897-12-31", "infinity", "-infinity", "2024-02-29"],
    ),
    case("time", Time, &["00:00", "23:59:59.999999", "24:00", "08:30:00.5"]),
    case("timetz", Other, &["08:30:00+02", "24:00:00-15:59", "23:59:59.999999+15:59:59", "00:00+00"]),
    case(
        "interval",
        Other,
        &[
            "1 year 2 days 03:04:05.6",
            "-1 year +2 days -03:04:05",
            "178000000 years",
            "-178000000 years",
            "0",
            "1 microsecond",
            "-00:00:00.000001",
        ],
    ),
    case("uuid", Uuid, &["D7C1B4A0-1111-2222-3333-4444AAAABBBB", "00000000-0000-0000-0000-000000000000"]),
    case("json", Json, JSONS),
    case("jsonb", Json, &["null", "{\"b\" : 1,\"a\":[1, 2.50, 1e400]}", "-0", "\"\\ud83e\\udd80\"", "{}", "[[],[{}]]"]),
    case("jsonpath", Other, &["$.a[*] ? (@ > 1)"]),
    case("xml", Other, &["<a b=\"c\">d &amp; e</a>", "text", ""]),
    case("money", Other, &["12.50", "-92233720368547758.08", "92233720368547758.07", "0"]),
    case("inet", Other, &["192.168.0.1/24", "10.0.0.1", "::1", "2001:db8::/32", "0.0.0.0/0"]),
    case("cidr", Other, &["192.168.0.0/24", "::/0", "10/8"]),
    case("macaddr", Other, &["08:00:2b:01:02:03", "ffffffffffff"]),
    case("macaddr8", Other, &["08:00:2b:01:02:03:04:05"]),
    case("bit", Other, &["1", "0"]),
    case("bit(8)", Other, &["10101010"]),
    case("varbit", Other, &["101", "", "11111111000000001"]),
    case("point", Other, &["(1,2)", "(NaN,-Infinity)", "(0.1,1e300)"]),
    case("line", Other, &["{1,-1,0}"]),
    case("lseg", Other, &["[(0,0),(1,1)]"]),
    case("box", Other, &["(1,1),(0,0)", "(Infinity,2),(-1,-2)"]),
    case("path", Other, &["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    case("polygon", Other, &["((0,0),(1,1),(1,0))"]),
    case("circle", Other, &["<(0,0),5>"]),
    case("int4range", Other, &["[1,5)", "empty", "(,)", "[,2147483647)"]),
    case("int8range", Other, &["[-9223372036854775808,)"]),
    case("numrange", Other, &["(0.10,1e20]", "[NaN,)"]),
    case("daterange", Other, &["[2024-01-01,2024-02-01)", "[-infinity,infinity]", "[0044-03-15 BC,)"]),
    case("tsrange", Other, &["[2024-01-01 00:00,2024-01-02 12:30:00.5]", "(,infinity)"]),
    case("tstzrange", Other, &["[2024-01-01 00:00+02,)", "empty"]),
    case("int4multirange", Other, &["{}", "{[1,5),[7,9)}"]),
    case("int8multirange", Other, &["{(,1),[3,)}"]),
    case("nummultirange", Other, &["{[1.5,2.5]}"]),
    case("datemultirange", Other, &["{[2024-01-01,2024-02-01)}"]),
    case("tsmultirange", Other, &["{[2024-01-01 00:00,2024-01-02 00:00)}"]),
    case("tstzmultirange", Other, &["{[2024-01-01 00:00+02,)}"]),
    case("tsvector", Other, &["a fat cat", "'it''s':1A,2B \\\\", ""]),
    case("tsquery", Other, &["fat & (rat | !cat)", "'a''b':*A"]),
    case("pg_lsn", Other, &["16/B374D848", "0/0", "FFFFFFFF/FFFFFFFF"]),
    case("xid", Other, &["0", "4294967295"]),
    case("xid8", Other, &["18446744073709551615"]),
    case("cid", Other, &["7"]),
    case("tid", Other, &["(4294967295,65535)", "(0,1)"]),
    case("txid_snapshot", Other, &["10:20:10,14,15"]),
    case("pg_snapshot", Other, &["10:20:10,14,15"]),
    case("int2vector", Other, &["1 2 3", ""]),
    case("oidvector", Other, &["1 4294967295"]),
    case("aclitem", Other, &["postgres=rw*/postgres"]),
    case("refcursor", Other, &["a cursor"]),
    case("regproc", Other, &["now", "-"]),
    case("regprocedure", Other, &["abs(numeric)"]),
    case("regoper", Other, &["pg_catalog.||/"]),
    case("regoperator", Other, &["*(integer,integer)"]),
    case("regclass", Other, &["pg_type", "4294967295"]),
    case("regtype", Other, &["timestamp with time zone", "pair"]),
    case("regrole", Other, &["postgres"]),
    case("regnamespace", Other, &["pg_catalog"]),
    case("regconfig", Other, &["english"]),
    case("regdictionary", Other, &["simple"]),
    case("regcollation", Other, &["\"C\""]),
];

const TEXTS: &[&str] = &[
    "",
    "plain",
    "ünïcödé 🦀",
    "a \"quoted\" \\ back'slash",
    "line\nbreak\ttab\r\u{1}\u{7f}\u{2028}",
    "NULL",
    "null",
    "{}",
    " , ",
];

const NUMERICS: &[&str] = &[
    "0",
    "0.00",
    "-0.1",
    "1e20",
    "1e-20",
    "9999",
    "10000",
    "99999999",
    "0.0001",
    "0.00001",
    "0.9999",
    "123456789012345678901234567890.123456789012345678901234567890",
    "10000.0001",
    "0.00010000",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e131071",
    "-9.9e131071",
    "-1e-16383",
    "1.0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
];

const TIMESTAMPS: &[&str] = &[
    "1970-01-01",
    "1999-12-31 23:59:59.999999",
    "0001-12-31 23:59:59 BC",
    "4714-11-24 BC",
    "12024-02-29 01:02:03.000004",
    "infinity",
    "-infinity",
    "294247-01-10 04:00:54.775806",
    "294247-01-10 04:00:54.775807",
    "294276-12-31 23:59:59.999999",
];

const JSONS: &[&str] = &[
    "null",
    "{\"b\" : 1,\"a\":[1, 2.50], \"b\":2}",
    "\"\\u00fc\"",
    "1e400",
    "-0.0",
    "123456789012345678901234567890",
    " [ ] ",
    "{\"\":\"\\\\\\\"\"}",
];
